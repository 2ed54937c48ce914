"""Structure factors of any set of atoms at any reciprocal points."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.kernels_fhkl import sum_any, sum_whole

Method = Literal["direct", "nufft", "auto"]
# beyond this many reflection-atoms, and for many reflections, the fast transform wins where it is installed
NUFFT_ABOVE = 2e11
MAX_INDEX = 2**15


def structure_factors(
    h: npt.ArrayLike,
    k: npt.ArrayLike,
    l: npt.ArrayLike,  # noqa: E741  # Miller's letter
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    z: npt.ArrayLike,
    occ: npt.ArrayLike | None = None,
    f: npt.ArrayLike | None = None,
    *,
    method: Method = "auto",
    threads: int = 0,
) -> npt.NDArray[np.complex128]:
    """Return ``F(hkl) = sum_j f_j occ_j exp(2 pi i (h x_j + k y_j + l z_j))``.

    Error below 1e-5 of the root of the sum of squares of ``f occ``, a typical modulus, for some 10 000 atoms:
    terms are single precision, sums over blocks double.

    Parameters
    ----------
    h, k, l
        Reciprocal points, any shape, whole numbers or not (Bragg peaks and what lies between).
    x, y, z
        Fractional coordinates of the atoms, 1-D.
    occ, f
        Occupation and scattering factor of each atom, `f` also complex; None: 1.
    method
        ``"direct"``; ``"nufft"``: fast transform by the finufft library, time ~ atoms + points instead of
        their product; ``"auto"``: the latter for large problems where it is installed.
    threads
        0: all cores.

    Raises
    ------
    DataError
        For shapes that do not fit, values that are not finite, or ``method="nufft"`` without finufft.

    Examples
    --------
    >>> abs(structure_factors([0, 1, 2], 0, 0, [0, 0.5], [0, 0], [0, 0])).round(4).tolist()
    [2.0, 0.0, 2.0]
    """
    points = [np.asarray(a) for a in (h, k, l)]
    try:
        points = list(np.broadcast_arrays(*points))
    except ValueError as exc:
        raise DataError(f"h, k, l have shapes {[a.shape for a in points]}, which do not fit") from exc
    shape = points[0].shape
    points = [np.ascontiguousarray(a).reshape(-1) for a in points]
    atoms = [np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (x, y, z)]
    if len({a.shape for a in atoms}) != 1 or atoms[0].ndim != 1:
        raise DataError(f"x, y, z are 1-D and equally long, got shapes {[a.shape for a in atoms]}")
    if not all(np.isfinite(a).all() for a in [*points, *atoms]):
        raise DataError("h, k, l, x, y, z must be finite")
    weight = _weights(len(atoms[0]), occ, f)
    if method not in ("direct", "nufft", "auto"):
        raise DataError(f"method={method!r} is not 'direct', 'nufft' or 'auto'")
    large = len(points[0]) * len(atoms[0]) > NUFFT_ABOVE and len(points[0]) > 10_000
    if method == "nufft" or (method == "auto" and large and _has_finufft()):
        return _fast(points, atoms, weight).reshape(shape)
    parts = [weight.real] if weight.dtype.kind != "c" else [weight.real, weight.imag]
    sums = [_direct(points, atoms, np.ascontiguousarray(p, dtype=np.float32), threads) for p in parts]
    return (sums[0] if len(sums) == 1 else sums[0] + 1j * sums[1]).reshape(shape)


def _weights(n: int, occ: npt.ArrayLike | None, f: npt.ArrayLike | None) -> npt.NDArray[Any]:
    weight = np.ones(n)
    for name, given in (("occ", occ), ("f", f)):
        if given is not None:
            values = np.asarray(given)
            if values.shape not in ((), (n,)):
                raise DataError(f"{name} has shape {values.shape}, there are {n} atoms")
            weight = weight * values
    if not np.isfinite(weight).all():
        raise DataError("occ and f must be finite")
    return weight


def _direct(
    points: list[npt.NDArray[Any]],
    atoms: list[npt.NDArray[np.float64]],
    f: npt.NDArray[np.float32],
    threads: int,
) -> npt.NDArray[np.complex128]:
    whole = all(np.array_equal(a, np.rint(a)) and np.abs(a).max(initial=0) < MAX_INDEX for a in points)
    turns: list[Any]
    places: list[Any]
    if whole:
        # 2^-33 turns of rounding times an index below 2^15: 4e-6 turns at worst
        turns = [np.rint((a - np.floor(a)) * 2.0**32).astype(np.int64).astype(np.int32) for a in atoms]
        places = [a.astype(np.int32) for a in points]
        kernel: Any = sum_whole
    else:
        turns, places = atoms, [a.astype(np.float64) for a in points]
        kernel = sum_any
    out = np.zeros(len(points[0]), dtype=np.complex128)
    n = min(threads or os.cpu_count() or 1, max(1, len(out) * len(f) // 2**18))
    borders = np.linspace(0, len(out), n + 1).astype(int).tolist()
    jobs = [slice(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True) if b > a]

    def work(part: slice) -> None:
        kernel(*(p[part] for p in places), *turns, f, out[part])

    if len(jobs) < 2:
        for part in jobs:
            work(part)
    else:
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(work, jobs))
    return out


def structure_factors_reference(h: Any, k: Any, l: Any, x: Any, y: Any, z: Any, weight: Any) -> Any:  # noqa: E741
    """Return structure factors by a loop over reflections, for 1-D arguments."""
    return np.array(
        [(weight * np.exp(2j * np.pi * (a * x + b * y + c * z))).sum() for a, b, c in zip(h, k, l)]
    )


def _has_finufft() -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec("finufft") is not None


def _fast(
    points: list[npt.NDArray[Any]], atoms: list[npt.NDArray[np.float64]], weight: npt.NDArray[Any]
) -> npt.NDArray[np.complex128]:
    """Return structure factors by non-uniform fast Fourier transforms: type 1 for a full box, else type 3."""
    try:
        import finufft  # noqa: PLC0415  # optional
    except ImportError as exc:
        raise DataError("method='nufft' needs finufft: pip install 'framefold[cdi]'") from exc
    values = weight.astype(np.complex128)
    whole = all(np.array_equal(a, np.rint(a)) for a in points)
    angles = [2 * np.pi * (a - np.rint(a)) if whole else 2 * np.pi * a for a in atoms]
    if whole:
        reach = [int(np.abs(a).max(initial=0)) for a in points]
        box = tuple(2 * r + 1 for r in reach)
        if np.prod(box, dtype=np.float64) < 4 * len(points[0]) + 1e6:
            full = finufft.nufft3d1(*angles, values, box, eps=1e-7, isign=1)
            index = tuple(a.astype(np.int64) + r for a, r in zip(points, reach, strict=True))
            return np.asarray(full[index])
    targets = [a.astype(np.float64) for a in points]
    return np.asarray(finufft.nufft3d3(*angles, values, *targets, eps=1e-7, isign=1))
