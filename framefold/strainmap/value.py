"""The strain map: what was measured at each position, and the strain that follows from it."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.strainmap import drawing, files
from framefold.strainmap.calibration import Calibration
from framefold.strainmap.reference import new_reference
from framefold.udfcore.metadata import Axis
from framefold.udfs.blobfinder.kernels_fit import BORDER, CLIPPED, NOT_CONVERGED, SATURATED
from framefold.udfs.blobfinder.lattice import Lattice
from framefold.udfs.blobfinder.strain import Frame, Strain, axes_angle, lattice_matrix, strain_by_grain
from framefold.udfs.blobfinder.tilt import Tilt, tilt_of, without_tilt

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
#: disks whose heights say little
UNSURE = BORDER | CLIPPED | NOT_CONVERGED | SATURATED


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
    calibration
        Of the detector: gain, pedestal, and reciprocal length per px where the file stated it.
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
    calibration: Calibration = field(default_factory=Calibration)
    read_frame: Callable[[int], Float] | None = field(default=None, repr=False)

    signs = files.SIGNS

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
            calibrated detector axis, ``dataset.metadata.axes[-1].scale``. Units are those of both. Where the
            file stated the latter it may be left out, and spacings are in nm. Errors of the calibration are
            errors of the strain. Their orientation is that of the median: its theta is 0.

        Raises
        ------
        DataError
            If the region holds no valid frame, or more than one is given.
        """
        reference = new_reference(
            self.lattices, self.valid, self.reference, self.frame,
            roi=roi, known=known, spacings=spacings,
            step=self.calibration.step if step is None and spacings is not None else step,
        )  # fmt: skip
        return dataclasses.replace(self, reference=reference)

    def tilt(self, width: float, *, step: float | None = None, wavelength: float | None = None) -> Tilt:
        """Return the tilt of the crystal in each frame from intensities of opposite disks; see `tilt_of`.

        Parameters
        ----------
        width
            Standard deviation of the envelope of intensities in the excitation error, 1/nm: about
            ``0.37 / thickness`` of a thin crystal.
        step, wavelength
            Reciprocal length per px, 1/nm, and wavelength, nm. Default: as the file of the frames states.

        Raises
        ------
        DataError
            If one is neither given nor stated, or the map has several lattices.
        """
        step = self.calibration.step if step is None else step
        wavelength = self.calibration.wavelength if wavelength is None else wavelength
        if step is None or wavelength is None:
            raise DataError(
                "the file of the frames does not state the scale of the detector and the wavelength: give "
                "step= (1/nm per px) and wavelength= (nm)"
            )
        if self.indices.ndim != 2:
            raise DataError("a tilt is that of one lattice: give strain_map the roi= of one grain")
        p, area = self.peaks, math.pi * self.radius**2
        # counts of a disk above a background that is fitted with it
        variance = self.calibration.gain * (p["amplitude"] + 2.0 * np.maximum(p["background"], 0.0)) / area
        sigma = np.sqrt(np.maximum(variance, 0.0) * np.fmax(p["chi2"], 1.0))
        found = tilt_of(
            np.where(p["flags"] & UNSURE, np.nan, p["amplitude"]), sigma, self.indices, self.lattices["a"],
            self.lattices["b"], step=step, wavelength=wavelength, width=width,
        )  # fmt: skip
        found.tilt[~self.valid] = found.sigma[~self.valid] = np.nan
        return found

    def without_tilt(self, tilt: Tilt) -> StrainMap:
        """Return the map without the strain that a tilt pretends: lengths ``1 / cos`` along its direction.

        Its errors are those of the map: what the tilt's own error adds is ``tilt sigma``. Frames without a
        tilt are no longer valid. The reference is the median.
        """
        la = {**self.lattices, **{n: without_tilt(self.lattices[n], tilt.tilt) for n in ("a", "b")}}
        valid = self.valid & np.isfinite(tilt.tilt).all(-1)
        return dataclasses.replace(self, lattices=la, valid=valid).rereference()

    def rotate(self, degrees: float) -> StrainMap:
        """Return the map with its axes x', y' turned further by `degrees` from +x towards +y."""
        frame = dataclasses.replace(self.frame, axes=self.axes_degrees + degrees)
        return dataclasses.replace(self, frame=frame)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return a figure of the four maps, written to `path` if given (needs matplotlib)."""
        return drawing.maps(self, path)

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
        return drawing.fit(self, position, path)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write everything to a NeXus file (``.nxs``, ``.h5``) that other programs open.

        Datasets ``/entry/eps_xx``, ``/entry/eps_xx_errors``, ..., ``/entry/valid`` with axes y and x, an
        NXdata group for each map, lattices, peaks and parameters. `load` reads it back.
        """
        files.save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StrainMap:
        """Read a map that `save` wrote; it can be re-referenced, rotated and drawn."""
        return cls(**files.fields_of(path))

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` of maps, errors and mask with coordinates (needs xarray)."""
        return files.dataset_of(self)

    def __repr__(self) -> str:
        n = int(self.valid.sum())
        return f"<StrainMap {self.shape}, {n} of {self.valid.size} frames valid, radius {self.radius:.2f} px>"
