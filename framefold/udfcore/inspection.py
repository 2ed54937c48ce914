"""What a run would do, read off its plan: buffers, methods, dtypes, tiling, memory. Reads no data."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.plan import LanePlan, Plan, RunOptions, UDFPlan
from framefold.udfcore.planning import make_plan
from framefold.udfcore.udf import UDF, UDFMethod


@dataclass(frozen=True)
class BufferReport:
    """A buffer of a UDF.

    Attributes
    ----------
    shape
        On the head node, navigation rows ROI-compressed; ``()`` for results made by ``get_results``.
    merge
        How partials are joined: the reduction, ``"merge()"``, or ``"rows"`` for navigation buffers.
    nbytes
        On the head node.
    travels
        ``"per partition"``, ``"as deltas"`` (stays on the worker), or ``"-"`` (made at the end).
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    use: str
    merge: str
    nbytes: int
    travels: str


@dataclass(frozen=True)
class UDFReport:
    """A UDF of the run.

    Attributes
    ----------
    lane
        UDFs of one lane share their tiles.
    tile
        Frames and signal shape of the (first) tile; `parts` is how many cover a frame.
    lane_bytes
        Buffers of one fold, of the largest partition.
    """

    name: str
    parameters: str
    method: str
    input_dtype: str
    backend: str
    lane: int
    tile: tuple[int, ...]
    parts: int
    merge_scope: str
    buffers: tuple[BufferReport, ...]
    lane_bytes: int


@dataclass(frozen=True)
class RunInspection:
    """The report: `repr` is a table in text, notebooks show it as HTML."""

    dataset: str
    frames: int
    lanes: int
    read: str
    corrections: str
    transforms: str
    udfs: tuple[UDFReport, ...]
    head_bytes: int
    lane_bytes: int

    def __repr__(self) -> str:
        lines = [f"{name:<14}{value}" for name, value in self._facts()]
        for udf in self.udfs:
            lines += ["", f"{udf.name}({udf.parameters})", *(f"  {k:<14}{v}" for k, v in _udf_facts(udf))]
            rows = [_HEAD, *(_row(b) for b in udf.buffers)]
            widths = [max(len(r[i]) for r in rows) for i in range(len(_HEAD))]
            lines += [
                "  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [_table([], self._facts())]
        for udf in self.udfs:
            parts.append(f"<h4>{html.escape(f'{udf.name}({udf.parameters})')}</h4>")
            parts += [_table([], _udf_facts(udf)), _table(_HEAD, [_row(b) for b in udf.buffers])]
        return "".join(parts)

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("dataset", self.dataset), ("frames", str(self.frames)), ("read in", self.read)]
        facts += [
            (k, v) for k, v in (("corrections", self.corrections), ("transforms", self.transforms)) if v
        ]
        memory = f"{size(self.head_bytes)} on the head, {size(self.lane_bytes)} in each of {self.lanes} lanes"
        return [*facts, ("buffers", memory)]


_HEAD = ("result", "kind", "shape", "dtype", "use", "merged by", "size", "travels")


def _row(b: BufferReport) -> tuple[str, ...]:
    shape = "x".join(map(str, b.shape)) or "-"
    return (b.name, b.kind, shape, b.dtype, b.use, b.merge, size(b.nbytes), b.travels)


def _udf_facts(udf: UDFReport) -> list[tuple[str, str]]:
    depth, *part = udf.tile
    cut = (
        "whole partitions"
        if udf.method == "process_partition"
        else f"{depth} x {'x'.join(map(str, part)) or 'scalar'}"
    )
    pieces = f", {udf.parts} parts per frame" if udf.parts > 1 else ""
    return [
        ("method", udf.method),
        ("input", f"{udf.input_dtype}, {udf.backend}, lane {udf.lane}"),
        ("tiles", cut + pieces),
        ("merge scope", udf.merge_scope),
        ("per lane", size(udf.lane_bytes)),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th style='text-align:left'>{html.escape(c)}</th>" for c in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def size(nbytes: float) -> str:
    """Return a number of bytes for people.

    >>> size(0), size(1536), size(3 * 2**20)
    ('0 B', '1.5 KiB', '3 MiB')
    """
    power = min(4, int(math.log2(nbytes) // 10)) if nbytes >= 1 else 0
    value = nbytes / 1024**power
    return f"{value:.0f} {_UNITS[power]}" if value >= 1000 else f"{value:.3g} {_UNITS[power]}"


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def inspect_run(dataset: Dataset, udfs: Sequence[UDF], options: RunOptions, lanes: int) -> RunInspection:
    """Plan a run and report the plan.

    Parameters
    ----------
    dataset, udfs, options
        As in a run.
    lanes
        Folds that run at the same time.

    Raises
    ------
    UDFError, DataError
        As planning a run does.
    """
    plan = make_plan(dataset, udfs, options)
    lanes = max(1, min(lanes, plan.max_lanes or lanes))
    limits = plan.partition_limits(lanes)
    rows = min(limits.fixed or limits.max_rows, max(1, -(-plan.n_rows // lanes)), max(1, plan.n_rows))
    lane_of = {i: n for n, lane in enumerate(plan.lanes) for i in lane.udfs}
    reports = tuple(
        _udf_report(udf, p, plan.lanes[lane_of[i]], lane_of[i], plan.n_rows, rows)
        for i, (udf, p) in enumerate(zip(udfs, plan.udfs, strict=True))
    )
    nbytes = dataset.shape.size * dataset.dtype.itemsize
    return RunInspection(
        dataset=f"{dataset.name}: {dataset.shape} {dataset.dtype}, {size(nbytes)}",
        frames=plan.n_rows,
        lanes=lanes,
        read=_read(plan),
        corrections="" if options.corrections is None else options.corrections.identity,
        transforms=", ".join(map(repr, options.pre)),
        udfs=reports,
        head_bytes=sum(b.nbytes for r in reports for b in r.buffers),
        lane_bytes=sum(r.lane_bytes for r in reports) + _block_bytes(plan, rows),
    )


def _udf_report(udf: UDF, p: UDFPlan, lane: LanePlan, index: int, head_rows: int, rows: int) -> UDFReport:
    kept = [d for d in p.decls.values() if d.use != "result_only"]
    scheme = lane.scheme
    first = tuple(s.stop - s.start for s in scheme.parts[0])
    depth = rows if p.method is UDFMethod.PARTITION else min(scheme.depth, rows)
    return UDFReport(
        name=p.name,
        parameters=", ".join(f"{k}={_short(v)}" for k, v in p.kwargs.items()),
        method=f"process_{p.method.value}",
        input_dtype=str(p.info.input_dtype),
        backend=lane.backend,
        lane=index,
        tile=(depth, *first),
        parts=len(scheme.parts),
        merge_scope="any worker" if udf.engine.merge_scope == "any" else "head node",
        buffers=tuple(_buffer_report(n, d, p, head_rows) for n, d in p.decls.items()),
        lane_bytes=sum(d.nbytes(rows, p.sig) for d in kept),
    )


def _buffer_report(name: str, d: BufferDecl, p: UDFPlan, rows: int) -> BufferReport:
    made = d.use == "result_only"
    merge = "get_results()" if made else "rows" if d.kind == "nav" else d.reduce or "merge()"
    if d.kind == "nav" and not made and p.cls.merge is not UDF.merge:
        merge = "merge()"
    lags = name in p.resident or name in p.joined
    return BufferReport(
        name=name,
        kind=d.kind,
        shape=d.shape(rows, p.sig),
        dtype=str(d.dtype),
        use={None: "", "result_only": "result only"}.get(d.use, d.use or ""),
        merge=merge,
        nbytes=0 if made else d.nbytes(rows, p.sig),
        travels="-" if made else "as deltas" if lags else "per partition",
    )


def _read(plan: Plan) -> str:
    if plan.dataset.source.is_view:
        return "views of memory, no copy"
    if any(lane.method is UDFMethod.PARTITION for lane in plan.lanes):
        return "whole partitions"
    part = plan.read_parts[0]
    shape = "x".join(str(s.stop - s.start) for s in part)
    pieces = f", {len(plan.read_parts)} parts per frame" if len(plan.read_parts) > 1 else ""
    return f"blocks of {plan.read_depth} x {shape}{pieces}"


def _block_bytes(plan: Plan, rows: int) -> int:
    """Return the scratch of one lane: the block read, and converted tiles of each lane."""
    part = max(math.prod(s.stop - s.start for s in p) for p in plan.read_parts)
    raw = (
        0 if plan.dataset.source.is_view else part * min(plan.read_depth, rows) * plan.dataset.dtype.itemsize
    )
    for lane in plan.lanes:
        if lane.dtype != plan.dataset.dtype or lane.corrections is not None or lane.pre is not None:
            tile = max(math.prod(s.stop - s.start for s in p) for p in lane.scheme.parts)
            raw += tile * min(lane.scheme.depth, rows) * lane.dtype.itemsize
    return raw


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape:
        return f"<{type(value).__name__} {'x'.join(map(str, shape))}>"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
