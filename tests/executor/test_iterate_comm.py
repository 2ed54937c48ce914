"""Sums over processes, which are threads here: each has its own end of the connections."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.executor.iterate_comm import RING_BYTES, SharedComm, SocketComm, make_comm
from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_links import Door, LinkLost
from framefold.udfcore.iterative import IterativeUDF


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


class Drifts(IterativeUDF):
    """Its steps go wrong by a number on the second host."""

    def __init__(self, wrong, what="x"):
        super().__init__(wrong=wrong, what=what)

    def get_loop_state(self):
        return {"x": np.ones(5, complex), "n": np.zeros(2, int), "empty": np.zeros(0), "name": "text"}

    def get_pass_buffers(self):
        return {"sum": self.summed((), "float64")}

    def process_rows(self, frames, rows):
        self.results.sum[...] += frames[rows].sum()

    def step(self, phase, results):
        if self.setup == 1 and self.params.wrong:
            getattr(self.loop, self.params.what)[1] += self.params.wrong


@pytest.mark.parametrize(("wrong", "what"), [(0, "x"), (1e-9, "x"), (1e-3, "x"), (1, "n")])
def test_hosts_agree_about_the_loop_state_or_say_so(wrong, what):
    """Ten iterations add ten times what is wrong, to numbers of size 1."""
    data = np.arange(8.0).reshape(4, 2)

    def work(comm):
        udf = Drifts(wrong, what)
        udf.setup = comm.rank
        loop = HostLoop(udf, data[2 * comm.rank : 2 * comm.rank + 2], 2 * comm.rank, 1, comm, total=4)
        try:
            for _ in range(10):
                loop.iterate()
        except UDFError as exc:
            return str(exc)
        finally:
            loop._lanes.close()
        return udf.loop.x.tobytes()

    first, second = together(2, work, hosts=2)
    assert first == second
    if wrong >= 1e-3:
        assert "the loop states of the hosts differ after iteration 10" in first
    else:
        assert first == np.ones(5, complex).tobytes()
