"""Takes the slope of the background around all disks out of their counts, as `kernels_slope.take_slope`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from framefold.udfs.blobfinder.array_fit import ArrayFit, Fitted
from framefold.udfs.blobfinder.kernels_slope import LEAST, LEFT, MATTERS, SIGNIFICANT, STEPS, beyond
from framefold.udfs.blobfinder.meter import Meter


class SlopedFit:
    """Fits disks twice in the namespace `xp`: on a flat background, and without the slope found then."""

    def __init__(self, xp: Any, meter: Meter) -> None:
        self.xp, self._meter, self._fit = xp, meter, ArrayFit(xp, meter)
        offsets = meter.offsets.astype(np.float64)
        far = np.flatnonzero(beyond(meter.offsets, meter.clear))
        self._enough = len(far) >= LEAST
        self._far = xp.asarray(far)
        self._ring = tuple(xp.asarray(v) for v in offsets[far].T)
        self._all = tuple(xp.asarray(v) for v in offsets.T)

    def __call__(
        self, d: Any, e: Any, sub_y: Any, sub_x: Any, frames: int, asked: Any, complete: Any
    ) -> Fitted:
        """Fit counts `d` ``(p, k)`` where `e` is 1; see `ArrayFit`."""
        xp = self.xp
        if not self._enough:
            return self._fit(d, e, sub_y, sub_x, frames, asked, complete)
        # tilts are asked for without the slope only
        found = self._fit(d, e, sub_y, sub_x, frames, xp.zeros_like(asked), complete)
        more, shift_y, shift_x, spread = self._slope(d, e, found)
        found = self._fit(d - more.astype(np.float32), e, sub_y, sub_x, frames, asked, complete)
        return replace(
            found,
            sigma_y=xp.sqrt(found.sigma_y**2 + spread**2 + (LEFT * shift_y) ** 2),
            sigma_x=xp.sqrt(found.sigma_x**2 + spread**2 + (LEFT * shift_x) ** 2),
        )

    def _slope(self, d: Any, e: Any, found: Fitted) -> tuple[Any, Any, Any, Any]:
        """Return what to subtract ``(p, k)``, and shifts along y and x and their noise ``(p,)``, or 0."""
        xp, gain, radius = self.xp, self._meter.gain, self._meter.radius
        y, x = self._ring
        away = (y - found.cy[:, None]) ** 2 + (x - found.cx[:, None]) ** 2
        e = xp.where(away < self._meter.clear**2, 0.0, e[:, self._far].astype(np.float64))
        d = e * d[:, self._far]
        n, total, dy, dx = e.sum(axis=1), d.sum(axis=1), d @ y, d @ x
        sigma = xp.maximum(found.sigma_y, found.sigma_x)
        height = found.amplitude
        took = (n >= LEAST) & (total > 0.0) & (height > 0.0)
        b = xp.where(took, total / xp.maximum(n, 1.0), 1.0)
        half = xp.where(took, 0.5 * (e @ (y * y + x * x)), 1.0)
        height = xp.where(took, height, 1.0)
        gy, gx = (dy - b * (e @ y)) / half, (dx - b * (e @ x)) / half
        slope = xp.hypot(gy, gx)
        took = took & (slope * slope * half >= SIGNIFICANT * b * gain)
        took = took & ~(radius * slope < MATTERS * sigma * height)
        gy, gx = gy / b, gx / b
        for _ in range(STEPS):
            gy, gx = self._bounded(gy, gx)
            m = e * xp.exp(gy[:, None] * y + gx[:, None] * x)
            m0, my, mx = xp.maximum(m.sum(axis=1), 1e-300), m @ y, m @ x
            b = total / m0
            vyy, vxx = b * (m @ (y * y) - my * my / m0), b * (m @ (x * x) - mx * mx / m0)
            vxy = b * (m @ (x * y) - my * mx / m0)
            det = vyy * vxx - vxy * vxy
            took = took & (det > 1e-6 * vyy * vxx)
            det = xp.where(took, det, 1.0)
            ry, rx = dy - b * my, dx - b * mx
            gy = xp.where(took, gy + (vxx * ry - vxy * rx) / det, 0.0)
            gx = xp.where(took, gx + (vyy * rx - vxy * ry) / det, 0.0)
        gy, gx = self._bounded(gy, gx)
        y, x = self._all
        more = b[:, None] * (xp.exp(gy[:, None] * y + gx[:, None] * x) - 1.0)
        more = xp.where(took[:, None], more, 0.0)
        each = radius * b / height
        spread = xp.where(took, radius * xp.sqrt(xp.maximum(b, 0.0) * gain / half) / height, 0.0)
        return more, xp.where(took, each * gy, 0.0), xp.where(took, each * gx, 0.0), spread

    def _bounded(self, gy: Any, gx: Any) -> tuple[Any, Any]:
        """Return the exponents per px, cut to ``2 / R``."""
        end = 2.0 / self._meter.radius
        scale = end / self.xp.maximum(self.xp.hypot(gy, gx), end)
        return gy * scale, gx * scale
