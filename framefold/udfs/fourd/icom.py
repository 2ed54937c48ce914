"""Integrated centre of mass: the phase of a thin object, while it is scanned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.com_fields import apply_correction
from framefold.udfs.field_results import check_real_2d, masked, on_scan
from framefold.udfs.fourd.integrate import Boundary, integrate_field
from framefold.udfs.fourd.optics import probe_optics
from framefold.udfs.fourd.rotation import curl_share, least_curl
from framefold.udfs.frame_moments import FrameMoments, shifts_of


class ICoMUDF(UDF):
    """Phase of a thin object from the centre of mass of each frame, integrated over the scan.

    Results: ``phase`` (navigation shape, mean zero), in rad where the optics are given, else in detector
    pixels times scan steps; ``field_y``, ``field_x``, the centre of mass in scan coordinates, its mean
    subtracted, detector pixels; ``scan_rotation``, ``flip_y`` and ``curl`` (single), what was used or found,
    and the share of the gradients that is curl (0 for a perfect phase gradient).

    Parameters
    ----------
    cy, cx, r, ri
        Centre and ring of the pixels that count, as of `CoMUDF`.
    scan_rotation
        Degrees from the detector's axes to those of the scan, as of `CoMUDF`, or ``"auto"``: the angle of
        least curl, with `flip_y` found too (`least_curl`).
    flip_y
        Reverse y first.
    voltage, semiangle, radius, scan_step
        V, rad, pixels and m: acceleration voltage, aperture, radius of the bright-field disk on the detector,
        distance of scan positions (one number or (y, x)); all, or none of them.
    highpass
        Features larger than this many scan steps are suppressed; 0: none.
    boundary
        ``"mirror"`` or ``"periodic"``, how the scan goes on beyond its edges (`integrate_field`).
    phase_positive
        For ``"auto"``: the strongest features have positive phase (electrons at atoms). No fit can tell.

    Examples
    --------
    >>> ICoMUDF(r=30, voltage=80e3, semiangle=20e-3, radius=16, scan_step=0.5e-10).params.radius
    16
    """

    engine = EngineOptions(partial_frames=True, device=True)

    def __init__(
        self,
        cy: float | None = None,
        cx: float | None = None,
        r: float = float("inf"),
        ri: float = 0.0,
        scan_rotation: float | Literal["auto"] = 0.0,
        flip_y: bool = False,
        voltage: float | None = None,
        semiangle: float | None = None,
        radius: float | None = None,
        scan_step: float | Sequence[float] | None = None,
        highpass: float = 0.0,
        boundary: Boundary = "mirror",
        phase_positive: bool = True,
    ) -> None:
        if not 0 <= ri < r:
            raise UDFError(f"the inner radius {ri} must be below the outer radius {r}")
        if isinstance(scan_rotation, str) and scan_rotation != "auto":
            raise UDFError(f"scan_rotation={scan_rotation!r} is not a number of degrees or 'auto'")
        if boundary not in ("mirror", "periodic"):
            raise UDFError(f"boundary={boundary!r} is not 'mirror' or 'periodic'")
        given = {"voltage": voltage, "semiangle": semiangle, "radius": radius, "scan_step": scan_step}
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < 4:
            raise UDFError(f"a phase in rad needs {', '.join(missing)} too; leave all out for pixels x steps")
        super().__init__(
            cy=cy, cx=cx, r=r, ri=ri, scan_rotation=scan_rotation, flip_y=flip_y, voltage=voltage,
            semiangle=semiangle, radius=radius, scan_step=scan_step, highpass=highpass, boundary=boundary,
            phase_positive=phase_positive,
        )  # fmt: skip
        self._scale()  # wrong units are found before anything runs

    def _scale(self) -> tuple[float, tuple[float, float]]:
        """Return the frequency of a detector pixel and the scan steps, in inverse lengths and lengths."""
        p = self.params
        if p.voltage is None:
            return 1 / (2 * np.pi), (1.0, 1.0)
        step = p.scan_step if isinstance(p.scan_step, (int, float)) else tuple(p.scan_step)
        optics = probe_optics(p.voltage, p.semiangle, p.radius, step)
        return optics.pixel_frequency, optics.scan_step

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: the kernel converts in registers."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the moments (private) and what is made of them."""
        check_real_2d(self)
        nav = tuple(self.meta.dataset_shape.nav)
        if len(nav) != 2 or min(nav) < 2:
            raise UDFError(
                f"ICoMUDF integrates over a 2-D scan, the navigation shape is {nav}: give nav_shape="
            )
        field = self.buffer("nav", (), "float64", use="result_only")
        number = self.buffer("single", (), "float64", use="result_only")
        return {
            "moments": self.buffer("nav", (3,), "float64", use="private", reduce="sum"),
            "phase": field,
            "field_y": field,
            "field_x": field,
            "scan_rotation": number,
            "flip_y": self.buffer("single", (), "bool", use="result_only"),
            "curl": number,
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the mask and its runs per signal part."""
        p = self.params
        return {"moments": FrameMoments(tuple(self.meta.dataset_shape.sig), p.cy, p.cx, p.r, p.ri)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add sum and moments of one part of the frames."""
        self.worker_data.moments.add(self.meta, tile, self.results.moments)

    def get_results(self) -> Mapping[str, Any]:
        """Return phase, field and orientation; NaN and invalid where no frame is merged."""
        shifts = shifts_of(on_scan(self, self.results.moments))
        known = np.isfinite(shifts).all(axis=-1)
        if known.any():
            shifts = shifts - shifts[known].mean(axis=0)
        angle, flip, curl = self._orientation(shifts)
        y, x = apply_correction(shifts[..., 0], shifts[..., 1], angle, flip)
        phase = np.full(known.shape, np.nan)
        if known.any():
            frequency, step = self._scale()
            highpass = self.params.highpass * float(np.sqrt(step[0] * step[1]))
            whole = integrate_field(y * frequency, x * frequency, step, self.params.boundary, highpass)
            phase[known] = whole[known]
        return {
            "phase": masked(phase),
            "field_y": masked(y),
            "field_x": masked(x),
            "scan_rotation": np.array([angle]),
            "flip_y": np.array([flip]),
            "curl": np.array([curl]),
        }

    def _orientation(self, shifts: npt.NDArray[np.float64]) -> tuple[float, bool, float]:
        """Return rotation, flip and share of curl, given or found."""
        p = self.params
        if p.scan_rotation == "auto":
            try:
                return least_curl(shifts[..., 0], shifts[..., 1], p.phase_positive)[:3]
            except DataError:  # too few frames so far, or vacuum
                return 0.0, False, np.nan
        field = apply_correction(shifts[..., 0], shifts[..., 1], p.scan_rotation, p.flip_y)
        return float(p.scan_rotation), p.flip_y, curl_share(*field)

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the phase and the field as colours."""
        units = "px step" if self.params.voltage is None else "rad"
        return (
            PlotSpec("image", ("phase",), cmap="gray", units=units),
            PlotSpec("hue-phase", ("field_y", "field_x"), title="centre of mass", units="px"),
        )
