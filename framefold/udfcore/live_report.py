"""The report of a live run: plain values, and one screen for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.live import FrameStatus


class LiveReport(dict[str, Any]):
    """A dict of plain values that prints on one screen.

    Beside the entries of every run it holds ``end_reason`` (``"running"`` before the end), ``end_text``,
    ``first_id``, ``status`` (frames complete, partial, lost, unseen), ``sectors`` (a dict of counters each),
    ``fps``, ``rate`` (bytes/s), ``latency`` (s, median and p99, last packet of a block to merged), ``lanes``
    (how each UDF gets incomplete frames), ``blocks`` and ``missing``; with ``restart_every`` also ``window``.
    """

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415  # notebooks only

        return f"<pre>{html.escape(str(self))}</pre>"


def count_status(counts: npt.NDArray[np.int64], rows: int | None) -> dict[str, int]:
    """Return how many of `rows` frames have each `FrameStatus`, by name in lower case; None: no end."""
    found = {s.name.lower(): int(counts[s]) for s in FrameStatus}
    return {**found, "unseen": 0 if rows is None else rows - int(counts.sum())}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and 99 % quantile; empty without values."""
    if not len(values):
        return {}
    found: npt.NDArray[np.float64] = np.quantile(np.asarray(values), (0.5, 0.99))
    return {"median": float(found[0]), "p99": float(found[1])}


_COLUMNS = ("expected", "valid", "lost", "kernel_drops", "late", "overrun", "duplicate", "corrupt", "foreign")


def _lines(r: Mapping[str, Any]) -> list[str]:
    s = r["status"]
    rows = sum(s.values())
    text = f": {r['end_text']}" if r.get("end_text") else ""
    lines = [
        f"live run of {r['url']}",
        f"  ended by {r['end_reason']}{text}" if r["end_reason"] != "running" else "  running",
        f"  frames: {s['complete']} complete, {s['partial']} partial, {s['lost']} lost, {s['unseen']} unseen "
        f"of {rows}; first id {'?' if r['first_id'] is None else r['first_id']}; missing={r['missing']!r}",
        f"  {r['fps']:.1f} frames/s, {r['rate'] / 1e9:.3f} GB/s in {r['blocks']} blocks; whole run "
        f"{r['seconds']:.2f} s",
    ]
    if r["latency"]:
        median, p99 = (1e3 * r["latency"][k] for k in ("median", "p99"))
        lines.append(f"  last packet to merged: {median:.1f} ms (median), {p99:.1f} ms (99 %)")
    if w := r.get("window"):
        state = "complete" if w["complete"] else "not complete yet"
        lines.append(
            f"  results are of window {w['number']}: {w['frames']} frames from {w['first_frame']} on, {state}"
            f"; a new one every {w['every']} frames"
        )
    lines += [f"  {name}: {how}" for name, how in r["lanes"].items()]
    head = f"  {'sector':>6} " + " ".join(f"{c.replace('kernel_drops', 'kernel'):>10}" for c in _COLUMNS)
    lines += [head + "  endpoint"]
    for sector in r["sectors"][:MAX_SECTORS]:
        numbers = " ".join(f"{sector[c]:>10}" for c in _COLUMNS)
        lines.append(f"  {sector['sector']:>6} {numbers}  {sector['endpoint']}")
    if len(r["sectors"]) > MAX_SECTORS:
        lines.append(f"  ... and {len(r['sectors']) - MAX_SECTORS} more sectors")
    lines += [f"  note: {text}" + (f" ({n} times)" if n > 1 else "") for text, n in r["notes"].items()]
    return lines


MAX_SECTORS = 24
