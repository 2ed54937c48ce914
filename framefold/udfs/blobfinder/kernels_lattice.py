"""Kernel that fits a lattice to the disks of each frame of a block, robustly, in closed form."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HUBER = 1.345
#: residuals beyond this many robust standard deviations do not count, after the first round
_REJECT = 4.0
#: median of the length of a pair of standard normal numbers
_RAYLEIGH = math.sqrt(2 * math.log(2))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def normal(hk: Array, w: Array, at: Array, N: Array, x: Array) -> bool:  # pragma: no cover - compiled
    """Solve weighted ``at = z + h a + k b``: `N` becomes the inverse normal matrix, `x` z, a, b."""
    s0, sh, sk, shh, shk, skk = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    y0, yh, yk, x0, xh, xk = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(hk.shape[0]):
        wi = w[i]
        if wi == 0.0:
            continue
        h, k = hk[i, 0], hk[i, 1]
        wh, wk = wi * h, wi * k
        s0 += wi
        sh += wh
        sk += wk
        shh += wh * h
        shk += wh * k
        skk += wk * k
        y, c = at[i, 0], at[i, 1]
        y0 += wi * y
        yh += wh * y
        yk += wk * y
        x0 += wi * c
        xh += wh * c
        xk += wk * c
    c00, c01, c02 = shh * skk - shk * shk, sk * shk - sh * skk, sh * shk - sk * shh
    c11, c12, c22 = s0 * skk - sk * sk, sh * sk - s0 * shk, s0 * shh - sh * sh
    det = s0 * c00 + sh * c01 + sk * c02
    # a lattice whose indices lie on a line has no area
    if not det > 1e-9 * s0 * shh * skk or not s0 > 0.0:
        return False
    N[0, 0], N[0, 1], N[0, 2] = c00 / det, c01 / det, c02 / det
    N[1, 0], N[1, 1], N[1, 2] = c01 / det, c11 / det, c12 / det
    N[2, 0], N[2, 1], N[2, 2] = c02 / det, c12 / det, c22 / det
    for i in range(3):
        x[i, 0] = N[i, 0] * y0 + N[i, 1] * yh + N[i, 2] * yk
        x[i, 1] = N[i, 0] * x0 + N[i, 1] * xh + N[i, 2] * xk
    return True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _median(values: Array, n: int) -> float:  # pragma: no cover - compiled
    """Return the median of the first `n` values, which are sorted in place."""
    for i in range(1, n):
        v, j = values[i], i
        while j > 0 and values[j - 1] > v:
            values[j] = values[j - 1]
            j -= 1
        values[j] = v
    return 0.5 * (values[(n - 1) // 2] + values[n // 2])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fit_lattices(
    centers: Array, sigma: Array, usable: Array, hk: Array, rounds: int, floor: float, least: int,
    zero: Array, a: Array, b: Array, cov: Array, residual: Array, used: Array, selector: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Fit ``p = z + h a + k b`` to the disks of each frame.

    Weighted least squares with ``w = 1 / sigma^2``, then `rounds` of Huber's reweighting with a scale from
    the median residual; after the first one what is beyond 4 standard deviations is left out.

    Parameters
    ----------
    centers, sigma
        ``(n, m, 2)``, y and x.
    usable
        ``(n, m)`` bool.
    hk
        ``(1, m, 2)`` float64 indices, or ``(n, m, 2)`` where each frame has its own.
    rounds
        0: plain least squares.
    floor
        Least standard deviation, px.
    least
        Frames with fewer disks give NaN.
    zero, a, b
        Outputs ``(n, 2)``.
    cov
        Output ``(n, 3)``: variance of a, covariance of a and b, variance of b, px^2, the same for y and x;
        scaled by the reduced chi2 where that is above 1.
    residual
        Output ``(n,)``: weighted RMS per axis, px.
    used, selector
        Outputs ``(n,)`` and ``(n, m)``: how many and which disks count.
    """
    m = hk.shape[1]
    w, base, scratch, length = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    at, x, N = np.empty((m, 2)), np.empty((3, 2)), np.empty((3, 3))
    for f in range(centers.shape[0]):
        count = 0
        index = hk[0 if hk.shape[0] == 1 else f]
        for i in range(m):
            ok = usable[f, i] and np.isfinite(centers[f, i, 0]) and np.isfinite(centers[f, i, 1])
            s2 = 0.5 * (float(sigma[f, i, 0]) ** 2 + float(sigma[f, i, 1]) ** 2)
            base[i] = 1.0 / max(s2, floor * floor) if ok and np.isfinite(s2) else 0.0
            w[i] = base[i]
            count += base[i] > 0.0
            at[i, 0], at[i, 1] = centers[f, i, 0], centers[f, i, 1]
        fine = count >= max(least, 3) and normal(index, w, at, N, x)
        for r in range(rounds):
            if not fine:
                break
            scale = _residuals(index, base, at, x, length, scratch)
            count = 0
            for i in range(m):
                t = length[i] / scale / math.sqrt(2.0)
                w[i] = base[i] * (1.0 if t <= HUBER else HUBER / t)
                if r > 0 and t > _REJECT:
                    w[i] = 0.0
                count += w[i] > 0.0
            fine = count >= max(least, 3) and normal(index, w, at, N, x)
        if not fine:
            zero[f], a[f], b[f], cov[f] = np.nan, np.nan, np.nan, np.nan
            residual[f] = np.nan
            used[f] = 0
            selector[f] = False
            continue
        chi, total = 0.0, 0.0
        for i in range(m):
            selector[f, i] = w[i] > 0.0
            if w[i] > 0.0:
                ry = at[i, 0] - x[0, 0] - index[i, 0] * x[1, 0] - index[i, 1] * x[2, 0]
                rx = at[i, 1] - x[0, 1] - index[i, 0] * x[1, 1] - index[i, 1] * x[2, 1]
                chi += w[i] * (ry * ry + rx * rx)
                total += w[i]
        excess = max(1.0, chi / max(2.0 * count - 6.0, 1.0))
        for j in range(2):
            zero[f, j], a[f, j], b[f, j] = x[0, j], x[1, j], x[2, j]
        cov[f, 0], cov[f, 1], cov[f, 2] = N[1, 1] * excess, N[1, 2] * excess, N[2, 2] * excess
        residual[f] = math.sqrt(0.5 * chi / total)
        used[f] = count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _residuals(
    hk: Array, base: Array, at: Array, x: Array, length: Array, scratch: Array
) -> float:  # pragma: no cover - compiled
    """Write residuals in units of their sigma to `length`, and return their robust scale, at least 1."""
    n = 0
    for i in range(hk.shape[0]):
        length[i] = 0.0
        if base[i] > 0.0:
            ry = at[i, 0] - x[0, 0] - hk[i, 0] * x[1, 0] - hk[i, 1] * x[2, 0]
            rx = at[i, 1] - x[0, 1] - hk[i, 0] * x[1, 1] - hk[i, 1] * x[2, 1]
            length[i] = math.sqrt((ry * ry + rx * rx) * base[i])
            scratch[n] = length[i]
            n += 1
    return max(1.0, _median(scratch, n) / _RAYLEIGH)


def fit_lattice_reference(
    centers: npt.NDArray[np.float64], sigma: npt.NDArray[np.float64], hk: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return z, a, b ``(3, 2)`` of one frame by `numpy.linalg.lstsq`, without reweighting."""
    s = np.sqrt(0.5 * (sigma**2).sum(axis=-1))
    X = np.column_stack([np.ones(len(hk)), hk])
    return np.asarray(np.linalg.lstsq(X / s[:, None], centers / s[:, None], rcond=None)[0])
