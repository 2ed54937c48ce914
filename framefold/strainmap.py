"""From a dataset to a strain map in one call, and what can be done with the map afterwards."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.save_strain import read_strain, write_strain
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.metadata import Axis
from framefold.udfcore.roi import as_roi
from framefold.udfs.blobfinder.correlate import Correlation
from framefold.udfs.blobfinder.find import find_lattice
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, as_lattice, as_lattices
from framefold.udfs.blobfinder.meter import Subpixel
from framefold.udfs.blobfinder.patterns import Disk, Pattern
from framefold.udfs.blobfinder.strain import (
    Axes,
    Definition,
    Frame,
    Strain,
    axes_angle,
    lattice_matrix,
    reference_mean,
    reference_median,
    reference_of_spacings,
    strain_by_grain,
)
from framefold.udfs.blobfinder.strain_udf import MAPS, SIGMAS, Reference, StrainUDF
from framefold.udfs.pick import PickUDF

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

SIGNS = (
    "eps_xx > 0: longer along x than the reference. theta > 0: turned from +x towards +y, clockwise in a "
    "picture "
    "(y points down). x is the fast scan axis, or as `axes` says."
)
_LATTICES = ("zero", "a", "b", "cov", "residual", "used", "grain")
_PEAKS = ("centers", "sigma", "amplitude", "background", "chi2", "flags", "selector")


@dataclass(frozen=True, eq=False)
class StrainMap:
    """Strain over a scan. The maps have the shape of the scan, NaN where not `valid`.

    Attributes
    ----------
    lattices
        ``zero``, ``a``, ``b``, ``cov``, ``residual``, ``used`` of each frame, see `StrainUDF`.
    peaks
        ``centers``, ``sigma``, ``amplitude``, ``flags``, ``selector``, ... of each frame, see
        `BlobfinderUDF`.
    indices
        ``(m, 2)``: h and k of the disks.
    valid
        Bool: frames whose fit is trusted.
    reference
        Vectors a and b of the reference, (y, x) px: ``(2, 2)``, or ``(g, 2, 2)`` for several lattices.
    frame
        Axes and definition.
    lattice
        Where disks were looked for, one for each grain.
    radius
        Of the disks, px.
    axes
        Of the scan.
    provenance
        Versions, dataset, parameters.
    read_frame
        Returns a frame by its flat index, for `plot_fit`; None where the frames are gone.

    Notes
    -----
    eps_xx > 0: longer along x than the reference. theta > 0: turned from +x towards +y, clockwise in a
    picture, where y points down.
    """

    lattices: Mapping[str, Array]
    peaks: Mapping[str, Array]
    indices: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    reference: Float
    frame: Frame
    lattice: tuple[Lattice, ...]
    radius: float
    axes: tuple[Axis, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    read_frame: Callable[[int], Float] | None = field(default=None, repr=False)

    signs = SIGNS

    @functools.cached_property
    def _strain(self) -> Strain:
        la = self.lattices
        return strain_by_grain(
            la["a"], la["b"], la["cov"], self.valid, la["grain"], self._references, self.frame
        )

    @property
    def _references(self) -> Float:
        """References ``(g, 2, 2)``, also of a single lattice."""
        return self.reference.reshape(-1, 2, 2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scan."""
        return self.valid.shape

    @property
    def eps_xx(self) -> Float:
        """Stretch along x."""
        return self._strain.eps_xx

    @property
    def eps_yy(self) -> Float:
        """Stretch along y."""
        return self._strain.eps_yy

    @property
    def eps_xy(self) -> Float:
        """Shear."""
        return self._strain.eps_xy

    @property
    def theta(self) -> Float:
        """Rotation, radians."""
        return self._strain.theta

    @property
    def sigma_xx(self) -> Float:
        """Standard deviation of eps_xx."""
        return self._strain.sigma_xx

    @property
    def sigma_yy(self) -> Float:
        """Standard deviation of eps_yy."""
        return self._strain.sigma_yy

    @property
    def sigma_xy(self) -> Float:
        """Standard deviation of eps_xy."""
        return self._strain.sigma_xy

    @property
    def sigma_theta(self) -> Float:
        """Standard deviation of theta, radians."""
        return self._strain.sigma_theta

    @property
    def axes_degrees(self) -> float:
        """Angle of the strain's x' from the x of the scan, degrees from +x towards +y."""
        G0 = self.frame.detector_to_scan() @ lattice_matrix(*self._references[0])
        return math.degrees(axes_angle(self.frame, G0))

    def rereference(
        self, *, roi: npt.ArrayLike | None = None, known: Sequence[Sequence[float]] | None = None,
        spacings: tuple[float, float, float] | None = None, step: float | None = None,
    ) -> StrainMap:  # fmt: skip
        """Return the map relative to another reference; needs no data.

        Parameters
        ----------
        roi
            Bool mask of the scan, or an index of it such as ``np.s_[:, :20]``: the mean of its valid frames.
            A grain outside keeps its own median.
        known
            ``(a, b)``, each (y, x) px. With none of these: the median of all valid frames.
        spacings, step
            ``(d_a, d_b, degrees)``: spacings of the planes of a and b in the unstrained material and the
            angle between a and b; and reciprocal length per px (``1 / d``, no 2 pi), such as the scale of the
            calibrated detector axis, ``dataset.metadata.axes[-1].scale``. Units are those of both. Errors of
            the calibration are errors of the strain. Their orientation is that of the median: its theta is 0.

        Raises
        ------
        DataError
            If the region holds no valid frame, or more than one is given.
        """
        if sum(v is not None for v in (roi, known, spacings)) > 1:
            raise DataError("rereference takes roi=, known= or spacings=, not both")
        if (spacings is None) != (step is None):
            raise DataError("spacings= and step=, the reciprocal length per px, belong together")
        if spacings is not None and step is not None:
            middle = self.rereference()._references
            made = [reference_of_spacings(spacings, step, G, self.frame) for G in middle]
            return dataclasses.replace(self, reference=np.reshape(made, self.reference.shape))
        if known is not None:
            G = np.asarray(known, dtype=np.float64)
            if G.shape != self.reference.shape:
                raise DataError(
                    f"known is (a, b) for each lattice: shape {self.reference.shape}, got {G.shape}"
                )
            for a, b in G.reshape(-1, 2, 2):
                as_lattice([(0.0, 0.0), a, b])
            return dataclasses.replace(self, reference=G)
        inside = np.ones(self.shape, bool) if roi is None else region(roi, self.shape)
        if not (inside & self.valid).any():
            raise DataError("the reference region holds no valid frame: choose another")
        la, average = self.lattices, reference_median if roi is None else reference_mean
        made = []
        for g in range(len(self._references)):
            here = self.valid & (la["grain"] == g)
            chosen = here & inside
            made.append(
                average(la["a"], la["b"], chosen)
                if chosen.any()
                else reference_median(la["a"], la["b"], here)
            )
        return dataclasses.replace(self, reference=np.reshape(made, self.reference.shape))

    def rotate(self, degrees: float) -> StrainMap:
        """Return the map with its axes x', y' turned further by `degrees` from +x towards +y."""
        frame = dataclasses.replace(self.frame, axes=self.axes_degrees + degrees)
        return dataclasses.replace(self, frame=frame)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return a figure of the four maps, written to `path` if given (needs matplotlib)."""
        from framefold.plot.strain import maps_figure  # matplotlib only where something is drawn

        figure = maps_figure({name: getattr(self, name) for name in MAPS}, self.axes, self.axes_degrees)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def plot_fit(self, *position: int, path: str | os.PathLike[str] | None = None) -> Any:
        """Return a figure of one frame with expected, found and fitted disks and their residuals.

        Parameters
        ----------
        *position
            Scan position: ``(y, x)``, or as many numbers as the scan has axes.
        path
            Write it there, too.

        Raises
        ------
        DataError
            If the map came from a file, or there is no such frame.
        """
        from framefold.plot.strain import fit_figure

        if len(position) != len(self.shape) or any(
            not -n <= p < n for p, n in zip(position, self.shape, strict=True)
        ):
            raise DataError(f"plot_fit takes a position of the scan {self.shape}, got {position}")
        if self.read_frame is None:
            raise DataError("this map came from a file or a live stream: the frame to draw is not at hand")
        at = tuple(p % n for p, n in zip(position, self.shape, strict=True))
        flat = int(np.ravel_multi_index(at, self.shape))
        image = self.read_frame(flat)
        la = self.lattices
        grain = int(la["grain"][at])
        hk = self.indices if self.indices.ndim == 2 else self.indices[grain]
        fitted = la["zero"][at] + hk @ np.stack([la["a"][at], la["b"][at]]).astype(np.float64)
        # disks that counted belong to the nearest lattice point, wherever they were looked for
        fitted = _paired(self.peaks["centers"][at], self.peaks["selector"][at], fitted)
        figure = fit_figure(
            image, self.lattice[grain].positions(hk), self.peaks["centers"][at], fitted,
            self.peaks["selector"][at], self.radius,
            title=f"frame {at}, residual {float(la['residual'][at]):.3f} px",
        )  # fmt: skip
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write everything to a NeXus file (``.nxs``, ``.h5``) that other programs open.

        Datasets ``/entry/eps_xx``, ``/entry/eps_xx_errors``, ..., ``/entry/valid`` with axes y and x, an
        NXdata group for each map, lattices, peaks and parameters. `load` reads it back.
        """
        maps = {name: getattr(self, name) for name in MAPS}
        errors = {name: getattr(self, sigma) for name, sigma in zip(MAPS, SIGMAS, strict=True)}
        parameters = {
            "frame": dataclasses.asdict(self.frame),
            "radius": self.radius,
            "lattice": [one.rows().tolist() for one in self.lattice],
            "signs": SIGNS,
        }
        arrays = {"lattices": {**self.lattices, "reference": self.reference},
                  "peaks": {**self.peaks, "indices": self.indices}}  # fmt: skip
        write_strain(
            path,
            maps,
            errors,
            self.valid,
            self.axes,
            arrays,
            parameters,
            self.provenance,
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StrainMap:
        """Read a map that `save` wrote; it can be re-referenced, rotated and drawn."""
        saved = read_strain(path)
        lattices, peaks = dict(saved.arrays["lattices"]), dict(saved.arrays["peaks"])
        p = saved.parameters
        frame = {**p["frame"], "ellipse": tuple(p["frame"]["ellipse"])}
        return cls(
            reference=lattices.pop("reference"), indices=peaks.pop("indices"), lattices=lattices, peaks=peaks,
            valid=saved.valid, frame=Frame(**frame), lattice=as_lattices(p["lattice"]),
            radius=float(p["radius"]), axes=saved.axes, provenance=saved.provenance,
        )  # fmt: skip

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` of maps, errors and mask with coordinates (needs xarray)."""
        import xarray  # optional

        dims = scan_names(len(self.shape))
        axes = self.axes if len(self.axes) == len(dims) else tuple(Axis() for _ in dims)
        coords = {
            d: (d, axis.values(n), {"units": axis.units})
            for d, axis, n in zip(dims, axes, self.shape, strict=True)
        }
        return xarray.Dataset(
            {name: (dims, getattr(self, name)) for name in (*MAPS, *SIGMAS, "valid")},
            coords=coords, attrs={"signs": SIGNS},
        )  # fmt: skip

    def __repr__(self) -> str:
        n = int(self.valid.sum())
        return f"<StrainMap {self.shape}, {n} of {self.valid.size} frames valid, radius {self.radius:.2f} px>"


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
    gain
        Counts per electron. Default: 1; of frames that do not hold whole numbers it is found with radius or
        lattice.
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
        excluded = found.bad if excluded is None and found.bad.any() else excluded
    elif pattern is None:
        pattern = Disk(size)
    gain = 1.0 if gain is None else gain
    udf = StrainUDF(
        lattice, pattern, correlation, subpixel, fit, reference, axes,
        scan_rotation=scan_rotation, flip_y=flip_y, ellipse=ellipse, definition=definition, gain=gain,
        min_snr=min_snr, saturation=saturation, excluded=excluded, zero_shift=zero_shift,
    )  # fmt: skip
    result = ctx.run_udf(dataset, udf, roi=roi, corrections=corrections, progress=progress, plots=plots)
    return map_of(result, udf, None if live else functools.partial(_read_frame, ctx, dataset))


def map_of(result: Any, udf: StrainUDF, read_frame: Callable[[int], Float] | None = None) -> StrainMap:
    """Return the `StrainMap` of what a run of `udf` gave."""
    p = udf.params
    return StrainMap(
        lattices={name: np.asarray(result[name].data) for name in _LATTICES},
        peaks={name: np.asarray(result[name].data) for name in _PEAKS},
        indices=np.asarray(result["indices"].data),
        valid=np.asarray(result["valid"].data, dtype=bool) & result["valid"].valid_mask,
        reference=np.asarray(result["reference"].data),
        frame=Frame(p.scan_rotation, p.flip_y, p.ellipse, p.axes, p.definition),
        lattice=p.lattice,
        radius=float(p.pattern.radius),
        axes=tuple(result["eps_xx"].axes),
        provenance={**result.provenance, "udf": repr(udf)},
        read_frame=read_frame,
    )


def region(roi: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a bool mask of `shape` from a mask or from an index such as ``np.s_[:, :20]``."""
    if isinstance(roi, np.ndarray) and roi.dtype == np.bool_:
        if roi.shape != shape:
            raise DataError(f"the region has the shape {roi.shape}, the scan {shape}")
        return roi
    mask = np.zeros(shape, bool)
    try:
        mask[roi] = True
    except (IndexError, TypeError) as exc:
        raise DataError(f"the region {roi!r} does not fit the scan {shape}: {exc}") from exc
    return mask


def _paired(found: Array, used: Array, fitted: Float) -> Float:
    """Return `fitted` with the points that are nearest to used disks at their indices."""
    out = fitted.copy()
    if np.isfinite(fitted).all() and used.any():
        far = np.hypot(*(found[used][:, None] - fitted[None]).transpose(2, 0, 1))
        out[used] = fitted[np.argmin(far, axis=1)]
    return out


def scan_names(dims: int) -> tuple[str, ...]:
    """Return the names of the scan axes: y, x for two."""
    return ("y", "x")[-dims:] if dims <= 2 else tuple(f"scan_{i}" for i in range(dims))


def _read_frame(ctx: Any, dataset: Any, flat: int) -> Float:
    """Return one frame of a dataset by its flat index, as a run sees it."""
    nav = tuple(dataset.shape.nav)
    roi = np.zeros(math.prod(nav), bool)
    roi[flat] = True
    result = ctx.run_udf(dataset, PickUDF(), roi=roi.reshape(nav))
    return np.asarray(next(iter(result.values())).data, dtype=np.float64).reshape(tuple(dataset.shape.sig))
