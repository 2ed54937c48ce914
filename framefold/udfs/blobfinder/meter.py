"""Everything the kernels need to measure disks of one kind: computed once per worker, then frozen."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.udfs.blobfinder.correlate import (
    SCALINGS,
    Correlation,
    CropCorrelation,
    reach,
)
from framefold.udfs.blobfinder.kernels_correlate import map_width, sums_pitch, template_taps
from framefold.udfs.blobfinder.kernels_fit import AUTO, COM, ML4, ML6, PARABOLA, UPSAMPLE
from framefold.udfs.blobfinder.kernels_measure import measure
from framefold.udfs.blobfinder.kernels_slope import beyond
from framefold.udfs.blobfinder.patterns import Pattern

#: "upsample:50" sets the points per px, which are 20 otherwise
Subpixel = Literal["auto", "ml4", "ml6", "parabola", "upsample", "com"] | str
SUBPIXEL: dict[str, int] = {
    "auto": AUTO, "ml4": ML4, "ml6": ML6, "parabola": PARABOLA, "upsample": UPSAMPLE, "com": COM,
}  # fmt: skip
_FINENESS, _FINEST = 20, 200  # points per px
Array = npt.NDArray[Any]

_LANES = 16  # float32 numbers in the widest register
_OVERSAMPLING = 8


@dataclass(frozen=True, eq=False)
class Peaks:
    """Measured disks of n frames; pairs are (y, x) in px, arrays ``(n, m)`` or ``(n, m, 2)``.

    Attributes
    ----------
    centers, sigma
        Positions and their standard deviations.
    amplitude, background
        Counts per px: height of the disk, and level around it.
    tilt
        Change of the height from the centre to the edge, along y and x.
    chi2
        Per degree of freedom; about 1 where the model holds.
    correlation, prominence
        Height of the maximum, and how far it stands above the best value a radius away.
    flags
        Sum of `BORDER`, `CLIPPED`, ... of `kernels_fit`.
    """

    centers: Array
    sigma: Array
    amplitude: Array
    background: Array
    tilt: Array
    chi2: Array
    correlation: Array
    prominence: Array
    flags: Array


@dataclass(frozen=True, eq=False)
class Meter:
    """Constants of `measure` for one kind of disk; see there."""

    size: int
    half: int
    pitch: int
    width: int
    shifts: int
    search: float
    scaling: int
    mode: int
    fineness: int
    mass_noise: npt.NDArray[np.float64]
    gain: float
    min_snr: float
    radius: float
    taps: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    noise: float
    slope_noise: float
    offsets: npt.NDArray[np.int32]
    around: npt.NDArray[np.int32]
    clear: float
    py: npt.NDArray[np.float32]
    px: npt.NDArray[np.float32]
    table: npt.NDArray[np.float32]
    table_origin: float
    table_step: float

    def __call__(self, crops: Array, maps: Array, corners: Array, inside: Array, out: Peaks) -> None:
        """Measure the disks in `crops` ``(n, m, size, size)``, which are changed; see `measure`."""
        measure(
            crops, maps, corners, inside, self.taps, self.weights, self.pitch, self.width, self.shifts,
            self.search, self.scaling, self.noise, self.slope_noise, self.offsets, self.around, self.clear,
            self.py, self.px, self.radius, self.table, self.table_origin, self.table_step,
            self.mode, self.fineness, self.mass_noise, self.gain, self.min_snr,
            out.centers, out.sigma, out.amplitude, out.background, out.tilt, out.chi2,
            out.correlation, out.prominence, out.flags,
        )  # fmt: skip


def make_meter(
    pattern: Pattern,
    correlation: Correlation | Literal["auto"],
    subpixel: Subpixel,
    spacing: float,
    gain: float = 1.0,
    min_snr: float = 4.0,
) -> Meter:
    """Return the constants for disks like `pattern`, `spacing` px apart at least.

    Raises
    ------
    DataError
        If the disks would overlap, or an option is none.
    """
    mode, fineness = mode_of(subpixel)
    if not (math.isfinite(gain) and gain > 0):
        raise DataError(f"gain is a positive number of counts per electron, got {gain!r}")
    if correlation == "auto":  # both that it chooses from search and scale alike
        correlation = CropCorrelation()
    # a hybrid correlation has no scale: no errors follow from its heights
    scaled = correlation.hybrid == 1
    radius = float(pattern.radius)
    if 2 * radius > spacing:
        raise DataError(
            f"disks of radius {radius:g} px overlap on a lattice whose shortest vector is {spacing:.4g} px: "
            "give a smaller radius, or the right lattice"
        )
    search = reach(correlation, radius, spacing)
    shifts = math.floor(search) + 1
    # where disks are close, the template must not reach into the neighbour from the end of the search
    half = max(math.ceil(radius) + 2, min(pattern.half_width, math.floor(spacing - radius - search)))
    template = pattern.template(half)
    size = 2 * (half + shifts) + 1
    pitch = sums_pitch(size, shifts)
    taps, weights = template_taps(template, pitch)
    slope = 0.5 * (np.pad(template, ((0, 2), (0, 0))) - np.pad(template, ((2, 0), (0, 0))))
    # neighbours must not lie among the pixels of the fit, but some background must
    limit = min(radius + 3.0, max(radius + 1.5, spacing - radius - 1.0))
    grid = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1).T
    offsets = grid[np.hypot(*grid.T) < limit].astype(np.int32)
    # past the edge of the disk, which a measured one may have much wider
    clear = radius + 1.2 + (pattern.softness if pattern.uniform else 0.0)
    if not pattern.uniform:
        mask = np.abs(pattern.mask(half))
        wide = np.hypot(*grid.T)[mask.reshape(-1) > 1e-4 * mask.max()].max(initial=0.0)
        clear = max(clear, float(wide) + 1.0)
    padded = np.zeros((-(-len(offsets) // _LANES) * _LANES, 2), np.float32)
    padded[: len(offsets)] = offsets
    table = np.zeros((3, 0, 0), np.float32) if pattern.uniform else _table(pattern, half)
    return Meter(
        size=size,
        half=half,
        pitch=pitch,
        width=map_width(shifts),
        shifts=shifts,
        search=search,
        scaling=SCALINGS[correlation.scaling],
        mode=mode,
        fineness=fineness,
        mass_noise=scaled * _mass_noise(template, shifts) if mode == COM else np.zeros(0),
        gain=float(gain),
        min_snr=float(min_snr),
        radius=radius,
        taps=taps,
        weights=weights,
        noise=scaled * float(np.sqrt((template**2).sum())),
        slope_noise=scaled * float(np.sqrt((slope**2).sum())),
        offsets=np.ascontiguousarray(offsets),
        around=np.ascontiguousarray(offsets[beyond(offsets, clear)]),
        clear=clear,
        py=np.ascontiguousarray(padded[:, 0]),
        px=np.ascontiguousarray(padded[:, 1]),
        table=table,
        table_origin=pattern.softness if pattern.uniform else -(half + 0.5),
        table_step=1.0 / _OVERSAMPLING,
    )


def mode_of(subpixel: Subpixel) -> tuple[int, int]:
    """Return the mode of `measure` and the points per px, which only upsampling asks for.

    Raises
    ------
    DataError
        If there is no such refinement.
    """
    match = re.fullmatch(r"upsample:(\d{1,6})", str(subpixel))
    if match and 2 <= int(match[1]) <= _FINEST:
        return UPSAMPLE, int(match[1])
    if subpixel not in SUBPIXEL:
        raise DataError(
            f"subpixel {subpixel!r}: one of {', '.join(SUBPIXEL)}, or upsample:N with N points per px from 2 "
            f"to {_FINEST}.{did_you_mean(str(subpixel), SUBPIXEL)}"
        )
    return SUBPIXEL[subpixel], _FINENESS


def _mass_noise(template: npt.NDArray[np.float64], shifts: int) -> npt.NDArray[np.float64]:
    """Return the norm of ``sum_d d_y T(. - d)`` over circles of each radius up to `shifts`."""
    from scipy.signal import fftconvolve  # 100 ms

    y, x = np.mgrid[-shifts : shifts + 1, -shifts : shifts + 1]
    r = np.hypot(y, x)
    return np.array([
        np.sqrt((fftconvolve(np.where(r <= q, y, 0.0), template) ** 2).sum()) for q in range(shifts + 1)
    ])  # fmt: skip


def _table(pattern: Pattern, half: int) -> npt.NDArray[np.float32]:
    """Return profile and its derivatives with respect to the centre on a fine grid."""
    from scipy.ndimage import map_coordinates  # 30 ms that bare disks need not pay

    mask = pattern.mask(half)
    mask = np.asarray(mask / max(float(np.quantile(mask[mask > 0.05 * mask.max()], 0.9)), 1e-12))
    at = np.arange((2 * half + 1) * _OVERSAMPLING + 1) / _OVERSAMPLING - 0.5
    y, x = np.meshgrid(at, at, indexing="ij")
    fine = map_coordinates(mask, [y, x], order=3, cval=0.0)
    gy, gx = np.gradient(fine, 1 / _OVERSAMPLING)
    return np.ascontiguousarray(np.stack([fine, -gy, -gx]), dtype=np.float32)


def empty_peaks(n: int, m: int) -> Peaks:
    """Return arrays for n frames of m disks."""
    one, two = np.empty((n, m), np.float32), np.empty((n, m, 2), np.float32)
    return Peaks(
        centers=two, sigma=two.copy(), amplitude=one, background=one.copy(), tilt=two.copy(), chi2=one.copy(),
        correlation=one.copy(), prominence=one.copy(), flags=np.zeros((n, m), np.uint8),
    )  # fmt: skip
