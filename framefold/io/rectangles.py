"""Cuts a range of flat frame indices into rectangles of the navigation space."""

from __future__ import annotations

import math
from collections.abc import Iterator


def rectangles(start: int, stop: int, nav_shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the fewest rectangles that hold frames ``start .. stop - 1`` in order.

    Libraries that index arrays by axis (dask, zarr) get whole rows at once that way.

    >>> [[(s.start, s.stop) for s in rect] for rect in rectangles(1, 7, (3, 3))]
    [[(0, 1), (1, 3)], [(1, 2), (0, 3)], [(2, 3), (0, 1)]]
    """
    if start >= stop:
        return
    if not nav_shape:
        yield ()
        return
    if len(nav_shape) == 1:
        yield (slice(start, stop),)
        return
    inner = math.prod(nav_shape[1:])
    full = tuple(slice(0, n) for n in nav_shape[1:])
    first, begin = divmod(start, inner)
    last, end = divmod(stop, inner)
    if first == last:
        for rest in rectangles(begin, end, nav_shape[1:]):
            yield (slice(first, first + 1), *rest)
        return
    if begin:
        for rest in rectangles(begin, inner, nav_shape[1:]):
            yield (slice(first, first + 1), *rest)
        first += 1
    if first < last:
        yield (slice(first, last), *full)
    for rest in rectangles(0, end, nav_shape[1:]):
        yield (slice(last, last + 1), *rest)


def flat_depth(chunks: tuple[int, ...], nav_shape: tuple[int, ...]) -> int:
    """Return the fewest consecutive frames that hold whole chunks only.

    >>> flat_depth((1, 4), (8, 8)), flat_depth((2, 4), (8, 8))
    (4, 16)
    """
    for i, (c, _n) in enumerate(zip(chunks, nav_shape, strict=True)):
        if c > 1:
            return min(math.prod(nav_shape), c * math.prod(nav_shape[i + 1 :]))
    return 1
