"""Whole blocks from parts: every block comes once, at its owner, with what arrived."""

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from distributed import Security

from framefold.errors import StreamError
from framefold.executor.shuffle import ShuffleStream
from framefold.executor.shuffle_blocks import Owners
from framefold.executor.shuffle_wire import Address, Wire
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfcore.live import AcquisitionEnd

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")
WAIT = 300  # no test waits so long, but machines may be suspended
LOOPBACK = Wire("127.0.0.1")


def streams(groups, wire=LOOPBACK, **kwargs):
    source = MemoryLiveSource(DATA, sectors=3, pieces=2, block_frames=4, **kwargs)
    start = source.known()
    made = []
    for rank, own in enumerate(groups):
        local = source.open(own)
        local.prepare()
        made.append(ShuffleStream(local, rank, groups, start, wire, WAIT))
    return made


def together(made):
    """Connect all; each one waits for the others."""
    addresses = {rank: s.address for rank, s in enumerate(made)}
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
        assert not any(s.dropped for s in made)
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
        assert seen[:, :2].all()  # the only one that is left owns all blocks
        assert not seen[:, 2:].any()
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
            one.connect({0: one.address, 1: Address("127.0.0.1", port, b"")})
    finally:
        one.close()
        two.close()


def test_owners_take_turns_and_others_stand_in_for_the_lost():
    owners = Owners((0, 1, 2), range(3))
    assert [owners.of(k) for k in range(6)] == [0, 1, 2, 0, 1, 2]
    owners.lost.add(1)
    found = [owners.of(k) for k in range(12)]
    assert found[0::3] == [0] * 4  # nothing changes for those of others
    assert found[2::3] == [2] * 4
    assert sorted(set(found[1::3])) == [0, 2]
    assert {Owners((1,), range(3), {1}).of(k) for k in range(9)} <= {0, 2}


def test_over_tls():
    security = Security.temporary()
    server = security.get_listen_args("worker")["ssl_context"]
    client = security.get_connection_args("worker")["ssl_context"]
    made = streams(((0,), (1, 2)), wire=Wire("127.0.0.1", server, client))
    try:
        with socket.create_connection((made[0].address.host, made[0].address.port)) as plain:
            plain.sendall(made[0].address.token + bytes(8))  # the secret is not enough
            together(made)
            plain.settimeout(WAIT)
            with suppress(ConnectionError):
                while plain.recv(100):
                    pass  # the alert of the other end
        out, seen, ends = np.full(DATA.shape, -1), np.zeros((35, 6), int), []
        threads = [threading.Thread(target=drain, args=(s, out, seen, ends)) for s in made]
        for t in threads:
            t.start()
        for t in threads:
            t.join(WAIT)
        np.testing.assert_array_equal(out, DATA)
        assert ends == ["n_frames"] * 2
    finally:
        for s in made:
            s.close()


def test_a_block_for_which_its_owner_has_no_room_is_given_up_by_all():
    made = streams(((0,), (1,), (2,)), slots=9)
    try:
        together(made)
        # rank 0 takes its blocks 0, 3, 6 and does not give them back: 6 finds no room; rank 1 does not wait
        made[1]._peers[0].behind = True
        for s in made:
            s.wait_start(None)
        blocks = {}
        for stream, own in zip(made, ((0, 3, 6), (1, 4, 7), (2, 5, 8)), strict=True):
            for k in own:
                until = time.monotonic() + WAIT
                while (item := stream.next_block(WAIT)) is None or isinstance(item, AcquisitionEnd):
                    assert item is None and time.monotonic() < until
                assert item.index == k
                blocks[k] = item
                if stream is not made[0]:
                    stream.release(item)
        arrived = {k: [v.all() for v in b.valid] for k, b in blocks.items()}
        assert arrived.pop(6) == [False, False, False]
        assert all(all(a) for a in arrived.values()), arrived
        dropped = Counter()
        for s in made:
            dropped.update(s.dropped)
        assert dropped == {0: 8, 1: 8, 2: 8}  # 4 frames x 2 pieces, whoever counted them
    finally:
        for s in made:
            s.close()


def test_streams_that_disagree_about_blocks_are_an_error():
    one, two = streams(((0,), (1, 2)))
    two._local._source = replace(two._local._source, block_frames=5)
    try:
        together([one, two])
        for s in (one, two):
            s.wait_start(None)
        with pytest.raises(
            StreamError, match=r"block 0 is frames 0\.\.\d for one worker and 0\.\.\d for the one"
        ):
            while True:
                one.next_block(WAIT)
    finally:
        one.close()
        two.close()
