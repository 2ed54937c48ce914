"""Join partials on the head node into the result buffers, and take consistent snapshots of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, annotate
from framefold.udfcore.assemble import coverage
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.binding import bind_aux_whole
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.decay import faded
from framefold.udfcore.plan import Plan, UDFPlan
from framefold.udfcore.row_book import Kept, RowBook
from framefold.udfcore.task import Partial
from framefold.udfcore.udf import UDF, merge_call
from framefold.udfcore.windows import Filled, Windows

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
MAX_LATENCIES = 10_000


@dataclass(frozen=True)
class Frozen:
    """The state of one UDF's buffers at one moment: arrays that nobody writes any more.

    Attributes
    ----------
    arrays
        Buffers by name; navigation buffers flat and ROI-compressed.
    merged
        Flag per row: in the small buffers.
    frames
        For each buffer the frames inside (large buffers lag behind).
    inside
        Live: flag per row, in all buffers of this UDF; None: as `merged`.
    ids
        In runs without an end: the frame numbers of the rows, increasing.
    coverage
        Live: for each buffer the frames inside per pixel (weighted where old ones fade), signal shape; under
        "" those of the small buffers.
    """

    arrays: Mapping[str, Array]
    merged: Flags
    frames: Mapping[str, float]
    ids: npt.NDArray[np.int64] | None = None
    inside: Flags | None = None
    coverage: Mapping[str, Array] = field(default_factory=dict)


@dataclass
class _Head:
    udf: UDF
    plan: UDFPlan
    book: RowBook
    filled: Filled
    by_piece: bool = False

    @property
    def buffers(self) -> dict[str, Array]:
        return self.filled.buffers

    @property
    def frames(self) -> dict[str, float]:
        return self.filled.frames

    @property
    def counts(self) -> dict[str, Array]:
        return self.filled.counts

    @property
    def newest(self) -> dict[str, int]:
        return self.filled.newest

    @property
    def lags(self) -> bool:
        return self.plan.lags

    @property
    def windowed(self) -> list[str]:
        return [k for k in self.buffers if self.plan.decls[k].kind != "nav"]


class Merger:
    """Holds the head node's buffers. `merge` and `freeze` may be called from different threads."""

    def __init__(self, plan: Plan, udfs: Sequence[UDF]) -> None:
        self.plan = plan
        self.lock = threading.RLock()
        self.version = 0
        self.partitions = 0
        self.oldest_params: int | None = None
        self.newest_params = 0
        self._seen: set[int] = set()
        self._seen_large: set[int] = set()
        self._copies: dict[tuple[int, str], Array] = {}
        live = plan.live
        groups = 1 if live is None else live.groups
        # with sectors in several processes: UDFs folded where sectors arrive, UDFs folded on whole frames
        here, whole = RowBook(plan.n_rows, live, groups), RowBook(plan.n_rows, live, 1)
        together = [groups > 1 and live is not None and bool(live.apart[i]) for i in range(len(udfs))]
        self._books = [b for b, used in ((here, not all(together)), (whole, any(together))) if used]
        self.latencies: list[float] = []
        books = [whole if t else here for t in together]
        self._heads = [self._head(u, p, b) for u, p, b in zip(udfs, plan.udfs, books, strict=True)]
        if plan.live is not None:
            n_pieces = plan.live.geometry.start.n_pieces
            for lane, mode in zip(plan.lanes, plan.live.modes, strict=True):
                for i in lane.udfs:
                    head = self._heads[i]
                    head.by_piece = mode == "pieces"
                    kind = np.int64 if plan.live.geometry.options.decay is None else np.float64
                    head.filled.counts = {k: np.zeros(n_pieces, kind) for k in (*head.buffers, "")}
        self._tau = None if live is None else live.geometry.options.decay
        every = None if live is None else live.geometry.options.restart_every
        self.windows = None if every is None else Windows(every, self._heads)

    @property
    def book(self) -> RowBook:
        """The rows as they arrived: as those UDFs know them that are folded where sectors arrive."""
        return self._books[0]

    @property
    def merged(self) -> Flags:
        """Flag per row: merged for all UDFs; not a copy."""
        flags = self._books[0].merged
        return flags if len(self._books) == 1 else flags & self._books[1].merged

    @property
    def n_frames(self) -> int:
        """Frames that are merged for all UDFs."""
        return min(b.n_frames for b in self._books)

    @property
    def rows_done(self) -> int:
        """Rows of which nothing is to come."""
        return min(b.rows_done for b in self._books)

    def _head(self, udf: UDF, plan: UDFPlan, book: RowBook) -> _Head:
        n = self.plan.n_rows
        buffers = {k: d.allocate(n, plan.sig) for k, d in plan.decls.items() if d.use != "result_only"}
        udf.results = udf._make_views(plan.decls, plan.name)
        self._bind(udf, plan, buffers)
        udf.meta._mask = np.zeros(n, dtype=bool)
        try:
            udf.preprocess()  # on the head it may put start values for merge
        except Exception as exc:
            annotate(exc, f"in {plan.name}.preprocess, on the head node", udf=plan.name, stage="preprocess")
            raise
        return _Head(udf, plan, book, Filled(buffers, dict.fromkeys(buffers, 0)))

    @staticmethod
    def _bind(udf: UDF, plan: UDFPlan, arrays: Mapping[str, Array]) -> None:
        views = vars(udf.results)
        for name in plan.decls:
            views[name] = arrays.get(name)

    def merge(self, partial: Partial) -> bool:
        """Join a partial; return False if its partitions were merged before (a retry's twin)."""
        with self.lock:
            seen = self._seen_large if partial.delta else self._seen
            ids = {t[0] for t in partial.tasks}
            if ids <= seen:
                return False
            if ids & seen:
                raise UDFError(
                    f"partitions {sorted(ids & seen)} came twice inside a larger delta; please report this"
                )
            heads = self._heads if partial.members is None else [self._heads[i] for i in partial.members]
            book = heads[0].book
            kept: Kept = []
            if self.windows is not None and partial.live is not None:
                self.windows.turn(partial.live.window, partial.live.block)
            if partial.live is not None and not partial.delta:
                _, start, stop = partial.tasks[0]
                kept = book.reuse(start, stop, partial.live.shift, _nav_starts(heads))
            if partial.delta:
                self._copies.clear()
            for head, arrays in zip(heads, partial.arrays, strict=True):
                self._merge_one(head, partial, arrays)
            if self.plan.live is None:
                seen |= ids
            else:  # streams pass once: nothing comes twice, and the set of a run without an end would grow
                self._account(heads, partial)
            if not partial.delta:
                rows, frames = self.plan.rows, partial.frames
                for _, start, stop in partial.tasks:
                    good = rows.deliverable(start, stop) if partial.live is None else None
                    book.add(start, stop, frames, good, partial.live)
                    frames = 0
                self.partitions += len(partial.tasks)
                v = partial.params_version
                self.oldest_params = v if self.oldest_params is None else min(self.oldest_params, v)
                self.newest_params = max(self.newest_params, v)
            for kept_rows, which, values in kept:
                kept_rows[which] = values
            if self.windows is not None:
                self.windows.count(
                    heads, sum(stop - start for _, start, stop in partial.tasks), partial.delta
                )
            self.version += 1
            return True

    def _account(self, heads: Sequence[_Head], partial: Partial) -> None:
        """Count what arrived, in the buffers that this partial holds."""
        live = partial.live
        assert live is not None
        now = time.monotonic()
        for head, arrays in zip(heads, partial.arrays, strict=True):
            names = [*arrays] if partial.delta else [*arrays, ""]
            for name in names:
                weight = 1 if self._tau is None else self._fade(head, name, live.time, self._tau)
                head.counts[name] += weight * (
                    live.counts if head.by_piece or head.book.joins else live.whole
                )
        if partial.delta or not any(h.plan.lags for h in heads):
            self.latencies += [now - t for t in live.closed if t]
            del self.latencies[:-MAX_LATENCIES]
        if partial.delta:
            for _, start, stop in partial.tasks:
                heads[0].book.ship(start, stop)

    def _merge_one(self, head: _Head, partial: Partial, arrays: Mapping[str, Array]) -> None:
        custom: dict[str, Array] = {}
        for name, src in arrays.items():
            decl = head.plan.decls[name]
            dest = head.buffers[name]
            if self._tau is not None and decl.kind != "nav" and partial.live is not None:
                weight = self._fade(head, name, partial.live.time, self._tau)
                head.frames[name] += weight * partial.live.whole
                dest += weight * src
                continue
            head.frames[name] += partial.frames
            if decl.reduce is None:
                custom[name] = src
            elif decl.reduce == "last":
                self._last(head, name, decl, partial, src)
            else:
                if decl.kind == "nav":
                    _, start, stop = partial.tasks[0]
                    dest = dest[start:stop]
                REDUCERS[decl.reduce](dest, src)
        if not custom:
            return
        decls = head.plan.decls
        _, start, stop = partial.tasks[0]
        if partial.delta:  # joined on the worker: its navigation rows came before
            stop = start
            custom.update({k: head.buffers[k][:0] for k, d in decls.items() if _own_nav(d)})
        targets = {
            k: head.buffers[k][start:stop] if decls[k].kind == "nav" else head.buffers[k] for k in custom
        }
        if head.plan.joined and not partial.delta:
            for name, rows in targets.items():
                rows[...] = custom[name]
        else:
            self._custom(head, start, stop, targets, custom)

    @staticmethod
    def _fade(head: _Head, name: str, now: float, tau: float) -> float:
        """Let what a buffer holds fade until `now`; return what frames of then count in it."""
        times = head.filled.times
        have = times.get(name, now)
        times[name] = max(have, now)
        if now < have:  # another lane or process was faster
            return faded(tau, have - now)
        if now > have:
            weight = faded(tau, now - have)
            head.counts[name] *= weight
            if name in head.buffers and head.plan.decls[name].kind != "nav":
                head.buffers[name] *= weight
                head.frames[name] *= weight
        return 1.0

    def _custom(
        self, head: _Head, start: int, stop: int, dest: dict[str, Array], src: dict[str, Array]
    ) -> None:
        udf, plan = head.udf, head.plan
        udf.meta._mask = head.book.merged.copy()
        rows = self.plan.rows
        params = vars(udf.params)
        for key, value in udf._kwargs.items():
            if isinstance(value, AuxData) and value.kind == "nav":
                flat = value.flat(rows.n_nav, plan.sig)
                params[key] = flat[rows.frame_ids(start, stop)]
        d = udf._make_merge_view(plan.decls, dest, f"{plan.name}.merge(dest)")
        s = udf._make_merge_view(plan.decls, src, f"{plan.name}.merge(src)")
        try:
            merge_call(udf)(d, s)
        except Exception as exc:
            annotate(
                exc, f"in {plan.name}.merge, rows {start}..{stop - 1}, on the head node",
                udf=plan.name, stage="merge", frames=rows.frame_ids(start, stop).tolist(),
            )  # fmt: skip
            raise

    def _last(self, head: _Head, name: str, decl: BufferDecl, partial: Partial, src: Array) -> None:
        if partial.last_ids is None:
            return
        newest = int(partial.last_ids[-1])
        if decl.kind == "nav":
            _, start, stop = partial.tasks[0]
            head.buffers[name][start:stop] = src
        elif newest > head.newest.get(name, -1):
            head.buffers[name][...] = src
            head.newest[name] = newest

    def _coverage(self, head: _Head) -> dict[str, Array]:
        if self.plan.live is None:
            return {}
        sectors, sig = self.plan.live.geometry.start.sectors, head.plan.sig
        return {
            name: np.broadcast_to(counts[0], sig)
            if (counts == counts[0]).all()
            else coverage(counts, sectors, sig)
            for name, counts in head.counts.items()
        }

    def update(self, udf_index: int, patch: Mapping[str, Any]) -> None:
        """Use other parameters for all further merges and results of one UDF."""
        with self.lock:
            head = self._heads[udf_index]
            udf = head.udf
            udf._kwargs = {**udf._kwargs, **patch}
            vars(udf.params).update(udf.copy().params.items())
            bind_aux_whole(udf, self.plan.rows, head.plan.sig)

    def freeze(self) -> tuple[Frozen, ...]:
        """Return copies of all buffers as they are between two merges."""
        with self.lock:
            if self._books[0].ids is not None:
                return self._in_order()
            merged = {id(b): b.merged.copy() for b in self._books}
            return tuple(
                Frozen(
                    {k: self._frozen(h, k) for k in h.buffers}, merged[id(h.book)], dict(h.frames),
                    inside=self._inside(h), coverage=self._coverage(h),
                )
                for h in self._heads
            )  # fmt: skip

    def _frozen(self, head: _Head, name: str) -> Array:
        """Return a copy of a buffer; snapshots between two deltas share that of a large one, read-only."""
        array = head.buffers[name]
        changes = self._tau is not None or self.windows is not None  # in other ways than by deltas
        if changes or name not in head.plan.resident or head.plan.decls[name].reduce is None:
            return array.copy()
        key = id(head), name
        if key not in self._copies:
            self._copies[key] = array.copy()
            self._copies[key].flags.writeable = False
        return self._copies[key]

    def finish(self) -> tuple[Frozen, ...]:
        """Return the buffers themselves; nothing is merged afterwards."""
        with self.lock:
            if self.windows is not None:
                self.windows.end()
            if self._books[0].ids is not None:
                return self.freeze()
            return tuple(
                Frozen(
                    h.buffers,
                    h.book.merged,
                    dict(h.frames),
                    inside=self._inside(h),
                    coverage=self._coverage(h),
                )
                for h in self._heads
            )

    def _inside(self, head: _Head) -> Flags | None:
        if self.plan.live is None:
            return None
        if head.plan.lags:
            return head.book.merged & head.book.shipped
        return head.book.merged.copy() if len(self._books) > 1 else None

    def _in_order(self) -> tuple[Frozen, ...]:
        """Return the last frames of a run without an end, oldest first: those that all UDFs know."""
        if self.windows is not None:
            self.windows.turn(self.windows.shown)
        held = [b.ids for b in self._books if b.ids is not None]
        rows = np.flatnonzero((held[0] >= 0) & (held[0] == held[-1]))
        ids = held[0][rows]
        order = np.argsort(ids)
        rows, ids = rows[order], ids[order]
        out = []
        for head in self._heads:
            decls = head.plan.decls
            arrays = {k: v[rows] if decls[k].kind == "nav" else v.copy() for k, v in head.buffers.items()}
            coverage = self._coverage(head)
            out.append(Frozen(arrays, head.book.merged[rows], dict(head.frames), ids, coverage=coverage))
        return tuple(out)

    @property
    def udfs(self) -> tuple[UDF, ...]:
        """The head node's UDF objects."""
        return tuple(h.udf for h in self._heads)


def _add(dest: Array, src: Array) -> None:
    np.add(dest, src, out=dest, casting="same_kind") if dest.dtype.kind != "b" else np.logical_or(
        dest, src, out=dest
    )


REDUCERS: dict[str, Callable[[Array, Array], Any]] = {
    "sum": _add,
    "mean": _add,  # the engine divides by the frames inside when results are made
    "max": lambda dest, src: np.maximum(dest, src, out=dest),
    "min": lambda dest, src: np.minimum(dest, src, out=dest),
}


def _nav_starts(heads: Sequence[_Head]) -> list[tuple[Array, Any]]:
    """Return the navigation buffers and what their rows start with."""
    return [
        (h.buffers[k], d.start)
        for h in heads
        for k, d in h.plan.decls.items()
        if d.kind == "nav" and k in h.buffers
    ]


def _own_nav(decl: BufferDecl) -> bool:
    return decl.kind == "nav" and decl.reduce is None and decl.use != "result_only"
