"""Sums of exp(2 pi i h.r) over atoms, with sine and cosine as short polynomials of turns."""

from __future__ import annotations

import numba
import numpy as np

# minimax on -1/2 .. 1/2 turns: sin(2 pi t) = t P(t^2) to 1e-7, cos(2 pi t) = Q(t^2) to 8e-7
SIN = (6.283182819, -41.3414214, 81.59618387, -76.58010053, 41.20539485, -12.27126233)
COS = (0.9999992216, -19.73898252, 64.92872661, -85.27239696, 58.79403849, -21.07678176)
_S0, _S1, _S2, _S3, _S4, _S5 = (np.float32(c) for c in SIN)
_C0, _C1, _C2, _C3, _C4, _C5 = (np.float32(c) for c in COS)
_TURN = np.float32(2.0**-32)
BLOCK = 1024  # atoms whose coordinates stay in the first cache; partial sums beyond are float64
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def sum_whole(h, k, l, x, y, z, f, out):  # type: ignore[no-untyped-def]  # noqa: E741
    """Add ``sum_j f_j exp(2 pi i (h x_j + k y_j + l z_j))`` to `out`, complex128, for whole h, k, l.

    Coordinates are int32, 2^32 to the cell: products wrap around, so that the phase is reduced to one turn
    exactly.
    """
    for a in range(0, x.shape[0], BLOCK):
        b = min(a + BLOCK, x.shape[0])
        xs, ys, zs, fs = x[a:b], y[a:b], z[a:b], f[a:b]
        for i in range(h.shape[0]):
            hi, ki, li = h[i], k[i], l[i]
            re = np.float32(0)
            im = np.float32(0)
            for j in range(b - a):
                t = np.float32(np.int32(hi * xs[j] + ki * ys[j] + li * zs[j])) * _TURN
                s = t * t
                sine = t * (_S0 + s * (_S1 + s * (_S2 + s * (_S3 + s * (_S4 + s * _S5)))))
                cosine = _C0 + s * (_C1 + s * (_C2 + s * (_C3 + s * (_C4 + s * _C5))))
                re += fs[j] * cosine
                im += fs[j] * sine
            out[i] += complex(re, im)


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def sum_any(h, k, l, x, y, z, f, out):  # type: ignore[no-untyped-def]  # noqa: E741
    """Do what `sum_whole` does for any h, k, l; coordinates float64, phases reduced in double precision."""
    for a in range(0, x.shape[0], BLOCK):
        b = min(a + BLOCK, x.shape[0])
        xs, ys, zs, fs = x[a:b], y[a:b], z[a:b], f[a:b]
        for i in range(h.shape[0]):
            hi, ki, li = h[i], k[i], l[i]
            re = np.float32(0)
            im = np.float32(0)
            for j in range(b - a):
                phase = hi * xs[j] + ki * ys[j] + li * zs[j]
                t = np.float32(phase - np.rint(phase))
                s = t * t
                sine = t * (_S0 + s * (_S1 + s * (_S2 + s * (_S3 + s * (_S4 + s * _S5)))))
                cosine = _C0 + s * (_C1 + s * (_C2 + s * (_C3 + s * (_C4 + s * _C5))))
                re += fs[j] * cosine
                im += fs[j] * sine
            out[i] += complex(re, im)
