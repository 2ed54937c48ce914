"""Checks that the accounts of a sector add up; they must, at the end of every run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live import kernels_state as k
from framefold.udfcore.live import SectorStats

_COLUMNS: dict[str, Any] = {
    "received": k.RECEIVED, "valid": k.VALID, "duplicate": k.DUPLICATE, "late": k.LATE, "overrun": k.OVERRUN,
    "corrupt": k.CORRUPT, "foreign": k.FOREIGN, "expected": k.EXPECTED, "lost": k.LOST, "bytes": k.BYTES,
}  # fmt: skip


def sector_stats(
    counters: npt.NDArray[np.int64], endpoints: Sequence[str], indices: Sequence[int], drops: Sequence[int],
    fills: Sequence[float],
) -> tuple[SectorStats, ...]:  # fmt: skip
    """Return the counters of a window in words, one entry per sector."""
    return tuple(
        SectorStats(
            index, endpoint, **{name: int(row[c]) for name, c in _COLUMNS.items()}, kernel_drops=int(drop),
            ring_fill=float(fill),
        )
        for row, endpoint, index, drop, fill in zip(counters, endpoints, indices, drops, fills, strict=True)
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was counted beside the accounts of a sector, independently of them.

    Attributes
    ----------
    bitmap
        Pieces that the delivered bitmaps say are valid.
    frames
        Frames in delivered blocks.
    pieces
        Pieces of a frame.
    unusable
        Different pieces that arrived too late, or without room for them; a lower bound.
    """

    bitmap: int
    frames: int
    pieces: int
    unusable: int = 0


def broken(stats: SectorStats, evidence: Evidence) -> list[str]:
    """Return which of the four laws a sector breaks, with the numbers; empty: the accounts add up."""
    s, e = stats, evidence
    fates = s.valid + s.duplicate + s.late + s.overrun + s.corrupt + s.foreign
    laws = (
        (s.received == fates, f"I1: received {s.received}, fates {fates}"),
        (s.expected == s.valid + s.lost, f"I2: expected {s.expected}, valid {s.valid} + lost {s.lost}"),
        (s.expected == e.frames * e.pieces, f"I2: expected {s.expected}, delivered {e.frames} x {e.pieces}"),
        (s.valid == e.bitmap, f"I3: valid {s.valid}, in the bitmaps {e.bitmap}"),
        (s.lost >= e.unusable, f"I4: lost {s.lost}, arrived but not used {e.unusable}"),
    )
    return [text for holds, text in laws if not holds]


def require_balance(pairs: Iterable[tuple[SectorStats, Evidence]]) -> None:
    """Check the accounts of all sectors.

    Raises
    ------
    StreamError
        If they do not add up, which is a mistake in this package.
    """
    faults = [f"sector {s.sector}: {text}; {s}" for s, e in pairs for text in broken(s, e)]
    if faults:
        raise StreamError(
            "the accounts of a live run do not add up. This is a bug: please report it with these lines\n  "
            + "\n  ".join(faults)
        )
