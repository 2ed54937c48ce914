"""Single side-band ptychography: the phase of a weak object, one pass, while it is scanned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.kernels.rows import as_rows
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.shapes import Shape
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d
from framefold.udfs.fourd.kernels import pick_pixels, pick_pixels_reference
from framefold.udfs.fourd.optics import Aberrations, probe_optics
from framefold.udfs.fourd.sidebands import Geometry, Mode, add_rows, sidebands
from framefold.udfs.frame_moments import center_of

# scan rows of one partition that wait to be transformed together
PENDING_BYTES = 64 * 2**20


class SSBUDF(UDF):
    """Phase of a weak object from the interference of overlapping diffraction disks (side bands).

    With ``G(K, Q)`` the transform of the frames over the scan, a weak phase gives ``G = i Phi(Q) W(K, Q)``,
    ``W = conj(A(K)) A(K - Q) - A(K) conj(A(K + Q))``, and ``Phi = -i sum_K conj(W) G / sum_K |W|^2``
    (Rodenburg, McCallum, Nellist, Ultramicroscopy 48 (1993) 304; Pennycook et al., ibid. 151 (2015) 160).

    Results: ``phase``, rad, navigation shape; ``bright_field``, the counts within the aperture, navigation
    shape; ``spectrum``, the transform of the phase over the scan (single), a plain sum over the positions.
    Lost frames leave gaps that the probe's size closes: the phase is divided by the share of the probe's area
    that was seen, and is invalid where that is below one half.

    Parameters
    ----------
    voltage
        Acceleration voltage, V.
    semiangle
        Of the aperture, rad.
    radius
        Of the bright-field disk on the detector, pixels.
    scan_step
        Distance of scan positions, m; one number or (y, x).
    cy, cx
        Centre of the bright-field disk, pixels; None: ``rows // 2``, ``columns // 2``.
    scan_rotation, flip_y
        Orientation of the detector, as of `CoMUDF` and as `ICoMUDF` finds it.
    mode
        ``"ssb"``: detector pixels where exactly one of the two overlaps exists; ``"wpoa"``: all, by least
        squares, which also recovers what only defocus shows.
    C1, A1, B2, A2, C3
        Aberrations of the probe, m (`Aberrations`).
    wiener
        Damps frequencies that few pixels carry and that are mostly noise: this share of the bright field is
        added to the denominator. 0: quantitative up to twice the aperture; 0.05 for low doses.
    precision
        ``"single"`` (relative error about 1e-6 of the strongest frequency) or ``"double"``.

    Examples
    --------
    >>> SSBUDF(80e3, semiangle=20e-3, radius=16, scan_step=0.4e-10, cy=32, cx=32).params.mode
    'ssb'
    """

    # the part of a frame that arrived would look like a strong object: the engine leaves such frames out
    engine = EngineOptions(partial_frames=False, device=True)

    def __init__(
        self,
        voltage: float,
        semiangle: float,
        radius: float,
        scan_step: float | Sequence[float],
        cy: float | None = None,
        cx: float | None = None,
        scan_rotation: float = 0.0,
        flip_y: bool = False,
        mode: Mode = "ssb",
        C1: float = 0.0,
        A1: complex = 0.0,
        B2: complex = 0.0,
        A2: complex = 0.0,
        C3: float = 0.0,
        wiener: float = 0.0,
        precision: Literal["single", "double"] = "single",
    ) -> None:
        if not wiener >= 0:
            raise UDFError(f"wiener={wiener} is a share of the bright field, 0 or more")
        if mode not in ("ssb", "wpoa"):
            raise UDFError(f"mode={mode!r} is not 'ssb' or 'wpoa'")
        if precision not in ("single", "double"):
            raise UDFError(f"precision={precision!r} is not 'single' or 'double'")
        super().__init__(
            voltage=voltage, semiangle=semiangle, radius=radius, scan_step=scan_step, cy=cy, cx=cx,
            scan_rotation=scan_rotation, flip_y=flip_y, mode=mode, C1=C1, A1=A1, B2=B2, A2=A2, C3=C3,
            wiener=wiener, precision=precision,
        )  # fmt: skip
        step = scan_step if isinstance(scan_step, (int, float)) else tuple(scan_step)
        self._optics = probe_optics(voltage, semiangle, radius, step)  # type: ignore[arg-type]  # checked there

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: pixels are converted as they are picked."""
        return self.USE_NATIVE_DTYPE

    def geometry(self) -> Geometry:
        """Return what the weights depend on."""
        return self.geometry_of(self.meta.dataset_shape)

    def geometry_of(self, shape: Shape) -> Geometry:
        """Return what the weights depend on, for data of some shape."""
        p = self.params
        rows, cols = shape.sig
        return Geometry(
            (int(rows), int(cols)),
            (int(shape.nav[0]), int(shape.nav[1])),
            self._optics,
            Aberrations(p.C1, complex(p.A1), complex(p.B2), complex(p.A2), p.C3),
            center_of((rows, cols), p.cy, p.cx),
            float(p.scan_rotation),
            bool(p.flip_y),
            p.mode,
            float(p.wiener),
            p.precision == "double",
        )

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the half spectrum and the counts."""
        check_real_2d(self)
        nav = tuple(self.meta.dataset_shape.nav)
        if len(nav) != 2 or min(nav) < 2:
            raise UDFError(f"SSBUDF needs a 2-D scan, the navigation shape is {nav}: give nav_shape=")
        rows, half = int(nav[0]), int(nav[1]) // 2 + 1
        return {
            "half_spectrum": self.buffer(
                "single", (rows, half), "complex128", use="private", reduce="sum", large=rows * half > 2**17
            ),
            "bright_field": self.buffer("nav", (), "float64", reduce="sum"),
            "phase": self.buffer("nav", (), "float32", use="result_only"),
            "spectrum": self.buffer("single", nav, "complex64", use="result_only"),
        }

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the weights, and the bright-field pixels of each signal part when it first comes."""
        return {"bands": sidebands(self.geometry()).on(self.xp), "parts": {}}

    def get_task_data(self) -> Mapping[str, Any]:
        """Return the scan rows that wait to be transformed: row -> (columns, bright-field pixels)."""
        return {"rows": {}}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Sort the bright-field pixels of one part of the frames into their scan rows."""
        pixels, columns = self._pixels()
        if not len(pixels):
            return
        if self.xp is np:
            rows = as_rows(tile)
            if rows.dtype.kind == "b":
                rows = as_rows(rows.view(np.uint8))
            elif rows.dtype == np.float16:
                rows = as_rows(rows.astype(np.float32))
        else:
            rows = tile.reshape(tile.shape[0], -1)
        pick = pick_pixels if self.xp is np else pick_pixels_reference
        where = self.meta.coordinates
        y, x = where[:, 0], np.ascontiguousarray(where[:, 1])
        total = self.results.bright_field
        borders = [0, *(np.flatnonzero(np.diff(y)) + 1).tolist(), len(y)]
        for a, b in zip(borders[:-1], borders[1:], strict=True):
            pick(rows[a:b], pixels, columns, x[a:b], self._row(int(y[a])), total[a:b])

    def _pixels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the bright-field pixels of the signal part: index in the part, number among all."""
        data, part = self.worker_data, self.meta.tiling_scheme_idx
        if part not in data.parts:
            number = np.full(self.meta.dataset_shape.sig.size, -1, dtype=np.int64)
            number[data.bands.pixels] = np.arange(len(data.bands.pixels))
            here = number.reshape(tuple(self.meta.dataset_shape.sig))[self.meta.sig_slice.get()].reshape(-1)
            inside = np.flatnonzero(here >= 0)
            data.parts[part] = self.xp.asarray(inside), self.xp.asarray(here[inside])
        found: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] = data.parts[part]
        return found

    def _row(self, y: int) -> npt.NDArray[np.floating[Any]]:
        """Return the array of scan row `y`; many waiting rows are folded first, finished or not."""
        waiting: dict[int, npt.NDArray[np.floating[Any]]] = self.task_data.rows
        if y not in waiting:
            columns, n = int(self.meta.dataset_shape.nav[1]), len(self.worker_data.bands.pixels)
            dtype = np.dtype(np.float64 if self.params.precision == "double" else np.float32)
            if (len(waiting) + 1) * columns * n * dtype.itemsize > PENDING_BYTES and waiting:
                self._fold_rows()
            waiting[y] = self.xp.zeros((columns, n), dtype=dtype)
        return waiting[y]

    def _fold_rows(self) -> None:
        """Add the waiting rows to the spectrum: linear, so parts of rows may come apart."""
        waiting = self.task_data.rows
        if waiting:
            at = np.array(sorted(waiting))
            rows = self.xp.stack([waiting[y] for y in at.tolist()])
            add_rows(rows, at, self.worker_data.bands, self.results.half_spectrum)
            waiting.clear()

    def postprocess(self) -> None:
        """Fold the rows of the partition."""
        self._fold_rows()

    def get_results(self) -> Mapping[str, Any]:
        """Return phase and spectrum, scaled to the mean counts of a bright-field pixel."""
        geometry = self.geometry()
        seen = self.meta.get_valid_nav_mask(full_nav=True)
        if seen is None:
            raise UDFError("SSBUDF.get_results needs a run")
        seen = seen.reshape(geometry.scan)
        n = int(geometry.bright_field().sum())
        counts = float(np.sum(self.results.bright_field[self.meta.get_valid_nav_mask()]))
        half = self.results.half_spectrum.astype(np.complex128)
        if counts > 0:
            half = half * (seen.sum() * n / counts)
        phase = np.fft.irfft2(half, geometry.scan)
        coverage = probe_coverage(geometry, seen)
        valid = coverage > 0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            phase = np.where(valid, phase / coverage, np.nan)
        spectrum = np.fft.fft2(np.where(valid, phase, 0))
        return {
            "phase": self.with_mask(phase.astype(np.float32), valid),
            "bright_field": self.results.bright_field,
            "spectrum": spectrum.astype(np.complex64),
        }

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the phase and the bright field."""
        return (
            PlotSpec("image", ("phase",), cmap="gray", units="rad"),
            PlotSpec("image", ("bright_field",), cmap="gray", units="counts"),
        )


def probe_coverage(geometry: Geometry, seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the share of the focused probe's intensity that falls on scan positions with a frame, 0 to 1.

    The transform of the intensity is the overlap area of two circular apertures.
    """
    if seen.all():
        return np.ones(seen.shape)
    step = geometry.optics.scan_step
    q_y, q_x = np.fft.fftfreq(seen.shape[0], step[0])[:, None], np.fft.rfftfreq(seen.shape[1], step[1])
    s = np.minimum(np.hypot(q_y, q_x) / (2 * geometry.optics.aperture_frequency), 1)
    overlap = 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s**2))
    return np.clip(np.fft.irfft2(np.fft.rfft2(seen.astype(np.float64)) * overlap, seen.shape), 0, 1)
