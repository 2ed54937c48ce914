"""What the engines ask of a set of kernels: sums over frames, in place, on arrays of the caller.

Shapes: M probe modes, L object modes, B entries of the bank of sub-pixel shifts, frames of (ny, nx) pixels.
``probe`` is ``(B, M, ny, nx)`` and ``obj`` ``(L, Y, X)``, complex; ``frames`` ``(n, ny, nx)``, any real
dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FrameSet:
    """Frames that stay in memory, and what belongs to each.

    Attributes
    ----------
    frames
        ``(n, ny, nx)`` measured counts; far-field frames have their centre in the corner.
    corner
        int64 ``(n, 2)``: row and column of the frame on the object.
    bank
        int64 ``(n,)``: which of the shifted probes the frame was taken with.
    good
        ``(ny, nx)`` of the kernels' real type: 1 for measured pixels, 0 for the others.
    background
        ``(ny, nx)`` of the kernels' real type, counts; added to the model.
    limit
        Values from here on, and NaN, are not measured in that frame: saturated, or marks of the detector.
    power
        float64 ``(n,)``: brightness of the beam in each frame, by which the modelled counts are multiplied
        (not the background); None: 1.
    """

    frames: Array
    corner: npt.NDArray[np.int64]
    bank: npt.NDArray[np.int64]
    good: Array
    background: Array
    limit: float = np.inf
    power: Array | None = None

    def brightness(self, row: int) -> float:
        """Return the brightness of the beam in a frame."""
        return 1.0 if self.power is None else float(self.power[row])

    def measured(self, rows: Any, real: np.dtype[Any]) -> tuple[Array, Array]:
        """Return the counts of frames, not below 0, and their weights: `good`, 0 where nothing is measured.

        `rows` is a number, or several: ``(n, ny, nx)``.
        """
        values = self.frames[rows].astype(real)
        valid = values < self.limit
        return np.where(valid, np.maximum(values, 0), 0), np.where(valid, self.good, 0)


@dataclass(frozen=True)
class Window:
    """A part of the object's numerator: ``data[:, 0, 0]`` lies at row `y` and column `x` of the object."""

    data: Array
    y: int = 0
    x: int = 0


@dataclass(frozen=True)
class SweepStep:
    """Step of a sweep: ``alpha / ((1 - mix) |P|^2 + mix top_probe)``, the same for the other factor."""

    alpha: float
    mix: float
    top_probe: float
    top_object: float


class KernelSet(Protocol):
    """Sums over frames. All `add_*` methods add to arrays of the caller; `rows` index the frame set.

    ``sums`` is float64 ``(3,)``: misfit ``sum (sqrt I_m - sqrt I)^2``, measured ``sum I`` and modelled
    ``sum I_m`` over measured pixels, of the model P O.
    """

    real: np.dtype[Any]
    complex: np.dtype[Any]

    def add_residuals(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, num_object: Window, num_probe: Array |
        None, sums: Array,
    ) -> None:  # fmt: skip
        """Add ``conj(P) chi`` and ``conj(O) chi``, ``chi = Pi(P O) - P O``, Pi the modulus projection."""
        ...

    def sweep(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, step: SweepStep, with_probe: bool, sums:
        Array,
    ) -> None:  # fmt: skip
        """Update `probe` ``(M, ny, nx)`` and `obj` in place, frame after frame in the order of `rows`."""
        ...

    def relax(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array, beta: float, gamma: float,
        num_object: Window, sums: Array,
    ) -> None:  # fmt: skip
        """Set ``psi <- beta (psi + Pi(2 P O - psi)) + gamma P O``; add ``conj(P) (psi - P O)``.

        `sums` here is of the wave ``2 P O - psi``, not of the model.
        """
        ...

    def add_wave_numerators(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array, num_object: Window | None,
        num_probe: Array | None,
    ) -> None:  # fmt: skip
        """Add ``conj(P) (psi - P O)`` and ``conj(O) (psi - P O)`` of stored exit waves."""
        ...

    def fill_waves(self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array) -> None:
        """Set ``psi = P O``."""
        ...

    def add_slopes(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, num_object: Window, num_probe: Array,
        sums: Array, poisson: bool,
    ) -> None:  # fmt: skip
        """Add ``conj(P) g``, ``conj(O) g``, ``g = -D^-1 (dL/dI_m D P O)``: half the negative gradient."""
        ...

    def add_line(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, step_probe: Array, step_obj: Array, sums:
        Array, poisson: bool,
    ) -> None:  # fmt: skip
        """Add L', L'' and the expected L'' along ``P + a dP, O + a dO`` (dP dO neglected) to `sums`."""
        ...

    def parts(self, rows: Array) -> Iterator[Array]:
        """Yield as many of `rows` at a time as `position_steps` and `intensity` take at best."""
        ...

    def measured(self, data: FrameSet, rows: Array) -> tuple[Array, Array]:
        """Return the counts of frames, not below 0, and their weights, ``(n, ny, nx)``."""
        ...

    def position_steps(self, data: FrameSet, rows: Array, probe: Array, obj: Array, slopes: Array) -> Array:
        """Return the Gauss-Newton steps (y, x) in px of positions ``(n, 2)``; `slopes`: d O/dy and d O/dx."""
        ...

    def intensity(self, data: FrameSet, rows: Array, probe: Array, obj: Array) -> Array:
        """Return the modelled counts of frames ``(n, ny, nx)``, background included."""
        ...
