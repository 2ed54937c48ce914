"""The strain of each frame as a UDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.disks import scratch_of
from framefold.udfs.blobfinder.folding import (
    checked_shift,
    measure_leftovers,
    peak_buffers,
    peak_results,
    plan_of,
    process,
    whole_frames,
)
from framefold.udfs.blobfinder.kernels_fit import BORDER, CLIPPED, LOW_SNR, NOT_CONVERGED, SATURATED
from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit, Lattices, as_lattice, fit_block
from framefold.udfs.blobfinder.meter import Subpixel
from framefold.udfs.blobfinder.patterns import Pattern, as_pattern
from framefold.udfs.blobfinder.strain import (
    Axes,
    Definition,
    Frame,
    good_fits,
    reference_mean,
    reference_median,
    strain_of,
)

Array = npt.NDArray[Any]
Reference = Literal["median"] | npt.ArrayLike
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
    ``valid``                           bool: the fit is trusted; the strains are masked elsewhere
    ``reference`` (2, 2)                single: the vectors a and b of the reference
    ==================================  ====================================================================

    The maps are made from whatever frames are in: in a live run they fill, and re-centre with the reference.

    Parameters
    ----------
    lattice, pattern, correlation, subpixel, gain, min_snr, saturation, excluded, zero_shift
        See `BlobfinderUDF`.
    fit
        How the lattice is fitted.
    reference
        Unstrained crystal: ``"median"`` of the valid frames; a bool mask of navigation shape, whose mean
        counts; or two vectors ``(a, b)``, each (y, x) in px.
    scan_rotation, flip_y, ellipse, axes, definition
        See `Frame`.

    Examples
    --------
    >>> udf = StrainUDF(lattice=((64, 64), (0, 22), (22, 0)), pattern=6.0, axes="a")
    >>> udf.params.definition
    'biot'
    """

    def __init__(
        self,
        lattice: Lattice | Sequence[Sequence[float]] | npt.ArrayLike,
        pattern: Pattern | float,
        correlation: CropCorrelation | None = None,
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
        min_snr: float = 5.0,
        saturation: float | None = None,
        excluded: npt.ArrayLike | None = None,
        zero_shift: AuxData | None = None,
    ) -> None:
        Frame(scan_rotation, flip_y, ellipse, axes, definition)
        super().__init__(
            lattice=as_lattice(lattice), pattern=as_pattern(pattern),
            correlation=correlation or CropCorrelation(),
            subpixel=subpixel, fit=fit or LatticeFit(), reference=_checked_reference(reference), axes=axes,
            scan_rotation=scan_rotation, flip_y=flip_y, ellipse=ellipse, definition=definition, gain=gain,
            min_snr=min_snr, saturation=saturation, excluded=excluded, zero_shift=checked_shift(zero_shift),
        )  # fmt: skip

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: only the crops are converted."""
        return self.USE_NATIVE_DTYPE

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Ask for some whole frames at a time."""
        return whole_frames(self)

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare disks, lattices and maps."""
        plan = plan_of(self)
        m, fit = len(plan.hk), self.params.fit
        if m < fit.min_peaks:
            raise DataError(
                f"only {m} disks of the lattice lie on the detector, the fit needs {fit.min_peaks}: "
                "check the lattice, or lower min_peaks"
            )
        if np.linalg.matrix_rank(plan.hk - plan.hk[0]) < 2:
            raise DataError(
                "all disks on the detector lie on a line: two directions are needed for a lattice"
            )
        self._check_reference_mask()

        def nav(*extra: int, dtype: str = "float32") -> BufferDecl:
            return self.buffer("nav", extra, dtype, fill=None)

        return {
            **peak_buffers(self, m),
            "zero": nav(2), "a": nav(2), "b": nav(2), "cov": nav(3), "residual": nav(),
            "used": nav(dtype="int32"), "selector": nav(m, dtype="bool"),
            **{name: self.buffer("nav", (), "float32", use="result_only") for name in (*MAPS, *SIGMAS)},
            "valid": self.buffer("nav", (), "bool", use="result_only"),
            "reference": self.buffer("single", (2, 2), "float64", use="result_only"),
        }  # fmt: skip

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the plan and room for crops."""
        plan = plan_of(self)
        return {"plan": plan, "scratch": scratch_of(plan)}

    def get_task_data(self) -> Mapping[str, Any]:
        """Return where parts of frames are collected."""
        return {"parts": {}, "start": self.meta.slice.origin[0]}

    def process_tile(self, tile: Array) -> None:
        """Measure and fit whole frames, or collect parts of frames."""
        if process(self, tile):
            self._fit(slice(None))

    def postprocess(self) -> None:
        """Measure and fit what remained incomplete."""
        for row in measure_leftovers(self):
            self._fit(slice(row, row + 1))

    def _fit(self, rows: slice) -> None:
        r, plan = self.results, self.worker_data.plan
        usable = usable_disks(r.flags[rows], r.prominence[rows], self.params.subpixel, self.params.fit)
        out = Lattices(**{name: r[name][rows] for name in _LATTICES})
        fit_block(r.centers[rows], r.sigma[rows], usable, plan.hk, self.params.fit, out)

    def get_results(self) -> Mapping[str, Any]:
        """Return the maps, relative to the reference of the frames that are in."""
        p, r = self.params, self.results
        merged = self.meta.get_valid_nav_mask()
        assert merged is not None
        limit = p.fit.max_residual if p.fit.max_residual is not None else 0.2 * p.pattern.radius
        valid = np.zeros(len(merged), bool)
        valid[merged] = good_fits(r.residual[merged], r.used[merged], p.fit.min_peaks, limit)
        reference = self._reference(valid)
        frame = Frame(p.scan_rotation, p.flip_y, p.ellipse, p.axes, p.definition)
        maps = {name: np.full(len(merged), np.nan, np.float32) for name in (*MAPS, *SIGMAS)}
        if np.isfinite(reference).all() and valid.any():
            strain = strain_of(r.a[valid], r.b[valid], r.cov[valid], reference, frame)
            for name, values in maps.items():
                values[valid] = getattr(strain, name)
        return {
            **peak_results(self),
            "indices": plan_of(self).hk.astype(np.int64),
            **{name: r[name] for name in _LATTICES},
            **{name: self.with_mask(values, valid) for name, values in maps.items()},
            "valid": valid,
            "reference": reference,
        }

    def _reference(self, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        given, r = self.params.reference, self.results
        if isinstance(given, str):
            return reference_median(r.a, r.b, valid)
        if given.dtype == np.bool_:
            inside = given.reshape(-1)
            if self.meta.roi is not None:
                inside = inside[self.meta.roi.reshape(-1)]
            return reference_mean(r.a, r.b, valid & inside)
        return np.asarray(given, dtype=np.float64)

    def _check_reference_mask(self) -> None:
        given, nav = self.params.reference, tuple(self.meta.dataset_shape.nav)
        if isinstance(given, str) or given.dtype != np.bool_:
            return
        if given.shape != nav:
            raise DataError(f"the reference mask has the shape {given.shape}, the scan {nav}")
        inside = given if self.meta.roi is None else given & self.meta.roi.reshape(nav)
        if not inside.any():
            raise DataError("the reference holds no frame of the run: mark at least one frame of the scan")

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the four maps."""
        return [PlotSpec("image", (name,), title=name, symmetric=True) for name in MAPS]


def usable_disks(flags: Array, prominence: Array, subpixel: str, fit: LatticeFit) -> npt.NDArray[np.bool_]:
    """Return which disks may count in a lattice fit."""
    bad = BORDER | NOT_CONVERGED | LOW_SNR
    if subpixel == "parabola":  # the correlation cannot leave pixels out, the fit can
        bad |= CLIPPED | SATURATED
    return np.asarray(((flags & bad) == 0) & (prominence >= fit.min_prominence))


def _checked_reference(given: Any) -> Any:
    if isinstance(given, str):
        if given != "median":
            raise DataError(f"reference {given!r}: 'median', a mask of the scan, or two vectors (a, b)")
        return given
    array = np.asarray(given)
    if array.dtype == np.bool_:
        return array
    if array.shape != (2, 2) or array.dtype.kind not in "iuf":
        raise DataError(
            f"reference of shape {array.shape}, {array.dtype}: 'median', a bool mask of the scan, or two "
            "vectors (a, b), each (y, x) in px"
        )
    Lattice((0.0, 0.0), (float(array[0, 0]), float(array[0, 1])), (float(array[1, 0]), float(array[1, 1])))
    return array.astype(np.float64)
