"""Sums over processes, which are threads here: each has its own end of the connections."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from framefold.executor.iterate_comm import RING_BYTES, SharedComm, SocketComm, make_comm
from framefold.executor.iterate_links import Door, LinkLost


def together(n, work, hosts=1):
    """Call ``work(comm)`` on `n` connected processes of `hosts` hosts; return what they return."""
    doors = [Door("127.0.0.1") for _ in range(n)]
    offers = [dataclasses.replace(d.offer, place=f"host {r * hosts // n}") for r, d in enumerate(doors)]

    def one(rank):
        comm = make_comm(doors[rank].connect(rank, offers), offers)
        try:
            return work(comm)
        finally:
            comm.close()

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


@pytest.mark.parametrize(("n", "hosts"), [(1, 1), (2, 1), (3, 1), (2, 2), (3, 3), (5, 5), (4, 2), (5, 2)])
def test_all_get_the_same_sums(n, hosts):
    rng = np.random.default_rng(n)
    large = rng.normal(size=(n, 7, RING_BYTES // 48)).astype(
        np.complex64
    )  # above the size that takes the ring
    small = rng.integers(-9, 9, (n, 3, 2))
    seen = threading.Barrier(n, timeout=30)

    def work(comm):
        me, out = comm.rank, []
        for scale in (1, 2):  # memory is used again
            arrays = [large[me] * scale, small[me] * scale, np.array(small[me, 0, 0]), np.zeros(0)]
            comm.allreduce([(arrays[0], "sum"), (arrays[1], "sum"), (arrays[2], "max"), (arrays[3], "sum")])
            out.append(arrays)
        grown = np.full(RING_BYTES, float(me))
        comm.allreduce([(grown, "sum")])
        seen.wait()
        return out, grown[[0, -1]]

    found = together(n, work, hosts)
    for out, grown in found:
        assert grown.tolist() == [n * (n - 1) / 2] * 2
        for scale, (a, b, c, _) in zip((1, 2), out, strict=True):
            # n - 1 roundings of numbers of size 1
            np.testing.assert_allclose(a, scale * large.sum(axis=0), atol=n * scale * 1e-6)
            np.testing.assert_array_equal(b, scale * small.sum(axis=0))
            assert c == small[:, 0, 0].max()
            assert a.tobytes() == found[0][0][scale - 1][0].tobytes()


def test_processes_of_one_host_share_memory():
    assert together(2, type) == [SharedComm, SharedComm]
    assert together(2, type, hosts=2) == [SocketComm, SocketComm]


@pytest.mark.parametrize("hosts", [1, 3])
def test_who_goes_is_noticed_by_all(hosts):
    def work(comm):
        comm.allreduce([(np.ones(3), "sum")])
        if comm.rank == 1:
            return "gone"
        with pytest.raises(LinkLost, match="lost rank"):
            comm.allreduce([(np.ones(3), "sum")])
        return "told"

    assert together(3, work, hosts) == ["told", "gone", "told"]


def test_strangers_are_sent_away():
    import socket  # noqa: PLC0415

    doors = [Door("127.0.0.1") for _ in range(2)]
    offers = [d.offer for d in doors]
    stranger = socket.create_connection(("127.0.0.1", offers[0].port))
    stranger.sendall(bytes(40))

    def one(rank):
        links = doors[rank].connect(rank, offers)
        comm = SocketComm(links, [0, 1])
        x = np.array([rank + 1.0])
        comm.allreduce([(x, "sum")])
        links.close()
        return float(x[0])

    with stranger, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [3.0, 3.0]


def test_a_closed_door_is_an_error():
    doors = [Door("127.0.0.1") for _ in range(2)]
    offers = [d.offer for d in doors]
    doors[0].close()
    with pytest.raises(LinkLost, match="be reached from rank 1"):
        doors[1].connect(1, offers)
