"""What a live run tells besides what every run tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framefold.executor.drive import Run
from framefold.udfcore.live import AcquisitionEnd, AcquisitionStart, SectorStats
from framefold.udfcore.live_report import LiveReport, count_status, percentiles


def live_report(
    run: Run, stated: dict[str, Any], url: str, stats: Sequence[SectorStats], end: AcquisitionEnd | None,
    start: AcquisitionStart | None, span: tuple[int, int, float],
) -> LiveReport:  # fmt: skip
    """Return the report of a live run; `span` are blocks, frames and seconds from first to last packet."""
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
    return LiveReport(
        stated,
        url=url,
        end_reason="running" if end is None else end.reason,
        end_text="" if end is None else end.text,
        first_id=first,
        missing=plan.live.geometry.options.missing,
        status=count_status(
            run.merger.book.status_counts, None if plan.live.geometry.endless else plan.n_rows
        ),
        blocks=blocks,
        frames_seen=frames,
        fps=frames / seconds if seconds else 0.0,
        rate=frames * frame / seconds if seconds else 0.0,
        latency=percentiles(list(run.merger.latencies)),
        lanes=lanes,
        sectors=[s.as_dict() for s in stats],
    )
