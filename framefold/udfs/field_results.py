"""From shifts per frame to results over the scan: fields, pictures, and checks that such UDFs share."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.com_fields import (
    apply_correction,
    curl_2d,
    divergence,
    fit_background,
    magnitude,
    scan_coordinates,
)

Regression: TypeAlias = Literal[-1, 0, 1] | npt.ArrayLike


def field_plots() -> tuple[PlotSpec, ...]:
    """Return the pictures of a vector field over the scan."""
    return (
        PlotSpec("hue-phase", ("field_y", "field_x"), title="field"),
        PlotSpec("image", ("divergence",), symmetric=True),
        PlotSpec("image", ("magnitude",)),
    )


def check_real_2d(udf: UDF) -> None:
    """Raise `UDFError` unless frames are real and 2-D."""
    name, sig = type(udf).__name__, tuple(udf.meta.dataset_shape.sig)
    if len(sig) != 2:
        raise UDFError(f"{name} needs 2-D frames, the signal shape is {sig}")
    if udf.meta.input_dtype.kind == "c":
        raise UDFError(
            f"{name} needs real frames, the data are {udf.meta.input_dtype}: "
            'take pre=[Apply(np.abs, dtype="float32")] or the like'
        )


def on_scan(udf: UDF, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return navigation rows in navigation shape, at least 2-D; NaN where nothing is merged."""
    nav = tuple(udf.meta.dataset_shape.nav)
    full = np.full((udf.meta.dataset_shape.nav.size, *rows.shape[1:]), np.nan)
    merged = udf.meta.get_valid_nav_mask()
    on_all = udf.meta.get_valid_nav_mask(full_nav=True)
    if merged is None or on_all is None:
        raise UDFError(f"{type(udf).__name__}.get_results needs a run")
    full[on_all] = rows[merged]
    return full.reshape((*(1,) * (2 - len(nav)), *nav, *rows.shape[1:]))


def masked(values: npt.NDArray[Any]) -> Any:
    """Return `values` with what is finite marked valid."""
    return UDF.with_mask(values, np.isfinite(values))


def field_results(
    shifts: npt.NDArray[np.float64], scan_rotation: float, flip_y: bool, regression: Any
) -> dict[str, Any]:
    """Return field, magnitude, divergence, curl and regression of raw shifts ``(..., rows, columns, 2)``."""
    fy, fx = apply_correction(shifts[..., 0], shifts[..., 1], scan_rotation, flip_y)
    field = np.stack([fy, fx], axis=-1)
    valid = np.isfinite(field).all(axis=-1)
    if np.ndim(regression) == 0:
        background = fit_background(field, valid, int(regression))
    else:
        background = np.asarray(regression, dtype=np.float64)
    if background.any():
        field = field - scan_coordinates(field.shape[:-1]) @ background
    fy, fx = field[..., 0], field[..., 1]
    # differences of neighbours know nothing of the position between them: without a value there is none
    div, curl = (np.where(valid, slope, np.nan) for slope in (divergence(fy, fx), curl_2d(fy, fx)))
    return {
        "field": masked(field),
        "field_y": masked(fy),
        "field_x": masked(fx),
        "magnitude": masked(magnitude(fy, fx)),
        "divergence": masked(div),
        "curl": masked(curl),
        "regression": background,
    }
