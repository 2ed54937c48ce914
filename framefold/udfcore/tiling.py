"""How the signal axes are cut into parts, and how many frames a tile holds."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framefold.udfcore.shapes import Shape, Slice

SigPart = tuple[slice, ...]

DEFAULT_DEPTH = 32
MIN_PART_BYTES = 16 * 1024  # below this a strided read of a frame row block wastes the prefetcher


@dataclass(frozen=True)
class TilingScheme:
    """A partition of the signal axes into rectangular parts, and the number of frames per tile.

    Attributes
    ----------
    depth
        Frames per tile, at most.
    parts
        Disjoint, complete; an index identifies a part for the whole run on all workers.
    sig_shape
        The shape that the parts cover.
    """

    depth: int
    parts: tuple[SigPart, ...]
    sig_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Slice:
        part = self.parts[index]
        return Slice([s.start for s in part], Shape([s.stop - s.start for s in part], sig_dims=len(part)))

    def __iter__(self) -> Iterator[Slice]:
        return (self[i] for i in range(len(self)))

    @property
    def shape(self) -> Shape:
        """``(depth, *first part)``."""
        return Shape((self.depth, *self[0].shape), sig_dims=len(self.sig_shape))

    @property
    def slices(self) -> list[tuple[int, Slice]]:
        """Pairs of index and signal slice."""
        return list(enumerate(self))

    @property
    def dataset_shape(self) -> tuple[int, ...]:
        """The signal shape that the scheme covers."""
        return self.sig_shape


@functools.cache
def cache_target() -> int:
    """Return half of the L2 cache per core in bytes, within 256 KiB .. 2 MiB; 1 MiB where it is unknown."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        size = int(text[:-1]) * {"K": 1024, "M": 1024**2}[text[-1]] // 2
    except (OSError, ValueError, KeyError, IndexError):
        return 1024**2
    return min(max(size, 256 * 1024), 2 * 1024**2)


def cut_rows(sig: Sequence[int], rows: int, multiple: int = 1) -> tuple[SigPart, ...]:
    """Cut the first signal axis into parts of about `rows` rows, balanced, multiples of `multiple`.

    Parts differ by at most one multiple; all other axes stay whole, so that a part of a C-ordered frame
    is contiguous.
    """
    if not sig:
        return ((),)
    units = max(1, math.ceil(sig[0] / multiple))
    n_parts = max(1, math.ceil(units / max(1, rows // multiple)))
    borders = [min(sig[0], (units * i // n_parts) * multiple) for i in range(n_parts + 1)]
    borders[-1] = sig[0]
    rest = tuple(slice(0, n) for n in sig[1:])
    return tuple((slice(a, b), *rest) for a, b in zip(borders[:-1], borders[1:], strict=True))


def tile_scheme(
    sig: Sequence[int],
    itemsize: int,
    *,
    depth: int = DEFAULT_DEPTH,
    total_size: float = math.inf,
    budget: int | None = None,
    chunk_rows: int = 1,
    whole: bool = False,
) -> TilingScheme:
    """Return the scheme for `process_tile`.

    Parameters
    ----------
    sig
        Signal shape.
    itemsize
        Bytes per pixel as the UDF sees it.
    depth
        Wish for the least number of frames per tile.
    total_size
        The UDF's limit in bytes; infinite: the cache decides.
    budget
        Bytes per tile that stay in cache; None: `cache_target`.
    chunk_rows
        Parts are multiples of this many rows.
    whole
        Never cut the signal axes.
    """
    budget = cache_target() if budget is None else budget
    limit = total_size if total_size != math.inf else budget
    limit = max(float(itemsize), limit)
    frame = math.prod(sig) * itemsize
    if whole or not sig or frame * depth <= limit:
        return TilingScheme(
            max(1, depth, int(limit // max(1, frame))),
            cut_rows(sig, max(1, sig[0]) if sig else 1),
            tuple(sig),
        )
    row = max(1, frame // sig[0])
    per_frame = max(limit / depth, min(MIN_PART_BYTES, limit))
    rows = max(1, int(per_frame // row))
    rows = max(chunk_rows, rows // chunk_rows * chunk_rows)
    parts = cut_rows(sig, rows, chunk_rows)
    largest = max(math.prod(s.stop - s.start for s in p) for p in parts) * itemsize
    return TilingScheme(max(1, min(depth, int(limit // largest))), parts, tuple(sig))


def frame_scheme(sig: Sequence[int], itemsize: int) -> TilingScheme:
    """Return the scheme for `process_frame`: whole frames, as many as fit the cache."""
    frame = max(1, math.prod(sig) * itemsize)
    return TilingScheme(max(1, cache_target() // frame), (tuple(slice(0, n) for n in sig),), tuple(sig))
