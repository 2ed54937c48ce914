"""The strain of each frame as a UDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.blobfinder.array_lattice import fit_arrays
from framefold.udfs.blobfinder.correlate import Correlation, as_correlation
from framefold.udfs.blobfinder.folding import (
    Bench,
    backends_of,
    bench_of,
    checked_shift,
    leftover_rows,
    measure_leftover,
    peak_buffers,
    peak_results,
    peak_views,
    plan_of,
    process,
    whole_frames,
)
from framefold.udfs.blobfinder.kernels_fit import BORDER, CLIPPED, LOW_SNR, NOT_CONVERGED, SATURATED
from framefold.udfs.blobfinder.lattice import (
    Lattice,
    LatticeFit,
    Lattices,
    as_lattice,
    as_lattices,
    empty_lattices,
    fit_block,
)
from framefold.udfs.blobfinder.meter import Peaks, Subpixel, empty_peaks
from framefold.udfs.blobfinder.patterns import Pattern, as_pattern
from framefold.udfs.blobfinder.strain import (
    Axes,
    Definition,
    Frame,
    Spacings,
    good_fits,
    reference_mean,
    reference_median,
    strain_by_grain,
)

Array = npt.NDArray[Any]
Reference = Literal["median"] | Spacings | npt.ArrayLike
MAPS = ("eps_xx", "eps_yy", "eps_xy", "theta")
SIGMAS = ("sigma_xx", "sigma_yy", "sigma_xy", "sigma_theta")
_LATTICES = tuple(Lattices.__dataclass_fields__)


class StrainUDF(UDF):
    """Strain of each frame with error bars, from the lattice of its Bragg disks.

    Results of navigation kind beside those of `BlobfinderUDF`:

    ==================================  ====================================================================
    ``eps_xx``, ``eps_yy``, ``eps_xy``  strain; positive eps_xx: longer along x than the reference
    ``theta``                           rotation, radians, positive from +x towards +y: clockwise in a
                                        picture, where y points down
    ``sigma_xx``, ``sigma_yy``,         standard deviations of the strains and of theta
    ``sigma_xy``, ``sigma_theta``
    ``zero``, ``a``, ``b`` (2,)         fitted lattice, (y, x), px
    ``cov`` (3,)                        variance of a, covariance of a and b, variance of b, px^2
    ``residual``                        RMS distance of disks and lattice per axis, px
    ``used``, ``selector`` (m,)         how many and which disks count
    ``grain``                           uint8: which of several lattices fits best
    ``valid``                           bool: the fit is trusted; the strains are masked elsewhere
    ``reference`` (2, 2)                single: the vectors a and b of the reference; (g, 2, 2) of g lattices
    ==================================  ====================================================================

    The maps are made from whatever frames are in: in a live run they fill, and re-centre with the reference.

    Parameters
    ----------
    lattice
        ``(zero, a, b)``, each (y, x) in px, or a sequence of these, one for each grain: all are fitted to
        every frame, and the best one counts. Strain is relative to the reference of its own grain.
    pattern, correlation, subpixel, gain, min_snr, saturation, excluded, zero_shift, pedestal
        See `BlobfinderUDF`.
    fit
        How the lattice is fitted.
    reference
        Unstrained crystal: ``"median"`` of the valid frames; a bool mask of navigation shape, whose mean
        counts; two vectors ``(a, b)``, each (y, x) in px, ``(g, 2, 2)`` for several lattices; or the
        `Spacings` of the material, with the orientation of the median.
    scan_rotation, flip_y, ellipse, axes, definition, aspect
        See `Frame`.

    Examples
    --------
    >>> udf = StrainUDF(lattice=((64, 64), (0, 22), (22, 0)), pattern=6.0, axes="a")
    >>> udf.params.definition
    'biot'
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        lattice: Lattice | Sequence[Lattice] | npt.ArrayLike,
        pattern: Pattern | float,
        correlation: Correlation | Literal["auto"] | None = None,
        subpixel: Subpixel = "auto",
        fit: LatticeFit | None = None,
        reference: Reference = "median",
        axes: Axes = "scan",
        *,
        scan_rotation: float = 0.0,
        flip_y: bool = False,
        ellipse: tuple[float, float] = (0.0, 0.0),
        definition: Definition = "biot",
        gain: float = 1.0,
        min_snr: float = 4.0,
        saturation: float | None = None,
        excluded: npt.ArrayLike | None = None,
        zero_shift: AuxData | None = None,
        pedestal: float = 0.0,
        aspect: float = 1.0,
    ) -> None:
        Frame(scan_rotation, flip_y, ellipse, axes, definition, aspect)
        lattices = as_lattices(lattice)
        super().__init__(
            lattice=lattices, pattern=as_pattern(pattern), correlation=as_correlation(correlation),
            subpixel=subpixel, fit=fit or LatticeFit(),
            reference=_checked_reference(reference, len(lattices)), axes=axes,
            scan_rotation=scan_rotation, flip_y=flip_y, ellipse=ellipse, definition=definition, gain=gain,
            min_snr=min_snr, saturation=saturation, excluded=excluded, zero_shift=checked_shift(zero_shift),
            pedestal=pedestal, aspect=aspect,
        )  # fmt: skip

    def get_backends(self) -> Sequence[str]:
        """Take a device, too, for one lattice whose disks are where they are expected."""
        there = len(self.params.lattice) == 1 and self.params.fit.match == "expected"
        return backends_of(self) if there else (self.BACKEND_NUMPY,)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: only the crops are converted."""
        return self.USE_NATIVE_DTYPE

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Ask for some whole frames at a time."""
        return whole_frames(self)

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare disks, lattices and maps."""
        fit, sizes = self.params.fit, []
        for lattice in self.params.lattice:
            hk = plan_of(self, lattice).hk
            sizes.append(len(hk))
            if len(hk) < fit.min_peaks:
                raise DataError(
                    f"only {len(hk)} disks of the lattice lie on the detector, the fit needs "
                    f"{fit.min_peaks}: "
                    "check the lattice, or lower min_peaks"
                )
            if np.linalg.matrix_rank(hk - hk[0]) < 2:
                raise DataError("all disks on the detector lie on a line: a lattice needs two directions")
        m, grains = max(sizes), len(sizes)
        self._check_reference_mask()

        def nav(*extra: int, dtype: str = "float32") -> BufferDecl:
            return self.buffer("nav", extra, dtype, fill=None)

        return {
            **peak_buffers(self, m),
            "indices": self.buffer("single", (grains, m, 2), "int64", use="result_only")
            if grains > 1
            else self.buffer("single", (m, 2), "int64", use="result_only"),
            "zero": nav(2), "a": nav(2), "b": nav(2), "cov": nav(3), "residual": nav(),
            "used": nav(dtype="int32"), "selector": nav(m, dtype="bool"),
            "grain": nav(dtype="uint8"),
            **{name: self.buffer("nav", (), "float32", use="result_only") for name in (*MAPS, *SIGMAS)},
            "valid": self.buffer("nav", (), "bool", use="result_only"),
            "reference": self.buffer(
                "single", (2, 2) if grains == 1 else (grains, 2, 2), "float64", use="result_only"
            ),
        }  # fmt: skip

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return plan and room for the disks of each lattice."""
        return {"benches": [bench_of(self, lattice) for lattice in self.params.lattice]}

    def get_task_data(self) -> Mapping[str, Any]:
        """Return where parts of frames are collected."""
        return {"parts": {}, "start": self.meta.slice.origin[0]}

    def process_tile(self, tile: Array) -> None:
        """Measure and fit whole frames, or collect parts of frames."""
        benches: list[Bench] = self.worker_data.benches
        if len(benches) == 1:
            if process(self, tile, benches[0], 0, peak_views(self)):
                self._fit(benches[0], peak_views(self), self._lattice_views(slice(None)))
            return
        rooms = [empty_peaks(len(tile), len(b.plan.hk)) for b in benches]
        done = [
            process(self, tile, b, i, room) for i, (b, room) in enumerate(zip(benches, rooms, strict=True))
        ]
        if all(done):
            self._choose(rooms, slice(None))

    def postprocess(self) -> None:
        """Measure and fit what remained incomplete."""
        benches: list[Bench] = self.worker_data.benches
        for row in leftover_rows(self):
            rows = slice(row, row + 1)
            if len(benches) == 1:
                measure_leftover(self, row, 0, peak_views(self, rows))
                self._fit(benches[0], peak_views(self, rows), self._lattice_views(rows))
                continue
            rooms = [empty_peaks(1, len(b.plan.hk)) for b in benches]
            for i, room in enumerate(rooms):
                measure_leftover(self, row, i, room)
            self._choose(rooms, rows)

    def _lattice_views(self, rows: slice) -> Lattices:
        return Lattices(**{name: self.results[name][rows] for name in _LATTICES})

    def _fit(self, bench: Bench, peaks: Peaks, out: Lattices) -> None:
        usable = usable_disks(peaks.flags, peaks.prominence, self.params.subpixel, self.params.fit)
        if bench.device is not None:
            fit_arrays(
                self.xp,
                peaks.centers,
                peaks.sigma,
                usable,
                bench.device.hk,
                self.params.fit,
                out,
            )
            return
        fit_block(peaks.centers, peaks.sigma, usable, bench.plan.hk, self.params.fit, out, bench.plan.lattice)

    def _choose(self, rooms: Sequence[Peaks], rows: slice) -> None:
        """Fit each lattice to its disks, and keep the one that explains more of them better."""
        benches: list[Bench] = self.worker_data.benches
        fits, costs = [], []
        for bench, room in zip(benches, rooms, strict=True):
            out = empty_lattices(*room.flags.shape)
            self._fit(bench, room, out)
            share = out.used / len(bench.plan.hk)
            # hundredths of a pixel do not decide, how many disks fit does
            costs.append(np.where(out.used > 0, (out.residual + 0.05) / np.maximum(share, 1e-6) ** 2, np.inf))
            fits.append(out)
        best = np.argmin(costs, axis=0)
        self.results.grain[rows] = best
        into, lattices = peak_views(self, rows), self._lattice_views(rows)
        for g, (room, out) in enumerate(zip(rooms, fits, strict=True)):
            here, m = best == g, room.flags.shape[1]
            for name in Peaks.__dataclass_fields__:
                target = getattr(into, name)
                target[here, :m] = getattr(room, name)[here]
                if m < target.shape[1]:
                    target[here, m:] = BORDER if name == "flags" else np.nan
            for name in _LATTICES[:-1]:
                getattr(lattices, name)[here] = getattr(out, name)[here]
            lattices.selector[here] = False
            lattices.selector[here, :m] = out.selector[here]

    def get_results(self) -> Mapping[str, Any]:
        """Return the maps, relative to the reference of the frames that are in."""
        p, r = self.params, self.results
        merged = self.meta.get_valid_nav_mask()
        assert merged is not None
        limit = p.fit.max_residual if p.fit.max_residual is not None else 0.2 * p.pattern.radius
        valid = np.zeros(len(merged), bool)
        valid[merged] = good_fits(r.residual[merged], r.used[merged], p.fit.min_peaks, limit)
        frame = frame_of(self)
        references = np.stack([self._reference(valid, g, frame) for g in range(len(p.lattice))])
        strain = strain_by_grain(r.a, r.b, r.cov, valid, r.grain, references, frame)
        single = len(p.lattice) == 1
        return {
            **peak_results(self),
            "indices": self._indices(),
            **{name: r[name] for name in _LATTICES},
            "grain": r.grain,
            **{n: self.with_mask(getattr(strain, n).astype(np.float32), valid) for n in (*MAPS, *SIGMAS)},
            "valid": valid,
            "reference": references[0] if single else references,
        }

    def _indices(self) -> npt.NDArray[np.int64]:
        """Return h and k of the disks; of several lattices ``(g, m, 2)``, filled up with 0."""
        all_hk = [plan_of(self, lattice).hk for lattice in self.params.lattice]
        if len(all_hk) == 1:
            return all_hk[0].astype(np.int64)
        out = np.zeros((len(all_hk), max(map(len, all_hk)), 2), np.int64)
        for row, hk in zip(out, all_hk, strict=True):
            row[: len(hk)] = hk
        return out

    def _reference(self, valid: npt.NDArray[np.bool_], grain: int, frame: Frame) -> npt.NDArray[np.float64]:
        """Return the reference of a grain; its median where the region of the reference does not touch it."""
        given, r = self.params.reference, self.results
        here = valid & (r.grain == grain)
        if isinstance(given, (str, Spacings)):
            middle = reference_median(r.a, r.b, here)
            return middle if isinstance(given, str) or not here.any() else given.vectors(middle, frame)
        if given.dtype == np.bool_:
            inside = given.reshape(-1)
            if self.meta.roi is not None:
                inside = inside[self.meta.roi.reshape(-1)]
            if (here & inside).any() or len(self.params.lattice) == 1:
                return reference_mean(r.a, r.b, here & inside)
            return reference_median(r.a, r.b, here)
        return np.asarray(given.reshape(-1, 2, 2)[grain], dtype=np.float64)

    def _check_reference_mask(self) -> None:
        given, nav = self.params.reference, tuple(self.meta.dataset_shape.nav)
        if isinstance(given, (str, Spacings)) or given.dtype != np.bool_:
            return
        if given.shape != nav:
            raise DataError(f"the reference mask has the shape {given.shape}, the scan {nav}")
        inside = given if self.meta.roi is None else given & self.meta.roi.reshape(nav)
        if not inside.any():
            raise DataError("the reference holds no frame of the run: mark at least one frame of the scan")

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the four maps."""
        return [PlotSpec("image", (name,), title=name, symmetric=True) for name in MAPS]


def frame_of(udf: StrainUDF) -> Frame:
    """Return axes and definition of the strain that a UDF reports."""
    p = udf.params
    return Frame(p.scan_rotation, p.flip_y, p.ellipse, p.axes, p.definition, p.aspect)


def usable_disks(flags: Array, prominence: Array, subpixel: str, fit: LatticeFit) -> npt.NDArray[np.bool_]:
    """Return which disks may count in a lattice fit."""
    bad = BORDER | NOT_CONVERGED | LOW_SNR
    if subpixel not in ("auto", "ml4", "ml6"):  # the correlation cannot leave pixels out, the fit can
        bad |= CLIPPED | SATURATED
    usable: npt.NDArray[np.bool_] = ((flags & bad) == 0) & (prominence >= fit.min_prominence)
    return usable


def _checked_reference(given: Any, grains: int) -> Any:
    if isinstance(given, Spacings):
        return given
    if isinstance(given, str):
        if given != "median":
            raise DataError(f"reference {given!r}: 'median', a mask of the scan, or two vectors (a, b)")
        return given
    array = np.asarray(given)
    if array.dtype == np.bool_:
        return array
    if array.shape != ((2, 2) if grains == 1 else (grains, 2, 2)) or array.dtype.kind not in "iuf":
        raise DataError(
            f"reference of shape {array.shape}, {array.dtype}: 'median', a bool mask of the scan, or two "
            "vectors (a, b), each (y, x) in px, for each lattice"
        )
    for a, b in array.reshape(-1, 2, 2):
        as_lattice([(0.0, 0.0), a, b])
    return array.astype(np.float64)
