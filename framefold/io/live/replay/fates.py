"""What befalls each packet of an emulated detector: a pure function of its number and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOSS, _BURST, _DUP, _DUP_DELAY, _ORDER, _LATE, _CORRUPT, _CUT, _WHERE = range(9)


@dataclass(frozen=True, slots=True)
class Impairments:
    """How a detector or its network misbehaves. Probabilities are per packet.

    Attributes
    ----------
    loss
        Probability that a packet is lost.
    burst_loss
        Probability that a packet begins a burst of so many lost packets.
    dup
        Probability that a packet comes twice.
    reorder
        A packet may be overtaken by so many others.
    late
        Probability that a packet is late, and by how many ms.
    corrupt
        Probability that a packet is damaged.
    truncate
        Probability that a packet is cut short.
    """

    loss: float = 0.0
    burst_loss: tuple[float, int] = (0.0, 1)
    dup: float = 0.0
    reorder: int = 0
    late: tuple[float, float] = (0.0, 0.0)
    corrupt: float = 0.0
    truncate: float = 0.0

    def __post_init__(self) -> None:
        chances = {
            "loss": self.loss, "burst_loss": self.burst_loss[0], "dup": self.dup, "late": self.late[0],
            "corrupt": self.corrupt, "truncate": self.truncate,
        }  # fmt: skip
        for name, p in chances.items():
            if not 0 <= p <= 1:
                raise DataError(f"{name}: {p} is not a probability between 0 and 1")
        if self.reorder < 0 or self.late[1] < 0 or not 1 <= self.burst_loss[1] <= 1_000_000:
            raise DataError("reorder and the ms of late are not negative, bursts have 1 to 10^6 packets")

    @property
    def none(self) -> bool:
        """Whether all packets arrive as they were sent."""
        quiet = (
            self.loss == self.burst_loss[0] == self.dup == self.late[0] == self.corrupt == self.truncate == 0
        )
        return quiet and self.reorder == 0


@dataclass(frozen=True, slots=True)
class Fates:
    """What befalls some packets; arrays of their number.

    Attributes
    ----------
    lost, corrupt, cut
        Bool.
    delay
        By how many packet times it comes late.
    again
        By how many packet times its duplicate comes later; -1: there is none.
    where
        uint64, random: which bit is damaged, where the packet is cut.
    """

    lost: npt.NDArray[np.bool_]
    corrupt: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]
    delay: npt.NDArray[np.int64]
    again: npt.NDArray[np.int64]
    where: npt.NDArray[np.uint64]


def uniform(index: npt.NDArray[Any], seed: int, purpose: int) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1) that depend on nothing but `index`, `seed` and `purpose` (SplitMix64)."""
    return (_hash(index, seed, purpose) >> np.uint64(11)).astype(np.float64) / 2.0**53


def _hash(index: npt.NDArray[Any], seed: int, purpose: int) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        start = np.uint64((seed * 0x2545F4914F6CDD1D + purpose * 0xD1342543DE82EF95) % 2**64)
        z = start + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def fates(index: npt.NDArray[Any], how: Impairments, seed: int, packets_per_ms: float = 1.0) -> Fates:
    """Return what befalls the packets `index`.

    Parameters
    ----------
    index
        Numbers of the packets since the detector started, int64.
    how
        The impairments.
    seed
        Another seed, other victims.
    packets_per_ms
        Turns the lateness into packet times.
    """
    lost = uniform(index, seed, _LOSS) < how.loss
    chance, length = how.burst_loss
    if chance > 0:
        # lost if any of the packets up to `length` - 1 before it began a burst
        first = index - (length - 1)
        span = np.arange(first.min(), index.max() + 1) if len(index) else index
        began = np.concatenate([[0], np.cumsum((uniform(span, seed, _BURST) < chance) & (span >= 0))])
        at = first - (span[0] if len(span) else 0)
        lost |= began[at + length] > began[at]
    delay = np.floor(uniform(index, seed, _ORDER) * (how.reorder + 1)).astype(np.int64)
    late = uniform(index, seed, _LATE) < how.late[0]
    delay += np.where(late, round(how.late[1] * packets_per_ms), 0)
    twice = uniform(index, seed, _DUP) < how.dup
    again = np.where(twice, delay + np.floor(4 * uniform(index, seed, _DUP_DELAY)).astype(np.int64), -1)
    return Fates(
        lost,
        uniform(index, seed, _CORRUPT) < how.corrupt,
        uniform(index, seed, _CUT) < how.truncate,
        delay,
        again,
        _hash(index, seed, _WHERE),
    )
