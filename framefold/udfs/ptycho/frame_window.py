"""Which part of the detector is used, and how it lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Array = npt.NDArray[Any]
Crop = int | tuple[int, int] | Literal["auto"] | None
Centre = tuple[float, float] | Literal["auto", "com", "middle", "corner"]
CORNER_LIGHT = 5.0  # times as much in the four corners as in the middle: that is where the beam stands
OFF_CENTRE = 0.05  # of the frame: beyond, "auto" puts the frame's middle on the beam


@dataclass(frozen=True)
class FrameWindow:
    """A window of the detector, which may reach over its border: what lies outside counts as not measured.

    Attributes
    ----------
    sig
        Shape of the detector.
    start
        Row and column of the window's first pixel.
    shape
        Of the window.
    corner_centred
        Whether the middle of the window lies in the corner in memory, where the FFT has frequency 0.
    stored_in_corner
        Whether it already does in the data.
    """

    sig: tuple[int, int]
    start: tuple[int, int]
    shape: tuple[int, int]
    corner_centred: bool
    stored_in_corner: bool = False

    def cut(self, tile: Array) -> Array:
        """Return the window of frames ``(n, *sig)`` as it lies in memory, 0 outside the detector."""
        if self.stored_in_corner:
            tile = np.fft.fftshift(tile, axes=(1, 2))
        (y, x), (ny, nx) = self.start, self.shape
        inside = [
            slice(max(0, a), min(s, a + n)) for a, n, s in zip(self.start, self.shape, self.sig, strict=True)
        ]
        part = tile[(slice(None), *inside)]
        if part.shape[1:] != self.shape:
            whole = np.zeros((len(tile), ny, nx), tile.dtype)
            whole[:, inside[0].start - y : inside[0].stop - y, inside[1].start - x : inside[1].stop - x] = (
                part
            )
            part = whole
        return np.fft.ifftshift(part, axes=(1, 2)) if self.corner_centred else part

    def natural(self, frames: Array) -> Array:
        """Return frames ``(..., ny, nx)`` from memory with the centre in the middle."""
        return np.fft.fftshift(frames, axes=(-2, -1)) if self.corner_centred else frames


def choose_window(
    mean: Array, good: npt.NDArray[np.bool_], crop: Crop, centre: Centre, *, far: bool
) -> tuple[FrameWindow, list[str]]:
    """Return the window to use, and sentences about what was chosen.

    Parameters
    ----------
    mean
        Mean frame, signal shape.
    good
        Signal shape: measured pixels.
    crop
        Size of the window; ``"auto"``: the detector, cut to lengths that are even and fast to transform;
        None: the detector as it is.
    centre
        (y, x) of the beam; ``"com"``: centre of mass of the mean frame; ``"middle"``: pixel n // 2;
        ``"corner"``: pixel 0, and the frames go on at the opposite border, as an FFT leaves them;
        ``"auto"``: the middle, unless the centre of mass is further than 5 % of the frame away from it; the
        corner, where four bright corners and a dark middle show it.
    far
        Far-field data; near-field frames have no centre.

    Raises
    ------
    DataError
        If the window is impossible.
    """
    sig = (int(mean.shape[0]), int(mean.shape[1]))
    notes: list[str] = []
    if crop is None:
        shape = sig
    elif crop == "auto":
        shape = (_fast_below(sig[0]), _fast_below(sig[1])) if far else sig
    else:
        given = (crop, crop) if isinstance(crop, int) else tuple(crop)
        shape = (int(given[0]), int(given[1]))
    if min(shape) < 8 or max(shape) > 4 * max(sig):
        raise DataError(f"crop={crop!r}: windows of {shape} do not suit frames of {sig}")
    middle = (sig[0] // 2, sig[1] // 2)
    if not far:
        start = (middle[0] - shape[0] // 2, middle[1] - shape[1] // 2)
        return FrameWindow(sig, start, shape, corner_centred=False), notes
    weights = np.where(good, np.maximum(mean, 0), 0)
    if not weights.sum() > 0:
        raise DataError("the sampled frames are empty: all measured pixels are 0")
    corner = centre == "corner" or (centre == "auto" and in_corners(mean, good))
    if corner:
        if centre == "auto":
            notes.append(
                "the beam stands in the four corners of the frame, as an FFT leaves it: the frames are "
                "shifted by half their size (centre='middle' ; --centre middle prevents that)"
            )
        centre = "middle"
        weights = np.fft.fftshift(weights)
    com = tuple(float((weights.sum(axis=1 - a) * np.arange(sig[a])).sum() / weights.sum()) for a in (0, 1))
    off = [abs(c - m) / n for c, m, n in zip(com, middle, sig, strict=True)]
    if centre == "auto":
        chosen: tuple[float, float] = middle if max(off) <= OFF_CENTRE else (com[0], com[1])
        if chosen is not middle:
            notes.append(
                f"the beam stands at ({com[0]:.0f}, {com[1]:.0f}), not in the middle of the frame: the "
                "window "
                "was put around it (centre='middle' prevents that)"
            )
    elif centre == "com":
        chosen = (com[0], com[1])
    elif centre == "middle":
        chosen = middle
    else:
        chosen = (float(centre[0]), float(centre[1]))
    start = (round(chosen[0]) - shape[0] // 2, round(chosen[1]) - shape[1] // 2)
    if shape != sig:
        notes.append(f"frames of {sig[0]} x {sig[1]} are used as windows of {shape[0]} x {shape[1]}")
    return FrameWindow(sig, start, shape, corner_centred=True, stored_in_corner=corner), notes


def in_corners(mean: Array, good: npt.NDArray[np.bool_]) -> bool:
    """Tell whether the four corners of a frame are all much brighter than its middle."""
    valid = np.where(good, np.maximum(mean, 0), 0)
    ny, nx = (max(1, n // 8) for n in mean.shape)

    def level(rows: slice, cols: slice) -> float:
        return float(valid[rows, cols].sum() / max(1, good[rows, cols].sum()))

    y, x = mean.shape[0] // 2, mean.shape[1] // 2
    middle = level(slice(y - ny, y + ny), slice(x - nx, x + nx))
    ends = [(slice(0, m), slice(-m, None)) for m in (ny, nx)]
    return min(level(rows, cols) for rows in ends[0] for cols in ends[1]) > CORNER_LIGHT * middle


def _fast_below(n: int) -> int:
    """Return the largest even length up to `n` that has only the factors 2, 3, 5 and 7."""
    for length in range(n - n % 2, 1, -2):
        rest = length
        for p in (2, 3, 5, 7):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return length
    return n
