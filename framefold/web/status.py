"""What a page says about the run: progress, rates, latency, and a table of the sectors, as HTML."""

from __future__ import annotations

import html
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from framefold.plot.progress import duration_text, rate_text

RED, GREEN, BLUE, AMBER = "#b03a2e", "#1e8449", "#2471a3", "#b9770e"


@dataclass(frozen=True)
class Progress:
    """How far a run is, as a page shows it.

    Attributes
    ----------
    done, total
        Frames; `total` is 0 where it is not known.
    rate
        Raw bytes per second.
    frame_rate
        Frames per second.
    seconds
        Since the start.
    latency
        Seconds from the last merge until it was seen in the browser; None before the first picture.
    state
        ``"waiting"``, ``"running"``, ``"complete"``, ``"stopped"`` or ``"failed"``.
    message
        What went wrong, or a notice.
    """

    done: int = 0
    total: int = 0
    rate: float = 0.0
    frame_rate: float = 0.0
    seconds: float = 0.0
    latency: float | None = None
    state: str = "waiting"
    message: str = ""

    @property
    def seconds_left(self) -> float | None:
        """At the present speed; None where that is not known."""
        if self.state != "running" or not self.frame_rate or not self.total:
            return None
        return max(self.total - self.done, 0) / self.frame_rate


def with_live(p: Progress, report: Mapping[str, Any]) -> Progress:
    """Return `p` with what the report of a live run knows better: incomplete frames are done, too."""
    status = report.get("status")
    if not isinstance(status, Mapping) or not status:
        return p
    rows = sum(int(n) for n in status.values())
    rate, frame_rate = (float(report.get(k) or 0.0) for k in ("rate", "fps"))
    done = rows - int(status.get("unseen", 0))
    return replace(p, done=done, rate=rate or p.rate, frame_rate=frame_rate or p.frame_rate)


def progress_html(p: Progress, report: Mapping[str, Any]) -> str:
    """Return bar and line of the progress."""
    p = with_live(p, report)
    colour = {"complete": GREEN, "failed": RED, "stopped": AMBER}.get(p.state, BLUE)
    part = p.done / p.total if p.total else float(p.state == "complete")
    words = [f"<b style='color:{colour}'>{html.escape(p.state)}</b>", _frames(p)]
    if p.rate:
        words.append(f"{rate_text(p.rate)}, {p.frame_rate:.4g} frames/s")
    left = p.seconds_left
    if left is not None:
        words.append(f"{duration_text(left)} left")
    elif p.seconds:
        words.append(f"{duration_text(p.seconds)}")
    if p.latency is not None:
        words.append(f"latency {1000 * p.latency:.0f} ms")
    words += _facts(report)
    if p.message:
        tint = RED if p.state == "failed" else AMBER
        words.append(f"<span style='color:{tint}'>{html.escape(p.message)}</span>")
    return (
        f"<div style='background:#ddd;height:10px;border-radius:3px'><div style='background:{colour};"
        f"height:10px;border-radius:3px;width:{100 * min(part, 1.0):.1f}%'></div></div>"
        f"<div>{' &middot; '.join(words)}</div>"
    )


def _facts(report: Mapping[str, Any]) -> list[str]:
    """Return what a live run tells: fates of the frames, latency on the head, first id, reason of the end."""
    found = []
    status = report.get("status")
    if isinstance(status, Mapping) and status:
        counts = [
            f"{n} {name}" for name, n in status.items() if (n or name == "complete") and name != "unseen"
        ]
        found.append(", ".join(counts))
    latency = report.get("latency")
    if isinstance(latency, Mapping) and "median" in latency:
        found.append(f"packet to merge {1000 * float(latency['median']):.0f} ms")
    if _told(report.get("first_id")):
        found.append(f"first frame id: {report['first_id']}")
    if _told(report.get("end_reason")) and report["end_reason"] != "running":
        reason = f"{report['end_reason']}" + (f" ({report['end_text']})" if report.get("end_text") else "")
        found.append(f"end: {reason}")
    return [html.escape(text) for text in found]


def _told(value: Any) -> bool:
    return value is not None and value != ""


def _frames(p: Progress) -> str:
    if not p.total:
        return f"{p.done} frames"
    return f"{p.done} of {p.total} frames ({100 * p.done / p.total:.0f} %)"


# counter -> heading and whether it means loss; in this order, others behind them
_COLUMNS: dict[str, tuple[str, bool]] = {
    "expected": ("expected", False),
    "received": ("received", False),
    "valid": ("valid", False),
    "lost": ("lost", True),
    "network": ("network", True),
    "kernel_drops": ("kernel", True),
    "late": ("late", True),
    "overrun": ("overrun", True),
    "corrupt": ("corrupt", True),
    "duplicate": ("duplicate", False),
    "foreign": ("foreign", False),
    "with_worker": ("with a worker", True),
    "ring_fill": ("ring", False),
}
_NAMES = ("sector", "name", "index", "endpoint")


def sectors_html(sectors: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a row per sector: whatever counters there are, coloured where data were lost.

    Parameters
    ----------
    sectors
        Counters by name, and ``ring_fill`` between 0 and 1. A missing ``network`` is worked out as
        ``lost - kernel_drops - late - overrun``, not below zero.
    """
    rows = [_with_network(s) for s in sectors]
    if not rows:
        return ""
    known = [k for k in _COLUMNS if any(k in r for r in rows)]
    used = {_name(i, r)[0] for i, r in enumerate(rows)}
    others = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in _COLUMNS and k not in used]
    columns = known + [k for k in others if any(isinstance(r.get(k), (int, float, str)) for r in rows)]
    head = "".join(_cell(_COLUMNS.get(c, (c, False))[0], "th") for c in ("sector", *columns))
    body = "".join(_row(i, r, columns) for i, r in enumerate(rows))
    style = "border-collapse:collapse;font-variant-numeric:tabular-nums"
    return f"<table style='{style}'><tr>{head}</tr>{body}</table>"


def _with_network(sector: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(sector)
    if "lost" in row and "network" not in row and any(k in row for k in ("kernel_drops", "late", "overrun")):
        known = sum(int(row.get(k) or 0) for k in ("kernel_drops", "late", "overrun"))
        row["network"] = max(int(row["lost"]) - known, 0)
    return row


def _name(index: int, row: Mapping[str, Any]) -> tuple[str, str]:
    """Return which counter names a sector, and its name."""
    key = next((k for k in _NAMES if _told(row.get(k))), "")
    return key, str(row[key]) if key else str(index)


def _row(index: int, row: Mapping[str, Any], columns: Sequence[str]) -> str:
    _, name = _name(index, row)
    lossy = bool(row.get("lost"))
    cells = [_cell(name, "th", colour=RED if lossy else GREEN)]
    for column in columns:
        value = row.get(column)
        if column == "ring_fill":
            cells.append(f"<td style='padding:1px 8px'>{_fill(value)}</td>")
            continue
        bad = _COLUMNS.get(column, ("", False))[1] and isinstance(value, (int, float)) and value > 0
        cells.append(_cell(_number(value), "td", colour=RED if bad else ""))
    shade = " style='background:#fdecea'" if lossy else ""
    return f"<tr{shade}>{''.join(cells)}</tr>"


def _cell(text: str, tag: str, colour: str = "") -> str:
    style = "padding:1px 8px;text-align:right;white-space:nowrap" + (
        f";color:{colour};font-weight:bold" if colour else ""
    )
    return f"<{tag} style='{style}'>{html.escape(text)}</{tag}>"


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fill(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    part = min(max(float(value), 0.0), 1.0)
    colour = RED if part > 0.9 else AMBER if part > 0.5 else BLUE
    return (
        f"<div title='{100 * part:.0f} %' style='background:#ddd;width:80px;height:10px'>"
        f"<div style='background:{colour};height:10px;width:{80 * part:.0f}px'></div></div>"
    )


def describe(exc: Exception) -> str:
    """Return an error with its traceback."""
    return "".join(traceback.format_exception(exc))
