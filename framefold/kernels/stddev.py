"""Variance in one pass: exact power sums of short integers, sums of deviations for everything else.

Integers of up to 16 bits: S1 = sum x and S2 = sum x^2 are exact integers, and with S1 = q n + r

    M2 = sum |x - mean|^2 = S2 - S1^2 / n = (S2 - q (S1 + r)) - r^2 / n

has only integers in the parenthesis: nothing cancels, and any order or grouping gives the same bits.

Everything else, in double precision: for each pixel K is the mean of the first frames. With d = x - K,
S1 = sum d and S2 = sum |d|^2,

    sum = n K + S1,    M2 = S2 - |S1|^2 / n,

where S1 / n is of the order of the standard deviation. Two sets of frames a, b merge as [Chan1983]_

    n = n_a + n_b,   delta = sum_b / n_b - sum_a / n_a,   M2 = M2_a + M2_b + |delta|^2 n_a n_b / n.

.. [Chan1983] T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance,
   The American Statistician 37 (1983) 242.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import overload

from framefold.errors import DataError
from framefold.kernels.formula import or_formula
from framefold.kernels.reduce import sum_frames, wide_dtype
from framefold.kernels.rows import as_real, as_rows
from framefold.kernels.unit_stride import contiguous

_BLOCK = 8192
_GROUP = 32  # frames whose power sums fit in 32 bits if all values are below _SMALL: 32 * 2**26 < 2**32
_SMALL_BITS = 13
_SMALL = 1 << _SMALL_BITS
_FIRST = 64  # frames that are enough to find K


def is_short(dtype: npt.DTypeLike) -> bool:
    """Tell whether `dtype` has exact power sums: bool and integers of up to 16 bits."""
    dt = np.dtype(dtype)
    return dt.kind in "bui" and dt.itemsize <= 2


def power_sums_reference(tile: npt.NDArray[Any], s1: npt.NDArray[Any], s2: npt.NDArray[Any]) -> None:
    """Do what `power_sums` does, by numpy."""
    s1 += tile.sum(axis=0, dtype=np.int64)
    s2 += (tile.astype(np.int64) ** 2).sum(axis=0)


@or_formula(power_sums_reference)
def power_sums(tile: npt.NDArray[Any], s1: npt.NDArray[np.int64], s2: npt.NDArray[np.int64]) -> None:
    """Add sum x and sum x^2 per pixel of `tile`, ``(depth, *part)`` of a short dtype, to `s1` and `s2`.

    Exact for up to 2**30 frames. Both arrays: int64, shape ``part``, C-contiguous.
    """
    if not is_short(tile.dtype):
        raise DataError(f"exact power sums need integers of up to 16 bits, not {tile.dtype}")
    rows = _rows(tile)
    a, b = _flat(s1, rows, np.int64), _flat(s2, rows, np.int64)
    _power_sums(rows, a, b, np.zeros(-(-a.size // _BLOCK), np.bool_))


def moments_of_power_sums(
    n: npt.NDArray[np.int64], s1: npt.NDArray[np.int64], s2: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return M2 = sum |x - mean|^2 per pixel, float64; 0 where `n` is 0."""
    frames = np.maximum(n, 1)
    # q is the integer next to the mean and |r| <= n / 2: integers with the mean q + f vary by at least
    # f (1 - f), so that the last subtraction loses a bit at most; floor would lose 20 for one frame in 10^6
    q = (2 * s1 + frames) // (2 * frames)
    r = s1 - q * frames
    result: npt.NDArray[np.float64] = (s2 - q * (s1 + r)) - r.astype(np.float64) ** 2 / frames
    return result


def first_mean_reference(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what `first_mean` does, by numpy."""
    return tile[:_FIRST].sum(axis=0, dtype=wide_dtype(tile.dtype)) / max(1, len(tile[:_FIRST]))


@or_formula(first_mean_reference)
def first_mean(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the shift K per pixel: the mean of the first frames, shape ``part``, float64 or complex128."""
    total = np.zeros(tile.shape[1:], wide_dtype(tile.dtype))
    first = tile[:_FIRST]
    sum_frames(first, total)
    return total / max(1, len(first))


def deviation_sums_reference(
    tile: npt.NDArray[Any], shift: npt.NDArray[Any], s1: npt.NDArray[Any], s2: npt.NDArray[Any]
) -> None:
    """Do what `deviation_sums` does, by numpy."""
    d = tile - shift
    s1 += d.sum(axis=0)
    s2 += (d.real**2).sum(axis=0)
    if d.dtype.kind == "c":
        s2 += 1j * (d.imag**2).sum(axis=0)


@or_formula(deviation_sums_reference)
def deviation_sums(
    tile: npt.NDArray[Any], shift: npt.NDArray[Any], s1: npt.NDArray[Any], s2: npt.NDArray[Any]
) -> None:
    """Add sum d and sum d^2, d = x - K, of `tile`, ``(depth, *part)``, to `s1` and `s2`.

    `shift` (K), `s1`, `s2`: float64, or complex128 for complex data, shape ``part``, C-contiguous. For
    complex data `s2` holds the squares of real and imaginary parts apart.
    """
    rows = _rows(tile)
    double = np.complex128 if tile.dtype.kind == "c" else np.float64
    arrays = [_flat(x, rows, double).view(np.float64) for x in (shift, s1, s2)]
    _deviation_sums(rows, *arrays)


def moments_of_deviations(
    n: int, shift: npt.NDArray[Any], s1: npt.NDArray[Any], s2: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return the sum (dtype of `shift`) and M2 (float64) per pixel of `n` > 0 frames."""
    m2 = s2.real - s1.real**2 / n
    if s2.dtype.kind == "c":
        m2 = m2 + (s2.imag - s1.imag**2 / n)
    return n * shift + s1, np.maximum(m2, 0.0)  # rounding may leave -1e-16 of the sum; NaN stays


def merge_moments(
    n_a: npt.NDArray[np.int64],
    sum_a: npt.NDArray[Any],
    m2_a: npt.NDArray[np.float64],
    n_b: npt.NDArray[np.int64],
    sum_b: npt.NDArray[Any],
    m2_b: npt.NDArray[np.float64],
) -> None:
    """Merge set b into set a in place: counts, sums and M2 per pixel, equal shapes, a C-contiguous."""
    _merge(
        n_a.reshape(-1),
        sum_a.reshape(-1),
        m2_a.reshape(-1),
        np.ascontiguousarray(n_b).reshape(-1),
        np.ascontiguousarray(sum_b).reshape(-1),
        np.ascontiguousarray(m2_b).reshape(-1),
    )


def moments_reference(frames: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return sum and M2 per pixel of ``(n, *part)`` frames by numpy, in two passes."""
    wide = frames.astype(np.complex128 if frames.dtype.kind == "c" else np.float64)
    return wide.sum(axis=0), (np.abs(wide - wide.mean(axis=0)) ** 2).sum(axis=0)


def _rows(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rows = as_rows(tile)
    if rows.dtype.kind == "b":
        return as_rows(rows.view(np.uint8))
    if rows.dtype == np.float16:
        return as_rows(rows.astype(np.float32))
    return as_real(rows) if rows.dtype.kind == "c" else rows


def _flat(array: npt.NDArray[Any], rows: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    pixels = rows.shape[1] // (2 if np.dtype(dtype).kind == "c" else 1)
    if array.dtype != dtype or array.size != pixels or not array.flags.c_contiguous:
        raise DataError(
            f"a tile of {pixels} pixels needs C-contiguous {np.dtype(dtype)} sums of that size, "
            f"not {array.dtype} {array.shape}"
        )
    return array.reshape(-1)


def _eight(rows: Any, i: int, j0: int, m: int, p1: Any, p2: Any) -> int:
    """Add frames ``i .. i + 8`` to 32-bit power sums; return a number >= `_SMALL` if any magnitude is."""
    raise NotImplementedError("compiled code only")


@overload(_eight)
def _eight_of(rows, i, j0, m, p1, p2):  # type: ignore[no-untyped-def]
    # Both forms vectorise in 32-bit lanes; each for the other kind of integer does not (3 GB/s, not 16)
    def unsigned(rows, i, j0, m, p1, p2):  # type: ignore[no-untyped-def]
        a = contiguous(rows[i])[j0 : j0 + m]
        b = contiguous(rows[i + 1])[j0 : j0 + m]
        c = contiguous(rows[i + 2])[j0 : j0 + m]
        d = contiguous(rows[i + 3])[j0 : j0 + m]
        e = contiguous(rows[i + 4])[j0 : j0 + m]
        f = contiguous(rows[i + 5])[j0 : j0 + m]
        g = contiguous(rows[i + 6])[j0 : j0 + m]
        h = contiguous(rows[i + 7])[j0 : j0 + m]
        bits = np.int32(0)
        for j in range(m):
            s = np.int32(a[j])
            t = np.int32(b[j])
            u = np.int32(c[j])
            v = np.int32(d[j])
            w = np.int32(e[j])
            x = np.int32(f[j])
            y = np.int32(g[j])
            z = np.int32(h[j])
            p1[j] = np.int32(p1[j] + s + t + u + v + w + x + y + z)
            p2[j] = np.uint32(
                p2[j]
                + np.uint32(s * s)
                + np.uint32(t * t)
                + np.uint32(u * u)
                + np.uint32(v * v)
                + np.uint32(w * w)
                + np.uint32(x * x)
                + np.uint32(y * y)
                + np.uint32(z * z)
            )
            bits = np.int32(bits | s | t | u | v | w | x | y | z)
        return np.int64(bits)

    def signed(rows, i, j0, m, p1, p2):  # type: ignore[no-untyped-def]
        a = contiguous(rows[i])[j0 : j0 + m]
        b = contiguous(rows[i + 1])[j0 : j0 + m]
        c = contiguous(rows[i + 2])[j0 : j0 + m]
        d = contiguous(rows[i + 3])[j0 : j0 + m]
        e = contiguous(rows[i + 4])[j0 : j0 + m]
        f = contiguous(rows[i + 5])[j0 : j0 + m]
        g = contiguous(rows[i + 6])[j0 : j0 + m]
        h = contiguous(rows[i + 7])[j0 : j0 + m]
        bits = np.uint32(0)
        for j in range(m):
            s = np.int32(a[j])
            t = np.int32(b[j])
            u = np.int32(c[j])
            v = np.int32(d[j])
            w = np.int32(e[j])
            x = np.int32(f[j])
            y = np.int32(g[j])
            z = np.int32(h[j])
            p1[j] = np.int32(p1[j] + s + t + u + v + w + x + y + z)
            ss = np.uint32(s * s)
            tt = np.uint32(t * t)
            uu = np.uint32(u * u)
            vv = np.uint32(v * v)
            ww = np.uint32(w * w)
            xx = np.uint32(x * x)
            yy = np.uint32(y * y)
            zz = np.uint32(z * z)
            p2[j] = np.uint32(p2[j] + ss + tt + uu + vv + ww + xx + yy + zz)
            bits = np.uint32(bits | ss | tt | uu | vv | ww | xx | yy | zz)
        return np.int64(bits >> np.uint32(_SMALL_BITS))

    return signed if rows.dtype.signed else unsigned


@numba.njit(nogil=True, cache=True)
def _power_sums(rows, s1, s2, large):  # type: ignore[no-untyped-def]
    """Eight frames at a time in 32 bits; blocks with large values, noted in `large`, in 64."""
    depth, pixels = rows.shape
    part1 = np.empty(min(_BLOCK, pixels), np.int32)
    part2 = np.empty(min(_BLOCK, pixels), np.uint32)
    for j0 in range(0, pixels, _BLOCK):
        m = min(_BLOCK, pixels - j0)
        p1 = part1[:m]
        p2 = part2[:m]
        s1_j = s1[j0 : j0 + m]
        s2_j = s2[j0 : j0 + m]
        for i0 in range(0, depth, _GROUP):
            stop = min(i0 + _GROUP, depth)
            i = i0
            if not large[j0 // _BLOCK]:
                p1[:] = 0
                p2[:] = 0
                bits = np.int64(0)
                while i + 8 <= stop:
                    bits |= _eight(rows, i, j0, m, p1, p2)
                    i += 8
                if bits < _SMALL:
                    for j in range(m):
                        s1_j[j] += p1[j]
                        s2_j[j] += p2[j]
                else:  # the 32-bit sums may have overflowed: forget them
                    large[j0 // _BLOCK] = True
                    i = i0
            while i + 2 <= stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                b = contiguous(rows[i + 1])[j0 : j0 + m]
                for j in range(m):
                    x = np.int32(a[j])
                    y = np.int32(b[j])
                    s1_j[j] += x + y
                    s2_j[j] += np.int64(np.uint32(x * x)) + np.int64(np.uint32(y * y))
                i += 2
            while i < stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                for j in range(m):
                    x = np.int32(a[j])
                    s1_j[j] += x
                    s2_j[j] += np.int64(np.uint32(x * x))
                i += 1


@numba.njit(nogil=True, cache=True)
def _deviation_sums(rows, shift, s1, s2):  # type: ignore[no-untyped-def]
    """Four frames at a time, in double precision."""
    depth, pixels = rows.shape
    for j0 in range(0, pixels, _BLOCK):
        m = min(_BLOCK, pixels - j0)
        k = shift[j0 : j0 + m]
        s1_j = s1[j0 : j0 + m]
        s2_j = s2[j0 : j0 + m]
        i = 0
        while i + 4 <= depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            b = contiguous(rows[i + 1])[j0 : j0 + m]
            c = contiguous(rows[i + 2])[j0 : j0 + m]
            d = contiguous(rows[i + 3])[j0 : j0 + m]
            for j in range(m):
                w = np.float64(a[j]) - k[j]
                x = np.float64(b[j]) - k[j]
                y = np.float64(c[j]) - k[j]
                z = np.float64(d[j]) - k[j]
                s1_j[j] += (w + x) + (y + z)
                s2_j[j] += (w * w + x * x) + (y * y + z * z)
            i += 4
        while i < depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            for j in range(m):
                w = np.float64(a[j]) - k[j]
                s1_j[j] += w
                s2_j[j] += w * w
            i += 1


@numba.njit(nogil=True, cache=True)
def _merge(n_a, sum_a, m2_a, n_b, sum_b, m2_b):  # type: ignore[no-untyped-def]
    for j in range(n_a.size):
        if n_b[j] == 0:
            continue
        if n_a[j] == 0:
            m2_a[j] = m2_b[j]
        else:
            delta = abs(sum_b[j] / n_b[j] - sum_a[j] / n_a[j])
            m2_a[j] += m2_b[j] + delta * delta * (n_a[j] * (n_b[j] / (n_a[j] + n_b[j])))
        n_a[j] += n_b[j]
        sum_a[j] += sum_b[j]
