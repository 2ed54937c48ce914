"""Where to start: probes from the data, from optics or from a former result; modes; the object."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.ptycho.kernels.propagate import fresnel_factor, from_detector

Array = npt.NDArray[Any]


def probe_of_mean(mean: Array, good: Array, factor: Array | None) -> npt.NDArray[np.complex128]:
    """Return the probe whose detector image is the mean frame with phase 0, centred.

    Parameters
    ----------
    mean
        Mean frame as it lies in memory (far field: centre in the corner), counts.
    good
        True for measured pixels; the others are filled by their neighbours.
    factor
        Fresnel factor of near-field data, or None.

    Notes
    -----
    Far field: only the pupil is kept, pixels above 5 % of the mean frame's bright level; scattering of the
    sample around it is not part of the probe.
    """
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  # only where a run begins

    weight = gaussian_filter(good.astype(float), 2.0, mode="wrap")
    smooth = gaussian_filter(np.where(good, np.maximum(mean, 0), 0), 2.0, mode="wrap") / np.maximum(
        weight, 1e-3
    )
    filled = np.where(good, np.maximum(mean, 0), smooth)
    if factor is not None:
        return np.asarray(from_detector(np.sqrt(filled), factor))
    bright = np.percentile(smooth[smooth > 0], 99) if (smooth > 0).any() else 0.0
    pupil = np.where(smooth > 0.05 * bright, filled, 0)
    return np.asarray(np.fft.fftshift(np.fft.ifft2(np.sqrt(pupil), norm="ortho")))


def defocused(
    probe: Array, pixel_size: tuple[float, float], wavelength: float, z: float
) -> npt.NDArray[np.complex128]:
    """Return `probe` after free flight over `z` m."""
    factor = fresnel_factor(probe.shape[-2:], pixel_size, wavelength, z)
    return np.asarray(np.fft.ifft2(np.fft.fft2(probe) * factor))


def scaled(probe: Array, counts: float) -> Array:
    """Return `probe` with ``sum |P|^2 = counts``, the counts per frame where |O| = 1.

    Raises
    ------
    DataError
        If the probe is empty or not finite.
    """
    power = float((np.abs(probe) ** 2).sum())
    if not np.isfinite(power) or power <= 0:
        raise DataError(f"the starting probe has the power {power}: it must be finite and not empty")
    return probe * np.sqrt(counts / power)


def more_modes(first: Array, modes: int, share: float = 0.1) -> Array:
    """Return `modes` orthogonal probe modes ``(modes, ny, nx)`` grown from the ones given.

    New ones are the first times x, y, xy, ... about its centre, with `share` of its power each, and
    orthogonal to those before (Gram-Schmidt).
    """
    given = first if first.ndim == 3 else first[None]
    if len(given) >= modes:
        return given[:modes]
    base = given[0]
    ny, nx = base.shape
    weight = np.abs(base) ** 2
    y, x = np.arange(ny)[:, None], np.arange(nx)[None, :]
    total = weight.sum()
    cy, cx = (weight * y).sum() / total, (weight * x).sum() / total
    sy = max(1.0, np.sqrt((weight * (y - cy) ** 2).sum() / total))
    sx = max(1.0, np.sqrt((weight * (x - cx) ** 2).sum() / total))
    u, v = (y - cy) / sy, (x - cx) / sx
    envelope = np.exp(-(u**2 + v**2) / 8)
    out = [np.array(m) for m in given]
    # all monomials u^a v^b by total degree
    powers = [(a, d - a) for d in range(1, modes + 1) for a in range(d, -1, -1)]
    for a, b in powers:
        if len(out) == modes:
            break
        new = base * (u**a) * (v**b) * envelope
        for old in out:
            new = new - old * (np.vdot(old, new) / np.vdot(old, old))
        new *= np.sqrt(share * total / (np.abs(new) ** 2).sum())
        out.append(new)
    return np.stack(out)


def start_object(
    kind: Literal["ones", "random"] | Array, modes: int, shape: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.complex128]:
    """Return the object to start from, ``(modes, Y, X)``.

    Raises
    ------
    DataError
        If a given array does not have the shape of the canvas.
    """
    if isinstance(kind, str):
        if kind not in ("ones", "random"):
            raise DataError(f"object={kind!r} is not 'ones', 'random' or an array")
        obj = np.ones((modes, *shape), np.complex128)
        noise = rng.normal(size=(2, modes, *shape))
        if kind == "random":
            obj *= np.exp(0.1j * noise[0])
        # two equal modes would stay equal
        for m in range(1, modes):
            obj[m] = 0.3 * (1 + 0.1 * (noise[0, m] + 1j * noise[1, m]))
        return obj
    given = np.asarray(kind, np.complex128)
    given = given if given.ndim == 3 else given[None]
    if given.shape[1:] != shape or len(given) > modes:
        raise DataError(
            f"the object given has the shape {given.shape}, the canvas of this scan is {(modes, *shape)}"
        )
    if len(given) < modes:
        rest = start_object("ones", modes, shape, rng)[len(given) :]
        given = np.concatenate([given, rest])
    return given
