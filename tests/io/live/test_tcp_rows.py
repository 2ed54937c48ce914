"""Frames from a connection into rows: contiguous or parts of larger frames, however the bytes are cut."""

import socket

import numpy as np
import pytest

from framefold.io.live import tcp
from framefold.io.live.tcp import Closed, TcpConnection


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = TcpConnection(*server.getsockname())
        mine.connect()
        theirs, _ = server.accept()
    yield mine, theirs
    mine.close()
    theirs.close()


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("spare", [1, 70, 2**20])
def test_rows_are_filled_in_order(pair, monkeypatch, apart, spare):
    mine, theirs = pair
    monkeypatch.setattr(tcp, "_SPARE_BYTES", spare)  # of one frame, of some, of all
    data = np.random.default_rng(0).integers(0, 60_000, (9, 4, 3)).astype("uint16")
    whole = np.zeros((9, 4, 8), "uint16")
    rows = whole[:, :, 2:5] if apart else np.zeros_like(data)
    sent, at = data.tobytes(), 0
    for first, last in ((0, 1), (1, 30), (30, 31), (31, 130), (130, len(sent))):
        theirs.sendall(sent[first:last])
        until = last // 24 * 24 if apart else last  # frames of 24 bytes
        while at < until:
            at = mine.read_rows(rows, at, 0.02)
        done = at // 24
        np.testing.assert_array_equal(rows[:done], data[:done])
    assert at == len(sent)
    assert not whole[:, :, :2].any()
    assert not whole[:, :, 5:].any()
    theirs.close()
    with pytest.raises(Closed):
        mine.read_rows(rows, 0, 0.02)


def test_nothing_may_come(pair):
    rows = np.zeros((2, 3), "uint8")
    assert pair[0].read_rows(rows, 0, 0.001) == 0
