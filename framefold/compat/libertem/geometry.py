"""``libertem.utils``: polar coordinates, lattices and test data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.detector_masks import circular

Array = npt.NDArray[Any]


def make_cartesian(polar: Array) -> Array:
    """Return vectors ``(..., (r, phi))`` as ``(..., (y, x))``."""
    polar = np.asarray(polar)
    return np.stack([polar[..., 0] * np.sin(polar[..., 1]), polar[..., 0] * np.cos(polar[..., 1])], axis=-1)


def make_polar(cartesian: Array) -> Array:
    """Return vectors ``(..., (y, x))`` as ``(..., (r, phi))``."""
    yx = np.asarray(cartesian)
    return np.stack([np.linalg.norm(yx, axis=-1), np.arctan2(yx[..., 0], yx[..., 1])], axis=-1)


def rotate_rad(y: Any, x: Any, radians: float) -> tuple[Any, Any]:
    """Return vectors turned by an angle in rad: x towards y."""
    c, s = math.cos(radians), math.sin(radians)
    return x * s + y * c, x * c - y * s


def rotate_deg(y: Any, x: Any, degrees: float) -> tuple[Any, Any]:
    """Return vectors turned by an angle in degrees."""
    return rotate_rad(y, x, math.pi / 180 * degrees)


def regularize_indices(indices: Array) -> Array:
    """Return lattice indices as ``(n, 2)``, from that or from ``numpy.mgrid``."""
    indices = np.asarray(indices)
    if indices.ndim == 3 and indices.shape[0] == 2:
        indices = indices.T.reshape((-1, 2))  # the second axis is the slow one
    if indices.ndim != 2 or indices.shape[1] != 2:
        raise ValueError(f"indices of shape {indices.shape} are neither (n, 2) nor (2, h, k)")
    return indices


def calc_coords(zero: Array, a: Array, b: Array, indices: Array) -> Array:
    """Return ``zero + i a + j b`` for indices ``(n, 2)``."""
    return np.asarray(zero) + np.asarray(indices) @ np.stack([a, b])


def within_frame(peaks: Array, r: float, fy: int, fx: int) -> npt.NDArray[np.bool_]:
    """Tell which peaks keep a distance `r` from the border of a frame."""
    return np.all((peaks >= r) & (peaks < np.array([fy, fx]) - r), axis=-1)


def frame_peaks(
    fy: int, fx: int, zero: Array, a: Array, b: Array, r: float, indices: Array
) -> tuple[Array, Array]:
    """Return indices and positions of the lattice peaks inside a frame."""
    indices = regularize_indices(indices)
    peaks = calc_coords(zero, a, b, indices)
    inside = within_frame(peaks, r, fy, fx)
    return indices[inside], peaks[inside]


def gradient_data(nav_dims: tuple[int, ...], sig_dims: tuple[int, ...]) -> Array:
    """Return float32 data that grow linearly from 5 to 30."""
    n = math.prod(int(v) for v in (*nav_dims, *sig_dims))
    return np.linspace(5, 30, num=n, dtype=np.float32).reshape((*nav_dims, *sig_dims))


def exclude_pixels(sig_dims: tuple[int, ...], num_excluded: int, rng: Any = None) -> Array | None:
    """Return random pixels ``(axes, n)`` whose neighbours are all inside the frame and not excluded.

    Raises
    ------
    ValueError
        If not so many can be found.
    """
    if num_excluded == 0:
        return None
    rng = np.random.default_rng() if rng is None else rng
    free = np.zeros(sig_dims, dtype=bool)
    free[tuple(slice(1, -1) for _ in sig_dims)] = True
    chosen: list[Array] = []
    while len(chosen) < num_excluded:
        places = np.argwhere(free)
        if not len(places):
            raise ValueError(f"frames of shape {sig_dims} have no room for {num_excluded} lone pixels")
        pixel = places[rng.integers(len(places))]
        chosen.append(pixel)
        free[tuple(slice(p - 1, p + 2) for p in pixel)] = False
    return np.array(chosen).T


def cbed_frame(
    fy: int = 128, fx: int = 128, zero: Any = None, a: Any = None, b: Any = None, indices: Any = None,
    radius: float = 4, all_equal: bool = False, margin: float | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return a frame ``(1, fy, fx)`` with soft disks on a lattice, their indices and positions."""
    zero = np.array((fy // 2, fx // 2) if zero is None else zero)
    a = np.array((fy // 8, 0) if a is None else a)
    b = make_cartesian(make_polar(a) - np.array((0, np.pi / 2))) if b is None else np.array(b)
    wanted = np.mgrid[-10:11, -10:11] if indices is None else indices
    found, peaks = frame_peaks(fy, fx, zero, a, b, radius if margin is None else margin, wanted)
    distance = np.linalg.norm(peaks - zero, axis=-1)
    brightest = max(distance.max() + 1, len(peaks) + 1)
    data = np.zeros((1, fy, fx), dtype=np.float32)
    for i, (y, x) in enumerate(peaks):
        weight = 1 if all_equal else max(1, brightest - distance[i] + i)
        data += circular(x, y, fx, fy, radius, antialiased=True) * weight
    return data, found, peaks
