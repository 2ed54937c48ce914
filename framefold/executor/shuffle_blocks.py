"""Blocks whose parts come from several processes: what each contributes, and who puts them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from framefold.udfcore.live import Block

Array = npt.NDArray[Any]


@dataclass
class Part:
    """What one process contributes to a block; `source` waits for credit, None: this process itself."""

    data: tuple[Array, ...]
    valid: tuple[Array, ...]
    block: Block | None = None  # of the own ring
    source: int | None = None


@dataclass
class Pending:
    """A block whose parts are coming together."""

    first_frame: int
    frames: int
    t_first: float
    t_last: float
    since: float
    parts: dict[int, Part] = field(default_factory=dict)
    revoked: bool = False


class Owners:
    """Which process puts a block together: they take turns, and others stand in for the lost.

    All processes come to the same answer without asking one another, if they know the same to be lost.

    Parameters
    ----------
    owners
        Ranks that take blocks.
    ranks
        All ranks: they stand in when no owner is left.
    lost
        Those known to be lost; they do not take blocks again, even if their sectors come back.
    """

    def __init__(self, owners: Sequence[int], ranks: Iterable[int], lost: Iterable[int] = ()) -> None:
        self._owners = tuple(owners)
        self._ranks = tuple(ranks)
        self.lost = set(lost)

    def of(self, block: int) -> int:
        """Return the rank that puts `block` together."""
        n = len(self._owners)
        first = self._owners[block % n]
        if first not in self.lost:
            return first
        left = [r for r in self._owners if r not in self.lost]
        left = left or [r for r in self._ranks if r not in self.lost]
        return left[block // n % len(left)] if left else first
