"""The loops behind exact sums; called by `reduce`, which chooses among them."""

from __future__ import annotations

import numba
import numpy as np

from framefold.kernels.unit_stride import contiguous

# pixels that are summed over all frames of a tile before the next ones: scratch and eight rows stay in L2.
BLOCK = 8192
# integers of 16 bits summed in 32: 65535 * 32768 < 2**31 holds for signed and unsigned
FLUSH = 32768


@numba.njit(nogil=True, cache=True)
def sum_frames_narrow(rows, acc, scratch):  # type: ignore[no-untyped-def]
    """8- and 16-bit integers: eight frames at a time in 32 bits, emptied into `acc` before they overflow."""
    depth, pixels = rows.shape
    block = scratch.size
    for j0 in range(0, pixels, block):
        m = min(block, pixels - j0)
        acc_j = acc[j0 : j0 + m]
        part = scratch[:m]
        for i0 in range(0, depth, FLUSH):
            stop = min(i0 + FLUSH, depth)
            part[:] = 0
            i = i0
            while i + 8 <= stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                b = contiguous(rows[i + 1])[j0 : j0 + m]
                c = contiguous(rows[i + 2])[j0 : j0 + m]
                d = contiguous(rows[i + 3])[j0 : j0 + m]
                e = contiguous(rows[i + 4])[j0 : j0 + m]
                f = contiguous(rows[i + 5])[j0 : j0 + m]
                g = contiguous(rows[i + 6])[j0 : j0 + m]
                h = contiguous(rows[i + 7])[j0 : j0 + m]
                for j in range(m):
                    part[j] += (np.int32(a[j]) + np.int32(b[j]) + np.int32(c[j]) + np.int32(d[j])) + (
                        np.int32(e[j]) + np.int32(f[j]) + np.int32(g[j]) + np.int32(h[j])
                    )
                i += 8
            while i < stop:
                a = contiguous(rows[i])[j0 : j0 + m]
                for j in range(m):
                    part[j] += np.int32(a[j])
                i += 1
            for j in range(m):
                acc_j[j] += part[j]


@numba.njit(nogil=True, cache=True)
def sum_frames(rows, acc):  # type: ignore[no-untyped-def]
    """All other types: four frames at a time, straight into the accumulator."""
    depth, pixels = rows.shape
    wide = acc.dtype.type
    for j0 in range(0, pixels, BLOCK):
        m = min(BLOCK, pixels - j0)
        acc_j = acc[j0 : j0 + m]
        i = 0
        while i + 4 <= depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            b = contiguous(rows[i + 1])[j0 : j0 + m]
            c = contiguous(rows[i + 2])[j0 : j0 + m]
            d = contiguous(rows[i + 3])[j0 : j0 + m]
            for j in range(m):
                acc_j[j] += (wide(a[j]) + wide(b[j])) + (wide(c[j]) + wide(d[j]))
            i += 4
        while i < depth:
            a = contiguous(rows[i])[j0 : j0 + m]
            for j in range(m):
                acc_j[j] += wide(a[j])
            i += 1


@numba.njit(nogil=True, cache=True)
def sum_sig_narrow(rows, out, zero):  # type: ignore[no-untyped-def]
    """8- and 16-bit integers: 32-bit partial sums of at most 32768 pixels."""
    depth, pixels = rows.shape
    narrow = zero.dtype.type
    for i in range(depth):
        row = contiguous(rows[i])
        for j0 in range(0, pixels, FLUSH):
            part = row[j0 : min(j0 + FLUSH, pixels)]
            s = narrow(0)
            for j in range(part.size):
                s = narrow(s + narrow(part[j]))
            out[i] += s


@numba.njit(nogil=True, cache=True)
def sum_sig(rows, out):  # type: ignore[no-untyped-def]
    """32- and 64-bit integers."""
    depth, pixels = rows.shape
    wide = out.dtype.type
    for i in range(depth):
        row = contiguous(rows[i])
        s = wide(0)
        for j in range(pixels):
            s += wide(row[j])
        out[i] += s


# reassociation lets a sum vectorise: eight partial sums are also more accurate than one
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def sum_sig_float(rows, out, step):  # type: ignore[no-untyped-def]
    """Floats, and complex numbers as (re, im) pairs with ``step=2``."""
    depth, pixels = rows.shape
    for i in range(depth):
        row = contiguous(rows[i])
        if step == 1:
            s = 0.0
            for j in range(pixels):
                s += np.float64(row[j])
            out[i] += s
        else:
            re = 0.0
            im = 0.0
            for j in range(pixels // 2):
                re += np.float64(row[2 * j])
                im += np.float64(row[2 * j + 1])
            out[2 * i] += re
            out[2 * i + 1] += im
