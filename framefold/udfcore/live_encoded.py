"""Blocks whose frames are still as they came over the wire, as ordinary blocks that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.live import Block, SectorSpec
from framefold.udfcore.task import LivePart

CHUNK_BYTES = 2 * 2**20  # of decoded frames: read again from the cache by the UDFs


def encoded(block: Block) -> bool:
    """Tell whether the frames of `block` are still to be decoded."""
    return not isinstance(block.data[0], np.ndarray)


class Decoder:
    """Decodes blocks chunk by chunk for one thread; keeps the memory between them.

    Parameters
    ----------
    sectors
        Of the blocks, one piece each.
    dtype
        Of the frames.
    depth
        Most frames in a chunk that are of use; None: all frames of a block must come together.
    """

    def __init__(self, sectors: Sequence[SectorSpec], dtype: np.dtype[Any], depth: int | None) -> None:
        self._shapes = [s.pieces.shape for s in sectors]
        self._dtype = dtype
        frame = sum(int(np.prod(shape)) for shape in self._shapes) * dtype.itemsize
        self._depth = None if depth is None else max(1, min(depth, CHUNK_BYTES // max(1, frame)))
        self._scratch: list[npt.NDArray[Any]] = []

    def chunks(
        self, block: Block, where: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int, Block, list[int]]]:
        """Yield ``(a, b, chunk, damaged)``: the frames ``where[a:b]`` of `block` as a block of their own.

        It is valid until the next one; `damaged` counts, by sector, frames that could not be decoded.
        """
        n = len(where)
        depth = max(1, n) if self._depth is None else self._depth
        for a in range(0, n, depth):
            b = min(n, a + depth)
            rows = where[a:b]
            data, valid, damaged = [], [], []
            for s, (frames, flags) in enumerate(zip(block.data, block.valid, strict=True)):
                out, good = self._out(s, b - a), flags[rows]
                bad = _decode(frames, rows, good[:, 0], out)
                damaged.append(0 if bad is None else int(np.count_nonzero(bad)))
                data.append(out[np.newaxis])
                valid.append(good if bad is None else good & ~bad[:, np.newaxis])
            chunk = Block(block.index, 0, b - a, tuple(data), tuple(valid), block.t_first, block.t_last)
            yield a, b, chunk, damaged

    def _out(self, sector: int, n: int) -> npt.NDArray[Any]:
        if not self._scratch or len(self._scratch[0]) < n:
            self._scratch = [np.empty((n, *shape), self._dtype) for shape in self._shapes]
        return self._scratch[sector][:n]


def _decode(
    frames: Any, rows: npt.NDArray[np.int64], good: npt.NDArray[np.bool_], out: npt.NDArray[Any]
) -> npt.NDArray[np.bool_] | None:
    """Decode the frames that arrived; values of the others are undefined."""
    if good.all():
        return frames.decode(rows, out)
    all_bad = np.zeros(len(rows), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).astype(np.int8)))
    for a, b in edges.reshape(-1, 2).tolist():
        bad = frames.decode(rows[a:b], out[a:b])
        if bad is not None:
            all_bad[a:b] = bad
    return all_bad if all_bad.any() else None


def joined(parts: Sequence[LivePart], damaged: Sequence[int]) -> LivePart:
    """Return what the chunks of a block together tell."""
    first = parts[0]
    return LivePart(
        np.concatenate([p.status for p in parts]),
        np.sum([p.counts for p in parts], axis=0),
        sum(p.whole for p in parts),
        first.closed,
        first.shift,
        tuple(damaged),
    )
