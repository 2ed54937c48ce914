"""LiberTEM's `CoMUDF`: centre of mass of every frame, corrected, with the field's divergence and curl."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem import detector_masks as m
from framefold.compat.libertem.corrections import flip_y as flip_matrix
from framefold.compat.libertem.corrections import identity, rotate_deg
from framefold.compat.libertem.maskstack import MaskContainer
from framefold.compat.libertem.udf import UDF
from framefold.compat.libertem.udfs.masks import ApplyMasksEngine
from framefold.udfcore.buffers import BufferDecl

Array = npt.NDArray[Any]
_INNER = (slice(0, -1), slice(0, -1))  # gradients are one-sided at the border


class RegressionOptions(IntEnum):
    """What is subtracted from the field."""

    NO_REGRESSION = -1
    SUBTRACT_MEAN = 0
    SUBTRACT_LINEAR = 1


class CoMParams(NamedTuple):
    """Parameters of `CoMUDF`: see `CoMUDF.with_params`."""

    cy: float | None = None
    cx: float | None = None
    r: float = float("inf")
    ri: float | None = 0.0
    scan_rotation: float = 0.0
    flip_y: bool = False
    regression: Any = RegressionOptions.NO_REGRESSION


class GuessResult(NamedTuple):
    """What `guess_corrections` returns; its names are those of `CoMUDF.with_params`."""

    scan_rotation: int
    flip_y: bool
    cy: float
    cx: float


def center_shifts(
    img_sum: Array, img_y: Array, img_x: Array, ref_y: float, ref_x: float
) -> tuple[Array, Array]:
    """Return the centre of mass relative to a reference, (dy, dx); 0 where the sum is 0."""
    seen = img_sum != 0
    safe = np.where(seen, img_sum, np.ones_like(img_sum))
    return (
        np.where(seen, img_y / safe - img_sum.dtype.type(ref_y), 0).astype(img_sum.dtype),
        np.where(seen, img_x / safe - img_sum.dtype.type(ref_x), 0).astype(img_sum.dtype),
    )


def apply_correction(
    y_centers: Array, x_centers: Array, scan_rotation: float, flip_y: bool, forward: bool = True
) -> tuple[Array, Array]:
    """Return shifts with y inverted if `flip_y`, then turned by `scan_rotation` degrees; or the way back."""
    matrix = rotate_deg(scan_rotation) @ (flip_matrix() if flip_y else identity())
    if not forward:
        matrix = np.linalg.inv(matrix)
    (a, b), (c, d) = matrix
    return a * y_centers + b * x_centers, c * y_centers + d * x_centers


def divergence(y_centers: Array, x_centers: Array) -> Array:
    """Return the divergence of a field on the scan grid."""
    return np.gradient(y_centers, axis=0) + np.gradient(x_centers, axis=1)


def curl_2d(y_centers: Array, x_centers: Array) -> Array:
    """Return ``d y / d x - d x / d y`` of a field on the scan grid."""
    return np.gradient(y_centers, axis=1) - np.gradient(x_centers, axis=0)


def magnitude(y_centers: Array, x_centers: Array) -> Array:
    """Return the length of the vectors."""
    return np.sqrt(y_centers**2 + x_centers**2)


def coordinate_check(y_centers: Array, x_centers: Array, roi: Any = None) -> tuple[Array, Array]:
    """Return the RMS curl for 0 .. 359 degrees of rotation, without and with y inverted.

    Turning a field by an angle t turns its curl into ``cos(t) curl + sin(t) div``: three means are enough.
    """
    where = _INNER if roi is None else roi
    angles = np.deg2rad(np.arange(360))
    cos, sin = np.cos(angles), np.sin(angles)
    found = []
    for y in (y_centers, -np.asarray(y_centers)):
        curl, div = curl_2d(y, x_centers)[where], divergence(y, x_centers)[where]
        square = cos**2 * np.mean(curl**2) + 2 * cos * sin * np.mean(curl * div) + sin**2 * np.mean(div**2)
        found.append(np.sqrt(np.maximum(square, 0)))
    return found[0], found[1]


def guess_corrections(y_centers: Array, x_centers: Array, roi: Any = None) -> GuessResult:
    """Return rotation, flip and centre for which the field is free of curl and its mean is zero.

    Of the two angles 180 degrees apart that one is taken for which strong divergence is negative, as at
    atom columns.
    """
    where = _INNER if roi is None else roi
    straight, flipped = coordinate_check(y_centers, x_centers, roi)
    flip = bool(flipped.min() < straight.min())
    angle = int(np.argmin(flipped if flip else straight))
    div = divergence(*apply_correction(y_centers, x_centers, angle, flip))[where]
    span = max(-div.min(), div.max())
    counts, _ = np.histogram(div, bins=5, range=(-span, span))
    if counts[0] < counts[-1]:
        angle += 180
    angle -= 360 * (angle > 180)
    return GuessResult(angle, flip, float(np.mean(y_centers[where])), float(np.mean(x_centers[where])))


class CoMUDF(UDF):
    """Centre of mass of every frame.

    Buffers: ``raw_com`` (y, x) in px of the detector, ``raw_shifts`` relative to the centre, ``field`` (y, x)
    after all corrections, ``field_y``, ``field_x``, ``magnitude``, ``divergence``, ``curl``, ``regression``.

    Parameters
    ----------
    com_params
        See `with_params`.
    """

    def __init__(self, com_params: CoMParams = CoMParams()) -> None:  # noqa: B008  # a value
        super().__init__(com_params=com_params)

    @classmethod
    def with_params(
        cls, *, cy: float | None = None, cx: float | None = None, r: float = float("inf"), ri: float = 0.0,
        scan_rotation: float = 0.0, flip_y: bool = False, regression: Any = RegressionOptions.NO_REGRESSION,
    ) -> CoMUDF:  # fmt: skip
        """Return a UDF.

        Parameters
        ----------
        cy, cx
            Centre, px; default the middle of the frame.
        r, ri
            Outer and inner radius of the mask, px.
        scan_rotation, flip_y
            Angle in degrees between detector and scan, and whether y is inverted.
        regression
            -1: nothing, 0: the mean, 1: mean and linear part are subtracted; or a matrix (3, 2) to subtract.
        """
        if ri >= r:
            raise ValueError(f"the inner radius ri={ri} must be smaller than the outer radius r={r}")
        return cls(CoMParams(cy, cx, r, ri, scan_rotation, flip_y, regression))

    def get_backends(self) -> tuple[str, ...]:
        """All backends."""
        return self.BACKEND_ALL

    def get_params(self) -> CoMParams:
        """Return the parameters with the centre filled in."""
        p, sig = self.params.com_params, tuple(self.meta.dataset_shape.sig)
        return p._replace(cy=sig[0] // 2 if p.cy is None else p.cy, cx=sig[1] // 2 if p.cx is None else p.cx)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare the buffers."""
        dtype = np.result_type(self.meta.input_dtype, np.float32)
        found = {"raw_mask_result": self.buffer("nav", (3,), dtype, where="device", use="private")}
        for name in ("raw_com", "raw_shifts", "field"):
            found[name] = self.buffer("nav", (2,), dtype, use="result_only")
        for name in ("field_y", "field_x", "magnitude", "divergence", "curl"):
            found[name] = self.buffer("nav", (), dtype, use="result_only")
        found["regression"] = self.buffer("single", (3, 2), np.float64, use="result_only")
        return found

    def get_task_data(self) -> dict[str, Any]:
        """Make the masks: disk or ring, times 1, y and x."""
        sig, nav = tuple(self.meta.dataset_shape.sig), tuple(self.meta.dataset_shape.nav)
        if len(sig) != 2 or len(nav) != 2:
            raise ValueError(f"CoMUDF needs two navigation and two signal axes, not shapes {nav} and {sig}")
        p = self.get_params()

        def stack() -> Array:
            if p.ri is None or np.isclose(p.ri, 0.0):
                area = m.circular(p.cx, p.cy, sig[1], sig[0], p.r)
            else:
                area = m.ring(p.cx, p.cy, sig[1], sig[0], p.r, p.ri)
            return np.stack([area, m.gradient_y(sig[1], sig[0]) * area, m.gradient_x(sig[1], sig[0]) * area])

        cupy = self.meta.array_backend in self.CUPY_BACKENDS
        masks = MaskContainer(
            stack,
            np.float32,
            use_sparse=False,
            count=3,
            backend=self.BACKEND_CUPY if cupy else self.BACKEND_NUMPY,
        )
        return {"com_params": p, "engine": ApplyMasksEngine(masks, self.meta)}

    def process_tile(self, tile: Any) -> None:
        """Add sum and first moments."""
        found = self.task_data.engine.process_tile(tile)
        self.results.raw_mask_result += self.forbuf(found, self.results.raw_mask_result)

    def get_field_results(self, field_y: Array, field_x: Array) -> dict[str, Array]:
        """Return what is derived from the field; meant to be extended."""
        return {
            "magnitude": magnitude(field_y, field_x),
            "divergence": divergence(field_y, field_x),
            "curl": curl_2d(field_y, field_x),
        }

    def get_regression(self, field: Array, valid_mask: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the matrix (3, 2) to subtract and the terms ``(1, y, x)`` of each position."""
        terms = np.stack([np.ones(field.shape[:-1]), *np.indices(field.shape[:-1])], axis=-1)
        wanted = self.get_params().regression
        matrix = np.zeros((3, 2))
        if not np.isscalar(wanted) and not isinstance(wanted, int):
            given = np.array(wanted)
            if given.shape != (3, 2):
                raise ValueError(f"regression {wanted!r} is neither -1, 0, 1 nor of shape (3, 2)")
            matrix[:] = given
        elif wanted == RegressionOptions.SUBTRACT_MEAN:
            matrix[0] = field[valid_mask].mean(axis=0)
        elif wanted == RegressionOptions.SUBTRACT_LINEAR:
            matrix[:] = np.linalg.lstsq(terms[valid_mask], field[valid_mask], rcond=None)[0]
        elif wanted != RegressionOptions.NO_REGRESSION:
            raise ValueError(f"regression {wanted!r} is neither -1, 0, 1 nor of shape (3, 2)")
        return matrix, terms

    def get_results(self) -> dict[str, Array]:
        """Turn moments into the field; gradients need the whole scan, so the ROI is applied at the end."""
        p = self.get_params()
        moments = self.results.get_buffer("raw_mask_result").data
        nav = tuple(self.meta.dataset_shape.nav)
        assert p.cy is not None
        assert p.cx is not None
        shifts = center_shifts(moments[..., 0], moments[..., 1], moments[..., 2], p.cy, p.cx)
        raw_shifts = np.stack(shifts, axis=-1)
        field = np.stack(apply_correction(*shifts, p.scan_rotation, p.flip_y), axis=-1)
        field = field.astype(np.result_type(field, np.float64))
        valid = np.asarray(self.meta.get_valid_nav_mask(full_nav=True)).reshape(nav)
        matrix, terms = self.get_regression(field, valid)
        field[valid] -= terms[valid] @ matrix
        found = {
            "raw_shifts": raw_shifts, "raw_com": raw_shifts + np.array([p.cy, p.cx], raw_shifts.dtype),
            "field": field,
            "field_y": field[..., 0], "field_x": field[..., 1],
            **self.get_field_results(field[..., 0], field[..., 1]),
        }  # fmt: skip
        roi = np.ones(nav, bool) if self.meta.roi is None else self.meta.roi
        kinds = {name: decl.kind for name, decl in self.get_result_buffers().items()}
        out = {name: v[roi] if kinds[name] == "nav" else v for name, v in found.items()}
        return {**out, "regression": matrix}
