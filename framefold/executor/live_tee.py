"""One stream taken twice: each block goes to both takers, and back to the ring when both have released it."""

from __future__ import annotations

import threading
from collections import deque

from framefold.udfcore.live import (
    AcquisitionEnd,
    AcquisitionStart,
    Block,
    EndReason,
    Layout,
    SectorStats,
    Stream,
)


class Tee:
    """Shares a prepared stream among two takers.

    The taker that has nothing left fetches the next block for both; nobody runs ahead further than the ring
    is long.

    Parameters
    ----------
    stream
        Closed by its owner, not here.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.branches = (Branch(self), Branch(self))
        self._changed = threading.Condition(threading.RLock())
        self._fetching = False
        self._held: dict[int, int] = {}
        self._announced: AcquisitionStart | None = None
        self._error: BaseException | None = None

    def reset(self) -> None:
        """Make ready for the next acquisition."""
        with self._changed:
            for branch in self.branches:
                left = [b for b in branch.items if isinstance(b, Block)]
                branch.items.clear()
                for block in left:
                    self.release(block)
            self._announced = self._error = None

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Return the announcement; only the first of the two takers waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._fetching or self._announced is not None)
            if self._error is not None:
                raise self._error
            if self._announced is not None:
                return self._announced
            self._fetching = True
        try:
            start = self.stream.wait_start(timeout)
        except BaseException as exc:
            self._fetched(error=exc)
            raise
        self._announced = start
        self._fetched()
        return start

    def take(self, branch: Branch, timeout: float) -> Block | AcquisitionEnd | None:
        """Return what comes next for one taker."""
        with self._changed:
            self._changed.wait_for(lambda: bool(branch.items) or not self._fetching, timeout)
            if branch.items:
                return branch.items.popleft()
            if self._error is not None:
                raise self._error
            if self._fetching:
                return None
            self._fetching = True
        try:
            item = self.stream.next_block(timeout)
        except BaseException as exc:
            self._fetched(error=exc)
            raise
        self._fetched(item)
        with self._changed:
            return branch.items.popleft() if branch.items else None

    def _fetched(
        self, item: Block | AcquisitionEnd | None = None, error: BaseException | None = None
    ) -> None:
        with self._changed:
            self._fetching = False
            self._error = error
            if isinstance(item, Block):
                self._held[item.index] = len(self.branches)
            if item is not None:
                for branch in self.branches:
                    branch.items.append(item)
            self._changed.notify_all()

    def release(self, block: Block) -> None:
        """Take note that one taker is done with a block."""
        with self._changed:
            self._held[block.index] -= 1
            if self._held[block.index]:
                return
            del self._held[block.index]
        self.stream.release(block)


class Branch:
    """The `Stream` that one taker of a `Tee` sees."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self.items: deque[Block | AcquisitionEnd] = deque()

    def prepare(self, layout: Layout = "pieces") -> AcquisitionStart | None:
        """Nothing to do: the stream is prepared."""
        return None

    def wait_start(self, timeout: float | None) -> AcquisitionStart:
        """Return what the next acquisition announces."""
        return self._tee.wait_start(timeout)

    def next_block(self, timeout: float) -> Block | AcquisitionEnd | None:
        """Return the next block, the end, or None."""
        return self._tee.take(self, timeout)

    def release(self, block: Block) -> None:
        """Give the block back, as far as this taker is concerned."""
        self._tee.release(block)

    def stop(self, reason: EndReason = "stopped") -> None:
        """End the acquisition for both."""
        self._tee.stream.stop(reason)

    def stats(self) -> tuple[SectorStats, ...]:
        """Return the accounts."""
        return self._tee.stream.stats()

    def close(self) -> None:
        """Nothing to do: the stream has another owner."""
