"""Fits disks by maximum likelihood with array operations, all at once, as `kernels_fit.fit_disk`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from framefold.udfs.blobfinder.kernels_fit import AUTO, CLIPPED, LOW_SNR, ML6, NOT_CONVERGED, TILTED
from framefold.udfs.blobfinder.kernels_subpixel import FLOOR
from framefold.udfs.blobfinder.meter import Meter

_RIDGE, _STEPS, _GAIN = 1e-4, 6, 0.02  # as in kernels_fit


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the fit found of p disks, arrays ``(p,)``; `tilt` ``(p, 2)``; see `kernels_fit.fit_disk`."""

    cy: Any
    cx: Any
    background: Any
    amplitude: Any
    tilt: Any
    sigma_y: Any
    sigma_x: Any
    chi2: Any
    snr: Any
    flags: Any


@dataclass(frozen=True, eq=False)
class _Sums:
    """Fisher matrix ``(p, n, n)``, gradient ``(p, n)`` and chi2 ``(p,)``, float64."""

    fisher: Any
    gradient: Any
    chi: Any


@dataclass(frozen=True, eq=False)
class _Stepped:
    """Parameters after the last step of each disk, and what is known of that step.

    Attributes
    ----------
    p, last
        Parameters (b, A, By, Bx, cy, cx) after the step, and before it.
    fine
        The fit did not break off.
    length, gained
        Of the step: px, and chi2.
    sums, variances
        From which it was made, and the variances of the centre (y, x) that follow.
    steps
        How many there were.
    """

    p: list[Any]
    fine: Any
    length: Any
    sums: _Sums
    gained: Any
    variances: tuple[Any, Any]
    steps: Any
    last: list[Any]


class ArrayFit:
    """Fits disks in the namespace `xp` with the constants of a meter."""

    def __init__(self, xp: Any, meter: Meter) -> None:
        self.xp, self._meter = xp, meter
        n = len(meter.offsets)
        self._py, self._px = xp.asarray(meter.py[:n]), xp.asarray(meter.px[:n])
        self._table = xp.asarray(meter.table.reshape(3, -1)) if meter.table.size else None
        self._n_table = meter.table.shape[1]

    def __call__(
        self, d: Any, e: Any, sub_y: Any, sub_x: Any, frames: int, asked: Any, complete: Any
    ) -> Fitted:
        """Fit counts `d` ``(p, k)`` float32 where `e` is 1, from guesses ``(p,)`` relative to the pixel.

        The disks are those of so many `frames`, one frame after the other. Those `asked` tell whether a frame
        shows tilts, those `complete` follow.
        """
        xp, meter = self.xp, self._meter
        gain, mode = meter.gain, meter.mode
        floor = FLOOR * gain
        count = e.sum(axis=1).astype(np.float64)
        enough = count >= 0.5 * d.shape[1]
        zero = xp.zeros(d.shape[0])
        f, _, _ = self._profile(sub_y, sub_x)
        amplitude, background = self._linear_start(d, e, f)
        # b, A, By, Bx, cy, cx
        p = [xp.maximum(background, floor), xp.maximum(amplitude, floor), zero, zero, sub_y, sub_x]
        nan = xp.full(d.shape[0], np.nan)
        sy, sx, chi2, snr = nan, nan, nan, nan
        fine, length, tilted = enough, zero + np.inf, xp.zeros(d.shape[0], bool)
        if mode != ML6:
            plain = self._steps(d, e, p, enough, 4)
            p, fine, length, gained, steps = plain.p, plain.fine, plain.length, plain.gained, plain.steps
            chi = plain.sums.chi - gained
            sy, sx = (xp.where(fine, xp.sqrt(v * gain), np.nan) for v in plain.variances)
            chi2 = xp.where(fine, chi / gain / xp.maximum(count - 4.0, 1.0), np.nan)
            snr = xp.where(fine, p[1] * xp.sqrt(_schur(xp, plain.sums.fisher) / gain), np.nan)
        if mode == AUTO:
            # a tilt is asked for where the last step began; where the first was the last, where it ended
            first = steps <= 1
            begin = [xp.where(first, now, then) for now, then in zip(p, plain.last, strict=True)]
            six = self._sums(d, e, [*begin[:2], zero, zero, *begin[4:]], 6)
            ok, x, _ = _solve(xp, six, 6, _RIDGE)
            could = (x * six.gradient).sum(axis=1) - xp.where(first, 0.0, gained)
            promise = could / gain
            explains = promise >= _explained(xp, chi / gain, count)
            counted = asked & fine & ok & (promise >= 0.0)
            shown = xp.where(counted & explains, promise / xp.maximum(1.0, chi2), 0.0)
            total, n = (v.reshape(frames, -1).sum(axis=1) for v in (shown, counted.astype(np.float64)))
            together = xp.repeat(total > 2.0 * n + 6.0 * xp.sqrt(n), d.shape[0] // frames)
            least = xp.where(together & complete, 0.0, 8.0)
            tilted = fine & ok & (promise > least)
        if mode in (AUTO, ML6):
            began = tilted if mode == AUTO else enough
            full = self._steps(d, e, p, began, 6)
            q, fine6, length6 = full.p, full.fine, full.length
            last = self._sums(d, e, q, 6)
            ok, _, factor = _solve(xp, last, 6, 0.0)
            fine6 = fine6 & ok
            reduced = last.chi / gain / xp.maximum(count - 6.0, 1.0)
            if mode == AUTO:
                before = chi2 * xp.maximum(count - 4.0, 1.0)
                won = before - reduced * xp.maximum(count - 6.0, 1.0)
                needed = xp.maximum(least * xp.maximum(1.0, reduced), _explained(xp, before, count))
                tilted = tilted & fine6 & (won > needed)
            else:
                fine = fine6
                tilted = fine6
            p = [xp.where(tilted, b, a) for a, b in zip(p, q, strict=True)]
            if mode == ML6:  # where the fit broke off, what it had is kept
                p = q
            length = xp.where(tilted, length6, length)
            vy, vx = _last_variances(factor, 6)
            sy, sx = xp.where(tilted, xp.sqrt(vy * gain), sy), xp.where(tilted, xp.sqrt(vx * gain), sx)
            chi2 = xp.where(tilted, reduced, chi2)
            snr = xp.where(tilted, q[1] * xp.sqrt(_schur(xp, last.fisher) / gain), snr)
        gone = (length > 0.1) | (xp.hypot(p[4] - sub_y, p[5] - sub_x) > 2.0)
        flags = xp.where(tilted, TILTED, 0) | xp.where(gone, NOT_CONVERGED, 0)
        flags = xp.where(fine, flags, NOT_CONVERGED | LOW_SNR)
        flags = xp.where(enough, flags, CLIPPED)
        tilt = xp.stack([xp.where(tilted, p[2], 0.0), xp.where(tilted, p[3], 0.0)], axis=1)
        return Fitted(p[4], p[5], p[0], p[1], tilt, sy, sx, chi2, snr, flags)

    def _steps(self, d: Any, e: Any, p: list[Any], active: Any, n: int) -> _Stepped:
        """Take Gauss-Newton steps in `n` parameters where `active`, until they gain little."""
        xp, gain = self.xp, self._meter.gain
        floor = FLOOR * gain
        fine = active
        length, gained, steps = xp.full(d.shape[0], np.inf), xp.zeros(d.shape[0]), xp.zeros(d.shape[0], int)
        kept: _Sums | None = None
        variances: tuple[Any, Any] = (length, length)
        last = p
        for _ in range(_STEPS):
            sums = self._sums(d, e, p, n)
            ok, x, factor = _solve(xp, sums, n, _RIDGE)
            size = xp.hypot(x[:, n - 2], x[:, n - 1])
            fine = fine & ~(active & ~(ok & (size < 1e6)))
            active = active & fine
            now = (x * sums.gradient).sum(axis=1)
            kept = sums if kept is None else _Sums(
                xp.where(active[:, None, None], sums.fisher, kept.fisher),
                xp.where(active[:, None], sums.gradient, kept.gradient),
                xp.where(active, sums.chi, kept.chi),
            )  # fmt: skip
            here = _last_variances(factor, n)
            variances = (xp.where(active, here[0], variances[0]), xp.where(active, here[1], variances[1]))
            last = [xp.where(active, a, b) for a, b in zip(p, last, strict=True)]
            gained, length = xp.where(active, now, gained), xp.where(active, size, length)
            steps = steps + active
            scale = 1.0 / xp.maximum(size, 1.0)
            change = [x[:, 0], x[:, 1], *((x[:, 2], x[:, 3]) if n == 6 else (0.0, 0.0))]
            moved = [
                xp.maximum(p[0] + change[0], 0.2 * floor), xp.maximum(p[1] + change[1], 0.2 * floor),
                p[2] + change[2], p[3] + change[3], p[4] + scale * x[:, n - 2], p[5] + scale * x[:, n - 1],
            ]  # fmt: skip
            p = [xp.where(active, b, a) for a, b in zip(p, moved, strict=True)]
            active = active & (now >= _GAIN * gain)
        assert kept is not None
        return _Stepped(p, fine, length, kept, gained, variances, steps, last)

    def _profile(self, cy: Any, cx: Any) -> tuple[Any, Any, Any]:
        """Return the profile of each disk and its derivatives with respect to the centre, ``(p, k)``."""
        xp, meter = self.xp, self._meter
        f32 = np.float32
        if self._table is not None:
            return self._from_table(cy, cx)
        big = f32(meter.radius - 1.0 / (24.0 * meter.radius))
        wide = f32(6.0 * meter.table_origin**2)  # there the softness of a bare disk stands
        end = f32(1.0 + math.sqrt(1.0 + wide))
        dy = self._py - cy.astype(f32)[:, None]
        dx = self._px - cx.astype(f32)[:, None]
        r = f32(1.0) / (xp.sqrt(dy * dy + dx * dx) + f32(1e-6))
        ny, nx = dy * r, dx * r
        u, v = xp.sqrt(nx * nx + wide), xp.sqrt(ny * ny + wide)
        t = xp.clip(big - f32(1.0) / r, -end, end)
        h, g = f32(0.5) * (u + v), f32(0.5) * (u - v)
        zero = f32(0.0)
        a, b = xp.maximum(t + h, zero), xp.maximum(t + g, zero)
        c, q = xp.maximum(t - g, zero), xp.maximum(t - h, zero)
        scale = f32(1.0) / (u * v)
        slope = scale * (a - b - c + q)
        return f32(0.5) * scale * (a * a - b * b - c * c + q * q), slope * ny, slope * nx

    def _from_table(self, cy: Any, cx: Any) -> tuple[Any, Any, Any]:
        xp, meter, n = self.xp, self._meter, self._n_table
        f32 = np.float32
        inv = f32(1.0 / meter.table_step)
        top = f32(n - 2)
        v = xp.clip((self._py - (cy + meter.table_origin).astype(f32)[:, None]) * inv, f32(0), top)
        u = xp.clip((self._px - (cx + meter.table_origin).astype(f32)[:, None]) * inv, f32(0), top)
        j, i = v.astype(np.int64), u.astype(np.int64)
        t, s = v - j.astype(f32), u - i.astype(f32)
        at = j * n + i
        assert self._table is not None
        one = f32(1.0)
        found = [
            (one - t) * (one - s) * row[at] + (one - t) * s * row[at + 1]
            + t * (one - s) * row[at + n] + t * s * row[at + n + 1]
            for row in (self._table[0], self._table[1], self._table[2])
        ]  # fmt: skip
        return found[0], found[1], found[2]

    def _linear_start(self, d: Any, e: Any, f: Any) -> tuple[Any, Any]:
        """Return A and b of the least-squares fit of ``A f + b`` to `d` where `e` is 1."""
        xp = self.xp
        d, e, f = (v.astype(np.float64) for v in (d, e, f))
        n, sf, sff = e.sum(axis=1), (e * f).sum(axis=1), (e * f * f).sum(axis=1)
        sd, sfd = (e * d).sum(axis=1), (e * f * d).sum(axis=1)
        det = n * sff - sf * sf
        ok = det > 1e-3
        safe = xp.where(ok, det, 1.0)
        return (
            xp.where(ok, (n * sfd - sf * sd) / safe, 0.0),
            xp.where(ok, (sff * sd - sf * sfd) / safe, 0.0),
        )

    def _sums(self, d: Any, e: Any, p: list[Any], n: int) -> _Sums:
        """Return the sums of `kernels_subpixel.sums_plain` (4 parameters) or ``sums_tilted`` (6)."""
        xp = self.xp
        f32 = np.float32
        f, fy, fx = self._profile(p[4], p[5])
        b, A, By, Bx = (v.astype(f32)[:, None] for v in p[:4])
        if n == 4:
            level, J = A, [xp.ones_like(f), f, A * fy, A * fx]
        else:
            inv = f32(1.0 / self._meter.radius)
            u = (self._py - p[4].astype(f32)[:, None]) * inv
            v = (self._px - p[5].astype(f32)[:, None]) * inv
            level = A + By * u + Bx * v
            J = [xp.ones_like(f), f, f * u, f * v, level * fy - By * inv * f, level * fx - Bx * inv * f]
        model = level * f + b
        w = e / xp.maximum(model, f32(FLOOR * self._meter.gain))
        res = d - model
        rows = xp.stack(J, axis=1)
        weighted = rows * w[:, None]
        fisher = xp.matmul(weighted, rows.transpose(0, 2, 1)).astype(np.float64)
        gradient = xp.matmul(weighted, res[:, :, None])[:, :, 0].astype(np.float64)
        return _Sums(fisher, gradient, (w * res * res).sum(axis=1).astype(np.float64))


def _explained(xp: Any, chi2: Any, count: Any) -> Any:
    """Return how much of a misfit beyond the noise of `count` pixels a tilt must explain: half."""
    return 0.5 * (chi2 - count - 2.0 * xp.sqrt(2.0 * count))


def _solve(xp: Any, sums: _Sums, n: int, ridge: float) -> tuple[Any, Any, list[list[Any]]]:
    """Solve ``F x = g`` by Cholesky for all disks; return which are regular, x ``(p, n)`` and the factors."""
    F = sums.fisher
    ok = F[:, 0, 0] > 0.0
    L: list[list[Any]] = [[None] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            s = F[:, i, j] * (1.0 + ridge) if i == j else F[:, i, j]
            for k in range(j):
                s = s - L[i][k] * L[j][k]
            if i == j:
                regular = (s > 1e-9 * F[:, i, i]) & (F[:, i, i] > 0.0)
                ok = ok & regular
                L[i][i] = xp.sqrt(xp.where(regular, s, 1.0))
            else:
                L[i][j] = s / L[j][j]
    x: list[Any] = []
    for i in range(n):
        s = sums.gradient[:, i]
        for k in range(i):
            s = s - L[i][k] * x[k]
        x.append(s / L[i][i])
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s = s - L[k][i] * x[k]
        x[i] = s / L[i][i]
    return ok, xp.stack(x, axis=1), L


def _last_variances(L: list[list[Any]], n: int) -> tuple[Any, Any]:
    """Return the last two diagonal elements of ``inverse(L L^T)``."""
    a, b, c = L[n - 2][n - 2], L[n - 1][n - 2], L[n - 1][n - 1]
    return (1.0 + (b / c) ** 2) / (a * a), 1.0 / (c * c)


def _schur(xp: Any, F: Any) -> Any:
    """Return the information on A when b is unknown."""
    s = F[:, 0, 0]
    return xp.where(s > 0, xp.maximum(F[:, 1, 1] - F[:, 1, 0] ** 2 / xp.where(s > 0, s, 1.0), 0.0), 0.0)
