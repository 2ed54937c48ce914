"""What a live run tells besides what every run tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.executor.drive import Run
from framefold.udfcore.live import AcquisitionEnd, AcquisitionStart, FrameStatus, SectorStats
from framefold.udfcore.live_report import LiveReport, count_status, percentiles

if TYPE_CHECKING:
    from framefold.executor.live_session import News


NOBODY_LOOKS = 60.0  # seconds between results


def live_report(
    run: Run, stated: dict[str, Any], url: str, stats: Sequence[SectorStats], end: AcquisitionEnd | None,
    start: AcquisitionStart | None, span: tuple[int, int, float], sent: int = 0,
) -> LiveReport:  # fmt: skip
    """Return the report of a live run.

    `span` are blocks, frames and seconds from first to last packet. Frames before `sent` were sent: those of
    which nobody tells anything are lost.
    """
    plan = run.plan
    assert plan.live is not None
    first = None if start is None else start.first_id
    if end is not None and end.first_id is not None:
        first = end.first_id
    blocks, frames, seconds = span
    frame = plan.live.geometry.start.frame_bytes
    how = {
        "pieces": "pieces are folded where they arrived, missing ones left out",
        "complete": "pieces are folded where they arrived, of complete frames",
        "frames": "whole frames",
    }
    lanes = {
        plan.udfs[i].name: how[mode]
        for lane, mode in zip(plan.lanes, plan.live.modes, strict=True)
        for i in lane.udfs
    }
    status = count_status(run.merger.book.status_counts, None if plan.live.geometry.endless else plan.n_rows)
    silent = _silent(run, sent)
    status["unseen"] -= silent
    status["lost"] += silent
    return LiveReport(
        stated,
        url=url,
        end_reason="running" if end is None else end.reason,
        end_text="" if end is None else end.text,
        first_id=first,
        missing=plan.live.geometry.options.missing,
        status=status,
        blocks=blocks,
        frames_seen=frames,
        fps=frames / seconds if seconds else 0.0,
        rate=frames * frame / seconds if seconds else 0.0,
        # where nobody looks in between, results are merged at the end: that says nothing about the stream
        latency={} if plan.live.publish_interval > NOBODY_LOOKS else percentiles(list(run.merger.latencies)),
        lanes=lanes,
        sectors=[s.as_dict() for s in stats],
    )


def _silent(run: Run, sent: int) -> int:
    """Return how many rows hold frames that were sent, and went with a worker that put frames together."""
    plan = run.plan
    if plan.live is None or plan.live.geometry.endless:
        return 0
    rows = plan.rows
    first, last = (min(max(0, frame - rows.offset), rows.n_nav) for frame in (0, sent))
    if rows.ids is not None:
        first, last = np.searchsorted(rows.ids, (first, last)).tolist()
    return int(np.count_nonzero(run.merger.book.status[first:last] == FrameStatus.UNSEEN))


def sector_accounts(
    known: Sequence[News],
    gone: Sequence[News],
    whole: bool,
    over: bool,
    frames: int,
    start: AcquisitionStart,
) -> list[SectorStats]:
    """Return the accounts of all sectors.

    Parameters
    ----------
    known
        The last news of all sessions; several of a sector whose worker was lost.
    gone
        Those of sessions that were lost.
    whole
        All UDFs get whole frames: what did not come in time where they are put together is not valid.
    over
        All others have told everything.
    frames
        Of the acquisition, as those tell that were not lost.
    start
        All sectors.
    """
    found: dict[int, SectorStats] = {}
    again: set[int] = set()
    told: dict[int, int] = {}
    every = [s.index for s in start.sectors]
    for news in known:
        for s in news.stats:
            old = found.get(s.sector)
            found[s.sector] = replace(s) if old is None else _added(old, s)
            if any(news is n for n in gone):
                again.add(s.sector)
        of = every if whole else [s.sector for s in news.stats]
        for sector, n in zip(of, news.told, strict=False):
            told[sector] = told.get(sector, 0) + n
    for spec in start.sectors if over else ():
        if spec.index not in found:  # its worker was lost before it told anything
            found[spec.index] = SectorStats(spec.index, spec.endpoint)
            again.add(spec.index)
    for s in found.values():
        n = sum(news.dropped.get(s.sector, 0) for news in known) if whole else 0
        s.valid, s.lost, s.overrun = s.valid - n, s.lost + n, s.overrun + n
        if gone and over:
            n = max(0, s.valid - told.get(s.sector, 0))
            s.valid, s.lost, s.with_worker = s.valid - n, s.lost + n, s.with_worker + n
    whole_time = [s for s in found.values() if s.sector not in again]
    pieces = {spec.index: len(spec.pieces) for spec in start.sectors}
    for sector in again:  # what was sent while nobody received its sectors was expected, too
        s, own = found[sector], pieces[sector]
        seen = max((w.expected // pieces[w.sector] for w in whole_time), default=frames)
        s.expected = max(s.expected, seen * own, s.valid)
        s.lost = s.expected - s.valid
    return sorted(found.values(), key=lambda s: s.sector)


def _added(a: SectorStats, b: SectorStats) -> SectorStats:
    """Return the accounts of a sector over two sessions."""
    total = replace(b)
    for f in fields(SectorStats):
        if f.name not in ("sector", "endpoint", "ring_fill"):
            setattr(total, f.name, getattr(a, f.name) + getattr(b, f.name))
    return total
