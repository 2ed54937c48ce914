"""The polar operator: one sparse matrix that splits pixels, divides by all weights and subtracts the dark."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from framefold.errors import DataError
from framefold.udfs.fxs import regrid_kernels as kernels
from framefold.udfs.fxs.bilinear import bilinear_entries
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.tiled import TiledMatrix, tiled_matrix

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelModel:
    """What a pixel's counts mean, beyond its place; it goes into the weights and costs nothing per frame.

    Attributes
    ----------
    mask
        Bool of frame shape, True where a pixel is bad.
    dark
        Counts without light, number or frame.
    gain
        Factor that makes counts equal between pixels (it multiplies, as in `Corrections`), number or frame.
    adu_per_photon
        Counts of one photon; None: not known, frames stay in counts and there is no photon self-term.
    read_noise
        Standard deviation of a pixel without light, in counts, number or frame.
    efficiency
        Further response, such as quantum efficiency, number or frame.
    polarisation
        Factor f, 1 for horizontal; None: do not correct.
    solid_angle
        Correct for the solid angle of pixels.
    """

    mask: Any = None
    dark: Any = None
    gain: Any = None
    adu_per_photon: float | None = None
    read_noise: Any = 0.0
    efficiency: Any = None
    polarisation: float | None = 1.0
    solid_angle: bool = True

    def response(self, geometry: Geometry) -> Floats:
        """Return counts per photon that a pixel of nominal size would see, flat."""
        g = np.full(geometry.shape, float(self.adu_per_photon or 1.0))
        if self.gain is not None:
            g = g / _frame(self.gain, geometry.shape, "gain")
        if self.efficiency is not None:
            g = g * _frame(self.efficiency, geometry.shape, "efficiency")
        if self.solid_angle:
            g = g * geometry.solid_angle()
        if self.polarisation is not None:
            g = g * geometry.polarisation(self.polarisation)
        return g.reshape(-1)

    def dark_counts(self, geometry: Geometry) -> Floats:
        """Return the dark counts, flat."""
        dark = np.zeros(geometry.shape) if self.dark is None else _frame(self.dark, geometry.shape, "dark")
        return dark.reshape(-1)

    def variance(self, geometry: Geometry, scaled: Array, scale2: float) -> Floats:
        """Return the variance of counts, flat: Poisson statistics of photons, and the read noise.

        Parameters
        ----------
        scaled
            Mean of ``s^2 * raw`` over frames, flat, s the scale of a frame.
        scale2
            Mean of ``s^2``.
        """
        if self.adu_per_photon is None:
            raise DataError("the variance of counts needs adu_per_photon=")
        one = np.full(geometry.shape, self.adu_per_photon)
        if self.gain is not None:
            one = one / _frame(self.gain, geometry.shape, "gain")
        light = np.maximum(scaled - scale2 * self.dark_counts(geometry), 0)
        noise = _frame(self.read_noise, geometry.shape, "read_noise").reshape(-1)
        return one.reshape(-1) * light + scale2 * noise**2

    def good(self, geometry: Geometry) -> npt.NDArray[np.bool_]:
        """Return which pixels count, flat."""
        if self.mask is None:
            good = np.ones(geometry.shape, bool)
        else:
            mask = np.asarray(self.mask)
            if mask.shape != geometry.shape:
                raise DataError(f"the mask has shape {mask.shape}, the geometry {geometry.shape}")
            good = mask == 0
        if geometry.absent is not None:
            good = good & ~np.asarray(geometry.absent, bool)
        return good.reshape(-1)

    @property
    def identity(self) -> str:
        """Hash of the contents."""
        h = hashlib.sha256()
        for value in (self.mask, self.dark, self.gain, self.efficiency, self.read_noise):
            a = np.asarray(np.nan if value is None else value)
            h.update(f"{a.dtype.str}{a.shape}".encode() + np.ascontiguousarray(a).tobytes())
        h.update(repr((self.adu_per_photon, self.polarisation, self.solid_angle)).encode())
        return h.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PolarOperator:
    """Turns frames into polar frames, in photons per nominal pixel.

    ``I_b = sum_p a_bp (n_p - dark_p) / sum_p a_bp g_p``, a_bp the share of pixel p in bin b and g_p its
    response: a ratio of sums, so that every photon counts.

    Attributes
    ----------
    grid
        The bins.
    shape
        Of a frame.
    matrix
        ``W_bp = a_bp / sum a g``, scipy CSR float32 ``(bins, pixels)``.
    offset
        ``sum_p W_bp dark_p``, float64 ``(bins,)``.
    coverage
        ``(n_q, n_phi)``: response inside each bin, relative to the bin without mask and without edges.
    weight
        ``(n_q, n_phi)`` float32: weight of each bin in correlations; 0 where the coverage is too small.
    """

    grid: PolarGrid
    shape: tuple[int, ...]
    matrix: Any
    offset: Floats
    coverage: Floats
    weight: npt.NDArray[np.float32]

    @cached_property
    def tiled(self) -> TiledMatrix:
        """The matrix in the order in which the kernel walks over the detector."""
        return tiled_matrix(self.matrix, self.shape[-1])

    @property
    def n_bins(self) -> int:
        """Bins of a polar frame, padded to a multiple of 16."""
        bins = self.grid.n_q * self.grid.n_phi
        return -(-bins // LANES) * LANES

    @cached_property
    def start(self) -> npt.NDArray[np.float32]:
        """What a bin holds before anything is added: minus its dark counts."""
        start = np.zeros(self.n_bins, np.float32)
        start[: len(self.offset)] = -self.offset
        return start

    def scratch(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return what one thread needs for `lanes`."""
        return (np.zeros(self.tiled.most_runs * LANES**2, np.float32),
                np.zeros(self.n_bins * LANES, np.float32))  # fmt: skip

    def lanes(self, frames: Array, picked: Array, polar: Array, scratch: tuple[Array, Array]) -> None:
        """Regrid up to 16 frames.

        Parameters
        ----------
        frames
            ``(n, pixels)``, C-contiguous, any real dtype.
        picked
            int64, at most 16 indices of frames.
        polar
            float32 ``(16, n_bins)``, filled.
        scratch
            From `scratch`.
        """
        full = np.full(LANES, picked[-1] if len(picked) else 0, np.int64)
        full[: len(picked)] = picked
        buffer, lanes = scratch
        t = self.tiled
        kernels.regrid16(
            frames, full, t.runs, t.tile_runs, t.tile_segments, t.segments, t.bins, t.weights, t.rows,
            self.start, buffer, lanes,
        )  # fmt: skip
        kernels.untangle16(lanes, polar)

    def apply(self, frames: Array, out: Array | None = None) -> Array:
        """Return polar frames ``(n, n_q, n_phi)``, float32.

        Pixels that are NaN or infinite are left out of the sums of their bins; a bin that loses more than
        half of its response becomes NaN.

        Raises
        ------
        DataError
            If the frames have another shape than the geometry.
        """
        if frames.shape[-len(self.shape) :] != self.shape:
            raise DataError(f"frames of shape {frames.shape[1:]}, the geometry has {self.shape}")
        flat = raw_rows(frames, len(self.shape))
        n, bins = len(flat), self.grid.n_q * self.grid.n_phi
        result = np.empty((n, *self.grid.shape), np.float32) if out is None else out
        polar, scratch = np.empty((LANES, self.n_bins), np.float32), self.scratch()
        for a in range(0, n, LANES):
            picked = np.arange(a, min(n, a + LANES))
            self.lanes(flat, picked, polar, scratch)
            result[picked] = polar[: len(picked), :bins].reshape(-1, *self.grid.shape)
        if flat.dtype.kind == "f":
            for i in range(n):
                if not np.isfinite(result[i]).all():
                    result[i] = self.repaired(flat[i])
        return result

    def repaired(self, frame: Array) -> Array:
        """Return the polar frame of a frame with pixels that are not finite; see `apply`."""
        valid = np.isfinite(frame)
        known = np.where(valid, frame, 0).astype(np.float64)
        missing = self.response_share @ (~valid).astype(np.float64)
        total = self.matrix @ known - self.offset + self.matrix_dark @ (~valid).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            polar = np.where(missing < 0.5, total / (1 - missing), np.nan)
        polar[self.weight.reshape(-1) == 0] = 0
        return polar.astype(np.float32).reshape(self.grid.shape)

    @cached_property
    def response_share(self) -> Any:
        """Sparse ``(bins, pixels)``: share of each pixel in the response of its bin."""
        return self.matrix.multiply(self._response[None, :]).tocsr()

    @cached_property
    def matrix_dark(self) -> Any:
        """Sparse ``(bins, pixels)``: dark counts of each pixel in its bin."""
        return self.matrix.multiply(self._dark[None, :]).tocsr()

    _response: Floats = None  # type: ignore[assignment]  # set by build_operator
    _dark: Floats = None  # type: ignore[assignment]


def raw_rows(frames: Array, sig_dims: int) -> Array:
    """Return frames as contiguous rows of a dtype that the kernels read."""
    flat = np.ascontiguousarray(frames).reshape(len(frames) if frames.ndim > sig_dims else 1, -1)
    if flat.dtype == np.bool_:
        return flat.view(np.uint8)
    if flat.dtype.kind == "c":
        raise DataError("frames are complex: correlations are made of intensities")
    if flat.dtype.itemsize not in (1, 2, 4, 8) or flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    return flat


def build_operator(
    geometry: Geometry,
    grid: PolarGrid,
    pixels: PixelModel | None = None,
    *,
    splitting: str = "subpixel",
    min_coverage: float = 0.5,
    weight: str = "binary",
) -> PolarOperator:
    """Make the polar operator of a detector.

    Parameters
    ----------
    geometry, grid, pixels
        Where pixels are, which bins, and what counts mean.
    splitting
        ``"subpixel"`` cuts each pixel in 3 x 3 parts and more where bins are narrow. ``"none"`` gives a
        pixel to the bin of its centre: more variance in the outer bins, holes in the inner ones.
        ``"bilinear"`` interpolates at the centre of each bin, for flat detectors: it reads four pixels per
        bin and leaves out all others, so that outer bins lose most photons.
    min_coverage
        Bins with less have weight 0.
    weight
        ``"binary"``: weight 1 elsewhere; ``"coverage"``: weight is the coverage.

    Raises
    ------
    DataError
        If the grid reaches beyond the detector, or no pixel is good.
    """
    pixels = pixels or PixelModel()
    if splitting not in ("subpixel", "none", "bilinear"):
        raise DataError(f"splitting={splitting!r} is not one of 'subpixel', 'none', 'bilinear'")
    if weight not in ("binary", "coverage"):
        raise DataError(f"weight={weight!r} is not one of 'binary', 'coverage'")
    key = repr((geometry.identity, grid, pixels.identity, splitting, min_coverage, weight))
    with _one_at_a_time:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        operator = _build(geometry, grid, pixels, splitting, min_coverage, weight)
        _cache[key] = operator
        while len(_cache) > 2:
            _cache.popitem(last=False)
    return operator


_cache: OrderedDict[str, PolarOperator] = OrderedDict()
_one_at_a_time = threading.Lock()  # fold lanes share transforms


def _build(
    geometry: Geometry, grid: PolarGrid, model: PixelModel, splitting: str, min_coverage: float, weight: str
) -> PolarOperator:
    q = geometry.q()
    q_detector = float(q.max() if geometry.absent is None else q.max(where=~geometry.absent, initial=0.0))
    if grid.q_max > q_detector:
        raise DataError(
            f"q_max={grid.q_max:g} lies beyond the detector, whose corners reach {q_detector:.4g} 1/Angstrom"
        )
    if splitting == "bilinear":
        pixel, target, share = bilinear_entries(geometry, grid)
    else:
        pixel, target, share = _entries(geometry, grid, 1 if splitting == "none" else 3)
    if geometry.absent is not None:  # what is not there is no hole in its bin
        there = ~np.asarray(geometry.absent, bool).reshape(-1)[pixel]
        pixel, target, share = pixel[there], target[there], share[there]
    response, dark, good = model.response(geometry), model.dark_counts(geometry), model.good(geometry)
    good = good & np.isfinite(response) & (response > 0) & np.isfinite(dark)
    if not good.any():
        raise DataError("no pixel is good: all are masked, or have a gain that is not positive")
    n_bins = grid.n_q * grid.n_phi
    whole = np.bincount(target, share * np.where(good, response, model.adu_per_photon or 1.0)[pixel], n_bins)
    keep = good[pixel]
    pixel, target, share = pixel[keep], target[keep], share[keep]
    total = np.bincount(target, share * response[pixel], n_bins)
    ring = whole.reshape(grid.shape)
    median = np.array([np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in ring])
    reference = np.maximum(ring, median[:, None])
    coverage = total.reshape(grid.shape) / reference
    inside = coverage >= min_coverage
    covered = float(inside.mean())
    if covered < 0.5:
        warnings.warn(
            f"only {100 * covered:.0f} % of the polar bins are covered by good pixels: "
            "check q_min, q_max, the centre and the mask",
            stacklevel=4,
        )
    polar_weight = np.where(inside, coverage if weight == "coverage" else 1.0, 0.0).astype(np.float32)
    keep = inside.reshape(-1)[target]
    pixel, target, share = pixel[keep], target[keep], share[keep]
    values = (share / total[target]).astype(np.float32)
    n_pixels = int(np.prod(geometry.shape))
    matrix = scipy.sparse.csr_matrix((values, (target, pixel)), shape=(n_bins, n_pixels))
    usable = np.where(good, dark, 0.0)
    offset = matrix.astype(np.float64) @ usable
    return PolarOperator(
        grid, geometry.shape, matrix, offset, coverage, polar_weight, np.where(good, response, 0.0), usable
    )


def _entries(geometry: Geometry, grid: PolarGrid, parts: int) -> tuple[Array, Array, Floats]:
    """Return pixel, bin and area share of all pairs that overlap."""
    centre, e1, e2 = geometry.frames_of_pixels()
    room = 3 * centre.shape[1] + 65536
    while True:
        pixel, target, share = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room)
        n = kernels.split_pixels(
            centre, e1, e2, 4 * np.pi / (geometry.wavelength * 1e10), grid.q_min, grid.q_step, grid.n_q,
            grid.n_phi, parts, pixel, target, share,
        )  # fmt: skip
        if n >= 0:
            return pixel[:n], target[:n], share[:n]
        room *= 2


def _frame(value: Any, shape: tuple[int, ...], name: str) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, the geometry {shape}")
    return np.broadcast_to(array, shape)
