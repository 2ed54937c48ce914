"""Whole blocks from parts: every block comes once, at its owner, with what arrived."""

import socket
import threading
import time

import numpy as np
import pytest

from framefold.errors import StreamError
from framefold.executor.shuffle import Address, ShuffleStream
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfcore.live import AcquisitionEnd

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")
WAIT = 30


def streams(groups, **kwargs):
    source = MemoryLiveSource(DATA, sectors=3, pieces=2, block_frames=4, **kwargs)
    start = source.known()
    made = []
    for rank, own in enumerate(groups):
        local = source.open(own)
        local.prepare()
        made.append(ShuffleStream(local, rank, groups, start, "127.0.0.1", WAIT))
    return made


def together(made):
    """Connect all; each one waits for the others."""
    addresses = [s.address for s in made]
    threads = [threading.Thread(target=s.connect, args=(addresses,)) for s in made]
    for t in threads:
        t.start()
    for t in threads:
        t.join(WAIT)


def drain(stream, out, seen, ends):
    stream.wait_start(None)
    while True:
        item = stream.next_block(WAIT)
        if isinstance(item, AcquisitionEnd):
            ends.append(item.reason)
            return
        frames = slice(item.first_frame, item.first_frame + item.frames)
        for s, spec in enumerate(stream._start.sectors):
            for p in range(len(spec.pieces)):
                flags = item.valid[s][:, p]
                part = (frames, *spec.piece_slices(p))
                out[part] = np.where(flags[:, None, None], item.data[s][p], out[part])
                seen[frames, s * 2 + p] += flags
        stream.release(item)


@pytest.mark.parametrize("groups", [((0,), (1, 2)), ((2,), (0,), (1,)), ((0, 1, 2), ())], ids=str)
def test_every_piece_comes_once(groups):
    valid = np.random.default_rng(1).random((35, 6)) > 0.2
    made = streams(groups, valid=valid)
    try:
        together(made)
        out, seen, ends = np.full(DATA.shape, -1), np.zeros((35, 6), int), []
        threads = [threading.Thread(target=drain, args=(s, out, seen, ends)) for s in made]
        for t in threads:
            t.start()
        for t in threads:
            t.join(WAIT)
        assert ends == ["n_frames"] * len(groups)
        np.testing.assert_array_equal(seen, valid)
        here = np.zeros(DATA.shape, dtype=bool)
        for s in range(3):
            for p in range(2):
                here[:, p * 4 : p * 4 + 4, s * 2 : s * 2 + 2] = valid[:, s * 2 + p, None, None]
        np.testing.assert_array_equal(out, np.where(here, DATA.astype(int), -1))
        assert sum(s.late for s in made) == 0
        assert all(s._local.held == 0 for s in made)
    finally:
        for s in made:
            s.close()


def test_what_a_lost_process_had_is_missing_and_the_others_go_on():
    made = streams(((0,), (1, 2)))
    together(made)
    made[1].close()  # before it sent anything
    try:
        until = time.monotonic() + WAIT
        while made[0]._peers[1].alive:  # what is sent before the system tells would vanish in its buffers
            assert time.monotonic() < until
            time.sleep(0.001)
        out, seen, ends = np.full(DATA.shape, -1), np.zeros((35, 6), int), []
        drain(made[0], out, seen, ends)
        owned = np.arange(35) // 4 % 2 == 0
        np.testing.assert_array_equal(seen[:, :2], np.repeat(owned[:, None], 2, axis=1))
        assert not seen[:, 2:].any()
        assert made[0].late == 2 * (~owned).sum()
    finally:
        made[0].close()


def test_strangers_are_turned_away():
    [one, two] = streams(((0,), (1, 2)))
    try:
        with socket.create_connection((one.address.host, one.address.port)) as stranger:
            stranger.sendall(b"x" * 40)
            together([one, two])
            assert stranger.recv(1) == b""
        assert len(one._incoming) == 1
    finally:
        one.close()
        two.close()


def test_a_process_that_is_not_there_is_named():
    [one, two] = streams(((0,), (1, 2)))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    try:
        with pytest.raises(StreamError, match=f"the shuffle cannot reach the worker at 127.0.0.1:{port}"):
            one.connect([one.address, Address("127.0.0.1", port, b"")])
    finally:
        one.close()
        two.close()
