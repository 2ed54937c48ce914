"""The address of a tile: a range of frames times a rectangle of the detector."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TileSlice:
    """Frames ``[start, stop)`` of a source (flat file index) and a part of its signal axes.

    `sig` holds one slice with explicit start and stop, step 1, per signal axis.
    """

    start: int
    stop: int
    sig: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(frames, *sig part)``."""
        return (self.stop - self.start, *(s.stop - s.start for s in self.sig))


def full_sig(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slices that cover all of a signal shape."""
    return tuple(slice(0, int(n)) for n in shape)
