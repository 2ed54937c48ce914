"""Synthetic ptychography: scans with known object, probe, positions and dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.memory import ArraySource
from framefold.udfcore.metadata import Metadata
from framefold.udfs.ptycho.initial import more_modes, scaled
from framefold.udfs.ptycho.kernels.propagate import to_detector
from framefold.udfs.ptycho.model import Geometry

Array = npt.NDArray[Any]
Scan = Literal["raster", "jitter", "hexagonal", "spiral", "random"]
WAVELENGTH = 1.0e-10
DISTANCE = 2.0
PIXEL = 75e-6


@dataclass(frozen=True, eq=False)
class PtychoScan:
    """A synthetic scan and its truth.

    Attributes
    ----------
    frames
        ``(frames, n, n)``, the centre in the middle.
    object
        complex128 ``(Y, X)``.
    probe
        complex128 ``(M, n, n)``, centred.
    pixels
        float64 ``(frames, 2)``: where on the object the first pixel of the probe stood.
    stated
        float64 ``(frames, 2)``: positions that the data set states, px; `pixels` but for `position_error`.
    geometry
        Complete.
    good
        Bool ``(n, n)``: pixels that work.
    """

    frames: Array
    object: Array
    probe: Array
    pixels: npt.NDArray[np.float64]
    stated: npt.NDArray[np.float64]
    geometry: Geometry
    good: npt.NDArray[np.bool_]

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Of the object, m."""
        shape = self.frames.shape[1:]
        return self.geometry.pixel_size((int(shape[0]), int(shape[1])))

    @property
    def illumination(self) -> Array:
        """``sum_j sum_k |P^k(r - r_j)|^2`` with positions rounded, ``(Y, X)``."""
        power = (np.abs(self.probe) ** 2).sum(axis=0)
        out = np.zeros(self.object.shape)
        n, m = power.shape
        for y, x in np.rint(self.pixels).astype(int):
            out[y : y + n, x : x + m] += power
        return out

    def source(self) -> ArraySource:
        """Return the scan as ``ctx.load`` takes it, with geometry, mask and positions."""
        g = self.geometry
        size = np.asarray(self.pixel_size)
        pixel = g.detector_pixel
        metadata = Metadata(
            wavelength=g.wavelength,
            camera_length=g.distance,
            pixel_size=pixel if isinstance(pixel, tuple) else None,
            mask=None if self.good.all() else ~self.good,
            positions=self.stated * size,
        )
        return ArraySource(self.frames, 2, metadata=metadata)


def ptycho_scan(
    frames: int = 400,
    n: int = 128,
    *,
    modes: int = 1,
    photons: float = 7.5e5,
    scan: Scan = "jitter",
    step: float | None = None,
    probe_radius: float | None = None,
    pupil: float = 0.17,
    subpixel: bool = False,
    position_error: float = 0.0,
    background: float = 0.0,
    beam_stop: int = 0,
    bad_pixels: int = 0,
    contrast: float = 1.0,
    near: bool = False,
    noise: bool = True,
    dtype: npt.DTypeLike = np.uint16,
    seed: int = 0,
) -> PtychoScan:
    """Return a synthetic ptychographic scan.

    Parameters
    ----------
    frames, n
        Number of frames (the next square for regular scans), of n x n pixels.
    modes
        Modes of the probe, with 70, 20, 10, ... % of the power.
    photons
        Per frame, without the sample.
    scan
        ``"raster"``; ``"jitter"``: a raster with random deviations of a quarter step; ``"hexagonal"``,
        ``"spiral"`` (Fermat), ``"random"``.
    step
        px; default: a seventh of the diameter of the probe.
    probe_radius
        px; default ``n / 6.5``.
    pupil
        Radius of the pupil on the detector, in frames.
    subpixel
        Positions between pixels.
    position_error
        Standard deviation of the stated positions from the true ones, px.
    background
        Counts per pixel, not scattered by the sample.
    beam_stop
        Radius of a masked disk in the middle of the detector, px.
    bad_pixels
        Number of masked pixels that show nonsense.
    contrast
        Of the object: 0 is vacuum.
    near
        Fresnel holograms of a structured beam, instead of diffraction patterns.
    noise
        Poisson counts.
    """
    if frames < 1 or n < 8:
        raise DataError(f"ptycho_scan: frames={frames} and n={n} must be at least 1 and 8")
    rng = np.random.default_rng(seed)
    radius = n / 6.5 if probe_radius is None else probe_radius
    width = 2 * radius / 7 if step is None else step
    pixels = _positions(scan, frames, width, rng)
    pixels = pixels - pixels.min(axis=0) + 8
    if not subpixel:
        pixels = np.rint(pixels)
    extent = tuple(int(np.ceil(v)) + n + 8 for v in pixels.max(axis=0))
    obj = sample((extent[0], extent[1]), rng, contrast)
    geometry = Geometry(
        wavelength=WAVELENGTH, distance=DISTANCE, detector_pixel=PIXEL, kind="near" if near else "far",
        focus_distance=np.inf if near else None,
    )  # fmt: skip
    factor = None
    if near:
        geometry = Geometry(
            wavelength=WAVELENGTH, distance=0.02, detector_pixel=0.5e-6, kind="near", focus_distance=np.inf
        )
        first = _diffuser(n, rng)
        factor = geometry.factor((n, n))
    else:
        first = focused_probe(n, pupil * n, radius)
    probe = more_modes(first, modes)
    share = np.array([0.7, 0.2, 0.1, 0.05, 0.03, 0.02])[:modes]
    probe = np.stack([scaled(p, photons * s) for p, s in zip(probe, share / share.sum(), strict=True)])
    expected = _intensities(probe, obj, pixels, factor) + background
    counts = rng.poisson(expected) if noise else expected
    good = np.ones((n, n), bool)
    if beam_stop:
        y, x = np.indices((n, n)) - n // 2
        good &= y**2 + x**2 > beam_stop**2
    if bad_pixels:
        good.reshape(-1)[rng.choice(n * n, bad_pixels, replace=False)] = False
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        counts = np.minimum(np.rint(counts), np.iinfo(kind).max)
    out = counts.astype(kind)
    out[:, ~good] = rng.integers(0, 1000, size=(len(out), int((~good).sum()))) if bad_pixels else 0
    stated = pixels + position_error * rng.normal(size=pixels.shape)
    return PtychoScan(out, obj, probe, pixels, stated, geometry, good)


def focused_probe(n: int, pupil: float, radius: float) -> npt.NDArray[np.complex128]:
    """Return a defocused, slightly astigmatic probe: `pupil` px on the detector, `radius` px on the sample.

    A phase ``a (q / pupil)^2`` moves light of the pupil's edge by ``n a / (pi pupil)`` px, which is `radius`.
    """
    q = np.fft.fftfreq(n, 1 / n)
    qy, qx = q[:, None], q[None, :]
    rho = np.hypot(qy, qx)
    a = np.pi * pupil * radius / n
    soft = 1 / (1 + np.exp(np.clip((rho - pupil) / 0.5, -50, 50)))
    phase = a * (rho**2 + 0.15 * (qy**2 - qx**2) + 0.1 * qy * qx) / pupil**2
    return np.asarray(np.fft.fftshift(np.fft.ifft2(soft * np.exp(1j * phase))))


def sample(shape: tuple[int, int], rng: np.random.Generator, contrast: float = 1.0) -> Array:
    """Return a complex object: overlapping disks and bars of many sizes that absorb and advance the phase."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  # only where an object is made

    thickness = np.zeros(shape)
    y, x = np.indices(shape)
    for _ in range(int(60 + np.prod(shape) / 400)):
        size = 3 * (1 + rng.pareto(1.5))
        size = min(size, 0.2 * min(shape))
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        box = (
            slice(max(0, int(cy - 2 * size)), int(cy + 2 * size) + 2),
            slice(max(0, int(cx - 2 * size)), int(cx + 2 * size) + 2),
        )
        dy, dx = y[box] - cy, x[box] - cx
        if rng.random() < 0.5:
            inside = dy**2 + dx**2 < size**2
        else:
            angle = rng.uniform(0, np.pi)
            u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
            inside = (np.abs(u) < size) & (np.abs(v) < 0.4 * size)
        part = thickness[box]
        part[inside] = rng.uniform(0, 1)
    thickness = gaussian_filter(thickness, 0.8)
    return np.asarray(np.exp(contrast * (1.2j - 0.3) * thickness))


def _diffuser(n: int, rng: np.random.Generator) -> Array:
    """Return a beam of even brightness with fine structure, as near-field ptychography needs."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  # as above

    rough = gaussian_filter(rng.normal(size=(2, n, n)), (0, 1.5, 1.5), mode="wrap")
    rough /= rough.std(axis=(1, 2), keepdims=True)
    return np.asarray(np.exp(0.25 * rough[0] + 0.8j * rough[1]))


def _positions(scan: str, frames: int, step: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    side = int(np.ceil(np.sqrt(frames)))
    if scan in ("raster", "jitter", "hexagonal"):
        grid = np.indices((side, side)).reshape(2, -1).T.astype(np.float64)
        if scan == "hexagonal":
            grid[:, 1] += 0.5 * (grid[:, 0] % 2)
            grid[:, 0] *= np.sqrt(3) / 2
        if scan == "jitter":
            grid += rng.uniform(-0.25, 0.25, grid.shape)
        return grid[:frames] * step
    if scan == "spiral":
        k = np.arange(frames)
        golden = np.pi * (3 - np.sqrt(5))
        return step * 0.565 * np.sqrt(k)[:, None] * np.stack([np.sin(k * golden), np.cos(k * golden)], axis=1)
    if scan == "random":
        return rng.uniform(0, side * step, (frames, 2))
    raise DataError(f"scan={scan!r} is not 'raster', 'jitter', 'hexagonal', 'spiral' or 'random'")


def _intensities(probe: Array, obj: Array, pixels: Array, factor: Array | None) -> Array:
    """Return the expected counts of all frames; the probe is shifted by the fraction of each position."""
    n, m = probe.shape[-2:]
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.fftfreq(m)[None, :]
    spectrum = np.fft.fft2(probe)
    out = np.empty((len(pixels), n, m))
    for j, position in enumerate(pixels):
        y, x = np.floor(position + 0.5).astype(int)
        f = position - (y, x)
        p = probe if not f.any() else np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (f[0] * fy + f[1] * fx)))
        wave = to_detector(p * obj[y : y + n, x : x + m], factor)
        intensity = (np.abs(wave) ** 2).sum(axis=0)
        out[j] = intensity if factor is not None else np.fft.fftshift(intensity)
    return out


__all__ = ["PtychoScan", "focused_probe", "ptycho_scan", "sample"]
