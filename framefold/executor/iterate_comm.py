"""Sums over processes: by sockets in a ring or a tree, by shared memory where they run on one host."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import ExecutorError
from framefold.executor.iterate_links import Links, Offer
from framefold.executor.iterate_reduce import Alone, Comm

Array = npt.NDArray[Any]
Op = Any
RING_BYTES = 1 << 20  # smaller arrays go up and down a tree: 2 log n messages instead of 2 (n - 1)
SMALL_BYTES = 1 << 15  # up to here messages are quicker than two meetings
ALIGN = 64


def make_comm(links: Links, offers: Sequence[Offer]) -> Comm:
    """Return the way to join arrays over these processes.

    Processes of one host share memory, and the first of each speaks for it.
    """
    rank = links.rank
    if len(offers) == 1:
        return Alone()
    places = list(dict.fromkeys(o.place for o in offers))
    members = [[r for r, o in enumerate(offers) if o.place == place] for place in places]
    if len(members) == len(offers):
        return SocketComm(links, range(len(offers)))
    mine = next(group for group in members if rank in group)
    leaders = [group[0] for group in members]
    between = SocketComm(links, leaders) if len(leaders) > 1 and rank == mine[0] else None
    return SharedComm(links, mine, [offers[r].pid for r in mine], between, last=len(members) == 1)


class SocketComm:
    """Joins arrays by messages; `ranks` take part, of which this process is one.

    Large arrays go round a ring in as many parts as there are processes, and round again when they are
    complete (P. Patarasuk, X. Yuan, J. Parallel Distrib. Comput. 69 (2009) 117); each part is summed in one
    place, so that all get the same bits. Small ones go up a binary tree and down again.
    """

    def __init__(self, links: Links, ranks: Sequence[int]) -> None:
        self._links = links
        self._ranks = list(ranks)
        self.rank = self._ranks.index(links.rank)
        self.size = len(self._ranks)

    def allreduce(self, arrays: Sequence[tuple[Array, str]]) -> None:
        """See `Comm.allreduce`."""
        small: list[tuple[Array, Op]] = []
        for array, reduce in arrays:
            if array.nbytes >= RING_BYTES:
                self._ring(array.reshape(-1), _op(reduce))
            elif array.nbytes:
                small.append((array.reshape(-1), _op(reduce)))
        if small:
            self._tree(small)

    def _ring(self, array: Array, op: Op) -> None:
        n, rank = self.size, self.rank
        right, left = self._ranks[(rank + 1) % n], self._ranks[(rank - 1) % n]
        cuts = [len(array) * i // n for i in range(n + 1)]
        parts = [array[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        spare = np.empty(max(len(p) for p in parts), array.dtype)
        for s in range(n - 1):
            target = parts[(rank - s - 1) % n]
            got = spare[: len(target)]
            self._links.exchange(right, parts[(rank - s) % n], left, got)
            op(target, got, out=target)
        for s in range(n - 1):
            self._links.exchange(right, parts[(rank + 1 - s) % n], left, parts[(rank - s) % n])

    def _tree(self, arrays: Sequence[tuple[Array, Op]]) -> None:
        packed = np.concatenate([a.view(np.uint8) for a, _ in arrays])
        got = np.empty_like(packed)
        step = 1
        while step < self.size:
            if self.rank % (2 * step):
                self._links.send(self._ranks[self.rank - step], packed)
                break
            if self.rank + step < self.size:
                self._links.receive(self._ranks[self.rank + step], got)
                at = 0
                for array, op in arrays:
                    part = slice(at, at + array.nbytes)
                    mine, other = packed[part].copy().view(array.dtype), got[part].copy().view(array.dtype)
                    packed[part] = op(mine, other).view(np.uint8)
                    at += array.nbytes
            step *= 2
        if self.rank:
            self._links.receive(self._ranks[self.rank - step], packed)
        while step > 1:
            step //= 2
            if self.rank + step < self.size:
                self._links.send(self._ranks[self.rank + step], packed)
        at = 0
        for array, _ in arrays:
            array.view(np.uint8)[...] = packed[at : at + array.nbytes]
            at += array.nbytes

    def close(self) -> None:
        """Close the connections."""
        self._links.close()


class SharedComm:
    """Joins arrays of the processes of one host in memory that all of them map.

    Each writes what the others sum, sums its own share of every array, writes that, and reads the shares of
    the others: an array passes the memory twice, however many there are. A byte to the first of them and back
    keeps them in step, and tells when one dies. Small arrays take the tree.

    Parameters
    ----------
    links
        To all processes.
    ranks, pids
        Of those on this host.
    between
        Joins hosts; given to the first process of each.
    last
        Whether there are no other hosts.
    """

    def __init__(
        self,
        links: Links,
        ranks: Sequence[int],
        pids: Sequence[int],
        between: SocketComm | None,
        *,
        last: bool,
    ) -> None:
        self._links = links
        self._ranks = list(ranks)
        self._between = between
        self._tree = SocketComm(links, range(links.size))
        self._alone = last
        self._me = self._ranks.index(links.rank)
        self.rank, self.size = links.rank, links.size
        self._fd = os.memfd_create("framefold-iterate")
        self._pids = list(pids)
        self._half = 0  # bytes of one of the two halves, used in turn
        self._turn = 0
        self._maps: list[Array] = []
        others = np.zeros(len(ranks), np.int64)
        others[self._me] = self._fd
        SocketComm(links, self._ranks).allreduce([(others, "sum")])
        self._fds = others.tolist()

    def allreduce(self, arrays: Sequence[tuple[Array, str]]) -> None:
        """See `Comm.allreduce`."""
        if sum(a.nbytes for a, _ in arrays) <= SMALL_BYTES:
            self._tree.allreduce(arrays)
            return
        flat = [(a.reshape(-1), _op(reduce)) for a, reduce in arrays]
        places, total = [], 0
        for a, _ in flat:
            places.append(total)
            total += -(-a.nbytes // ALIGN) * ALIGN
        if total > self._half:
            self._grow(total)
        self._turn = 1 - self._turn  # the other half may still be read
        base, me = self._turn * self._half, self._me
        views = [
            [m[base + p : base + p + a.nbytes].view(a.dtype) for p, (a, _) in zip(places, flat, strict=True)]
            for m in self._maps
        ]
        parts = [self._parts(len(a)) for a, _ in flat]
        for (a, _), view, part in zip(flat, views[me], parts, strict=True):
            for i, p in enumerate(part):
                if i != me:  # the others' shares; the own one is summed here
                    view[p] = a[p]
        self._meet()
        for k, ((a, op), part) in enumerate(zip(flat, parts, strict=True)):
            mine = a[part[me]]
            for i, theirs in enumerate(views):
                if i != me:
                    op(mine, theirs[k][part[me]], out=mine)
            views[me][k][part[me]] = mine
        self._meet()
        if self._between is not None or self._alone:
            for k, ((a, _), part) in enumerate(zip(flat, parts, strict=True)):
                for i, p in enumerate(part):
                    if i != me:
                        a[p] = views[i][k][p]
        if not self._alone:
            self._over_hosts(arrays, views[0])

    def _over_hosts(self, arrays: Sequence[tuple[Array, str]], shared: Sequence[Array]) -> None:
        """Join the sums of the hosts; the first process of each brings them to the others."""
        if self._between is not None:
            self._between.allreduce(arrays)
            for view, (a, _) in zip(shared, arrays, strict=True):
                view[...] = a.reshape(-1)
        self._meet()
        if self._between is None:
            for view, (a, _) in zip(shared, arrays, strict=True):
                a.reshape(-1)[...] = view

    def _parts(self, n: int) -> list[slice]:
        """Return which part of an array each process sums."""
        cuts = [n * i // len(self._ranks) for i in range(len(self._ranks) + 1)]
        return [slice(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]

    def _meet(self) -> None:
        """Wait until all are here."""
        first, byte = self._ranks[0], np.zeros(1, np.uint8)
        if self._me:
            self._links.send(first, byte)
            self._links.receive(first, byte)
            return
        for other in self._ranks[1:]:
            self._links.receive(other, byte)
        for other in self._ranks[1:]:
            self._links.send(other, byte)

    def _grow(self, total: int) -> None:
        """Map more memory; all come to this at the same call, for their arrays have the same sizes."""
        self._maps = []
        self._half = -(-total // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(self._fd, 2 * self._half)
        self._meet()
        for pid, fd in zip(self._pids, self._fds, strict=True):
            try:
                with open(f"/proc/{pid}/fd/{fd}", "r+b") as file:
                    self._maps.append(np.frombuffer(mmap.mmap(file.fileno(), 2 * self._half), np.uint8))
            except OSError as exc:
                raise ExecutorError(f"memory of the worker process {pid} cannot be mapped: {exc}") from exc

    def close(self) -> None:
        """Close the connections and let the memory go."""
        self._links.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._maps = -1, []


def _op(reduce: str) -> Op:
    return np.maximum if reduce == "max" else np.add
