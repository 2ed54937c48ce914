"""Tilt of a crystal from the intensities of its disks, and the strain that a tilt pretends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
_LEAST = 2  # pairs of opposite disks in two directions


@dataclass(frozen=True, eq=False)
class Tilt:
    """Tilt of the crystal in each frame.

    Attributes
    ----------
    tilt
        ``(*shape, 2)``: (y, x), radians: towards the side whose disks are brighter, on which the reciprocal
        lattice leans towards the source.
    sigma
        ``(*shape, 2)``: standard deviations.
    pairs
        How many pairs of opposite disks count.
    """

    tilt: Float
    sigma: Float
    pairs: npt.NDArray[np.int64]


def tilt_of(
    amplitude: npt.ArrayLike, sigma: npt.ArrayLike, hk: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike, *,
    step: float, wavelength: float, width: float,
) -> Tilt:  # fmt: skip
    r"""Return tilts from the ratios of intensities of opposite disks, whose structure factors are the same.

    The excitation error of a reflection is, to first order in the tilt, ``s = g . tau - lambda g^2 / 2``
    (Williams and Carter, Transmission Electron Microscopy, 2009, chapters 11 and 12). With an envelope
    ``exp(-s^2 / (2 w^2))`` the structure factor drops out of
    ``ln I(g) - ln I(-g) = lambda g^2 (g . tau) / w^2``: weighted least squares in tau.

    Parameters
    ----------
    amplitude, sigma
        ``(*shape, m)``: heights of the disks, and their standard deviations; disks of less than four of
        these do not count.
    hk
        ``(m, 2)``: their indices.
    a, b
        ``(*shape, 2)``: lattice vectors, (y, x) px.
    step
        Reciprocal length per px, 1/nm.
    wavelength
        nm.
    width
        Standard deviation w of the envelope in the excitation error, 1/nm; about ``0.37 / thickness`` of a
        thin crystal, whose rocking curve ``sinc^2(s t)`` has its half at ``s t = 0.443``.

    Raises
    ------
    DataError
        If a number is not positive, or no disk has an opposite one.
    """
    if not (step > 0 and wavelength > 0 and width > 0 and math.isfinite(step + wavelength + width)):
        raise DataError(f"step {step}, wavelength {wavelength} and width {width} are positive lengths")
    index = np.asarray(hk, dtype=np.int64)
    place = {(int(h), int(k)): i for i, (h, k) in enumerate(index)}
    ahead = [(i, place[-h, -k]) for (h, k), i in place.items() if (h, k) > (0, 0) and (-h, -k) in place]
    if len(ahead) < _LEAST:
        raise DataError("a tilt needs pairs of opposite disks around the direct beam: none there")
    one, other = np.array(ahead).T
    heights, errors = np.asarray(amplitude, np.float64), np.asarray(sigma, np.float64)
    vectors = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)], axis=-2) * step
    g = index[one].astype(np.float64) @ vectors
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(heights[..., one] / heights[..., other])
        variance = (errors / heights)[..., one] ** 2 + (errors / heights)[..., other] ** 2
    clear = (heights > 4.0 * errors) & np.isfinite(errors) & (errors > 0)
    clear = clear[..., one] & clear[..., other] & np.isfinite(ratio) & np.isfinite(g).all(-1)
    weight = np.where(clear, 1.0 / np.where(clear, variance, 1.0), 0.0)
    X = np.where(clear[..., None], wavelength / width**2 * (g**2).sum(-1, keepdims=True) * g, 0.0)
    N = np.einsum("...p,...pi,...pj->...ij", weight, X, X)
    r = np.einsum("...p,...pi,...p->...i", weight, X, np.where(clear, ratio, 0.0))
    det = N[..., 0, 0] * N[..., 1, 1] - N[..., 0, 1] ** 2
    # pairs along one line say nothing across it
    det = np.where(det > 1e-6 * N[..., 0, 0] * N[..., 1, 1], det, np.nan)
    rows = [N[..., 1, 1], -N[..., 0, 1], -N[..., 0, 1], N[..., 0, 0]]
    C = np.stack(rows, -1).reshape(N.shape) / det[..., None, None]
    tilt = np.einsum("...ij,...j->...i", C, r)
    return Tilt(tilt, np.sqrt(np.einsum("...ii->...i", C)), clear.sum(-1))


def without_tilt(vectors: npt.ArrayLike, tilt: npt.ArrayLike) -> Float:
    """Return lattice vectors ``(*shape, 2)``, (y, x) px, of the crystal without its tilt.

    The rods of a thin crystal stand on its surface and turn with it: where they cross the flat Ewald sphere
    vectors are longer by ``1 / cos(tilt)`` along the direction of the tilt, which looks like compression by
    ``tilt^2 / 2``. A tilt of NaN leaves NaN.

    Parameters
    ----------
    vectors
        ``(*shape, 2)``.
    tilt
        ``(*shape, 2)``, radians.
    """
    v, t = np.asarray(vectors, dtype=np.float64), np.asarray(tilt, dtype=np.float64)
    size = np.hypot(t[..., 0], t[..., 1])
    unit = t / np.where(size > 0, size, 1.0)[..., None]
    along = (v * unit).sum(-1, keepdims=True)
    return np.asarray(v + (np.cos(size)[..., None] - 1.0) * along * unit)
