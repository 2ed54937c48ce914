"""Fold one block of a live stream: tiles along its pieces, whole frames where a lane needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError, UDFRunCancelled
from framefold.udfcore.assemble import assemble, missing_pixels
from framefold.udfcore.instance import Instance
from framefold.udfcore.live import Block, FrameStatus
from framefold.udfcore.live_encoded import Decoder, encoded, joined
from framefold.udfcore.plan import LanePlan, Plan
from framefold.udfcore.task import LivePart, LiveTask
from framefold.udfcore.tiles import Tiles
from framefold.udfcore.udf import UDFMethod

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Lane = tuple[LanePlan, list[Instance], Tiles]


class LiveWalk:
    """Hands the data of blocks to the lanes of one folder; keeps scratch between them."""

    def __init__(self, plan: Plan, lanes: Sequence[Lane], explain: Callable[[Exception, Any], None]) -> None:
        assert plan.live is not None
        self._plan = plan
        self._live = plan.live
        every = plan.live.geometry.start.sectors
        own = range(len(every)) if plan.live.own is None else plan.live.own
        self._sectors = tuple(every[i] for i in own)
        first = np.cumsum([0, *(len(s.pieces) for s in every)])
        self._first = [int(first[i]) for i in own]  # number of each sector's first piece in the frame
        self._n_pieces = int(first[-1])
        self._parts = [[s.piece_slices(p) for p in range(len(s.pieces))] for s in self._sectors]
        self._missing = plan.live.geometry.options.missing
        self._tiled = [
            (*lane, mode) for lane, mode in zip(lanes, plan.live.modes, strict=True) if mode != "frames"
        ]
        self._framed = [lane for lane, mode in zip(lanes, plan.live.modes, strict=True) if mode == "frames"]
        self._explain = explain
        # for each lane with tiles along pieces: which of its tiles a piece is, as it lies in the ring, or -1
        dtype = plan.live.geometry.start.dtype
        cells = [(f + p, part) for f, parts in zip(self._first, self._parts, strict=True)
                 for p, part in enumerate(parts)]  # fmt: skip
        self._as_they_are = [
            {
                n: lane.parts_of[n][0] if tiles.plain_part(part, lane.parts_of[n], dtype) else -1
                for n, part in cells
            }
            for lane, _, tiles, _ in self._tiled
        ]
        self._scratch: dict[tuple[int, ...], Array] = {}
        whole = any(lane.method is UDFMethod.PARTITION for lane, _, _ in self._framed)
        depth = None if whole else max(lane.scheme.depth for lane, _, _ in lanes)
        self._decoder = Decoder(self._sectors, plan.live.geometry.start.dtype, depth)

    def fold(self, task: LiveTask, cancelled: threading.Event | None) -> tuple[int, LivePart]:
        """Fold the rows of `task` and return how many frames are inside, and what arrived.

        Raises
        ------
        StreamError
            With ``missing="error"``, if a piece did not arrive.
        """
        block: Block = task.block
        rows = self._plan.rows
        where = rows.frame_ids(task.start, task.stop) + (task.shift + rows.offset - block.first_frame)
        if not encoded(block) or not len(where):
            return self._fold(task, where, cancelled)
        found: list[LivePart] = []
        total, damaged = 0, np.zeros(len(self._sectors), dtype=np.int64)
        for a, b, chunk, bad in self._decoder.chunks(block, where):
            part = replace(task, start=task.start + a, stop=task.start + b, block=chunk)
            whole, told = self._fold(part, np.arange(b - a), cancelled)
            total += whole
            damaged += bad
            found.append(told)
        return total, joined(found, damaged.tolist() if damaged.any() else ())

    def tell(self, task: LiveTask) -> tuple[int, LivePart]:
        """Return how many frames of a block are whole, and what arrived, of one folded on receipt."""
        rows = self._plan.rows
        where = rows.frame_ids(task.start, task.stop) + (task.shift + rows.offset - task.block.first_frame)
        return self._told(task, [flags[where] for flags in task.block.valid], len(where))

    def _told(self, task: LiveTask, valid: list[Flags], n: int) -> tuple[int, LivePart]:
        status = _status(valid, n)
        whole = int(np.count_nonzero(status == FrameStatus.COMPLETE))
        counts = np.zeros(self._n_pieces, dtype=np.int64)
        for at, flags in zip(self._first, valid, strict=True):
            counts[at : at + flags.shape[1]] = flags.sum(axis=0)
        return whole, LivePart(status, counts, whole, [task.block.t_last], task.shift)

    def receive(self, task: LiveTask, sector: int, raw: Array, first: int) -> int:
        """Fold rows from `first` on of a sector of one piece; return the number of the piece."""
        number = self._first[sector]
        try:
            self._piece(raw, number, self._parts[sector][0], first)
        except Exception as exc:
            self._explain(exc, task)
            raise
        return number

    def _fold(
        self, task: LiveTask, where: npt.NDArray[np.int64], cancelled: threading.Event | None
    ) -> tuple[int, LivePart]:
        block: Block = task.block
        here = _indexer(where) if len(where) else where
        valid = [flags[here] for flags in block.valid]
        status = _status(valid, len(where))
        if self._missing == "error" and (status != FrameStatus.COMPLETE).any():
            raise StreamError(self._what_is_missing(task, valid, status))
        if self._missing == "fill":
            self._fill(block, valid, where)
            usable = np.ones(len(where), dtype=bool)
            gaps = valid if (status != FrameStatus.COMPLETE).any() else None
            status = np.where(status == FrameStatus.COMPLETE, status, FrameStatus.PARTIAL).astype(np.uint8)
        else:
            usable = status == FrameStatus.COMPLETE
            gaps = None
        per_piece = self._missing == "skip"
        if self._tiled:
            self._pieces(task, where, valid if per_piece else None, usable, gaps, cancelled)
        if self._framed:
            self._frames(task, where, usable, gaps, cancelled)
        whole = int(np.count_nonzero(usable))
        counts = np.zeros(self._n_pieces, dtype=np.int64)
        for at, flags in zip(self._first, valid, strict=True):
            counts[at : at + flags.shape[1]] = flags.sum(axis=0) if per_piece else whole
        return whole, LivePart(status, counts, whole, [block.t_last], task.shift)

    # --- tiles along pieces ------------------------------------------------------------------

    def _pieces(
        self, task: LiveTask, where: npt.NDArray[np.int64], valid: list[Flags] | None, usable: Flags,
        gaps: list[Flags] | None, cancelled: threading.Event | None,
    ) -> None:  # fmt: skip
        block: Block = task.block
        laid_out = self._in_frames(block)
        complete = bool(usable.all())
        if complete and gaps is None and not laid_out:
            self._all_pieces(task, where, cancelled)
            return
        whole_runs = _runs(usable)
        all_rows = [(0, len(where))]
        for s in range(len(self._sectors)):
            full = None if valid is None or complete else valid[s].all(axis=0)
            if cancelled is not None and cancelled.is_set():
                raise UDFRunCancelled("UDF run cancelled while a block was folded")
            for p, part in enumerate(self._parts[s]):
                if full is None:
                    own_runs = whole_runs
                else:
                    own_runs = all_rows if full[p] else _runs(valid[s][:, p])  # type: ignore[index]
                for lane, udfs, tiles, mode in self._tiled:
                    members = lane.parts_of[self._first[s] + p]
                    for a, b in own_runs if mode == "pieces" else whole_runs:
                        piece = block.data[0][(slice(None), *part)] if laid_out else block.data[s][p]
                        raw = self._rows(piece, where[a:b])
                        lost = None if gaps is None else _gap(gaps[s][a:b, p])
                        self._tiles(task, lane, udfs, tiles, raw, part, members, task.start + a, lost)

    def _all_pieces(
        self, task: LiveTask, where: npt.NDArray[np.int64], cancelled: threading.Event | None
    ) -> None:
        """Fold a block that lacks nothing: nearly all are so, and the loop is the price of every tile."""
        data = task.block.data
        which = _indexer(where)
        view = isinstance(which, slice)
        try:
            for s, number in enumerate(self._first):
                if cancelled is not None and cancelled.is_set():
                    raise UDFRunCancelled("UDF run cancelled while a block was folded")
                for p, part in enumerate(self._parts[s]):
                    raw = data[s][p, which] if view else self._rows(data[s][p], where)
                    self._piece(raw, number + p, part, task.start)
        except UDFRunCancelled:
            raise
        except Exception as exc:
            self._explain(exc, task)
            raise

    def _piece(self, raw: Array, number: int, part: tuple[slice, ...], first: int) -> None:
        """Fold frames of one piece that follow one another, all of them valid."""
        last = first + len(raw)
        for (lane, udfs, tiles, _), members in zip(self._tiled, self._as_they_are, strict=True):
            member = members[number]
            if member >= 0 and tiles.plain(raw):
                for udf in udfs:
                    udf.process(raw, first, last, member)
            else:
                for start, stop, index, tile in tiles.cut(raw, part, lane.parts_of[number]):
                    for udf in udfs:
                        udf.process(tile, first + start, first + stop, index)

    # --- whole frames ------------------------------------------------------------------------

    def _frames(
        self, task: LiveTask, where: npt.NDArray[np.int64], usable: Flags,
        gaps: list[Flags] | None, cancelled: threading.Event | None,
    ) -> None:  # fmt: skip
        sig = self._plan.live.geometry.start.sig_shape  # type: ignore[union-attr]  # live, or not here
        part = tuple(slice(0, n) for n in sig)
        data = task.block.data
        ready: Array | None = None
        if self._in_frames(task.block):
            ready = data[0]
        elif len(data) == 1 and data[0].shape[0] == 1 and data[0].shape[2:] == sig:
            ready = data[0][0]
        whole = any(lane.method is UDFMethod.PARTITION for lane, _, _ in self._framed)
        depth = 2**62 if whole else max(lane.scheme.depth for lane, _, _ in self._framed)
        for first, last in _runs(usable):
            for a in range(first, last, min(depth, last - first)):
                if cancelled is not None and cancelled.is_set():
                    raise UDFRunCancelled("UDF run cancelled while a block was folded")
                b = min(last, a + depth)
                rows = where[a:b]
                if ready is not None:
                    raw = self._rows(ready, rows)
                else:
                    raw = self._out((b - a, *sig))
                    assemble(data, self._sectors, _indexer(rows), raw)
                lost = None
                if gaps is not None and not all(g[a:b].all() for g in gaps):
                    lost = missing_pixels([g[a:b] for g in gaps], self._sectors, sig)
                for lane, udfs, tiles in self._framed:
                    members = tuple(range(len(lane.scheme)))
                    self._tiles(task, lane, udfs, tiles, raw, part, members, task.start + a, lost)

    def _tiles(
        self, task: LiveTask, lane: LanePlan, udfs: list[Instance], tiles: Tiles, raw: Array,
        part: tuple[slice, ...], members: tuple[int, ...], first: int, lost: Flags | None,
    ) -> None:  # fmt: skip
        try:
            for start, stop, index, tile in tiles.cut(raw, part, members):
                for udf in udfs:
                    if lost is not None:
                        udf.meta._missing = _lost_in_tile(lane, lost, part, index, start, stop)
                        udf.meta._missing_from = first + start
                    udf.process(tile, first + start, first + stop, index)
        except Exception as exc:
            self._explain(exc, task)
            raise
        finally:
            if lost is not None:
                for udf in udfs:
                    udf.meta._missing = None

    def _rows(self, data: Array, rows: npt.NDArray[np.int64]) -> Array:
        """Return some frames of a piece: a view where they follow one another."""
        which = _indexer(rows)
        if isinstance(which, slice):
            return data[which]
        return np.take(data, which, axis=0, out=self._out((len(rows), *data.shape[1:])), mode="clip")

    def _out(self, shape: tuple[int, ...]) -> Array:
        have = self._scratch.get(shape[1:])
        if have is None or have.shape[0] < shape[0]:
            have = self._scratch[shape[1:]] = np.empty(shape, dtype=self._plan.dataset.dtype)
        return have[: shape[0]]

    def _in_frames(self, block: Block) -> bool:
        """Tell whether the block is one array of whole frames."""
        return block.data[0].ndim == 1 + len(self._live.geometry.start.sig_shape)

    def _fill(self, block: Block, valid: list[Flags], where: npt.NDArray[np.int64]) -> None:
        value = self._live.geometry.options.fill_value
        laid_out = self._in_frames(block)
        for s, (sector, flags) in enumerate(zip(self._sectors, valid, strict=True)):
            for row, piece in np.argwhere(~flags).tolist():
                if laid_out:
                    block.data[0][int(where[row])][sector.piece_slices(piece)] = value
                else:
                    block.data[s][piece, int(where[row])] = value

    def _what_is_missing(self, task: LiveTask, valid: list[Flags], status: npt.NDArray[np.uint8]) -> str:
        row = int(np.flatnonzero(status != FrameStatus.COMPLETE)[0])
        frame = int(self._plan.rows.frame_ids(task.start + row, task.start + row + 1)[0]) + task.shift
        lost = [
            f"piece {p} of sector {sector.index} ({sector.endpoint})"
            for sector, flags in zip(self._sectors, valid, strict=True)
            for p in np.flatnonzero(~flags[row]).tolist()
        ]
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        return (
            f"frame {frame}: {', '.join(lost[:3])}{more} did not arrive, and missing='error' was asked for. "
            "missing='skip' folds what arrived"
        )


def _status(valid: Sequence[Flags], n: int) -> npt.NDArray[np.uint8]:
    if all(flags.all() for flags in valid):
        return np.full(n, FrameStatus.COMPLETE, dtype=np.uint8)
    every, some = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    for flags in valid:
        every &= flags.all(axis=1)
        some |= flags.any(axis=1)
    partial = np.where(some, FrameStatus.PARTIAL, FrameStatus.LOST)
    return np.where(every, FrameStatus.COMPLETE, partial).astype(np.uint8)


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """Return maximal ranges of True."""
    if flags.all():
        return [(0, len(flags))] if len(flags) else []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(a, b) for a, b in edges.reshape(-1, 2).tolist()]


def _indexer(rows: npt.NDArray[np.int64]) -> Any:
    """Return a slice where the indices follow one another, so that a view will do."""
    first, n = int(rows[0]), len(rows)
    return slice(first, first + n) if int(rows[-1]) - first == n - 1 else rows


def _gap(arrived: Flags) -> Flags | None:
    """Return ``(n,)`` flags of the frames that lack this piece, or None."""
    return None if arrived.all() else ~arrived


def _lost_in_tile(
    lane: LanePlan, lost: Flags, part: tuple[slice, ...], index: int, start: int, stop: int
) -> Flags:
    """Return flags like a tile: which of its pixels never arrived."""
    tile = lane.scheme.parts[index]
    shape = (stop - start, *(s.stop - s.start for s in tile))
    if lost.ndim == 1:
        return np.broadcast_to(lost[start:stop].reshape(-1, *(1,) * len(tile)), shape)
    if lane.pre is not None and lane.pre.scope != "pixel":
        # a transform mixes pixels: nothing of such a frame is sure
        return np.broadcast_to(
            lost[start:stop].reshape(stop - start, -1).any(axis=1).reshape(-1, *(1,) * len(tile)), shape
        )
    inner = tuple(slice(t.start - p.start, t.stop - p.start) for t, p in zip(tile, part, strict=True))
    return lost[(slice(start, stop), *inner)]


def row_ranges(plan: Plan, block: Block) -> list[tuple[int, int, int]]:
    """Return ``(start, stop, shift)`` of the rows whose frames are in `block`.

    One range, or none; several where rows are used again or a window begins, in runs without an end.
    """
    rows = plan.rows
    assert plan.live is not None
    first = block.first_frame - rows.offset
    last = first + block.frames
    if plan.live.geometry.endless:
        ranges = []
        every = plan.live.geometry.options.restart_every or max(1, last)
        at = max(0, first)
        while at < last:
            lap = at // rows.n_nav * rows.n_nav
            stop = min(last, lap + rows.n_nav, (at // every + 1) * every)
            ranges.append((at - lap, stop - lap, lap))
            at = stop
        return ranges
    first, last = max(0, first), min(rows.n_nav, last)
    if rows.ids is not None:
        first, last = (int(i) for i in np.searchsorted(rows.ids, (first, last)))
    return [(first, last, 0)] if last > first else []
