"""How a run treats a live stream: which lanes fold pieces where they arrived, and what missing ones mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.live import AcquisitionStart, FrameStatus, Layout, LiveOptions
from framefold.udfcore.tiling import TilingScheme, cache_target, tile_scheme
from framefold.udfcore.udf import UDF

Part = tuple[slice, ...]
LaneMode = Literal["pieces", "complete", "frames"]
"""How a lane sees incomplete frames.

``"pieces"``: tiles along pieces, a missing piece is left out of its own tiles only. ``"complete"``: tiles
along pieces, of frames whose every piece arrived. ``"frames"``: whole frames, assembled from their pieces.
"""


@dataclass(frozen=True)
class LiveGeometry:
    """What the engine must know of a stream to plan a run on it.

    Attributes
    ----------
    start
        All sectors of the detector.
    options
        Policies.
    endless
        The number of frames is not known; navigation buffers keep the last `LiveOptions.history`.
    """

    start: AcquisitionStart
    options: LiveOptions
    endless: bool = False

    @property
    def pieces(self) -> tuple[Part, ...]:
        """The rectangles of all pieces, sector by sector."""
        return tuple(s.piece_slices(p) for s in self.start.sectors for p in range(len(s.pieces)))


@dataclass(frozen=True)
class LivePlan:
    """The part of a plan that only live runs have.

    Attributes
    ----------
    geometry
        Sectors and policies.
    modes
        Of each lane.
    publish_interval
        Seconds between two deltas of a worker.
    apart
        For each UDF why the sectors of a frame must come together before it folds them; empty: those of
        several processes may be folded where they arrive.
    own
        Positions of the sectors whose blocks this process folds; None: all.
    groups
        Processes that each fold some of the sectors of every frame.
    """

    geometry: LiveGeometry
    modes: tuple[LaneMode, ...]
    publish_interval: float
    apart: tuple[str, ...] = ()
    own: tuple[int, ...] | None = None
    groups: int = 1

    @property
    def layout(self) -> Layout:
        """How blocks should be laid out: frames only where every lane wants them."""
        return "frames" if set(self.modes) == {"frames"} else "pieces"

    def usable(self, status: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return which frames count as valid."""
        good = status == FrameStatus.COMPLETE
        return good | (status == FrameStatus.PARTIAL) if self.geometry.options.missing == "fill" else good


def by_piece(udf: UDF, chain_scope: str | None, halo: bool) -> bool:
    """Tell whether tiles of `udf` can be cut along pieces, so that no frame is assembled."""
    return not udf.engine.whole_frames and not halo and chain_scope in (None, "pixel")


def parts_join(udf: UDF, decls: Mapping[str, BufferDecl]) -> str:
    """Return why partials of different sectors of the same frames cannot be joined; empty: they can.

    Then a frame that arrived in part may count for the pixels that arrived.
    """
    if udf.engine.partial_frames:
        return ""
    if type(udf).postprocess is not UDF.postprocess:
        return "it has a postprocess, which looks at whole partitions"
    for name, decl in decls.items():
        if decl.use == "result_only":
            continue
        if decl.kind == "single":
            return f"{name!r} is a buffer for all pixels together"
        if decl.reduce not in ("sum", "max", "min", "mean"):
            return f"{name!r} does not declare reduce='sum', 'max', 'min' or 'mean'"
        if decl.kind == "nav" and decl.reduce == "mean":
            return f"{name!r} is a mean over the pixels of a frame"
    return ""


def needs_all_sectors(udf: UDF, decls: Mapping[str, BufferDecl], mode: LaneMode, missing: str) -> str:
    """Return why a UDF cannot be folded where sectors arrive when they arrive in several processes."""
    if mode == "frames":
        return "it needs whole frames"
    if missing == "drop-frame":
        return "missing='drop-frame' needs to know whether a frame is complete"
    for name, decl in decls.items():
        if decl.use != "result_only" and decl.kind == "nav" and decl.reduce not in ("sum", "max", "min"):
            return f"{name!r} has one value per frame, and no reduce= to join it"
        if decl.reduce == "last":
            return f"{name!r} keeps the last value"
        if decl.kind == "single" and decl.reduce == "mean":
            return f"{name!r} is a mean over frames, for all pixels together"
    return parts_join(udf, decls)


def piece_scheme(
    geometry: LiveGeometry, itemsize: int, *, depth: int, total_size: float, budget: int | None = None
) -> TilingScheme:
    """Return tiles that nest in pieces: as they are, or cut along their first axis to fit the cache."""
    sig = geometry.start.sig_shape
    parts: list[Part] = []
    deepest = 1
    for sector in geometry.start.sectors:
        cut = tile_scheme(
            sector.pieces.shape, itemsize, depth=depth, total_size=total_size,
            budget=cache_target() if budget is None else budget,
        )  # fmt: skip
        deepest = max(deepest, cut.depth)
        for piece in range(len(sector.pieces)):
            whole = sector.piece_slices(piece)
            parts += [
                tuple(slice(w.start + s.start, w.start + s.stop) for w, s in zip(whole, inner, strict=True))
                for inner in cut.parts
            ]
    return TilingScheme(deepest, tuple(parts), tuple(sig))


def parts_in_pieces(scheme: TilingScheme, pieces: tuple[Part, ...] | None) -> tuple[tuple[int, ...], ...]:
    """Return which parts of a `piece_scheme` lie in each piece; all in one for whole frames (None)."""
    if pieces is None:
        return (tuple(range(len(scheme.parts))),)
    members: list[list[int]] = [[] for _ in pieces]
    at = 0
    for index, part in enumerate(scheme.parts):  # they come piece by piece
        while not all(p.start <= s.start and s.stop <= p.stop for p, s in zip(pieces[at], part, strict=True)):
            at += 1
        members[at].append(index)
    return tuple(tuple(m) for m in members)


def check_geometry(start: AcquisitionStart) -> None:
    """Check that the pieces cover the frame once.

    Raises
    ------
    DataError
        If not: the stream describes itself wrongly.
    """
    covered = np.zeros(start.sig_shape, dtype=np.uint8)
    for sector in start.sectors:
        for piece in range(len(sector.pieces)):
            covered[sector.piece_slices(piece)] += 1
    if not (covered == 1).all():
        raise DataError(
            f"the pieces of the sectors cover some pixels {covered.min()} to {covered.max()} times; "
            f"they must be disjoint and cover the frame of shape {start.sig_shape}"
        )


def check_endless(geometry: LiveGeometry) -> None:
    """Check that options of runs without an end are not given to others.

    Raises
    ------
    DataError
        If they are.
    """
    for name in ("restart_every", "decay"):
        value = getattr(geometry.options, name)
        if value is not None and not geometry.endless:
            raise DataError(
                f"{name}={value} is for runs without an end, and this one has a known number of frames: "
                "leave nav_shape= and n_frames= out, or use ctx.acquisitions for one result per scan"
            )


def check_fill(options: LiveOptions, dtype: np.dtype[Any]) -> None:
    """Check that `fill_value` exists in the dtype of the stream.

    Raises
    ------
    DataError
        If not.
    """
    if options.missing != "fill":
        return
    value = options.fill_value
    if dtype.kind not in "fc" and (
        not math.isfinite(value)
        or value != int(value)
        or (dtype.kind in "ui" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
    ):
        raise DataError(
            f"fill_value={value} does not exist in {dtype}, the dtype of the stream: give a value that does, "
            "or missing='skip'"
        )
