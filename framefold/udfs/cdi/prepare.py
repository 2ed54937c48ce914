"""Before and between iterations: hold pixels out, fill gaps, scale, refine the grid, start anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from framefold.errors import DataError
from framefold.udfcore.namespace import to_host, xp_of
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.engine import engine_for
from framefold.udfs.cdi.state import CDI, FREE, MASKED, MEASURED, Diffraction, random_object


@dataclass(frozen=True, repr=False)
class FreePixels(Operator):
    """Hold out measured pixels at random, to judge the fit by what it never saw.

    Parameters
    ----------
    fraction
        Of the measured pixels.
    seed
        Of the choice; the same for all starts, so that they are judged by the same pixels.
    """

    fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise DataError(f"FreePixels: fraction={self.fraction} is not within 0 .. 1")

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with pixels held out; those held out before come back."""
        xp = xp_of(cdi.data.code)
        chosen = xp.asarray(np.random.default_rng(self.seed).random(cdi.shape) < self.fraction)
        code = xp.where(cdi.data.code == FREE, MEASURED, cdi.data.code)
        code = xp.where(chosen & (code == MEASURED), FREE, code).astype(np.uint8)
        return cdi.new(data=Diffraction(cdi.data.intensity, code))


@dataclass(frozen=True, repr=False)
class InterpMask(Operator):
    """Fill intensities that were not measured from their neighbours, for `AutoCorrelationSupport`.

    Averages over Gaussian neighbourhoods that grow until every gap is filled. The pixels stay unmeasured: the
    iterations leave them free.

    Parameters
    ----------
    sigma
        Of the first neighbourhood, pixels.
    """

    sigma: float = 1.0

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with filled intensities."""
        data = cdi.data.on("numpy")
        known = np.fft.fftshift(data.code != MASKED)
        values = np.fft.fftshift(data.intensity).astype(np.float64)
        if known.all():
            return cdi
        # logarithms: the intensity falls by decades within a neighbourhood
        logs = np.where(known, np.log1p(values), 0)
        filled, sigma, missing = np.where(known, logs, 0), self.sigma, ~known
        while missing.any() and sigma < 2 * max(cdi.shape):
            weight = ndimage.gaussian_filter(known.astype(np.float64), sigma, mode="nearest")
            near = missing & (weight > 1e-3)
            mean = ndimage.gaussian_filter(logs, sigma, mode="nearest")
            filled[near] = mean[near] / weight[near]
            missing &= ~near
            sigma *= 2
        intensity = np.fft.ifftshift(np.where(known, values, np.expm1(filled)).astype(data.intensity.dtype))
        return cdi.new(data=Diffraction(xp_of(cdi.data.code).asarray(intensity), cdi.data.code))


@dataclass(frozen=True, repr=False)
class ScaleObj(Operator):
    """Scale the object so that its amplitudes fit the measured ones best, by least squares."""

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with the scaled object."""
        wave = engine_for(cdi).forward(cdi.solution)
        used = cdi.data.code == MEASURED
        model = (abs(wave) * used * wave.size**-0.5).astype(np.float64)
        square = float((model**2).sum())
        if not square:
            raise DataError("ScaleObj: the object is 0 within its support")
        factor = float((model * cdi.data.amplitude).sum()) / square
        return cdi.new(obj=cdi.parts[0] * factor)


@dataclass(frozen=True, repr=False)
class RandomObject(Operator):
    """Start anew with a random object in the support.

    Parameters
    ----------
    seed
        None: that of the state.
    """

    seed: int | None = None

    def apply(self, cdi: CDI) -> CDI:
        """Return the state with a random object."""
        _, support = cdi.parts
        seed = cdi.seed if self.seed is None else self.seed
        return cdi.new(obj=random_object(cdi.data, support, seed, cdi.complex_dtype))


@dataclass(frozen=True, repr=False)
class Upsample(Operator):
    """Make the pixels of the object smaller: the detector is surrounded by pixels that were not measured.

    Parameters
    ----------
    factor
        How many times smaller; even sizes stay even, odd ones odd.
    """

    factor: float = 2.0

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise DataError(f"Upsample: factor={self.factor} is below 1")

    def apply(self, cdi: CDI) -> CDI:
        """Return the state on the finer grid."""
        obj, support = cdi.parts
        # odd sizes stay odd, so that the origin stays on a pixel
        shape = tuple(2 * round((n * self.factor - n % 2) / 2) + n % 2 for n in cdi.shape)
        xp = xp_of(obj)
        fine = _padded(xp.fft.fftn(obj), shape)
        where = np.ix_(*(_nearest(n, m) for n, m in zip(cdi.shape, shape, strict=True)))
        fine_support = xp.asarray(to_host(support)[where])
        data = Diffraction(_padded(cdi.data.intensity, shape), _padded(cdi.data.code, shape))
        # unitary transforms on both grids, so that amplitudes in Fourier space stay
        scale = float(np.sqrt(np.prod(shape) / np.prod(cdi.shape)))
        refined = (xp.fft.ifftn(fine) * scale).astype(cdi.complex_dtype)
        pixel = None if cdi.pixel_size is None else cdi.pixel_size * cdi.shape[-1] / shape[-1]
        return cdi.new(obj=refined, support=fine_support, data=data, pixel_size=pixel, psf=None)


def _padded(values: Any, shape: tuple[int, ...]) -> Any:
    """Return an array with its origin at index 0 in a larger one."""
    xp = xp_of(values)
    centred = xp.fft.fftshift(values)
    out = xp.zeros(shape, dtype=values.dtype)
    start = [m // 2 - n // 2 for n, m in zip(values.shape, shape, strict=True)]
    out[tuple(slice(s, s + n) for s, n in zip(start, values.shape, strict=True))] = centred
    return xp.fft.ifftshift(out)


def _nearest(n: int, m: int) -> Any:
    """Return for m fine pixels the coarse one of n that they lie in."""
    return np.minimum((np.arange(m) * n / m + 0.5).astype(np.int64), n - 1)
