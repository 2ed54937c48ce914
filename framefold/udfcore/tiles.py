"""From a raw block to the tiles of a lane: correct, transform, convert, change backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.backend import CUPY, NUMPY, for_backend, to_dense
from framefold.udfcore.plan import LanePlan, Plan

Array = npt.NDArray[Any]


class Tiles:
    """Cuts a raw block into the tiles of a lane: corrects, transforms, converts, changes backend."""

    def __init__(self, plan: Plan, lane: LanePlan) -> None:
        self._lane = lane
        self._contiguous = plan.options.contiguous
        self._scratch: dict[Any, Array] = {}
        self._as_it_is = lane.pre is None and lane.corrections is None and lane.backend == NUMPY
        self._sparse_source = getattr(plan.dataset.source, "backend", NUMPY) != NUMPY

    def plain_part(
        self, read_part: tuple[slice, ...], members: tuple[int, ...], dtype: np.dtype[Any]
    ) -> bool:
        """Tell whether blocks of `dtype` of this part are tiles as they are, see `plain`."""
        scheme = self._lane.scheme
        return (
            self._as_it_is
            and len(members) == 1
            and dtype == self._lane.dtype
            and scheme.parts[members[0]] == read_part
        )

    def plain(self, raw: Any) -> bool:
        """Tell whether a block for which `plain_part` holds is its only tile."""
        return raw.shape[0] <= self._lane.scheme.depth and (not self._contiguous or raw.flags.c_contiguous)

    def cut(
        self, raw: Any, read_part: tuple[slice, ...], members: tuple[int, ...]
    ) -> Iterator[tuple[int, int, int, Any]]:
        """Yield ``(start, stop, part index, tile)``; a tile is valid until the next one."""
        lane = self._lane
        n = raw.shape[0]
        depth = min(lane.scheme.depth, n)
        for start in range(0, n, depth):
            stop = min(n, start + depth)
            block = raw if depth >= n else raw[start:stop]
            for index in members:
                yield start, stop, index, self._tile(block, read_part, lane.scheme.parts[index])

    def _tile(self, block: Any, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Any:
        lane = self._lane
        if self._sparse_source:
            if lane.corrections is None and lane.pre is None:
                return for_backend(_sub(block, read_part, part).astype(lane.dtype), lane.backend)
            block = to_dense(block)  # a dark frame fills every pixel anyway
        if lane.pre is not None:
            tile = self._transformed(block, read_part, part)
        elif lane.corrections is not None:
            tile = self._out((block.shape[0], *_extent(part)), lane.dtype)
            lane.corrections.apply(block, read_part, part, tile)
        elif lane.backend == CUPY:  # fewer bytes travel before they are converted
            return for_backend(_sub(block, read_part, part), CUPY).astype(lane.dtype, copy=False)
        else:
            tile = _sub(block, read_part, part)
            if tile.dtype != lane.dtype or (self._contiguous and not tile.flags.c_contiguous):
                out = self._out(tile.shape, lane.dtype)
                from framefold.kernels.convert import convert  # noqa: PLC0415  # numba takes 0.3 s

                convert(tile, out)
                tile = out
        if lane.backend != NUMPY:
            tile = for_backend(tile, lane.backend)
        return tile

    def _transformed(self, block: Array, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Array:
        lane = self._lane
        assert lane.pre is not None
        wanted = lane.pre.input_slice(part)
        if lane.corrections is not None:
            data = self._out((block.shape[0], *_extent(wanted)), np.dtype(lane.pre.dtype))
            lane.corrections.apply(block, read_part, wanted, data)
        else:
            data = _sub(block, read_part, wanted)
        out = self._out((block.shape[0], *_extent(part)), np.dtype(lane.pre.out_dtype), "pre")
        lane.pre.apply(data, part, out)
        if out.dtype == lane.dtype:
            return out
        tile = self._out(out.shape, lane.dtype, "tile")
        np.copyto(tile, out, casting="unsafe")
        return tile

    def _out(self, shape: tuple[int, ...], dtype: np.dtype[Any], slot: str = "") -> Array:
        key = (slot, shape[1:], dtype)
        have = self._scratch.get(key)
        if have is None or have.shape[0] < shape[0]:
            have = self._scratch[key] = np.empty(shape, dtype=dtype)
        return have[: shape[0]]


def _sub(block: Array, read_part: tuple[slice, ...], part: tuple[slice, ...]) -> Array:
    if part == read_part:
        return block
    return block[
        (
            slice(None),
            *(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, read_part, strict=True)),
        )
    ]


def _extent(part: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in part)
