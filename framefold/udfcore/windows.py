"""Reductions that start anew every N frames: the windows that are being filled, and the one that is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.udfcore.row_book import RowBook
from framefold.udfcore.udf import UDF

Array = npt.NDArray[Any]
_BLOCKS_APART = 8  # the slowest lane is at most so far behind, else its window is taken without it


@dataclass
class Filled:
    """The buffers of one UDF on the head node, and what is inside.

    Attributes
    ----------
    buffers
        By name; navigation buffers are the same for all windows.
    frames, counts
        For each buffer the frames inside, and those per piece.
    newest
        The newest frame of ``reduce="last"`` buffers.
    times
        Where old frames fade: the moment that the weights of each buffer's frames are for.
    told, shipped
        Rows in the small buffers, and in those that come later; of every process that tells of them.
    """

    buffers: dict[str, Array]
    frames: dict[str, float]
    counts: dict[str, Array] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    told: int = 0
    shipped: int = 0


class Head(Protocol):
    """A UDF on the head node, with the window that partials are merged into now."""

    filled: Filled
    udf: UDF
    book: RowBook

    @property
    def lags(self) -> bool:
        """Whether some buffers come later than the others."""
        ...

    @property
    def windowed(self) -> Sequence[str]:
        """Names of the buffers that start anew."""
        ...


class Windows:
    """The windows of a run without an end; used under the lock of the merger.

    Lanes and processes work on several windows at a time. The one that is shown is the newest that holds all
    its frames; where blocks were lost, the newest before the two that are being filled.

    Parameters
    ----------
    every
        Frames in a window.
    heads
        All UDFs, with the buffers of the first window in them.

    Attributes
    ----------
    shown
        Number of the window in the results.
    complete
        Whether it is finished; False only before the first one is.
    """

    def __init__(self, every: int, heads: Sequence[Head]) -> None:
        self.every = every
        self.shown = 0
        self.complete = False
        self._heads = heads
        self._fresh = [{k: h.filled.buffers[k].copy() for k in h.windowed} for h in heads]
        self._open = {0: [h.filled for h in heads]}
        self._begun = [0] * len(heads)
        self._at = 0
        self._in_turn = self._over = False
        self._taken = -1
        self._block = 0

    def turn(self, number: int, block: int = 0) -> None:
        """Let all further merges go into this window; they come from a block of so many frames."""
        self._block = max(self._block, block)
        if number == self._at:
            return
        # what comes for a window before the one that is shown goes nowhere: nobody will see it
        filled = self._open.get(number) or [self._begin(i) for i in range(len(self._heads))]
        if number >= self.shown:
            self._open[number] = filled
        for head, one in zip(self._heads, filled, strict=True):
            head.filled = one
            views = vars(head.udf.results)
            for name in head.windowed:
                views[name] = one.buffers[name]
        self._at = number

    def _begin(self, i: int) -> Filled:
        old = self._heads[i].filled
        return Filled(
            {**old.buffers, **{k: v.copy() for k, v in self._fresh[i].items()}},
            dict.fromkeys(old.frames, 0),
            {k: np.zeros_like(v) for k, v in old.counts.items()},
        )

    def count(self, heads: Sequence[Head], rows: int, delta: bool) -> None:
        """Note rows that were merged into the window that is turned to, and show what is finished."""
        for i, head in enumerate(self._heads):
            if not any(head is h for h in heads):
                continue
            if delta:
                head.filled.shipped += rows
            else:
                head.filled.told += rows
            if delta or not head.lags:
                self._begun[i] = max(self._begun[i], self._at)
        begun = min(self._begun)
        self._show([w for w in self._open if w < begun - 1 or self._is_full(w)])

    def show_in_turn(self) -> None:
        """Keep finished windows until `take` shows them, one after the other."""
        self._in_turn = True

    def take(self) -> bool:
        """Show the next finished window; False: there is none so far."""
        number = min((w for w in self._open if w > self._taken), default=None)
        if number is None or not (self._is_full(number) or self._is_past(number)):
            return False
        if number > self._taken + 1 and not self._is_past(number):
            return False  # the one before may still come
        self._keep_from(number)
        self._taken, self.complete = number, True
        return True

    def _is_past(self, number: int) -> bool:
        if self._over:
            return number < max(self._open)
        apart = math.ceil(_BLOCKS_APART * self._block / self.every)  # windows that lanes may lie apart
        return number < min(self._begun) - 1 - apart

    def _keep_from(self, number: int) -> None:
        self.shown = number
        for w in [w for w in self._open if w < number]:
            del self._open[w]

    def rest(self) -> None:
        """Show what came after the last window that was taken, and be it nothing."""
        number = max(self._taken + 1, *self._open)
        if number not in self._open:
            self._open[number] = [self._begin(i) for i in range(len(self._heads))]
        self._keep_from(number)
        self.complete = False

    def end(self) -> None:
        """Take all windows but the last for finished: nothing will come any more."""
        self._over = True
        last = max(self._open)
        self._show([w for w in self._open if w < last])

    def _is_full(self, number: int) -> bool:
        return all(
            min(one.told, one.shipped if head.lags else one.told) >= self.every * head.book.groups
            for head, one in zip(self._heads, self._open[number], strict=True)
        )

    def _show(self, finished: Sequence[int]) -> None:
        if finished and not self._in_turn:
            self.complete = True
            self._keep_from(max(self.shown, *finished))

    def stated(self) -> Mapping[str, Any]:
        """Return what the report says about the window that is shown."""
        rows = [
            one.told // head.book.groups
            for head, one in zip(self._heads, self._open[self.shown], strict=True)
        ]
        return {
            "every": self.every,
            "number": self.shown,
            "first_frame": self.shown * self.every,
            "frames": min(rows),
            "complete": self.complete,
        }
