"""Correlation maps of whole frames, or of parts of frames, for the engines that do not work on crops."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfs.blobfinder.correlate import (
    Correlation,
    CropCorrelation,
    FullFrameCorrelation,
    Scaling,
    SparseCorrelation,
    cheaper,
)
from framefold.udfs.blobfinder.kernels_correlate import gather_crops
from framefold.udfs.blobfinder.meter import Meter
from framefold.udfs.blobfinder.patterns import Pattern

Array = npt.NDArray[Any]
#: the crops are correlated where they are measured
NO_MAPS: npt.NDArray[np.float32] = np.empty((0, 0, 0), np.float32)
_NOTHING = np.float32(-1e30)


class Engine(Protocol):
    """Makes correlation maps ``(n, m, width * width)``, or `NO_MAPS`, of disks given by their crops."""

    def part(self, tile: Array, y: int, x: int, corners: Array) -> Array:
        """Return what a tile that begins at (y, x) of the frames adds to the maps."""
        ...

    def maps(self, crops: Array) -> Array:
        """Return the maps of complete crops ``(n, m, L, L)``, where no part added to them."""
        ...


class CropEngine:
    """Leaves correlation to the kernel that measures."""

    def part(self, tile: Array, y: int, x: int, corners: Array) -> Array:
        """Return `NO_MAPS`."""
        return NO_MAPS

    def maps(self, crops: Array) -> Array:
        """Return `NO_MAPS`."""
        return NO_MAPS


class SpectrumEngine(CropEngine):
    """One transform of each crop; the spectrum is weighted by a power of its modulus."""

    def __init__(
        self, meter: Meter, template: npt.NDArray[np.float64], scaling: Scaling, hybrid: float
    ) -> None:
        self._meter, self._scaling, self._hybrid = meter, scaling, hybrid
        self._transform = template_spectrum(template, (meter.size, meter.size))

    def maps(self, crops: Array) -> Array:
        """Return the maps; pixels without a value are worth as much as the mean of the crop."""
        import scipy.fft

        meter, fine = self._meter, np.isfinite(crops)
        if not fine.all():
            count = np.maximum(fine.sum(axis=(2, 3), keepdims=True), 1)
            crops = np.where(fine, crops, 0)
            crops = np.where(fine, crops, crops.sum(axis=(2, 3), keepdims=True) / count)
        crops = scaled(crops, self._scaling)
        # the edge of a crop is no edge of the picture: without a level there is no step there
        crops = crops - crops.mean(axis=(2, 3), keepdims=True)
        spectrum = scipy.fft.rfft2(crops, workers=1) * self._transform
        spectrum = hybrid_weighted(spectrum, self._hybrid, (2, 3))
        corr = scipy.fft.irfft2(spectrum, s=(meter.size, meter.size), workers=1)
        first, n = meter.size // 2 - meter.shifts, 2 * meter.shifts + 1
        maps = np.full((*crops.shape[:2], meter.width, meter.width), _NOTHING, np.float32)
        maps[:, :, :n, :n] = corr[:, :, first : first + n, first : first + n]
        return maps.reshape(*crops.shape[:2], -1)


class FullFrameEngine:
    """One transform of each frame; maps are cut out of its correlation with the template."""

    def __init__(
        self, meter: Meter, template: npt.NDArray[np.float64], correlation: FullFrameCorrelation, good: Array,
        pedestal: float, needs_whole: bool = True,
    ) -> None:  # fmt: skip
        import scipy.fft  # 30 ms that `import framefold` need not pay

        self._pedestal = np.float32(pedestal)
        self._meter, self._scaling, self._good = meter, correlation.scaling, good
        self._hybrid, self._needs_whole = correlation.hybrid, needs_whole
        half = len(template) // 2
        rows, columns = (scipy.fft.next_fast_len(n + 2 * half, real=True) for n in good.shape)
        self._shape = (rows, columns)
        self._transform = template_spectrum(template, self._shape)

    def part(self, tile: Array, y: int, x: int, corners: Array) -> Array:
        """Return the maps of whole frames; of parts `NO_MAPS`, or an error where whole ones are needed."""
        import scipy.fft

        if tile.shape[1:] != self._good.shape:
            if not self._needs_whole:
                return NO_MAPS
            raise UDFError(
                "FullFrameCorrelation needs whole frames, these arrive in parts: use CropCorrelation, which "
                "puts the surroundings of the disks together"
            )
        meter, frames = self._meter, np.where(self._good, tile, np.nan).astype(np.float32)
        # a bad pixel is worth as much as most others
        frames = np.where(np.isfinite(frames), frames, np.nanmedian(frames))
        frames = scaled(frames - self._pedestal, self._scaling)
        spectrum = scipy.fft.rfft2(frames, s=self._shape, workers=1) * self._transform
        spectrum = hybrid_weighted(spectrum, self._hybrid, (1, 2))
        corr = scipy.fft.irfft2(spectrum, s=self._shape, workers=1)[:, : tile.shape[1], : tile.shape[2]]
        width = meter.width
        maps = np.empty((len(tile), corners.shape[1], width, width), np.float32)
        first = corners + (meter.size // 2 - meter.shifts)
        corr = np.ascontiguousarray(corr, np.float32)
        gather_crops(corr, 0, 0, True, self._good, np.inf, first.astype(np.int32), True, maps)
        maps[np.isnan(maps)] = _NOTHING
        return maps.reshape(*maps.shape[:2], -1)

    def maps(self, crops: Array) -> Array:
        """Return `NO_MAPS`: ``"auto"`` correlates the crops of frames that came in parts."""
        return NO_MAPS


class SparseEngine:
    """Templates at all shifts as a sparse matrix: linear, so that parts of frames add up."""

    def __init__(self, meter: Meter, template: npt.NDArray[np.float64], expected: Array, good: Array) -> None:
        self._meter, self._template, self._good = meter, template, good
        self._at = np.rint(expected).astype(np.int64)
        self._parts: dict[tuple[int, ...], Any] = {}

    def part(self, tile: Array, y: int, x: int, corners: Array) -> Array:
        """Return the contribution of any part of the frames."""
        if len(corners) > 1:
            raise DataError("SparseCorrelation looks at fixed places: zero_shift needs CropCorrelation")
        rows, columns = tile.shape[1:]
        key = (y, x, rows, columns)
        if key not in self._parts:
            self._parts[key] = self._matrix(*key)
        flat = np.nan_to_num(tile.reshape(len(tile), -1).astype(np.float32), posinf=0.0, neginf=0.0)
        return np.ascontiguousarray((self._parts[key] @ flat.T).T).reshape(len(tile), len(self._at), -1)

    def maps(self, crops: Array) -> Array:
        """Return `NO_MAPS`: every part adds to the maps."""
        return NO_MAPS

    def _matrix(self, y0: int, x0: int, rows: int, columns: int) -> Any:
        """Return ``(m * width^2, pixels)`` in compressed rows."""
        from scipy.sparse import csr_matrix  # 100 ms

        meter, half = self._meter, len(self._template) // 2
        ty, tx = (v - half for v in np.nonzero(self._template))
        weight = self._template[ty + half, tx + half]
        shifts = np.arange(-meter.shifts, meter.shifts + 1)
        found: list[tuple[Array, Array, Array]] = []
        for m, (cy, cx) in enumerate(self._at):
            for j, dy in enumerate(shifts):
                for i, dx in enumerate(shifts):
                    py, px = cy + dy + ty, cx + dx + tx
                    inside = (py >= y0) & (py < y0 + rows) & (px >= x0) & (px < x0 + columns)
                    py, px = py[inside], px[inside]
                    good = self._good[py, px]
                    line = (m * meter.width + j) * meter.width + i
                    pixel = (py - y0) * columns + px - x0
                    found.append((np.full(int(good.sum()), line), pixel[good], weight[inside][good]))
        lines, pixels, values = (np.concatenate([f[k] for f in found]) for k in range(3))
        shape = (len(self._at) * meter.width**2, rows * columns)
        return csr_matrix((values.astype(np.float32), (lines, pixels)), shape=shape)


def engine_of(
    correlation: Correlation | Literal["auto"], pattern: Pattern, meter: Meter, expected: Array, good: Array,
    pedestal: float,
) -> Engine:  # fmt: skip
    """Return the engine that `correlation` asks for, or the one with less work."""
    chosen = correlation
    if chosen == "auto":
        chosen = cheaper(len(expected), len(meter.taps), (2 * meter.shifts + 1) * meter.width, good.shape)
    if isinstance(chosen, FullFrameCorrelation):
        template = pattern.template(meter.half)
        return FullFrameEngine(meter, template, chosen, good, pedestal, needs_whole=correlation != "auto")
    if isinstance(chosen, SparseCorrelation):
        return SparseEngine(meter, pattern.template(meter.half), expected, good)
    if isinstance(chosen, CropCorrelation) and chosen.hybrid < 1:
        return SpectrumEngine(meter, pattern.template(meter.half), chosen.scaling, chosen.hybrid)
    return CropEngine()


def template_spectrum(template: npt.NDArray[np.float64], shape: tuple[int, int]) -> Array:
    """Return the conjugate transform of a template with its centre in the first pixel of `shape`."""
    import scipy.fft

    half = len(template) // 2
    padded = np.zeros(shape, np.float32)
    padded[: len(template), : len(template)] = template
    return np.asarray(np.conj(scipy.fft.rfft2(np.roll(padded, (-half, -half), (0, 1)))))


def scaled(counts: Array, scaling: Scaling) -> Array:
    """Return scaled counts."""
    if scaling == "sqrt":
        return np.asarray(np.sqrt(np.maximum(counts, 0)))
    return np.asarray(np.log1p(np.maximum(counts, 0))) if scaling == "log" else counts


def hybrid_weighted(spectrum: Array, power: float, axes: tuple[int, int]) -> Array:
    """Return a spectrum times its modulus to the power ``power - 1``."""
    if power == 1:
        return spectrum
    modulus = np.abs(spectrum)
    # what is rounding must not become a wave of full height
    least = np.float32(1e-6) * modulus.max(axis=axes, keepdims=True)
    weight = np.where(modulus > least, modulus, np.float32(np.inf)) ** np.float32(power - 1)
    return np.asarray(spectrum * weight)
