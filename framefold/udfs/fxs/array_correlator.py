"""Regrids, centres and multiplies with array operations of any namespace: what runs on a device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import scipy_of, to_host
from framefold.udfs.fxs.correlator import LIVE_LAGS, Layout, Live, Sums, diagonal_shape
from framefold.udfs.fxs.measured import Measured
from framefold.udfs.fxs.regrid import PolarOperator

Array = npt.NDArray[Any]


class ArrayCorrelator:
    """Does what `Correlator` does, on a device, for masks that are the same for all frames.

    Polar frames and products stay on the device. What decides about frames is small and goes over the host:
    their ring means, and back which are used. `Sums` and `Live` are arrays on the host.

    Parameters
    ----------
    xp
        numpy, CuPy, or what stands in for it.
    layout
        What is summed.
    operator
        From frames to polar frames; None: frames are polar already.
    """

    def __init__(self, xp: Any, layout: Layout, operator: PolarOperator | None) -> None:
        self.xp, self.layout, self.operator = xp, layout, operator
        self.weight_sums = layout.weight.sum(axis=1, dtype=np.float64)
        self._weight = xp.asarray(layout.weight.astype(layout.precision))
        self._ring_weights = xp.asarray(np.where(self.weight_sums > 0, self.weight_sums, np.inf))
        self._orders = xp.asarray(layout.orders)
        self._zero_order = int(np.searchsorted(layout.orders, 0)) if 0 in layout.orders else None
        self._at = xp.asarray(np.array(layout.live_rows, np.int64))
        self._lags = [k for k in LIVE_LAGS if k < layout.n_q]
        lower = np.tril_indices(layout.n_q)
        self._lower = xp.asarray(lower[0]), xp.asarray(lower[1])
        self._clear()
        if operator is not None:
            self._matrix = self._sparse(operator.matrix)
            self._share = self._sparse(operator.response_share)
            self._dark = self._sparse(operator.matrix_dark)
            self._offset = xp.asarray(operator.offset.astype(np.float32))
            self._kept = xp.asarray(operator.weight.reshape(-1) != 0)

    def _sparse(self, matrix: Any) -> Any:
        parts = (matrix.data.astype(np.float32), matrix.indices, matrix.indptr)
        there = tuple(self.xp.asarray(part) for part in parts)
        return scipy_of(self.xp, "sparse").csr_matrix(there, shape=matrix.shape)

    def _clear(self) -> None:
        xp, layout = self.xp, self.layout
        shape = (layout.groups, len(layout.orders), layout.n_q)
        self._products = xp.zeros((*shape, layout.n_q), layout.sum_dtype)
        self._amplitudes = xp.zeros(shape, np.complex128)
        self._frames = np.zeros(layout.groups, np.int64)

    def alone(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: there are no threads to hold back."""
        return nullcontext()

    def regrid(self, frames: Any) -> Any:
        """Return polar frames ``(n, n_q, n_phi)`` on the device; see `PolarOperator.apply`."""
        xp, layout = self.xp, self.layout
        n = frames.shape[0]
        if self.operator is None:
            return frames.astype(layout.precision).reshape(n, layout.n_q, layout.n_phi)
        flat = frames.reshape(n, -1)
        if frames.dtype.kind != "f":
            polar = (self._matrix @ flat.astype(np.float32).T).T - self._offset
        else:  # pixels that are not finite are left out
            known = xp.isfinite(flat)
            gone = (~known).astype(np.float32).T
            total = self._matrix @ xp.where(known, flat, 0).astype(np.float32).T + self._dark @ gone
            missing = (self._share @ gone).T
            rest = xp.where(missing < 0.5, 1 - missing, np.float32(np.nan))
            polar = xp.where(self._kept, (total.T - self._offset) / rest, np.float32(0))
        return polar.reshape(n, layout.n_q, layout.n_phi)

    def measure(self, polar: Any) -> Measured:
        """Return the weighted ring means of polar frames, on the host."""
        return Measured(polar, to_host(self._means(polar)), self.weight_sums)

    def _means(self, polar: Any) -> Any:
        return (polar * self._weight).sum(axis=2, dtype=np.float64) / self._ring_weights

    def add(
        self,
        polar: Any,
        items: Sequence[tuple[int, int]],
        groups: Array,
        factors: Array,
        sums: Sums,
        live: Live | None = None,
        valid: Array | None = None,
    ) -> None:
        """Add frames; see `Correlator.add`. `sums` are filled by `flush`, `valid` is None."""
        if not items:
            return
        xp, layout = self.xp, self.layout
        chosen = np.array(items, np.int64)
        ring, means = self._centred(polar, chosen[:, 0], factors)
        if (chosen[:, 1] >= 0).all():
            other, less = self._centred(polar, chosen[:, 1], factors)
            half = np.float32(0.5**0.5)
            ring, means = (ring - other) * half, (means - less) * 0.5**0.5
        spectrum = xp.fft.rfft(ring, axis=2)
        if not layout.centre:
            means = spectrum[:, :, 0].real.astype(np.float64)
        kept = spectrum[:, :, self._orders]
        if self._zero_order is not None:
            kept[:, :, self._zero_order] = means
        for group in np.unique(groups):
            mine = xp.asarray(np.flatnonzero(groups == group))
            A = kept[mine].transpose(2, 1, 0)  # (orders, n_q, frames)
            self._amplitudes[group] += A.sum(axis=2, dtype=np.complex128)
            if layout.part == "complex":
                product = xp.matmul(A, A.conj().transpose(0, 2, 1))
            else:
                parts = xp.concatenate([A.real, A.imag], axis=2)
                product = xp.matmul(parts, parts.transpose(0, 2, 1))
            self._products[group] += product.astype(layout.sum_dtype)
            self._frames[group] += mine.shape[0]
        if live is not None:
            self._live(spectrum, means, groups, live)

    def _centred(self, polar: Any, index: Array, factors: Array) -> tuple[Any, Any]:
        """Return ``factor / n_phi * weight * (polar - ring mean)``, and ``factor * ring mean``."""
        xp, layout = self.xp, self.layout
        frames = polar[xp.asarray(index)].astype(layout.precision)
        means = self._means(frames)
        by = xp.asarray(factors[index])[:, None]
        less = means if layout.centre else xp.zeros_like(means)
        ring = self._weight * (frames - less.astype(layout.precision)[:, :, None])
        return (by / layout.n_phi).astype(layout.precision)[:, :, None] * ring, by * means

    def _live(self, spectrum: Any, means: Any, groups: Array, live: Live) -> None:
        """Add the small projections that are watched during a run."""
        xp, n_q = self.xp, self.layout.n_q
        orders = diagonal_shape(self.layout)[1]
        a = spectrum[:, :, :orders].astype(np.complex128)
        a[:, :, 0] = means
        for k, lag in enumerate(self._lags):
            pairs = (a[:, : n_q - lag] * a[:, lag:].conj()).real  # (frames, n_q - lag, orders)
            for group in np.unique(groups):
                mine = xp.asarray(np.flatnonzero(groups == group))
                live.diagonals[group, :, k, : n_q - lag] += to_host(pairs[mine].sum(axis=0).T)
        rows = xp.einsum("fkm,fim->kmi", a[:, self._at], a.conj()).real
        live.rows[...] += to_host(rows)

    def flush(self, sums: Sums) -> None:
        """Add what was summed on the device to `sums`."""
        sums.products[...] += to_host(self._products[:, :, self._lower[0], self._lower[1]])
        sums.amplitudes[...] += to_host(self._amplitudes)
        sums.frames[...] += self._frames
        self._clear()
