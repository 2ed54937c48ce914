"""Measures disks with array operations of any namespace, all disks of a tile at once: what runs on a device.

The steps, models and thresholds are those of `kernels_measure.measure`, with a transform in the place of the
taps. Nothing depends on a value that the host would have to wait for: all disks take all steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.blobfinder.array_slope import SlopedFit
from framefold.udfs.blobfinder.correlate import SCALINGS
from framefold.udfs.blobfinder.disks import DiskPlan, corners_of, rows_of
from framefold.udfs.blobfinder.kernels_fit import BORDER, CLIPPED, LOW_SNR, NOT_CONVERGED, PARABOLA, SATURATED
from framefold.udfs.blobfinder.meter import Meter, Peaks

#: disks measured together: the fit takes about 20 kB for each
_BATCH = 1 << 14


def template_of(meter: Meter) -> npt.NDArray[np.float64]:
    """Return the template of which a meter keeps the differences along y."""
    side = 2 * meter.half + 1
    steps = np.zeros((side + 1) * meter.pitch)
    np.add.at(steps, meter.taps, meter.weights.astype(np.float64))
    return -np.cumsum(steps.reshape(side + 1, meter.pitch)[:side, :side], axis=0)


class ArrayEngine:
    """Measures the disks of a plan in the namespace `xp`; keeps its constants there.

    Parameters
    ----------
    xp
        numpy, CuPy, or what stands in for it.
    plan
        What to measure.
    """

    def __init__(self, xp: Any, plan: DiskPlan) -> None:
        self.xp, self.plan = xp, plan
        meter = self.meter = plan.meter
        self._fit = None if meter.mode == PARABOLA else SlopedFit(xp, meter)
        self.hk = xp.asarray(plan.hk)
        self._good = xp.asarray(plan.good)
        self._expected = xp.asarray(plan.expected)
        corners, inside = corners_of(plan, None)
        self._fixed = xp.asarray(corners), xp.asarray(inside)
        rows, columns = plan.good.shape
        ends = corners + meter.size
        within = (corners >= 0).all() and (ends[..., 0] <= rows).all() and (ends[..., 1] <= columns).all()
        self._whole = bool(within and plan.good.all() and plan.saturation == math.inf)
        self._points = xp.arange(meter.size)
        # correlation: positions do not wrap as long as the transform holds a crop
        length = self._length = next(n for n in range(meter.size, 2 * meter.size) if _smooth(n))
        transform = np.conj(np.fft.rfft2(template_of(meter), s=(length, length)))
        self._transform = xp.asarray(transform.astype(np.complex64))
        # where the highest value is looked for: nearest first, so that the first of equals is the nearest
        side = 2 * meter.shifts + 1
        y, x = np.mgrid[:side, :side].reshape(2, -1) - meter.shifts
        allowed = (np.abs(y) < meter.shifts) & (np.abs(x) < meter.shifts)
        allowed &= y**2 + x**2 <= meter.search**2
        order = np.flatnonzero(allowed)
        order = order[np.argsort((y**2 + x**2)[order], kind="stable")]
        self._order = xp.asarray(order)
        self._y, self._x = xp.asarray(y), xp.asarray(x)
        self._offsets = xp.asarray(meter.offsets[:, 0].astype(np.int64) * meter.size + meter.offsets[:, 1])
        r2 = (meter.offsets.astype(np.float64) ** 2).sum(axis=1)
        inner = (r2 <= (meter.radius - 1.0) ** 2) | (r2 == 0.0)
        outer = ~inner & (r2 >= (meter.radius + 1.0) ** 2)
        self._inner = xp.asarray((inner / max(1, inner.sum())).astype(np.float64))
        self._outer = xp.asarray((outer / max(1, outer.sum())).astype(np.float64))

    # --- crops --------------------------------------------------------------------------------

    def corners(self, shift: Any) -> tuple[Any, Any]:
        """Return what `disks.corners_of` returns, from shifts on the device."""
        if shift is None:
            return self._fixed
        xp, plan = self.xp, self.plan
        at = self._expected + shift.astype(np.float64)[:, None]
        rows, columns = plan.good.shape
        r = plan.meter.radius
        y, x = at[..., 0], at[..., 1]
        inside = (y >= r) & (x >= r) & (y <= rows - 1 - r) & (x <= columns - 1 - r)
        safe = xp.where(xp.isfinite(at), at, -1e6)
        return xp.rint(safe).astype(np.int32) - plan.meter.size // 2, inside

    def gather(self, tile: Any, origin: Sequence[int], corners: Any, crops: Any = None) -> Any:
        """Return crops ``(n, m, L, L)`` float32: NaN where a pixel is bad, infinite where it is saturated.

        `crops`: where the tile has no pixel these stay; None: NaN.
        """
        xp = self.xp
        y = corners[:, :, 0, None] - int(origin[0]) + self._points  # (n or 1, m, L)
        x = corners[:, :, 1, None] - int(origin[1]) + self._points
        rows, columns = tile.shape[1:]
        here = ((y >= 0) & (y < rows))[..., :, None] & ((x >= 0) & (x < columns))[..., None, :]
        y, x = xp.clip(y, 0, rows - 1)[..., :, None], xp.clip(x, 0, columns - 1)[..., None, :]
        frames = xp.arange(tile.shape[0])[:, None, None, None]
        found = tile[frames, y, x].astype(np.float32)
        if self.plan.saturation != math.inf:
            found = xp.where(found >= np.float32(self.plan.saturation), np.float32(np.inf), found)
        if self.plan.pedestal:
            found = found - np.float32(self.plan.pedestal)
        good = self._good[y + int(origin[0]), x + int(origin[1])]
        found = xp.where(good, found, np.float32(np.nan))
        return xp.where(here, found, np.float32(np.nan) if crops is None else crops)

    def measure_frames(self, tile: Any, shift: Any, out: Peaks) -> None:
        """Measure all disks of whole frames ``(n, *sig)``."""
        corners, inside = self.corners(shift)
        step = max(1, _BATCH // max(1, len(self.plan.hk)))
        clean = self._whole and shift is None and tile.dtype.kind in "ui"
        for start in range(0, tile.shape[0], step):
            rows = slice(start, min(start + step, tile.shape[0]))
            c, i = (corners, inside) if shift is None else (corners[rows], inside[rows])
            self(self.gather(tile[rows], (0, 0), c), c, i, rows_of(out, rows), clean)

    # --- measurement --------------------------------------------------------------------------

    def __call__(self, crops: Any, corners: Any, inside: Any, out: Peaks, clean: bool = False) -> None:
        """Measure the disks in `crops` ``(n, m, L, L)``; `clean`: all of their pixels count."""
        xp, meter = self.xp, self.meter
        n, m, size, _ = crops.shape
        flat = crops.reshape(n * m, size * size)
        keep, saturated, bad = xp.isfinite(flat), xp.zeros(n * m, int), xp.zeros(n * m, int)
        if not clean:
            saturated = (flat == np.float32(np.inf)).sum(axis=1)
            bad = (~keep).sum(axis=1)
            flat = xp.where(keep, flat, _medians(xp, flat, keep)[:, None])
        there = xp.broadcast_to(inside, (n, m)).reshape(-1)
        flags = xp.where(there, 0, BORDER)
        refused = ~there
        if not clean:
            flags = flags | xp.where(bad > saturated, CLIPPED, 0) | xp.where(saturated > 0, SATURATED, 0)
            refused = refused | (bad > size * size // 2)
        at_first = flags
        corr = self._correlation(flat.reshape(n * m, size, size))
        iy, ix, sub, best, prominence, curves = self._highest(corr)
        at = (meter.size // 2 + iy) * size + meter.size // 2 + ix
        where = at[:, None] + self._offsets
        pixels = xp.take_along_axis(flat, where, axis=1)
        unit = 0.5 * math.sqrt(meter.gain) if meter.scaling == SCALINGS["sqrt"] else 0.0
        flags = flags | xp.where((curves[0] >= 0) | (curves[1] >= 0), NOT_CONVERGED, 0)
        if self._fit is None:
            level = pixels.astype(np.float64) @ self._outer
            height = pixels.astype(np.float64) @ self._inner - level
            sy, sx = (unit * meter.slope_noise / xp.maximum(-c, 1e-12) for c in curves)
            cy, cx = sub
            tilt, chi2 = xp.zeros((n * m, 2)), xp.full(n * m, np.nan)
            snr = best / (unit * meter.noise) if unit * meter.noise > 0 else xp.full(n * m, np.inf)
        else:
            kept = xp.take_along_axis(keep, where, axis=1).astype(np.float32)
            found = self._fit(pixels, kept, *sub, n, ~refused, (at_first & (CLIPPED | SATURATED)) == 0)
            cy, cx, level, height, tilt = found.cy, found.cx, found.background, found.amplitude, found.tilt
            sy, sx, chi2, snr = found.sigma_y, found.sigma_x, found.chi2, found.snr
            flags = flags | found.flags
        flags = xp.where(refused, at_first, flags | xp.where(snr >= meter.min_snr, 0, LOW_SNR))
        first = corners.astype(np.float64) + size // 2
        centers = xp.stack([iy + cy, ix + cx], axis=1).reshape(n, m, 2) + first
        nothing = refused.reshape(n, m)
        for target, value in (
            (out.centers, centers), (out.sigma, xp.stack([sy, sx], axis=1)), (out.amplitude, height),
            (out.background, level), (out.chi2, chi2), (out.correlation, best), (out.prominence, prominence),
        ):  # fmt: skip
            gone = nothing[..., None] if target.ndim == 3 else nothing
            target[...] = xp.where(gone, np.nan, value.reshape(target.shape))
        out.tilt[...] = xp.where(nothing[..., None], 0.0, tilt.reshape(out.tilt.shape))
        out.flags[...] = flags.reshape(n, m).astype(out.flags.dtype)

    def _correlation(self, crops: Any) -> Any:
        """Return the correlation ``(p, side, side)`` of scaled crops with the template."""
        xp, scaling = self.xp, self.meter.scaling
        if scaling == SCALINGS["sqrt"]:
            crops = xp.sqrt(xp.maximum(crops, 0))
        elif scaling == SCALINGS["log"]:
            crops = xp.log1p(xp.maximum(crops, 0))
        spectrum = xp.fft.rfft2(crops, s=(self._length, self._length)) * self._transform
        side = 2 * self.meter.shifts + 1
        return xp.fft.irfft2(spectrum, s=(self._length, self._length))[:, :side, :side]

    def _highest(self, corr: Any) -> tuple[Any, Any, tuple[Any, Any], Any, Any, tuple[Any, Any]]:
        """Return row, column, top within the pixel, heights and curves, as `kernels_correlate.highest`."""
        xp, meter = self.xp, self.meter
        side = 2 * meter.shifts + 1
        flat = corr.reshape(corr.shape[0], -1)
        place = self._order[flat[:, self._order].argmax(axis=1)]
        iy, ix = self._y[place], self._x[place]

        def at(step: int) -> Any:
            return xp.take_along_axis(flat, (place + step)[:, None], axis=1)[:, 0].astype(np.float64)

        best = at(0)
        far = (self._y - iy[:, None]) ** 2 + (self._x - ix[:, None]) ** 2 > meter.radius**2
        lowest = flat.min(axis=1)
        other = xp.maximum(xp.where(far, flat, lowest[:, None]).max(axis=1), lowest)
        sub, curves = [], []
        for step in (side, 1):
            below, above = at(-step), at(step)
            curve = below - 2.0 * best + above
            top = xp.where(curve < 0, 0.5 * (below - above) / xp.where(curve < 0, curve, 1.0), 0.0)
            sub.append(xp.clip(top, -1.0, 1.0))
            curves.append(curve)
        return iy, ix, (sub[0], sub[1]), best, best - other, (curves[0], curves[1])


class ArrayAssembly:
    """Crops of the frames of a partition, filled by tiles that hold parts of frames; see `disks.Assembly`."""

    def __init__(self, engine: ArrayEngine, start: int, rows: int) -> None:
        self._engine, self._start = engine, start
        size = engine.meter.size
        self._crops = engine.xp.full((rows, len(engine.plan.hk), size, size), np.nan, np.float32)
        self._arrived = np.zeros(rows, np.int64)

    def add(self, tile: Any, origin: Sequence[int], row: int, shift: Any) -> bool:
        """Take the pixels of a tile that begins at `origin` of the frames; True: its frames are complete."""
        rows = slice(row - self._start, row - self._start + tile.shape[0])
        corners, _ = self._engine.corners(shift)
        self._crops[rows] = self._engine.gather(tile, origin, corners, self._crops[rows])
        self._arrived[rows] += tile.shape[1] * tile.shape[2]
        return bool((self._arrived[rows] >= self._engine.plan.good.size).all())

    def measure(self, row: int, count: int, shift: Any, out: Peaks) -> None:
        """Measure the disks of complete frames."""
        corners, inside = self._engine.corners(shift)
        rows = slice(row - self._start, row - self._start + count)
        self._engine(self._crops[rows], corners, inside, out)
        self._arrived[rows] = -1

    def incomplete(self) -> npt.NDArray[np.int64]:
        """Return the rows, from 0, that have some but not all of their pixels."""
        return np.flatnonzero(self._arrived > 0)


def _medians(xp: Any, flat: Any, keep: Any) -> Any:
    """Return the median of what is kept of each row; 0 where nothing is."""
    count = keep.sum(axis=1)
    ordered = xp.sort(xp.where(keep, flat, np.float32(np.inf)), axis=1)
    low, high = xp.maximum(count - 1, 0) // 2, count // 2
    places = (low, xp.minimum(high, flat.shape[1] - 1))
    middle = [xp.take_along_axis(ordered, i[:, None], axis=1)[:, 0] for i in places]
    return xp.where(count > 0, np.float32(0.5) * (middle[0] + middle[1]), np.float32(0))


def _smooth(n: int) -> bool:
    """Tell whether transforms of length `n` are fast: no prime factor above 7."""
    for p in (2, 3, 5, 7):
        while n % p == 0:
            n //= p
    return n == 1
