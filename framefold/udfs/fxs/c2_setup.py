"""What follows from the parameters of `C2UDF` before a run: meaning of counts, layout of sums, checks."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfs.fxs.correlator import Layout
from framefold.udfs.fxs.orders import choose_orders
from framefold.udfs.fxs.pixels import PixelModel
from framefold.udfs.fxs.regrid import PolarOperator
from framefold.udfs.fxs.shots import ShotScale, check_window

Array = npt.NDArray[Any]


def pixel_model(params: Any, meta: Any) -> PixelModel:
    """Return what counts mean: the parameters, and the corrections of the run."""
    p = params
    model = p.pixels or PixelModel()
    mask = model.mask if p.mask is None or per_frame(p) else p.mask
    given = meta.corrections if meta is not None else None
    if given is not None:
        if given.excluded_pixels is not None:
            bad = _frame_of(given.excluded_mask(tuple(meta.dataset_shape.sig)), p.geometry.shape)
            mask = bad if mask is None else (np.asarray(mask) != 0) | bad
        model = replace(
            model,
            dark=model.dark if given.dark is None else _frame_of(given.dark, p.geometry.shape),
            gain=model.gain if given.gain is None else _frame_of(given.gain, p.geometry.shape),
        )
    return replace(model, mask=None if mask is None else _frame_of(mask, p.geometry.shape))


def per_frame(params: Any) -> bool:
    """Return whether bad pixels differ from frame to frame."""
    return isinstance(params.mask, str)


def layout_of(params: Any, operator: PolarOperator | None, n_classes: int) -> Layout:
    """Return what is summed."""
    p = params
    if operator is not None:
        weight = operator.weight
    elif p.mask is not None and not per_frame(p):
        bad = np.asarray(p.mask) != 0
        if bad.shape != p.grid.shape:
            raise DataError(f"the mask has shape {bad.shape}, polar frames {p.grid.shape}")
        weight = (~bad).astype(np.float32)
    else:
        weight = np.ones(p.grid.shape, np.float32)
    rings = weight[(weight > 0).any(axis=1)]
    holes = per_frame(p) or bool((rings != rings[:, :1]).any())
    orders = choose_orders(p.orders, p.grid, p.diameter, holes=holes)
    rows = tuple(sorted({p.grid.n_q // 4, p.grid.n_q // 2, 3 * p.grid.n_q // 4}))
    return Layout(
        weight, orders, n_classes * (2 if p.halves else 1), p.center == "ring", p.part, p.precision,
        p.accumulate, p.batch, rows, per_frame(p),
    )  # fmt: skip


def check_frames(params: Any, meta: Any) -> None:
    """Raise `DataError` where frames and parameters do not fit together."""
    p = params
    n_frames = meta.dataset_shape.nav.size
    sig = tuple(meta.dataset_shape.sig)
    expected = p.grid.shape if p.geometry is None else p.geometry.shape
    if _bare(sig) != _bare(expected):
        what = "the polar grid" if p.geometry is None else "the geometry"
        raise DataError(f"frames have shape {sig}, {what} has {expected}")
    if p.geometry is None and meta.corrections is not None:
        raise DataError("corrections= are for detector frames; polar frames are corrected already")
    if p.geometry is None and p.saturation is not None:
        raise DataError("saturation= is for detector frames, not for polar ones")
    if meta.input_dtype.kind == "c":
        raise DataError("frames are complex: correlations are made of intensities")
    (p.scale or ShotScale()).check(n_frames, p.grid.q)
    if p.hit_window is not None:
        check_window(p.hit_window, p.grid.q, "hit_window")
    if p.classes is not None and np.size(p.classes) != n_frames:
        raise DataError(f"classes has {np.size(p.classes)} values, the dataset {n_frames} frames")


def check_memory(layout: Layout, given: float | None) -> None:
    """Raise `UDFError` if sums and stacks take more bytes than allowed; None: half of the memory."""
    need = sum(sum(x.nbytes) for x in (layout, *layout.of_masks))
    limit = 0.5 * _memory() if given is None else given
    if need > limit:
        masks = ", and the same again for the masks of the frames" if layout.per_frame else ""
        raise UDFError(
            f"C2UDF needs {need / 1e6:.0f} MB in each process ({layout.nbytes[0] / 1e6:.0f} sums, "
            f"{layout.nbytes[1] / 1e6:.0f} stacks{masks}), allowed are {limit / 1e6:.0f}: use fewer rings, "
            "fewer orders (orders=, diameter=), halves=False, or raise memory_limit="
        )


def _frame_of(value: Any, shape: tuple[int, ...]) -> Array:
    """Return a frame in the shape of the geometry; streams of one module have an axis of length 1 more."""
    array = np.asarray(value)
    return array.reshape(shape) if array.ndim and array.squeeze().shape == _bare(shape) else array


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1."""
    return tuple(n for n in shape if n != 1)


def _memory() -> float:
    """Return the memory of the machine in bytes."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
