"""From source, UDFs and options to a frozen `Plan`; reads no data.

Lanes are UDFs that can share tiles. Each lane cuts its own tiles over the same blocks of raw data.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framefold.errors import DataError, UDFError
from framefold.udfcore.backend import Backends, choose_backend
from framefold.udfcore.binding import bind_aux_whole
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.decay import check_decays
from framefold.udfcore.live_plan import (
    LaneMode,
    LiveGeometry,
    LivePlan,
    by_piece,
    check_endless,
    check_fill,
    needs_all_sectors,
    parts_in_pieces,
    parts_join,
    piece_scheme,
)
from framefold.udfcore.meta import RunInfo
from framefold.udfcore.partitioning import MAX_PARTITION_BYTES
from framefold.udfcore.plan import LanePlan, Plan, RunOptions, UDFPlan
from framefold.udfcore.pre import PreChain, Transform
from framefold.udfcore.roi import RowMap, row_map
from framefold.udfcore.shapes import Shape
from framefold.udfcore.tiling import TilingScheme, cache_target, frame_scheme, tile_scheme
from framefold.udfcore.udf import UDF, UDFMethod

LARGE_BYTES = 16 * 1024**2  # one partial per worker instead of per partition: 2.4x for 16 x 16 MiB
VIEW_BUDGET = 8  # zero-copy tiles may be this many times the cache target: nothing is written


def make_plan(dataset: Dataset, udfs: Sequence[UDF], options: RunOptions) -> Plan:
    """Return the plan of a run.

    As a side effect each UDF's ``meta`` describes the run, as its ``get_*`` hooks expect.

    Raises
    ------
    UDFError, DataError
        If the UDFs, the options and the dataset do not fit together.
    """
    nav = dataset.shape.nav
    roi = options.roi
    rows = row_map(nav.size, dataset.valid, dataset.sync_offset, None if roi is None else roi.reshape(-1))
    run_id = uuid.uuid4().hex[:12]
    corrections = options.corrections
    if corrections is not None:
        corrections.check(tuple(dataset.shape.sig))
    drafts = [_draft(udf, dataset, rows, options) for udf in udfs]
    if options.dtype_policy == "joint":
        joint = np.result_type(*(d.dtype for d in drafts))
        drafts = [_Draft(d.udf, d.method, joint, d.backend, d.chain, d.correct) for d in drafts]
    geometry: LiveGeometry | None = getattr(dataset.source, "geometry", None)
    if geometry is not None:
        check_fill(geometry.options, dataset.dtype)
        if geometry.endless and roi is not None:
            raise DataError("a region of interest needs a scan shape: give nav_shape= (or n_frames=)")
        check_endless(geometry)
    live_modes = [None if geometry is None else _live_mode(d, geometry, options) for d in drafts]
    groups: dict[Any, list[int]] = {}
    for i, d in enumerate(drafts):
        whole = d.udf.engine.whole_frames
        key = (d.method, d.dtype, d.backend, d.chain, d.correct, whole, live_modes[i])
        groups.setdefault(key, []).append(i)
    multiple = math.lcm(*(_multiple(d.udf) for d in drafts))
    read_parts_wanted: list[TilingScheme | None] = []
    lanes: list[LanePlan] = []
    schemes: dict[int, TilingScheme] = {}
    modes: list[LaneMode] = []
    for (method, dtype, backend, chain, correct, whole, mode), members in groups.items():
        pieces = geometry if mode in ("pieces", "complete") else None
        scheme = _scheme(
            method, [drafts[i].udf for i in members], dataset, dtype, chain, correct, whole, options, pieces
        )
        scheme = replace(scheme, depth=-(-scheme.depth // multiple) * multiple) if multiple > 1 else scheme
        if mode is not None:
            modes.append(mode)
        prepared = (
            corrections.prepare(tuple(dataset.shape.sig), _correct_dtype(dtype, chain))
            if correct and corrections
            else None
        )
        whole_reads = chain is not None or (prepared is not None and prepared.needs_halo)
        read_parts_wanted.append(None if whole_reads else scheme)
        lanes.append(LanePlan(tuple(members), method, dtype, backend, chain, scheme, prepared, ()))
        schemes.update(dict.fromkeys(members, scheme))
    live = None
    if geometry is not None:
        missing = geometry.options.missing
        apart = [
            needs_all_sectors(d.udf, declarations(d.udf, d.dtype), mode or "frames", missing)
            for d, mode in zip(drafts, live_modes, strict=True)
        ]
        if in_order(udfs, options):  # one worker then folds all blocks
            apart = ["partitions are merged in order"] * len(drafts)
        live = LivePlan(geometry, tuple(modes), options.publish_interval, tuple(apart))
    if geometry is None:
        read_parts = _read_parts(dataset, read_parts_wanted)
        lanes = [_nest(lane, read_parts) for lane in lanes]
        read_depth = _read_depth(dataset, lanes, read_parts, multiple)
    else:
        read_parts, read_depth = geometry.pieces, 2**62
        lanes = [
            replace(lane, parts_of=parts_in_pieces(lane.scheme, read_parts if mode != "frames" else None))
            for lane, mode in zip(lanes, modes, strict=True)
        ]
    plans = tuple(_udf_plan(d, dataset, rows, options, schemes[i], run_id) for i, d in enumerate(drafts))
    if geometry is not None and geometry.options.decay is not None:
        for plan in plans:
            check_decays(geometry.options.decay, plan.name, plan.decls)
    max_rows = _max_rows(dataset, plans, lanes)
    chunk = math.lcm(max(1, dataset.source.natural_chunks[0]) if roi is None else 1, multiple)
    limits = [u.engine.lanes for u in udfs if u.engine.lanes]
    return Plan(
        run_id, dataset, rows, plans, tuple(lanes), read_depth, read_parts, max_rows, chunk, options,
        max_lanes=min(limits) if limits else None, live=live,
    )  # fmt: skip


def in_order(udfs: Sequence[UDF | type[UDF]], options: RunOptions) -> bool:
    """Tell whether partials must be merged in the order of their partitions."""
    return options.deterministic or any(u.engine.order == "stream" for u in udfs)


@dataclass(frozen=True)
class _Draft:
    udf: UDF
    method: UDFMethod
    dtype: np.dtype[Any]
    backend: str
    chain: PreChain | None
    correct: bool


def _live_mode(draft: _Draft, geometry: LiveGeometry, options: RunOptions) -> LaneMode:
    """Return how a UDF gets the frames of a live stream."""
    given = options.corrections
    halo = False
    if draft.correct and given is not None:
        sig = geometry.start.sig_shape
        halo = given.prepare(sig, _correct_dtype(draft.dtype, draft.chain)).needs_halo
    scope = None if draft.chain is None else draft.chain.scope
    if draft.method is not UDFMethod.TILE or not by_piece(draft.udf, scope, halo):
        return "frames"
    if geometry.options.missing != "skip":
        return "complete"
    return "complete" if parts_join(draft.udf, declarations(draft.udf, draft.dtype)) else "pieces"


def udf_chain(udf: UDF, options: RunOptions) -> tuple[Transform, ...]:
    """Return the transforms before `udf`: those of the run, then its own (`Pipe`)."""
    return (*options.pre, *udf.pre_transforms)


def hands_over(udf: UDF, options: RunOptions) -> bool:
    """Tell whether `udf` takes the corrections over: it wants to, they are linear, nothing comes between."""
    given = options.corrections
    linear = given is not None and given.gain_stages is None
    return linear and udf.engine.corrections == "self" and not udf_chain(udf, options)


def _draft(udf: UDF, dataset: Dataset, rows: RowMap, options: RunOptions) -> _Draft:
    sig = tuple(dataset.shape.sig)
    correct = options.corrections is not None and not hands_over(udf, options)
    raw = dataset.dtype
    if correct:
        raw = np.result_type(raw, np.float32)
    transforms = udf_chain(udf, options)
    chain = PreChain(transforms, sig, raw) if transforms else None
    source_dtype = chain.out_dtype if chain else raw
    out_sig = chain.out_shape if chain else sig
    # hooks may read meta: give them one with the dtype that is known so far
    provisional = _info(udf, dataset, rows, options, out_sig, source_dtype, None, Backends.BACKEND_NUMPY, "")
    udf.meta = udf._make_meta(provisional)
    method = udf.get_method()
    if not isinstance(method, UDFMethod):
        raise UDFError(f"{type(udf).__name__}.get_method returned {method!r}, expected one of UDF.UDF_METHOD")
    if not hasattr(udf, f"process_{method.value}"):
        raise UDFError(
            f"{type(udf).__name__}.get_method returned {method}, but there is no process_{method.value}"
        )
    dtype = np.result_type(udf.get_preferred_input_dtype(), source_dtype)
    wanted = udf.get_backends()
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    source_backend = getattr(dataset.source, "backend", Backends.BACKEND_NUMPY)
    backend = choose_backend(source_backend, wanted, options.backends)
    return _Draft(udf, method, dtype, backend, chain, correct)


def _info(
    udf: UDF, dataset: Dataset, rows: RowMap, options: RunOptions, sig: tuple[int, ...],
    dtype: np.dtype[Any], scheme: TilingScheme | None, backend: str, run_id: str,
) -> RunInfo:  # fmt: skip
    shape = Shape((*dataset.shape.nav, *sig), sig_dims=len(sig))
    handed = options.corrections if hands_over(udf, options) else None
    axes = dataset.axes if shape == dataset.shape else dataset.axes[: dataset.shape.nav.dims]
    return RunInfo(
        shape, dataset.shape, dataset.dtype, dtype, rows, options.roi, scheme, handed, axes, backend, run_id
    )


def _udf_plan(
    draft: _Draft, dataset: Dataset, rows: RowMap, options: RunOptions, scheme: TilingScheme, run_id: str
) -> UDFPlan:
    udf = draft.udf
    sig = draft.chain.out_shape if draft.chain else tuple(dataset.shape.sig)
    info = _info(udf, dataset, rows, options, sig, draft.dtype, scheme, draft.backend, run_id)
    udf.meta = udf._make_meta(info)
    bind_aux_whole(udf, rows, sig)
    decls = declarations(udf, draft.dtype)
    live = getattr(dataset.source, "geometry", None) is not None
    resident = frozenset() if options.deterministic else _resident(udf, decls, sig, live)
    joined = frozenset() if options.deterministic else _joined(udf, decls)
    return UDFPlan(
        type(udf), udf._kwargs, type(udf).__name__, decls, draft.method, info, sig, resident, joined
    )


def _joined(udf: UDF, decls: Mapping[str, BufferDecl]) -> frozenset[str]:
    if udf.engine.merge_scope != "any" or type(udf).merge is UDF.merge:
        return frozenset()
    return frozenset(
        name for name, d in decls.items() if d.use != "result_only" and d.kind != "nav" and d.reduce is None
    )


def _resident(udf: UDF, decls: Mapping[str, BufferDecl], sig: tuple[int, ...], live: bool) -> frozenset[str]:
    """Return the buffers that may keep accumulating over partitions; live all that can, at any size.

    Not where user code finishes a partition in `postprocess`, or gives small buffers their start values in
    `preprocess`: it would see earlier partitions too.
    """
    if type(udf).postprocess is not UDF.postprocess or (live and type(udf).preprocess is not UDF.preprocess):
        return frozenset()
    return frozenset(
        name
        for name, d in decls.items()
        if d.use != "result_only"
        and d.kind != "nav"
        and d.reduce in ("sum", "max", "min", "mean")
        and (live or d.large or d.nbytes(0, sig) > LARGE_BYTES)
    )


def declarations(udf: UDF, dtype: np.dtype[Any]) -> dict[str, BufferDecl]:
    """Return the declared buffers of `udf` with their dtypes resolved.

    Raises
    ------
    UDFError
        If `get_result_buffers` does not return declarations under legal names.
    """
    declared = udf.get_result_buffers()
    name = type(udf).__name__
    if not isinstance(declared, Mapping):
        raise UDFError(f"{name}.get_result_buffers returned {type(declared).__name__}, expected a dict")
    declared = {key: getattr(decl, "declaration", decl) for key, decl in declared.items()}
    for key, decl in declared.items():
        if not isinstance(decl, BufferDecl):
            raise UDFError(
                f"{name}.get_result_buffers: {key!r} is a {type(decl).__name__}, expected self.buffer(...)"
            )
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            raise UDFError(f"{name}.get_result_buffers: {key!r} is not a public identifier")
    return {key: decl.resolve(dtype) for key, decl in declared.items()}


def _correct_dtype(dtype: np.dtype[Any], chain: PreChain | None) -> np.dtype[Any]:
    if chain is not None:
        return np.dtype(chain.dtype)
    return dtype if dtype.kind in "fc" else np.dtype(np.float32)


def _scheme(
    method: UDFMethod, udfs: list[UDF], dataset: Dataset, dtype: np.dtype[Any], chain: PreChain | None,
    correct: bool, whole: bool, options: RunOptions, pieces: LiveGeometry | None = None,
) -> TilingScheme:  # fmt: skip
    sig = chain.out_shape if chain else tuple(dataset.shape.sig)
    if method is UDFMethod.PARTITION:
        return TilingScheme(2**62, (tuple(slice(0, n) for n in sig),), sig)
    zero_copy = dataset.source.is_view and dtype == dataset.dtype and not correct and chain is None
    if options.tile_shape is not None:
        return _forced(method, sig, options.tile_shape, whole)
    if method is UDFMethod.FRAME:
        return frame_scheme(sig, dtype.itemsize)
    prefs = [u.get_tiling_preferences() for u in udfs]
    depths = [p.get("depth", UDF.TILE_DEPTH_DEFAULT) for p in prefs]
    numbers = [32 if d is UDF.TILE_DEPTH_DEFAULT else d for d in depths]
    depth = max(min(d, 2**31) for d in numbers)
    sizes = [p.get("total_size", math.inf) for p in prefs]
    total = min((s for s in sizes if s is not UDF.TILE_SIZE_BEST_FIT and s != math.inf), default=math.inf)
    frame = max(1, math.prod(sig) * dtype.itemsize)
    ceiling = max(1, MAX_PARTITION_BYTES // frame)
    if pieces is not None:
        budget = cache_target() * (VIEW_BUDGET if zero_copy else 1)
        return piece_scheme(
            pieces, dtype.itemsize, depth=int(min(depth, ceiling)), total_size=total, budget=budget
        )
    frame_chunk = dataset.source.natural_chunks[1:]
    rows = frame_chunk[0] if frame_chunk and chain is None else 1
    return tile_scheme(
        sig,
        dtype.itemsize,
        depth=int(min(depth, max(1, ceiling))),
        total_size=total,
        budget=cache_target() * (VIEW_BUDGET if zero_copy else 1),
        chunk_rows=max(1, min(rows, sig[0] if sig else 1)) if not dataset.source.is_view else 1,
        whole=whole or (chain is not None and chain.scope == "frame"),
    )


def _forced(
    method: UDFMethod, sig: tuple[int, ...], tile_shape: tuple[int, ...], whole: bool
) -> TilingScheme:
    depth, *part = tile_shape
    if len(part) != len(sig):
        raise UDFError(f"tile shape {tile_shape} does not have the axes (depth, {', '.join(map(str, sig))})")
    if (method is UDFMethod.FRAME or whole) and tuple(part) != sig:
        raise UDFError(
            f"process_{method.value} needs whole frames: tile shape {tile_shape} cuts frames of shape {sig}"
        )
    from framefold.udfcore.shapes import Slice  # noqa: PLC0415

    parts = tuple(s.get() for s in Slice.from_shape(sig, len(sig)).subslices(part))
    return TilingScheme(depth, parts, sig)


def _read_parts(dataset: Dataset, wanted: Sequence[TilingScheme | None]) -> tuple[tuple[slice, ...], ...]:
    """Return the parts in which raw data are read: those of the only scheme, else whole frames."""
    sig = tuple(dataset.shape.sig)
    whole = (tuple(slice(0, n) for n in sig),)
    source = dataset.source
    if (
        source.is_view
        or not wanted
        or any(w is None or w.parts != wanted[0].parts for w in wanted if wanted[0] is not None)
    ):
        return whole
    first = wanted[0]
    if first is None or len(first.parts) == 1:
        return whole
    rows = source.natural_chunks[1] if len(source.natural_chunks) > 1 else 1
    if rows >= sig[0]:
        return whole  # a compressed frame would be decoded once per part
    return first.parts  # multiples of the chunk rows, by `tile_scheme`


def _nest(lane: LanePlan, read_parts: tuple[tuple[slice, ...], ...]) -> LanePlan:
    inside = tuple(
        tuple(
            i
            for i, part in enumerate(lane.scheme.parts)
            if len(read_parts) == 1
            or all(r.start <= s.start and s.stop <= r.stop for r, s in zip(read, part, strict=True))
        )
        for read in read_parts
    )
    if sum(map(len, inside)) != len(lane.scheme.parts):
        raise UDFError("internal: tiles do not nest in the read parts; please report this")
    return LanePlan(
        lane.udfs, lane.method, lane.dtype, lane.backend, lane.pre, lane.scheme, lane.corrections, inside
    )


def _read_depth(
    dataset: Dataset, lanes: Sequence[LanePlan], read_parts: tuple[tuple[slice, ...], ...], multiple: int
) -> int:
    """Return the frames per read block: what the deepest lane wants, whole chunks where data are decoded."""
    if any(lane.method is UDFMethod.PARTITION for lane in lanes):
        return 2**62
    depth = max(lane.scheme.depth for lane in lanes)
    if not dataset.source.is_view:
        part = max(math.prod(s.stop - s.start for s in p) for p in read_parts) * dataset.dtype.itemsize
        fits = max(1, 2 * cache_target() // max(1, part))
        depth = min(depth, max(fits, min(depth, 1)))
        chunk = math.lcm(max(1, dataset.source.natural_chunks[0]), multiple)
        depth = max(chunk, depth // chunk * chunk)
    return max(1, depth)


def _multiple(udf: UDF) -> int:
    """Return the frames that a UDF takes together."""
    wanted = udf.get_tiling_preferences().get("multiple", 1)
    if not isinstance(wanted, (int, np.integer)) or wanted < 1:
        raise UDFError(
            f"{type(udf).__name__}.get_tiling_preferences: multiple={wanted!r}, expected 1, 2, ..."
        )
    return int(wanted)


def _max_rows(dataset: Dataset, plans: Sequence[UDFPlan], lanes: Sequence[LanePlan]) -> int:
    """Return the largest partition: 256 MB where a UDF gets it as one array, else 4 GB of raw data."""
    sig_size = max(1, dataset.shape.sig.size)
    limit = 16 * MAX_PARTITION_BYTES // max(1, sig_size * dataset.dtype.itemsize)
    for lane in lanes:
        if lane.method is UDFMethod.PARTITION:
            frame = math.prod(lane.scheme.sig_shape) * lane.dtype.itemsize
            raw = sig_size * dataset.dtype.itemsize
            limit = min(limit, MAX_PARTITION_BYTES // max(1, frame, raw))
    return max(1, limit)
