"""The disks of each frame as a UDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.blobfinder.correlate import Correlation, as_correlation
from framefold.udfs.blobfinder.folding import (
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
from framefold.udfs.blobfinder.lattice import Lattice, as_lattice
from framefold.udfs.blobfinder.meter import Subpixel
from framefold.udfs.blobfinder.patterns import Pattern, as_pattern

Array = npt.NDArray[Any]


class BlobfinderUDF(UDF):
    """Position, height and quality of the Bragg disks of each frame.

    Works on whole frames and on parts of them (live sectors): crops around the disks are put together from
    what arrives, and fitted when they are complete.

    Results, all of navigation kind, m disks in the order of ``indices``:

    ===========================  ===========================================================================
    ``centers`` (m, 2)           (y, x), px
    ``sigma`` (m, 2)             their standard deviations, px
    ``amplitude`` (m,)           counts per px: height of the disk
    ``background`` (m,)          counts per px: level around it
    ``tilt`` (m, 2)              change of the height from centre to edge along y and x, where it was fitted
    ``chi2`` (m,)                per degree of freedom
    ``correlation`` (m,)         height of the correlation's maximum
    ``prominence`` (m,)          height above the best value further than a radius away
    ``flags`` (m,)               uint8: 1 off the detector, 2 pixels missing, 4 not converged, 8 low
                                 signal-to-noise ratio, 16 saturated pixels left out, 32 fitted with tilt
    ``indices`` (m, 2)           single: h and k
    ===========================  ===========================================================================

    Parameters
    ----------
    lattice
        ``(zero, a, b)``, each (y, x) in px: where to look.
    pattern
        The disk: a radius in px, or a `Disk`, `RadialGradient`, `BackgroundSubtraction`, `Bullseye` or
        `Template`.
    correlation
        How disks are found before they are fitted: `CropCorrelation` (default), `FullFrameCorrelation`,
        `SparseCorrelation`, or ``"auto"``: crops, or whole frames where these are less work.
    subpixel
        ``"ml4"``: maximum likelihood of centre, height and background; ``"ml6"``: and a tilt of the
        intensity inside the disk; ``"auto"``: the tilt where it explains
        significantly more in one disk, or in all disks of a frame together;
        ``"parabola"``: top of the correlation, the fast mode. For comparison with other programs:
        ``"upsample"`` or ``"upsample:N"``: top of the correlation interpolated to N (20) points per px;
        ``"com"``: centre of mass of the correlation about its top.
    gain
        Counts per electron: for errors and chi2.
    min_snr
        Disks with a lower ratio of height to its error are flagged.
    saturation
        Counts from which pixels are left out.
    excluded
        Bool, signal shape: pixels to leave out, such as a beam stop.
    zero_shift
        `AuxData` of kind nav and extra shape (2,): shift of each frame's pattern, px (descan).
    pedestal
        Counts of no electron, less the squared read-out noise per gain: subtracted before anything is
        measured, so that the variance is ``gain`` times the rest.

    Examples
    --------
    >>> udf = BlobfinderUDF(lattice=((64, 64), (0, 22), (22, 0)), pattern=6.0)
    >>> udf.params.subpixel
    'auto'
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        lattice: Lattice | Sequence[Sequence[float]] | npt.ArrayLike,
        pattern: Pattern | float,
        correlation: Correlation | Literal["auto"] | None = None,
        subpixel: Subpixel = "auto",
        *,
        gain: float = 1.0,
        min_snr: float = 4.0,
        saturation: float | None = None,
        excluded: npt.ArrayLike | None = None,
        zero_shift: AuxData | None = None,
        pedestal: float = 0.0,
    ) -> None:
        super().__init__(
            lattice=as_lattice(lattice), pattern=as_pattern(pattern),
            correlation=as_correlation(correlation),
            subpixel=subpixel, gain=gain, min_snr=min_snr, saturation=saturation, excluded=excluded,
            zero_shift=checked_shift(zero_shift), pedestal=pedestal,
        )  # fmt: skip

    def get_backends(self) -> Sequence[str]:
        """Take a device, too, where crops are measured by fits or parabolas."""
        return backends_of(self)

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: only the crops are converted."""
        return self.USE_NATIVE_DTYPE

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Ask for some whole frames at a time."""
        return whole_frames(self)

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare one buffer per property of the disks."""
        return peak_buffers(self, len(plan_of(self, self.params.lattice).hk))

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the plan and room for crops."""
        return {"bench": bench_of(self, self.params.lattice)}

    def get_task_data(self) -> Mapping[str, Any]:
        """Return where parts of frames are collected."""
        return {"parts": {}, "start": self.meta.slice.origin[0]}

    def process_tile(self, tile: Array) -> None:
        """Measure the disks of whole frames, or collect parts of frames."""
        process(self, tile, self.worker_data.bench, 0, peak_views(self))

    def postprocess(self) -> None:
        """Measure what remained incomplete."""
        for row in leftover_rows(self):
            measure_leftover(self, row, 0, peak_views(self, slice(row, row + 1)))

    def get_results(self) -> Mapping[str, Any]:
        """Return what was measured."""
        plan = plan_of(self, self.params.lattice)
        return {**peak_results(self), "indices": plan.hk.astype(np.int64)}
