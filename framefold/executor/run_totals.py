"""What is counted while a run goes on, for its report."""

from __future__ import annotations

from dataclasses import dataclass, field

from framefold.udfcore.task import Partial


@dataclass
class Totals:
    """What is counted for the report."""

    frames: int = 0
    partitions: int = 0
    fold_seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    merge_seconds: float = 0.0
    warnings: dict[str, int] = field(default_factory=dict)
    workers: set[str] = field(default_factory=set)

    def count(self, partial: Partial, merge_seconds: float) -> None:
        """Add what every partial tells; frames and partitions are the run's to count."""
        self.merge_seconds += merge_seconds
        self.fold_seconds += partial.seconds
        self.cpu_seconds += partial.cpu_seconds
        self.bytes_read += partial.bytes_read
        self.workers.add(partial.worker or "this thread")
        for text, n in partial.warnings.items():
            self.warnings[text] = self.warnings.get(text, 0) + n
