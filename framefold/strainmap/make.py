"""From a dataset to a strain map in one call."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.strainmap.calibration import aspect_of, calibration_of
from framefold.strainmap.value import StrainMap
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.roi import as_roi
from framefold.udfs.blobfinder.correlate import Correlation
from framefold.udfs.blobfinder.find import find_lattice
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, as_lattices
from framefold.udfs.blobfinder.meter import Subpixel
from framefold.udfs.blobfinder.patterns import Disk, Pattern
from framefold.udfs.blobfinder.strain import Axes, Definition
from framefold.udfs.blobfinder.strain_udf import Reference, StrainUDF, frame_of
from framefold.udfs.pick import PickUDF

Float = npt.NDArray[np.float64]

_LATTICES = ("zero", "a", "b", "cov", "residual", "used", "grain")
_PEAKS = ("centers", "sigma", "amplitude", "background", "chi2", "flags", "selector")


def strain_map(
    ctx: Any,
    dataset: Any,
    radius: float | None = None,
    lattice: Lattice | Sequence[Lattice] | npt.ArrayLike | None = None,
    *,
    pattern: Pattern | None = None,
    roi: Any = None,
    reference: Reference = "median",
    axes: Axes = "scan",
    scan_rotation: float = 0.0,
    flip_y: bool = False,
    ellipse: tuple[float, float] = (0.0, 0.0),
    definition: Definition = "biot",
    subpixel: Subpixel = "auto",
    correlation: Correlation | Literal["auto"] | None = None,
    fit: LatticeFit | None = None,
    gain: float | None = None,
    min_snr: float = 4.0,
    saturation: float | None = None,
    excluded: npt.ArrayLike | None = None,
    zero_shift: AuxData | None = None,
    pedestal: float | None = None,
    aspect: float | None = None,
    corrections: Corrections | None = None,
    progress: Any = False,
    plots: Any = None,
) -> StrainMap:
    """Find the disks of each frame, fit their lattice, and return the strain map.

    Parameters
    ----------
    ctx
        A `Context`.
    dataset
        From ``ctx.load``, or anything that it takes.
    radius, lattice
        Radius of the disks in px, and ``(zero, a, b)``, each (y, x) in px, or several of these for several
        grains; what is not given is found by `find_lattice` (not for a live stream, whose frames cannot be
        read twice).
    pattern
        Another shape of the disks than a bare disk of `radius`.
    roi
        Bool mask of the scan: frames to use.
    reference, axes, scan_rotation, flip_y, ellipse, definition, subpixel, correlation, fit, min_snr
        See `StrainUDF`.
    gain, pedestal
        Counts per electron, and of none. Default: 1 and 0; found with radius or lattice where frames do not
        hold whole numbers, or where the noise beside the disks shows that they are others.
    aspect
        Height over width of a pixel. Default: of the calibrated axes of the detector, where the file states
        them, else 1.
    saturation, excluded, zero_shift
        See `BlobfinderUDF`. Where radius or lattice are found, single hot and dead pixels are, too, and
        excluded unless `excluded` says otherwise.
    corrections, progress, plots
        As in ``ctx.run_udf``.

    Raises
    ------
    DataError
        If there is no lattice in the frames, or options contradict one another; before the run where
        possible.

    Examples
    --------
    >>> import framefold as ff
    >>> from framefold.sim.stem import cbed
    >>> with ff.Context(executor="inline") as ctx:
    ...     m = ff.strain_map(ctx, cbed((4, 4), (96, 96), dose=50_000))
    >>> m.eps_xx.shape, bool(m.valid.all())
    ((4, 4), True)
    """
    live = isinstance(dataset, LiveDataset)  # its shape may not be known before it begins
    if not live and (
        isinstance(dataset, np.ndarray) or not all(hasattr(dataset, n) for n in ("shape", "roi"))
    ):
        dataset = ctx.load(dataset)
        live = isinstance(dataset, LiveDataset)
    frames = None if live or roi is None else as_roi(roi, tuple(dataset.shape.nav))
    if frames is not None and not frames.any():
        raise DataError("the roi holds no frame: mark at least one frame of the scan")
    size = radius if pattern is None else float(pattern.radius)
    if lattice is None or size is None:
        if live:
            raise DataError(
                "a live stream cannot be looked at beforehand: give radius= and lattice=(zero, a, b), "
                "for instance "
                "from find_lattice on an earlier scan"
            )
        known = None if lattice is None else as_lattices(lattice)[0]
        found = find_lattice(ctx, dataset, size, frames, lattice=known, corrections=corrections)
        pattern = Disk(found.radius, found.softness) if pattern is None else pattern
        lattice = found.lattice if lattice is None else lattice
        gain = found.gain if gain is None else gain
        pedestal = found.pedestal if pedestal is None else pedestal
        excluded = found.bad if excluded is None and found.bad.any() else excluded
    elif pattern is None:
        pattern = Disk(size)
    gain, pedestal = 1.0 if gain is None else gain, pedestal or 0.0
    udf = StrainUDF(
        lattice, pattern, correlation, subpixel, fit, reference, axes,
        scan_rotation=scan_rotation, flip_y=flip_y, ellipse=ellipse, definition=definition, gain=gain,
        min_snr=min_snr, saturation=saturation, excluded=excluded, zero_shift=zero_shift,
        pedestal=pedestal, aspect=aspect_of(dataset) if aspect is None else aspect,
    )  # fmt: skip
    result = ctx.run_udf(dataset, udf, roi=roi, corrections=corrections, progress=progress, plots=plots)
    read = None if live else functools.partial(_read_frame, ctx, dataset)
    return map_of(result, udf, read, dataset)


def map_of(
    result: Any, udf: StrainUDF, read_frame: Callable[[int], Float] | None = None, dataset: Any = None
) -> StrainMap:
    """Return the `StrainMap` of what a run of `udf` gave; `dataset`: whose detector is calibrated."""
    p = udf.params
    return StrainMap(
        lattices={name: np.asarray(result[name].data) for name in _LATTICES},
        peaks={name: np.asarray(result[name].data) for name in _PEAKS},
        indices=np.asarray(result["indices"].data),
        valid=np.asarray(result["valid"].data, dtype=bool) & result["valid"].valid_mask,
        reference=np.asarray(result["reference"].data),
        frame=frame_of(udf),
        calibration=calibration_of(dataset, p.gain, p.pedestal),
        lattice=p.lattice,
        radius=float(p.pattern.radius),
        axes=tuple(result["eps_xx"].axes),
        provenance={**result.provenance, "udf": repr(udf)},
        read_frame=read_frame,
    )


def _read_frame(ctx: Any, dataset: Any, flat: int) -> Float:
    """Return one frame of a dataset by its flat index, as a run sees it."""
    nav = tuple(dataset.shape.nav)
    roi = np.zeros(math.prod(nav), bool)
    roi[flat] = True
    result = ctx.run_udf(dataset, PickUDF(), roi=roi.reshape(nav))
    return np.asarray(next(iter(result.values())).data, dtype=np.float64).reshape(tuple(dataset.shape.sig))
