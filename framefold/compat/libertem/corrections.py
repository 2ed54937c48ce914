"""LiberTEM's corrections: `CorrectionSet`, the array function `correct`, and 2 x 2 coordinate matrices."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.corrections import Corrections
from framefold.udfcore.shapes import Slice

Array = npt.NDArray[Any]


class CorrectError(Exception):
    """The buffer cannot be corrected as asked."""


class RepairValueError(ValueError):
    """An excluded pixel has no good neighbour."""


class RepairDescriptor:
    """For each excluded pixel its good neighbours, as flat indices.

    Parameters
    ----------
    sig_shape
        Signal shape.
    excluded_pixels
        Integers ``(sig_dims, n)``, or None.
    allow_empty
        Leave pixels without a good neighbour as they are, instead of an error.

    Raises
    ------
    RepairValueError
        If a pixel has no good neighbour.
    """

    def __init__(
        self, sig_shape: tuple[int, ...], excluded_pixels: Any = None, allow_empty: bool = False
    ) -> None:
        sig = tuple(int(n) for n in sig_shape)
        pixels = (
            np.zeros((len(sig), 0), np.intp)
            if excluded_pixels is None
            else np.array(excluded_pixels, np.intp)
        )
        self.exclude_flat = np.asarray(np.ravel_multi_index(tuple(pixels), sig), dtype=np.intp).reshape(-1)
        bad = set(self.exclude_flat.tolist())
        around = [o for o in itertools.product((-1, 0, 1), repeat=len(sig)) if any(o)]
        found: list[list[int]] = []
        for pixel in pixels.T:
            near = [tuple(int(p) + d for p, d in zip(pixel, o, strict=True)) for o in around]
            inside = [c for c in near if all(0 <= v < n for v, n in zip(c, sig, strict=True))]
            flat = [int(np.ravel_multi_index(c, sig)) for c in inside]
            found.append([f for f in flat if f not in bad])
        self.repair_counts = np.array([len(f) for f in found], dtype=np.intp)
        self.repair_flat = np.zeros((len(found), 3 ** len(sig) - 1), dtype=np.intp)
        for row, flat in zip(self.repair_flat, found, strict=True):
            row[: len(flat)] = flat
        self.check_empty_repairs(allow_empty)

    def empty_repairs(self) -> npt.NDArray[np.intp]:
        """Return the numbers of pixels without a good neighbour."""
        return np.argwhere(self.repair_counts == 0)

    def check_empty_repairs(self, allow_empty: bool) -> None:
        """Raise `RepairValueError` if there are such pixels and they are not allowed."""
        empty = self.empty_repairs().reshape(-1)
        if len(empty) and not allow_empty:
            raise RepairValueError(f"excluded pixels without a good neighbour: numbers {empty.tolist()}")


class CorrectionSet:
    """Dark frame, gain and excluded pixels under LiberTEM's name; the engine's form is `engine`.

    Parameters
    ----------
    dark, gain
        Arrays of signal shape, or None; the gain multiplies.
    excluded_pixels
        Sparse or dense array of signal shape, not zero where a pixel is bad.
    allow_empty
        Accept excluded pixels whose eight neighbours are all bad too.
    """

    def __init__(
        self, dark: Any = None, gain: Any = None, excluded_pixels: Any = None, allow_empty: bool = False
    ) -> None:
        self._dark = dark
        self._gain = gain
        self._allow_empty = allow_empty
        pixels = None if excluded_pixels is None else _coo(excluded_pixels)
        self._excluded_pixels = pixels
        if self._excluded_pixels is not None and not allow_empty:
            RepairDescriptor(self._excluded_pixels.shape, self._excluded_pixels.coords)

    def get_dark_frame(self) -> Any:
        """Return the dark frame or None."""
        return self._dark

    def get_gain_map(self) -> Any:
        """Return the gain or None."""
        return self._gain

    def get_excluded_pixels(self) -> Any:
        """Return the excluded pixels as ``sparse.COO``, or None."""
        return self._excluded_pixels

    def have_corrections(self) -> bool:
        """Tell whether there is anything to correct."""
        return any(c is not None for c in (self._dark, self._gain, self._excluded_pixels))

    @property
    def engine(self) -> Corrections | None:
        """The same as framefold's value object, or None if there is nothing to correct."""
        if not self.have_corrections():
            return None
        bad = self._excluded_pixels
        bad = None if bad is None or not bad.nnz else bad
        return Corrections(
            self._dark, self._gain, None if bad is None else np.asarray(bad.todense(), dtype=bool)
        )

    def apply(self, data: Array, tile_slice: Slice) -> None:
        """Correct `data`, the values of `tile_slice`, in place."""
        if not self.have_corrections():
            return
        part = tile_slice.get(sig_only=True)
        bad = self._excluded_pixels
        correct(
            buffer=data,
            dark_image=None if self._dark is None else self._dark[part],
            gain_map=None if self._gain is None else self._gain[part],
            excluded_pixels=None if bad is None else bad[part].coords,
            inplace=True,
            sig_shape=tuple(tile_slice.shape.sig),
            allow_empty=self._allow_empty,
        )


def _coo(pixels: Any) -> Any:
    import sparse  # noqa: PLC0415  # slow to import

    if isinstance(pixels, sparse.COO):
        return pixels
    if hasattr(pixels, "todense") or hasattr(pixels, "toarray"):
        pixels = pixels.toarray() if hasattr(pixels, "toarray") else pixels.todense()
    return sparse.COO.from_numpy(np.asarray(pixels))


def correct(
    buffer: Array,
    dark_image: Any = None,
    gain_map: Any = None,
    excluded_pixels: Any = None,
    repair_descriptor: RepairDescriptor | None = None,
    inplace: bool = False,
    sig_shape: tuple[int, ...] | None = None,
    allow_empty: bool = False,
) -> Array:
    """Return ``(buffer - dark_image) * gain_map`` with excluded pixels repaired.

    Parameters
    ----------
    buffer
        ``(*nav, *sig)``.
    dark_image, gain_map
        Arrays of signal shape.
    excluded_pixels
        Integers ``(sig_dims, n)``.
    repair_descriptor
        Instead of `excluded_pixels`, to reuse the search for neighbours.
    inplace
        Write into `buffer`, which must be float or complex and C-contiguous.
    sig_shape
        Needed only if neither dark frame nor gain is given.
    allow_empty
        Leave excluded pixels without a good neighbour.

    Raises
    ------
    CorrectError
        If `buffer` is not C-contiguous.
    TypeError
        If integers should be corrected in place.
    """
    for given in (dark_image, gain_map):
        if given is not None:
            sig_shape = given.shape
    if sig_shape is None:
        raise ValueError("sig_shape is needed where neither dark_image nor gain_map is given")
    if inplace and buffer.dtype.kind not in "fc":
        raise TypeError(f"{buffer.dtype} cannot be corrected in place: float or complex data are needed")
    if not buffer.flags.c_contiguous and (inplace or np.isfortran(buffer)):
        raise CorrectError("the buffer must be C-contiguous")
    if repair_descriptor is not None and excluded_pixels is not None:
        raise ValueError("give excluded_pixels or repair_descriptor, not both")
    out = buffer if inplace else np.array(buffer, dtype=np.result_type(np.float32, buffer), order="C")
    size = math.prod(int(n) for n in sig_shape)
    flat = out.reshape((-1, size))
    # in the precision of the data, as the engine does
    if dark_image is not None:
        flat -= np.asarray(dark_image, dtype=flat.real.dtype).reshape(-1)
    if gain_map is not None:
        flat *= np.asarray(gain_map, dtype=flat.real.dtype).reshape(-1)
    if repair_descriptor is None:
        repair_descriptor = RepairDescriptor(sig_shape, excluded_pixels, allow_empty)
    else:
        repair_descriptor.check_empty_repairs(allow_empty)
    d = repair_descriptor
    for pixel, near, n in zip(d.exclude_flat, d.repair_flat, d.repair_counts, strict=True):
        if n:
            flat[:, pixel] = flat[:, near[:n]].mean(axis=1)
    return out


def correct_dot_masks(
    masks: Any, gain_map: Array, excluded_pixels: Any = None, allow_empty: bool = False
) -> Any:
    """Return masks whose products with raw frames equal those of `masks` with corrected frames.

    Parameters
    ----------
    masks
        ``(n, *sig)``, dense or pydata sparse; sparse stays sparse.
    gain_map
        Signal shape.
    excluded_pixels
        Integers ``(sig_dims, n)``.
    """
    sparse_in = hasattr(masks, "todense")
    flat = np.asarray(masks.todense() if sparse_in else masks).reshape((-1, gain_map.size))
    flat = flat.astype(np.result_type(flat, gain_map))
    if excluded_pixels is not None:
        d = RepairDescriptor(gain_map.shape, excluded_pixels, allow_empty)
        weights = flat[:, d.exclude_flat]
        flat[:, d.exclude_flat[d.repair_counts > 0]] = 0
        for i, (near, n) in enumerate(zip(d.repair_flat, d.repair_counts, strict=True)):
            if n:
                flat[:, near[:n]] += weights[:, i : i + 1] / n
    out = (flat * gain_map.reshape(-1)).reshape(masks.shape)
    return _coo(out) if sparse_in else out


# --- coordinate matrices, acting on (y, x) -----------------------------------------------------------


def identity() -> Array:
    """Return the matrix that changes nothing."""
    return np.eye(2)


def scale(factor: float) -> Array:
    """Return the matrix that scales by `factor`."""
    return np.eye(2) * factor


def rotate(radians: float) -> Array:
    """Return the matrix of a rotation by an angle in rad."""
    c, s = math.cos(radians), math.sin(radians)
    return np.array([[c, s], [-s, c]])


def rotate_deg(degrees: float) -> Array:
    """Return the matrix of a rotation by an angle in degrees."""
    return rotate(math.pi / 180 * degrees)


def flip_y() -> Array:
    """Return the matrix that inverts y."""
    return np.diag([-1, 1])


def flip_x() -> Array:
    """Return the matrix that inverts x."""
    return np.diag([1, -1])


def scale_rotate_flip_y(mat: Array) -> tuple[float, float, bool]:
    """Return scale, angle in rad and whether y is inverted of ``scale @ rotate @ flip_y``.

    Raises
    ------
    ValueError
        If the matrix scales y and x differently, or shears.
    """
    size_y, size_x = np.linalg.norm(mat, axis=0)
    if not np.allclose(size_y, size_x):
        raise ValueError(f"the matrix scales y by {size_y} and x by {size_x}: the two differ")
    unit = mat / size_y
    determinant = float(np.linalg.det(unit))
    if not np.allclose(abs(determinant), 1.0):
        raise ValueError(f"the matrix shears: its determinant is {determinant} after scaling")
    turned = unit @ np.diag([-1.0, 1.0]) if determinant < 0 else unit
    return float(size_y), float(np.arctan2(turned[0, 1], turned[0, 0])), determinant < 0
