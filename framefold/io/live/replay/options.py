"""What an emulated detector does: how often, how fast, from which frame id, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from framefold.errors import DataError
from framefold.io.live.replay.fates import Impairments


@dataclass(frozen=True)
class EmulatorOptions:
    """Options that all emulators share; those of `Impairments` beside them.

    Attributes
    ----------
    rate
        Frames per second; None: as fast as possible.
    loops
        Times that the dataset is sent in one acquisition.
    start_id
        Id of the first frame of the acquisition.
    wrap_at
        The id after this many is 0 again; None: as the protocol's field of the id.
    pre_roll
        Frames without the flag of the acquisition, before it.
    post_roll
        Frames behind the acquisition, with ids that go on.
    flag_lag
        Frames by which the flag comes late, as in scans of a K2 IS.
    skew
        s; sector *s* begins ``s * skew`` after the first.
    dead_sectors
        Send nothing.
    stall
        Sector and seconds: from the middle of the acquisition it sends nothing for so long, then all at once.
    garbage
        Datagrams of random bytes in an acquisition.
    repeat
        Acquisitions; each begins with `start_id`, as when a detector is armed again.
    gap
        s between acquisitions.
    seed
        Of everything that is random.
    gentle
        Wait until the receiver has taken what was sent, so that no socket overflows. Linux, loopback only.
    impairments
        Loss, duplication, order, lateness, damage.
    """

    rate: float | None = None
    loops: int = 1
    start_id: int = 0
    wrap_at: int | None = None
    pre_roll: int = 0
    post_roll: int = 0
    flag_lag: int = 0
    skew: float = 0.0
    dead_sectors: tuple[int, ...] = ()
    stall: tuple[int, float] = (-1, 0.0)
    garbage: int = 0
    repeat: int = 1
    gap: float = 0.0
    seed: int = 0
    gentle: bool = False
    impairments: Impairments = field(default_factory=Impairments)

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise DataError(f"rate={self.rate} is not above 0; None or max: as fast as possible")
        for name in ("loops", "repeat"):
            if getattr(self, name) < 1:
                raise DataError(f"{name}={getattr(self, name)} is below 1")
        for name in ("start_id", "pre_roll", "post_roll", "flag_lag", "skew", "garbage", "gap"):
            if getattr(self, name) < 0:
                raise DataError(f"{name}={getattr(self, name)} is negative")
        if self.wrap_at is not None and self.wrap_at < 2:
            raise DataError(f"wrap_at={self.wrap_at} is below 2")

    @property
    def nominal_rate(self) -> float:
        """Frames per second that times are turned into frames with."""
        return self.rate or 1000.0
