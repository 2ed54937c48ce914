"""What happens during a run, told to observers: progress bars, logs, plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins: `frames` to fold, of `frame_bytes` raw bytes each."""

    frames: int
    frame_bytes: int
    title: str


@dataclass(frozen=True, slots=True)
class PartitionDone:
    """A partition is merged.

    Attributes
    ----------
    frames
        Rows of the partition, invalid frames included.
    seconds
        Fold time on the worker.
    """

    index: int
    frames: int
    seconds: float
    worker: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is over; `error` is None when it is complete."""

    seconds: float
    error: BaseException | None


Event = RunStarted | PartitionDone | RunEnded


class Observer(Protocol):
    """Receives the events of a run, in order, in the thread that merges; must return quickly."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        ...
