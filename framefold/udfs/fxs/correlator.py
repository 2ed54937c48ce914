"""From frames to summed products of their angular spectra, on all cores of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyfftw
import threadpoolctl

from framefold.udfs.fxs import c2_kernels as kernels
from framefold.udfs.fxs.blas import self_check
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.measured import Measured, joint
from framefold.udfs.fxs.regrid import PolarOperator, raw_rows
from framefold.udfs.fxs.shot_kernels import ring_means

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
LIVE_ORDERS = 33
LIVE_LAGS = (0, 2, 4)
SHARES = 4  # per thread: where another program takes a core away, the others go on


@dataclass(frozen=True, eq=False)
class Layout:
    """What is summed: bins, orders, groups of frames, and in which numbers.

    Attributes
    ----------
    weight
        ``(n_q, n_phi)`` float32, weights of the bins.
    orders
        Angular orders that are kept, ascending.
    groups
        Sets of frames that are summed apart (halves, classes).
    centre
        Subtract the ring means.
    part
        ``"real"`` or ``"complex"`` products.
    precision
        ``"float32"`` or ``"float64"`` of spectra and products.
    accumulate
        The same, of the sums.
    batch
        Frames per product.
    live_rows
        Rings q0 whose products with all rings are kept up to order 32.
    per_frame
        Whether bins are missing in single frames.
    """

    weight: npt.NDArray[np.float32]
    orders: npt.NDArray[np.int64]
    groups: int = 2
    centre: bool = True
    part: str = "real"
    precision: str = "float32"
    accumulate: str = "float64"
    batch: int = 128
    live_rows: tuple[int, ...] = ()
    per_frame: bool = False

    @property
    def n_q(self) -> int:
        """Rings."""
        return self.weight.shape[0]

    @property
    def n_phi(self) -> int:
        """Bins per ring."""
        return self.weight.shape[1]

    @property
    def triangle(self) -> int:
        """Elements of a packed lower triangle."""
        return self.n_q * (self.n_q + 1) // 2

    @property
    def sum_dtype(self) -> np.dtype[Any]:
        """Of the accumulators."""
        single = self.accumulate == "float32"
        if self.part == "complex":
            return np.dtype(np.complex64 if single else np.complex128)
        return np.dtype(np.float32 if single else np.float64)

    @property
    def stack_dtype(self) -> np.dtype[Any]:
        """Of the stacks."""
        return np.dtype(self.precision)

    @property
    def sum_shape(self) -> tuple[int, int, int]:
        """Shape of the accumulators: groups, orders, packed triangle."""
        return self.groups, len(self.orders), self.triangle

    @property
    def of_masks(self) -> tuple[Layout, ...]:
        """The layout of the products of the weights of single frames; none where the mask is fixed."""
        if not self.per_frame:
            return ()
        one = np.ones_like(self.weight)
        return (replace(self, weight=one, centre=False, part="real", live_rows=(), per_frame=False),)

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes of the accumulators and of the stacks."""
        stack = (2 * len(self.orders) * self.batch + 1) * self.n_q * self.stack_dtype.itemsize
        return int(np.prod(self.sum_shape)) * self.sum_dtype.itemsize, self.groups * stack


class Correlator:
    """Turns frames into polar frames and adds the products of their spectra to accumulators.

    `regrid` and `measure` may be called for any frames. `add` puts spectra of chosen polar frames into
    stacks, one per group, and multiplies the stacks that are full; `flush` multiplies what is left.

    Parameters
    ----------
    layout
        What is summed.
    operator
        From frames to polar frames; None: frames are polar already, ``(n_q, n_phi)``.
    threads
        Number of threads.
    """

    def __init__(self, layout: Layout, operator: PolarOperator | None, threads: int = 1) -> None:
        self_check()
        self.layout, self.operator, self.threads = layout, operator, threads
        self.weight_sums: Floats = layout.weight.sum(axis=1, dtype=np.float64)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._blas = threadpoolctl.ThreadpoolController()
        n_q, n_phi = layout.weight.shape
        rows = np.full(n_phi // 2 + 1, -1, np.int64)
        rows[layout.orders] = np.arange(len(layout.orders))
        self._rows = rows
        size = (2 * len(layout.orders) * layout.batch + 1) * n_q
        self._stacks = [np.zeros(size, layout.stack_dtype) for _ in range(layout.groups)]
        self._fill = [0] * layout.groups
        self._work = [_Work(layout) for _ in range(threads)]
        self._scratch = [operator.scratch() for _ in range(threads)] if operator is not None else []
        self._weight = layout.weight.astype(layout.precision)
        self._at = np.array(layout.live_rows, np.int64)
        self._lags = np.array([k for k in LIVE_LAGS if k < n_q], np.int64)
        self._polar = np.empty((0, 0), np.float32)

    def run(self, function: Callable[[int, int], None], items: int) -> None:
        """Call ``function(thread, item)`` for all items; a thread that is done takes the next one."""
        if self._pool is None or items < 2:
            for i in range(items):
                function(0, i)
            return
        waiting = iter(range(items))  # taking the next number is one step under the GIL

        def work(thread: int) -> None:
            for i in waiting:
                function(thread, i)

        list(self._pool.map(work, range(self.threads)))

    def alone(self) -> Any:
        """Return a context in which BLAS has one thread: this object's own threads share the cores."""
        return self._blas.limit(limits=1, user_api="blas")

    def regrid(self, frames: Array) -> Array:
        """Return polar frames ``(n, n_q, n_phi)``; valid until the next call. Not finite: incomplete."""
        n_q, n_phi = self.layout.weight.shape
        n = len(frames)
        if self.operator is None:
            return np.ascontiguousarray(frames, dtype=self.layout.precision).reshape(n, n_q, n_phi)
        operator = self.operator
        flat = raw_rows(frames, len(operator.shape))
        blocks = -(-n // LANES)
        if len(self._polar) < blocks * LANES:
            self._polar = np.empty((blocks * LANES, operator.n_bins), np.float32)
        polar = self._polar

        def block(thread: int, i: int) -> None:
            picked = np.arange(i * LANES, min(n, (i + 1) * LANES))
            operator.lanes(flat, picked, polar[i * LANES : (i + 1) * LANES], self._scratch[thread])

        self.run(block, blocks)
        result = polar[:n, : n_q * n_phi].reshape(n, n_q, n_phi)
        if flat.dtype.kind == "f":
            for i in np.flatnonzero(~np.isfinite(result.sum(axis=(1, 2), dtype=np.float64))):
                result[i] = operator.repaired(flat[i])
        return result

    def measure(self, polar: Array) -> Measured:
        """Return the weighted ring means of polar frames, and which bins count."""
        n = len(polar)
        means = np.empty((n, self.layout.n_q))
        if not self.layout.per_frame:

            def whole(thread: int, i: int) -> None:
                ring_means(polar[i], self.layout.weight, self.weight_sums, means[i])

            self.run(whole, n)
            return Measured(polar, means, self.weight_sums)
        valid = np.isfinite(polar)
        known = polar if valid.all() else np.where(valid, polar, polar.dtype.type(0))
        sums = np.empty_like(means)

        def part(thread: int, i: int) -> None:
            weight = self.layout.weight * valid[i]
            sums[i] = weight.sum(axis=1, dtype=np.float64)
            ring_means(known[i], weight, sums[i], means[i])

        self.run(part, n)
        return Measured(known, means, sums, valid)

    def add(
        self,
        polar: Array,
        items: Sequence[tuple[int, int]],
        groups: Array,
        factors: Floats,
        sums: Sums,
        live: Live | None = None,
        valid: Array | None = None,
    ) -> None:
        """Add frames.

        Parameters
        ----------
        polar
            ``(n, n_q, n_phi)``.
        items
            Pairs ``(i, -1)`` for frame i, or ``(i, j)`` for the difference ``(f_i - f_j) / sqrt 2``.
        groups
            Of each item.
        factors
            Scale of each frame of `polar`.
        sums
            Where full stacks are added to.
        live
            Where small projections are added to at once.
        valid
            ``(n, n_q, n_phi)`` bool, bins of each frame that count beside the weights; None: all. Both frames
            of a difference have the bins that both have.
        """
        depth = self.layout.batch
        done = 0
        while done < len(items):
            slots: list[int] = []
            for group in groups[done:]:
                if self._fill[group] == depth:
                    break
                slots.append(self._fill[group])
                self._fill[group] += 1

            def one(thread: int, i: int, base: int = done, slots: list[int] = slots) -> None:
                work = self._work[thread]
                group = int(groups[base + i])
                self._spectrum(work, polar, items[base + i], factors, valid)
                self._scatter(work.spectrum, self._rows, work.means, slots[i], depth, self._stacks[group])
                if live is not None:
                    kernels.add_diagonals(work.spectrum, work.means, self._lags, work.diagonals[group])
                    kernels.add_rows(work.spectrum, work.means, self._at, work.live_rows)

            self.run(one, len(slots))
            done += len(slots)
            for group in range(self.layout.groups):
                if self._fill[group] == depth:
                    self._multiply(group, sums)
        if live is not None:
            for work in self._work:
                live.diagonals[...] += work.diagonals
                live.rows[...] += work.live_rows
                work.diagonals[...] = 0
                work.live_rows[...] = 0

    def flush(self, sums: Sums) -> None:
        """Multiply and add what waits in the stacks."""
        for group, filled in enumerate(self._fill):
            if filled:
                self._multiply(group, sums)

    @property
    def _scatter(self) -> Any:
        return kernels.scatter_single if self.layout.precision == "float32" else kernels.scatter_pairs

    def _spectrum(
        self, work: _Work, polar: Array, item: tuple[int, int], factors: Floats, valid: Array | None
    ) -> None:
        """Leave centred spectrum and ring means of a frame, or of a difference of two, in `work`."""
        i, j = item
        centre = self.layout.centre
        weight, weight_sums = self._weight, self.weight_sums
        if valid is not None:
            weight = weight * joint(valid, item)
            weight_sums = weight.sum(axis=1, dtype=np.float64)
        kernels.centre_rings(polar[i], weight, weight_sums, factors[i], centre, work.ring, work.means)
        if j >= 0:
            first, means = work.ring.copy(), work.means.copy()
            kernels.centre_rings(polar[j], weight, weight_sums, factors[j], centre, work.ring, work.means)
            work.ring[...] = (first - work.ring) * np.float32(0.5**0.5)
            work.means[...] = (means - work.means) * 0.5**0.5
        work.plan.execute()
        if not centre:
            work.means[...] = work.spectrum[:, 0].real
        elif valid is not None:  # order 0 is divided by that of the masks
            work.means *= weight_sums / self.layout.n_phi

    def _multiply(self, group: int, sums: Sums) -> None:
        layout = self.layout
        fold: Any = kernels.fold_orders
        packed = sums.products[group]
        if layout.part == "complex":
            fold, packed = kernels.fold_hermitian, packed.view(layout.accumulate)
        used, n_m = 2 * self._fill[group], len(layout.orders)
        shares = min(n_m, SHARES * self.threads) if self.threads > 1 else 1

        def share(thread: int, t: int) -> None:
            fold(
                self._stacks[group], 2 * layout.batch, used, layout.n_q, n_m * t // shares,
                n_m * (t + 1) // shares, packed, sums.amplitudes[group], *self._work[thread].scratch,
            )  # fmt: skip

        with self.alone():
            self.run(share, shares)
        sums.frames[group] += self._fill[group]
        self._fill[group] = 0


@dataclass(frozen=True, eq=False)
class Sums:
    """What a `Correlator` adds to: products, amplitudes ``(groups, orders, n_q)``, frames ``(groups,)``."""

    products: Array
    amplitudes: npt.NDArray[np.complex128]
    frames: npt.NDArray[np.int64]

    @classmethod
    def zeros(cls, layout: Layout) -> Sums:
        """Return new accumulators."""
        shape = layout.sum_shape
        return cls(
            np.zeros(shape, layout.sum_dtype),
            np.zeros((*shape[:2], layout.n_q), np.complex128),
            np.zeros(shape[0], np.int64),
        )


@dataclass(frozen=True, eq=False)
class Live:
    """Small projections: `diagonals` ``(groups, 33, lags, n_q)`` and `rows` ``(rings, 33, n_q)``."""

    diagonals: Floats
    rows: Floats

    @classmethod
    def zeros(cls, layout: Layout) -> Live:
        """Return new accumulators."""
        return cls(np.zeros(diagonal_shape(layout)), np.zeros(row_shape(layout)))


def diagonal_shape(layout: Layout) -> tuple[int, ...]:
    """Return the shape of `Live.diagonals`."""
    orders = min(LIVE_ORDERS, layout.n_phi // 2 + 1)
    return layout.groups, orders, sum(k < layout.n_q for k in LIVE_LAGS), layout.n_q


def row_shape(layout: Layout) -> tuple[int, ...]:
    """Return the shape of `Live.rows`."""
    return len(layout.live_rows), min(LIVE_ORDERS, layout.n_phi // 2 + 1), layout.n_q


class _Work:
    """What one thread needs."""

    def __init__(self, layout: Layout) -> None:
        n_q, n_phi = layout.weight.shape
        single = layout.precision == "float32"
        self.ring = pyfftw.empty_aligned((n_q, n_phi), layout.precision)
        self.spectrum = pyfftw.empty_aligned((n_q, n_phi // 2 + 1), "complex64" if single else "complex128")
        self.plan = pyfftw.FFTW(self.ring, self.spectrum, axes=(1,), flags=("FFTW_MEASURE",))
        self.means = np.zeros(n_q)
        squares = 2 if layout.part == "complex" else 1
        self.scratch = tuple(np.zeros((n_q, n_q), layout.stack_dtype) for _ in range(squares))
        self.diagonals = np.zeros(diagonal_shape(layout))
        self.live_rows = np.zeros(row_shape(layout))
