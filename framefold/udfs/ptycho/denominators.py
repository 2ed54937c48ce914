"""Denominators of the updates from the histogram of positions, exact, without a pass over the frames.

With H(i) the number of frames at the integer position i: ``D_O = H (*) sum_k |P^k|^2`` (convolution) and
``D_P = H (corr) sum_l |O^l|^2`` (correlation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import scipy_of, xp_of

Array = npt.NDArray[Any]


class Histogram:
    """H of one set of frames, and its transform.

    Parameters
    ----------
    corner
        int ``(frames, 2)``.
    bank
        Which shifted probe each frame has; H is counted for each.
    entries
        Size of the bank.
    shape
        Of the object.
    real
        Precision.
    xp
        Namespace of the waves.
    """

    def __init__(
        self,
        corner: Array,
        bank: Array,
        entries: int,
        shape: tuple[int, int],
        real: npt.DTypeLike = np.float32,
        xp: Any = np,
    ) -> None:
        self.shape = shape
        self._fft = scipy_of(xp, "fft")
        self.n_frames = len(corner)
        self._spectra: list[Array | None] = []
        for b in range(entries):
            mine = corner[bank == b]
            if len(mine) == 0:
                self._spectra.append(None)
                continue
            # few numbers go to a device: a histogram made here would be as large as the object
            at, counts = xp.asarray(mine[:, 0] * shape[1] + mine[:, 1]), xp.zeros(shape[0] * shape[1], real)
            xp.add.at(counts, at, xp.ones(len(mine), real))
            self._spectra.append(self._fft.rfft2(counts.reshape(shape)))

    def of_object(self, probe: Array) -> Array:
        """Return ``D_O(r) = sum_j sum_k |P^k(r - r_j)|^2``, the shape of the object.

        `probe` is ``(B, M, ny, nx)``, one entry per shift.
        """
        total: Any = 0
        for spectrum, entry in zip(self._spectra, probe, strict=True):
            if spectrum is not None:
                total = total + spectrum * self._fft.rfft2(power(entry), self.shape)
        return _not_negative(self._fft.irfft2(total, self.shape))

    def of_probe(self, obj: Array, frame: tuple[int, int]) -> Array:
        """Return ``D_P(r) = sum_j sum_l |O^l(r + r_j)|^2``, shifts below a pixel ignored."""
        spectrum: Any = sum(s for s in self._spectra if s is not None)
        full = self._fft.irfft2(spectrum.conj() * self._fft.rfft2(power(obj)), self.shape)
        return _not_negative(full[: frame[0], : frame[1]])


def power(waves: Array) -> Array:
    """Return ``sum_k |w_k|^2`` over the first axis."""
    return (waves.real**2 + waves.imag**2).sum(axis=0)


def _not_negative(values: Array) -> Array:
    """Return `values`, rounding below 0 cut off, contiguous."""
    xp = xp_of(values)
    return xp.ascontiguousarray(xp.maximum(values, 0))


def effective_overlap(histogram: Histogram, probe: Array) -> float:
    """Return how many frames see a typical spot: ``c_eff = median (H (*) |P|^2)^2 / (H (*) |P|^4)``.

    The median is over the object where its illumination exceeds a quarter of the mean over the scanned area.
    """
    second = histogram.of_object((np.abs(probe) ** 2).sum(axis=1, keepdims=True))
    first = histogram.of_object(probe)
    where = illuminated(first)
    return float(np.median(first[where] ** 2 / np.maximum(second[where], 1e-12 * second.max())))


def illuminated(weight: Array, share: float = 0.25) -> npt.NDArray[np.bool_]:
    """Return where `weight` exceeds `share` of its median over the pixels that got any light."""
    lit = weight > 1e-3 * weight.max()
    return weight > share * xp_of(weight).median(weight[lit]) if lit.any() else lit
