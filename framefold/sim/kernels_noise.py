"""Kernels for counting noise, reproducible frame by frame."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(nogil=True, cache=True)
def frame_seed(seed: int, frame: int) -> np.uint32:
    """Return a well-mixed 32-bit seed of run and frame (splitmix64, Steele et al. 2014)."""
    z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(frame) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint32((z ^ (z >> np.uint64(31))) & np.uint64(0xFFFFFFFF))


@numba.njit(nogil=True, cache=True)
def poisson_frames(expected: npt.NDArray[Any], seed: int, first: int, out: npt.NDArray[Any]) -> None:
    """Draw Poisson counts for `expected` ``(n, y, x)`` into `out`, same shape.

    The random numbers of a frame depend on `seed` and its index ``first + i`` only.
    """
    for n in range(expected.shape[0]):
        np.random.seed(frame_seed(seed, first + n))
        last, none = 0.0, 1.0
        for j in range(expected.shape[1]):
            for i in range(expected.shape[2]):
                mean = expected[n, j, i]
                if mean <= 0.0:
                    out[n, j, i] = 0
                elif mean > 12.0:
                    out[n, j, i] = np.random.poisson(mean)
                else:
                    # inversion: one random number; neighbours in the background share the exponential
                    if mean != last:
                        last, none = mean, math.exp(-mean)
                    u, p, k = np.random.random(), none, 0
                    while u > p and k < 100:
                        u -= p
                        k += 1
                        p *= mean / k
                    out[n, j, i] = k


@numba.njit(nogil=True, cache=True)
def normal_frames(shape: tuple[int, int, int], seed: int, first: int, out: npt.NDArray[Any]) -> None:
    """Fill `out` ``(n, y, x)`` with standard normal numbers, by seed and frame index."""
    for n in range(shape[0]):
        np.random.seed(frame_seed(seed, first + n))
        for j in range(shape[1]):
            for i in range(shape[2]):
                out[n, j, i] = np.random.standard_normal()
