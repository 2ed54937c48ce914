"""The loops from polar frames to summed products: centre, scatter into order-major stacks, multiply."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from framefold.udfs.fxs.blas import dgemm, dsyrk, sgemm, ssyrk
from framefold.udfs.fxs.lanes import LANES, transpose16

U, N, T = ord("U"), ord("N"), ord("T")
STRIP = 16  # rows that are transposed at a time: what is read fills whole lines of cache


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def centre_rings(
    polar: Any, weight: Any, weight_sums: Any, factor: Any, subtract: Any, out: Any, means: Any
) -> None:
    """Write ``out = factor / n_phi * weight * (polar - ring mean)``, and ``means = factor * ring mean``.

    Parameters
    ----------
    polar, weight : (n_q, n_phi)
    weight_sums : (n_q,) sums of `weight` over each ring
    factor : scale of the frame
    subtract : whether to subtract the means; they are the weighted means over each ring, 0 where it is empty
    out : (n_q, n_phi)
    means : float64 (n_q,)
    """
    n_q, n_phi = polar.shape
    kind = out.dtype.type
    for i in range(n_q):
        total = kind(0)
        for p in range(n_phi):
            total += weight[i, p] * kind(polar[i, p])
        mean = total / kind(weight_sums[i]) if weight_sums[i] > 0 else kind(0)
        means[i] = factor * mean
        less = mean if subtract else kind(0)
        by = kind(factor / n_phi)
        for p in range(n_phi):
            out[i, p] = by * (weight[i, p] * (kind(polar[i, p]) - less))


@numba.njit(nogil=True, cache=True)
def scatter_single(spectrum: Any, rows: Any, means: Any, slot: Any, depth: Any, stack: Any) -> None:
    """Copy a spectrum to its two rows of each order of a stack of float32.

    Parameters
    ----------
    spectrum : complex64 (n_q, n_phi // 2 + 1)
    rows : int64 (n_phi // 2 + 1), place of each order in the stack, or -1
    means : float64 (n_q,), what stands for order 0
    slot : which frame of the stack
    depth : frames in the stack
    stack : flat float32, ``(orders, 2 * depth, n_q)`` and n_q more elements, which are overwritten
    """
    n_q, n_m = spectrum.shape
    values = spectrum.view(np.float32).reshape(-1)
    width = 2 * n_m
    trash = len(stack) - n_q
    if n_q < LANES or width < LANES:
        for m in range(n_m):
            if rows[m] >= 0:
                at = (rows[m] * depth + slot) * 2 * n_q
                for i in range(n_q):
                    stack[at + i] = spectrum[i, m].real
                    stack[at + n_q + i] = spectrum[i, m].imag
    else:
        offsets = np.arange(LANES) * width
        targets = np.empty(LANES, np.int64)
        for c in range(0, width + LANES - 1, LANES):
            c0 = min(c, width - LANES)
            for j in range(LANES):
                m, part = (c0 + j) // 2, (c0 + j) % 2
                targets[j] = trash if rows[m] < 0 else ((rows[m] * depth + slot) * 2 + part) * n_q
            for i in range(0, n_q + LANES - 1, LANES):
                i0 = min(i, n_q - LANES)
                transpose16(values, i0 * width + c0, offsets, stack, i0, targets)
    if rows[0] >= 0:
        at = (rows[0] * depth + slot) * 2 * n_q
        for i in range(n_q):
            stack[at + i] = means[i]
            stack[at + n_q + i] = 0


@numba.njit(nogil=True, cache=True)
def scatter_pairs(spectrum: Any, rows: Any, means: Any, slot: Any, depth: Any, stack: Any) -> None:
    """Copy a spectrum to a stack of Re and Im in any precision, otherwise as `scatter_single`."""
    n_q, n_m = spectrum.shape
    for m in range(n_m):
        if rows[m] >= 0:
            at = (rows[m] * depth + slot) * 2 * n_q
            real, imaginary = stack[at : at + n_q], stack[at + n_q : at + 2 * n_q]
            for i in range(n_q):
                value = means[i] + 0j if m == 0 else spectrum[i, m]
                real[i] = value.real
                imaginary[i] = value.imag


@numba.njit(nogil=True, cache=True)
def fold_orders(
    stack: Any, depth: Any, used: Any, n_q: Any, first: Any, last: Any, packed: Any, sums: Any, square: Any
) -> None:
    """Add ``sum_j Re A_jm(q) conj(A_jm(q'))`` of orders ``first .. last - 1`` to the packed lower triangles.

    Parameters
    ----------
    stack : flat float32 or float64, ``(orders, depth, n_q)``: rows Re and Im in turn
    used : rows that are filled
    packed : float64 or float32 (orders, n_q * (n_q + 1) / 2)
    sums : complex128 (orders, n_q), the sums of A over the frames
    square : (n_q, n_q), of the type of `stack`, scratch that stays in cache
    """
    chars = np.array([U, N], np.uint8)
    sizes = np.array([n_q, used, n_q, n_q], np.int32)
    scalars = np.array([1, 0], stack.dtype)
    item = stack.itemsize
    for m in range(first, last):
        # taken here, so that the arrays live as long as the loop: an address alone does not keep them
        c, s, f = chars.ctypes.data, sizes.ctypes.data, scalars.ctypes.data
        a = stack.ctypes.data + m * depth * n_q * item
        if item == 4:
            ssyrk(c, c + 1, s, s + 4, f, a, s + 8, f + item, square.ctypes.data, s + 12)
        else:
            dsyrk(c, c + 1, s, s + 4, f, a, s + 8, f + item, square.ctypes.data, s + 12)
        at = 0
        for i in range(n_q):
            for j in range(i + 1):
                packed[m, at + j] += square[i, j]
            at += i + 1
        for r in range(0, used, 2):
            at = (m * depth + r) * n_q
            for i in range(n_q):
                sums[m, i] += complex(stack[at + i], stack[at + n_q + i])


@numba.njit(nogil=True, cache=True)
def fold_hermitian(
    stack: Any, depth: Any, used: Any, n_q: Any, first: Any, last: Any, packed: Any, sums: Any, square: Any,
    product: Any,
) -> None:  # fmt: skip
    """Add ``sum_j A_jm(q) conj(A_jm(q'))`` to packed complex lower triangles.

    With ``A = R + iS``, ``P = (R - S)^T (R + S)`` holds ``R^T R - S^T S`` in its symmetric part, and the
    imaginary part of the answer in the other one; ``2 S^T S`` is added. One product and one symmetric product
    of real matrices are three quarters of the multiplications of a Hermitian one.

    Parameters
    ----------
    stack : flat float32 or float64, ``(orders, depth, n_q)``: rows Re and Im in turn; overwritten
    used : rows that are filled
    packed : real (orders, n_q * (n_q + 1)): Re and Im of the triangle in turn
    sums : complex128 (orders, n_q), the sums of A over the frames
    square, product : (n_q, n_q), of the type of `stack`, scratch
    """
    chars = np.array([U, N, T], np.uint8)
    sizes = np.array([n_q, used // 2, 2 * n_q], np.int32)  # every other row: twice the stride
    scalars = np.array([1, 0, 2], stack.dtype)
    item = stack.itemsize
    real, imaginary = np.empty(n_q), np.empty(n_q)
    for m in range(first, last):
        # taken here, so that the arrays live as long as the loop: an address alone does not keep them
        c, s, f = chars.ctypes.data, sizes.ctypes.data, scalars.ctypes.data
        a = stack.ctypes.data + m * depth * n_q * item
        b, out = a + n_q * item, product.ctypes.data
        if item == 4:
            ssyrk(c, c + 1, s, s + 4, f + 2 * item, b, s + 8, f + item, square.ctypes.data, s)
        else:
            dsyrk(c, c + 1, s, s + 4, f + 2 * item, b, s + 8, f + item, square.ctypes.data, s)
        real[:] = 0
        imaginary[:] = 0
        for r in range(0, used, 2):
            at = (m * depth + r) * n_q
            upper, lower = stack[at : at + n_q], stack[at + n_q : at + 2 * n_q]
            for i in range(n_q):
                x, y = upper[i], lower[i]
                real[i] += x
                imaginary[i] += y
                upper[i] = x + y
                lower[i] = x - y
        for i in range(n_q):
            sums[m, i] += complex(real[i], imaginary[i])
        if item == 4:
            sgemm(c + 1, c + 2, s, s, s + 4, f, a, s + 8, b, s + 8, f + item, out, s)
        else:
            dgemm(c + 1, c + 2, s, s, s + 4, f, a, s + 8, b, s + 8, f + item, out, s)
        _add_hermitian(product, square, packed[m])


@numba.njit(nogil=True, cache=True)
def _add_hermitian(product: Any, square: Any, packed: Any) -> None:
    """Add `square` and the symmetric part of `product` to Re, minus its other part to Im, lower triangle."""
    n_q = product.shape[0]
    half = product.dtype.type(0.5)
    strip = np.empty((STRIP, n_q), product.dtype)  # rows of the transposed
    for first in range(0, n_q, STRIP):
        last = min(first + STRIP, n_q)
        for j in range(last):
            source = product[j, first:last]
            for i in range(last - first):
                strip[i, j] = source[i]
        for i in range(first, last):
            a, b, t = product[i, : i + 1], square[i, : i + 1], strip[i - first, : i + 1]
            out = packed[i * (i + 1) : (i + 1) * (i + 2)]
            for j in range(i + 1):
                out[2 * j] += b[j] + half * (a[j] + t[j])
                out[2 * j + 1] += half * (t[j] - a[j])


@numba.njit(nogil=True, cache=True)
def add_diagonals(spectrum: Any, means: Any, lags: Any, out: Any) -> None:
    """Add ``Re A_m(q) conj(A_m(q + lag))`` to ``out[m, lag, q]`` of float64, m up to ``len(out) - 1``."""
    n_q = spectrum.shape[0]
    for k in range(len(lags)):
        lag = lags[k]
        for i in range(n_q - lag):
            out[0, k, i] += means[i] * means[i + lag]
            for m in range(1, out.shape[0]):
                a, b = spectrum[i, m], spectrum[i + lag, m]
                out[m, k, i] += a.real * b.real + a.imag * b.imag


@numba.njit(nogil=True, cache=True)
def add_rows(spectrum: Any, means: Any, at: Any, out: Any) -> None:
    """Add ``Re A_m(q0) conj(A_m(q))`` to ``out[row, m, q]`` of float64 for each q0 of `at`."""
    n_q = spectrum.shape[0]
    for k in range(len(at)):
        for i in range(n_q):
            out[k, 0, i] += means[at[k]] * means[i]
            for m in range(1, out.shape[1]):
                a, b = spectrum[at[k], m], spectrum[i, m]
                out[k, m, i] += a.real * b.real + a.imag * b.imag


def products_reference(spectra: Any) -> Any:
    """Return ``C[m, q, q'] = sum_j A_jm(q) conj(A_jm(q'))`` of spectra ``(frames, n_q, orders)``."""
    return np.einsum("jqm,jrm->mqr", spectra, spectra.conj())
