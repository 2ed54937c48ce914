"""The polar operator: one sparse matrix that splits pixels, divides by all weights and subtracts the dark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs import regrid_kernels as kernels
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.tiled import TiledMatrix, tiled_matrix

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


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
