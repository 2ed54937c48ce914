"""How far to trust a reconstruction: phase retrieval transfer function and shell correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.state import CDI, MASKED

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A figure by shells of spatial frequency.

    Attributes
    ----------
    frequency
        Middles of the shells, cycles per pixel.
    value
        The figure; NaN in shells without measured pixels.
    limit
        Threshold per shell.
    cutoff
        Frequency at which the value first falls below the threshold; NaN: never.
    pixel_size
        Of the object, m, or None.
    """

    frequency: Float
    value: Float
    limit: Float
    cutoff: float
    pixel_size: float | None = None

    @property
    def resolution(self) -> float:
        """Half period at the cutoff, in m, or in pixels without a pixel size; NaN: beyond the edge."""
        size = 1.0 if self.pixel_size is None else self.pixel_size
        return size / (2 * self.cutoff) if self.cutoff > 0 else float("nan")


def shells(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], Float]:
    """Return the shell of each frequency and the middles of the shells, cycles per pixel.

    The origin of frequencies is at index 0. Shells are one pixel of the shortest axis wide and end at the
    Nyquist frequency; beyond: -1.
    """
    square = np.zeros(shape)
    for axis, n in enumerate(shape):
        square += (np.fft.fftfreq(n) ** 2).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    count = min(shape) // 2
    index = np.floor(np.sqrt(square) * min(shape) + 0.5).astype(np.int64)
    index[index >= count] = -1
    return index, np.arange(count) / min(shape)


def _by_shell(values: npt.NDArray[Any], index: npt.NDArray[np.int64], n: int) -> Float:
    inside = index >= 0
    sums = np.bincount(index[inside], np.asarray(values, dtype=np.float64)[inside], minlength=n)
    return np.asarray(sums, dtype=np.float64)


def crossing(frequency: Float, value: Float, limit: Float) -> float:
    """Return where `value` first falls below `limit`, interpolated; NaN if it never does.

    >>> crossing(np.array([0.0, 0.1, 0.2]), np.array([1.0, 0.8, 0.2]), np.full(3, 0.5))
    0.15
    """
    known = np.flatnonzero(np.isfinite(value))
    above = (value - limit)[known]
    for i in range(1, len(known)):
        if above[i] < 0 <= above[i - 1]:
            a, b = frequency[known[i - 1]], frequency[known[i]]
            return round(float(a + (b - a) * above[i - 1] / (above[i - 1] - above[i])), 12)
    return float("nan")


def prtf(solutions: npt.NDArray[Any], cdi: CDI) -> Curve:
    """Return the phase retrieval transfer function: how well phases repeat, ``|<F_i>| / sqrt(I)`` by shells.

    Chapman et al., J. Opt. Soc. Am. A 23 (2006) 1179. Threshold 1 / e.

    Parameters
    ----------
    solutions
        Aligned, ``(n, *shape)``.
    cdi
        With the measured intensities.

    Raises
    ------
    DataError
        With fewer than two solutions, which tell nothing about repeating.
    """
    if len(solutions) < 2:
        raise DataError(f"a transfer function compares 2 solutions or more, got {len(solutions)}")
    axes = tuple(range(1, solutions.ndim))
    mean = np.fft.fftn(solutions, axes=axes, norm="ortho").mean(axis=0)
    measured = cdi.data.code != MASKED
    index, frequency = shells(cdi.shape)
    shown = _by_shell(np.where(measured, np.abs(mean), 0), index, len(frequency))
    total = _by_shell(np.where(measured, cdi.data.amplitude, 0), index, len(frequency))
    value = np.divide(shown, total, out=np.full(len(frequency), np.nan), where=total > 0)
    limit = np.full(len(frequency), np.exp(-1))
    return Curve(frequency, value, limit, crossing(frequency, value, limit), cdi.pixel_size)


def shell_correlation(a: npt.NDArray[Any], b: npt.NDArray[Any], pixel_size: float | None = None) -> Curve:
    """Return the Fourier shell (ring) correlation of two objects, with the 1/2-bit threshold.

    van Heel and Schatz, J. Struct. Biol. 151 (2005) 250.
    """
    f, g = np.fft.fftn(a), np.fft.fftn(b)
    index, frequency = shells(a.shape)
    n = len(frequency)
    cross = _by_shell((f * g.conj()).real, index, n)
    power = np.sqrt(_by_shell(np.abs(f) ** 2, index, n) * _by_shell(np.abs(g) ** 2, index, n))
    value = np.divide(cross, power, out=np.full(n, np.nan), where=power > 0)
    root = np.sqrt(np.maximum(_by_shell(np.ones(a.shape), index, n), 1))
    limit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return Curve(frequency, value, limit, crossing(frequency, value, limit), pixel_size)
