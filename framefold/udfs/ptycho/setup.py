"""From a data set and what the user says to everything that a reconstruction needs; nothing is loaded yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.iterative import DataInfo
from framefold.udfs.ptycho import diagnose, initial, refine
from framefold.udfs.ptycho.frame_window import FrameWindow, choose_window, in_corners
from framefold.udfs.ptycho.model import Geometry
from framefold.udfs.ptycho.orientation import candidates, oriented
from framefold.udfs.ptycho.plausible import frames_overlap, frames_touch, look_like_far_field
from framefold.udfs.ptycho.positions import (
    Canvas,
    Flip,
    ScanPositions,
    hilbert_order,
    make_canvas,
)
from framefold.udfs.ptycho.unmeasured import find_unmeasured, pedestal_of, valid_mean

Array = npt.NDArray[Any]
MOSTLY_BAD = 0.95  # of the pixels: no detector, but a mask turned round
FINE = 1e-3  # of E, from counting
INTEGER = 0.02  # px: positions closer than this to whole pixels are taken as whole


@dataclass(frozen=True, eq=False)
class Setup:
    """What a reconstruction starts from.

    Attributes
    ----------
    geometry
        Complete.
    window
        Which part of the detector is used.
    canvas
        The object's grid; `corner` and `bank` in the order of the data set.
    order
        Order in which frames are dealt to lanes.
    corner, bank
        As in `canvas`, in that order.
    pixels
        float64 ``(frames, 2)``: positions (y, x) in object pixels, in the order of the data set.
    good
        Bool, as frames lie in memory.
    probe, object
        Starting values, complex128 ``(M, ny, nx)`` and ``(L, Y, X)``.
    background
        Known background, counts, as frames lie in memory.
    counts
        Mean counts per frame.
    pixel_size
        (y, x) of the object, m.
    notes
        Sentences about what was found and chosen.
    warnings
        Sentences about what may be wrong.
    free
        Bool ``(sets, ny, nx)``, as frames lie in memory: pixels that work, but are kept from the fit; the set
        goes by the frame's place in `order`. None: none.
    limit
        Counts from here on are not measured.
    orientations
        Flips of the positions to choose from, see `find_orientation`; empty: as they are.
    noise
        E that counting noise leaves; NaN: the data are no counts.
    reach
        How far positions may be moved, px.
    pedestal
        Added to the counts, and part of `background`.
    """

    geometry: Geometry
    window: FrameWindow
    canvas: Canvas
    order: npt.NDArray[np.int64]
    corner: npt.NDArray[np.int64]
    bank: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.float64]
    good: npt.NDArray[np.bool_]
    probe: Array
    object: Array
    background: Array
    counts: float
    pixel_size: tuple[float, float]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    free: npt.NDArray[np.bool_] | None = None
    limit: float = np.inf
    orientations: tuple[Flip, ...] = ()
    noise: float = np.nan
    reach: float = 0.0
    pedestal: float = 0.0


def prepare(info: DataInfo, params: Any) -> Setup:
    """Return the setup of a reconstruction.

    Parameters
    ----------
    info
        Which frames there are, and a sample of them.
    params
        The parameters of `Ptychography`.

    Raises
    ------
    DataError
        Saying what is missing or wrong, and what to give.
    """
    sample = np.asarray(info.sample)
    if sample.ndim != 3 or sample.dtype.kind not in "biuf":
        raise DataError(
            f"ptychography needs real frames of two axes, these are {sample.dtype} of shape "
            f"{sample.shape[1:]}: another dataset of the file may hold the frames (ctx.load(..., key=) ; "
            "--key)"
        )
    metadata = info.dataset.metadata
    sig = sample.shape[1:]
    geometry = (params.geometry or Geometry()).completed(metadata)
    notes: list[str] = []
    warnings: list[str] = []
    good = _good(info, params.mask, sig)
    notes += [metadata.raw["mask_note"]] if "mask_note" in metadata.raw else []
    unmeasured = find_unmeasured(sample, good, params.saturation)
    notes += unmeasured.notes
    good &= ~unmeasured.bad
    if not good.any():
        raise DataError("no pixel is left: " + "; ".join(unmeasured.notes))
    warnings += diagnose.unusable_frames(sample, info.sample_ids)
    valid = (sample < unmeasured.limit) & good
    totals = np.where(valid, sample, 0).sum(axis=(1, 2), dtype=np.float64)
    lit = sample[totals > diagnose.DARK * np.median(totals)]
    mean = valid_mean(lit if len(lit) else sample, good, unmeasured.limit)
    negative = float((sample[valid] < 0).mean())
    pedestal = pedestal_of(sample[valid])
    if pedestal:
        notes.append(
            f"{100 * negative:.2g} % of the values are negative, noise of the detector: {pedestal:.3g} is "
            "added to data and model alike"
        )
    elif negative:
        warnings.append(f"{100 * negative:.2g} % of the values are negative and taken as 0")
    asked = geometry.kind is None  # nobody said that it is the far field
    if asked:
        corner = params.centre == "corner" or (params.centre == "auto" and in_corners(mean, good))
        shifted = (np.fft.fftshift(mean), np.fft.fftshift(good)) if corner else (mean, good)
        look_like_far_field(*shifted)
        geometry = replace(geometry, kind="far")
    far = geometry.kind == "far"
    window, said = choose_window(mean, good, params.crop, params.centre, far=far)
    notes += said
    shape = window.shape
    size = geometry.pixel_size(shape)
    positions = params.positions
    if not isinstance(positions, ScanPositions):
        positions = ScanPositions(values=positions)
    nav = tuple(info.dataset.shape.nav)
    pixels, told = positions.pixels(metadata, nav, size)
    pixels = pixels[info.frame_ids]
    notes.append(told)
    frames_touch(pixels, shape, size)
    if far and asked:
        frames_overlap(pixels, shape)
    steps = _steps(params.subpixel, pixels)
    if params.refine_positions:
        if steps == 1 and params.subpixel != "auto":
            raise DataError(
                "refine_positions needs shifts below a pixel: leave subpixel at 'auto', or give a number"
            )
        # many counts see the rounding of positions
        noise = diagnose.noise_error(lit, good, unmeasured.limit)
        steps = max(steps, 8 if noise < FINE and params.subpixel == "auto" else 4)
    orientations = candidates(params)
    every = [oriented(pixels, size, flip) for flip in orientations or ("none",)]
    reach = refine.reach(params, pixels)
    canvas = make_canvas(np.concatenate(every), shape, steps, margin=max(8, int(np.ceil(reach)) + 2))
    canvas = replace(canvas, corner=canvas.corner[: len(pixels)], bank=canvas.bank[: len(pixels)])
    order = hilbert_order(canvas.corner)
    kept_good = window.cut(good[None])[0]
    kept_mean = window.cut(mean[None])[0]
    measured = float(kept_good.mean())
    if measured < 0.2:
        warnings.append(
            f"only {100 * measured:.0f} % of the pixels are measured: the result will be ambiguous"
        )
    if far and params.background is None:
        even = diagnose.even_background(kept_mean, kept_good)
        warnings += [even] if even else []
    grid = diagnose.regular_grid(pixels)
    if grid is not None:
        notes.append(grid)
    factor = geometry.factor(shape)
    counts = float((window.cut(mean[None])[0] * kept_good).sum())
    probe = _probe(params, kept_mean, kept_good, factor, counts, geometry, size, notes)
    rng = np.random.default_rng([int(params.seed), 0])
    obj = initial.start_object(params.object, params.object_modes, canvas.shape, rng)
    background = _background(params.background, kept_mean, kept_good, sig, window)
    return Setup(
        geometry, window, canvas, order, canvas.corner[order], canvas.bank[order], pixels, kept_good, probe,
        obj, background + pedestal, counts, size, tuple(notes),
        tuple(warnings), limit=unmeasured.limit, orientations=orientations,
        noise=diagnose.noise_error(lit, good, unmeasured.limit), reach=reach, pedestal=pedestal,
    )  # fmt: skip


def _good(info: DataInfo, mask: Any, sig: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    good = np.ones(sig, bool)
    for name, bad in (
        ("of the file", info.dataset.metadata.mask),
        ("of the corrections", info.excluded),
        ("given", mask),
    ):
        if bad is None:
            continue
        flags = np.asarray(bad)
        if flags.shape != tuple(sig):
            if name == "given":
                raise DataError(
                    f"mask of shape {flags.shape} for frames of {tuple(sig)}: True marks bad pixels"
                )
            continue  # transforms changed the frame: the file's mask went through none of them
        good &= ~flags.astype(bool)
        if name == "of the file" and flags.mean() > MOSTLY_BAD and not flags.all():
            raise DataError(
                f"the mask in the file marks {100 * flags.mean():.3g} % of the pixels as bad: it seems to be "
                "the other way round, True or 1 for good pixels; turn it round in the file"
            )
    if not good.any():
        raise DataError("all pixels are masked: True marks bad pixels, not good ones")
    return good


def _steps(subpixel: Any, pixels: npt.NDArray[np.float64]) -> int:
    if subpixel is None or subpixel is False:
        return 1
    if subpixel == "auto":
        rest = pixels - pixels[0]
        return 1 if np.abs(rest - np.rint(rest)).max() <= INTEGER else 4
    steps = int(subpixel)
    if not 1 <= steps <= 16:
        raise DataError(
            f"subpixel={subpixel!r}: steps per pixel from 1 to 16, 'auto', or None for whole pixels"
        )
    return steps


def _probe(
    params: Any, mean: Array, good: Array, factor: Array | None, counts: float, geometry: Geometry,
    size: tuple[float, float], notes: list[str],
) -> Array:  # fmt: skip
    if params.probe is None:
        probe = initial.probe_of_mean(mean, good, factor)[None]
        if geometry.defocus and factor is None:
            lam = float(geometry.wavelength or 0)
            probe = initial.defocused(probe, size, lam, geometry.defocus)
        notes.append("starting probe: from the mean frame")
        probe = initial.scaled(probe, counts)
    else:
        probe = np.asarray(params.probe, np.complex128)
        probe = probe if probe.ndim == 3 else probe[None]
        if probe.shape[1:] != mean.shape:
            raise DataError(
                f"the starting probe has the shape {probe.shape[1:]}, the frames are {mean.shape}: "
                "resample it"
            )
        before = float((np.abs(probe) ** 2).sum())
        probe = initial.scaled(probe, counts)
        notes.append(
            f"starting probe: as given, its power scaled by {counts / before:.3g} to the mean counts"
        )
    return initial.more_modes(probe, params.modes)


def _background(
    background: Any, mean: Array, good: Array, sig: tuple[int, ...], window: FrameWindow
) -> Array:
    if isinstance(background, str):
        if background != "estimate":
            raise DataError(f"background={background!r}: give counts, or 'estimate'")
        # the step that refines it multiplies: it must start above 0; no more than where it is darkest
        return np.full(window.shape, max(float(np.percentile(mean[good], 2)), 1e-3 * float(mean.mean())))
    if background is None:
        return np.zeros(window.shape)
    given = np.broadcast_to(np.asarray(background, np.float64), sig)
    if not np.isfinite(given).all() or (given < 0).any():
        raise DataError("background= must be finite and not negative, in counts")
    return window.cut(np.array(given)[None])[0]
