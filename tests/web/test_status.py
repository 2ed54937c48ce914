"""Texts of the page: progress, rates, and the table of the sectors."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from framefold.web.status import RED, Progress, progress_html, sectors_html


class Table(HTMLParser):
    """Cells of a table, row by row."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_progress_in_numbers():
    text = progress_html(Progress(250, 1000, 1.5e9, 500.0, 0.5, 0.042, "running"), {})
    for part in ("250 of 1000 frames (25 %)", "1.50 GB/s", "500 frames/s", "2 s left", "latency 42 ms"):
        assert part in text
    assert "width:25.0%" in text


def test_an_end_is_told_with_its_reason():
    text = progress_html(
        Progress(7, 0, state="failed", message="<script>"), {"end_reason": "idle", "first_id": 0}
    )
    assert "7 frames" in text
    assert "first frame id: 0" in text
    assert "end: idle" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text


def test_time_left_is_unknown_without_a_total_or_speed():
    assert Progress(5, 0, 1.0, 1.0, state="running").seconds_left is None
    assert Progress(5, 10, 0.0, 0.0, state="running").seconds_left is None
    assert Progress(10, 10, 1.0, 1.0, state="complete").seconds_left is None
    assert Progress(12, 10, 1.0, 1.0, state="running").seconds_left == 0


def test_a_row_per_sector_with_whatever_there_is():
    rows = Table(
        sectors_html(
            [
                {"name": "A", "expected": 1000, "valid": 990, "lost": 10, "kernel_drops": 3, "late": 2,
                 "overrun": 1, "duplicate": 5, "ring_fill": 0.25, "temperature": 21.5},
                {"expected": 1000, "valid": 1000, "lost": 0},
            ]
        )
    ).rows  # fmt: skip
    assert rows[0] == [
        "sector", "expected", "valid", "lost", "network", "kernel", "late", "overrun", "duplicate", "ring",
        "temperature",
    ]  # fmt: skip
    first = dict(zip(rows[0], rows[1], strict=True))
    assert first["sector"] == "A"
    assert first["lost"] == "10"
    assert first["network"] == "4"  # 10 - 3 - 2 - 1
    assert rows[2][:4] == ["1", "1\u2009000", "1\u2009000", "0"]


def test_loss_is_coloured():
    clean = sectors_html([{"expected": 10, "valid": 10, "lost": 0}])
    lossy = sectors_html([{"expected": 10, "valid": 9, "lost": 1}])
    assert RED not in clean
    assert RED in lossy


@pytest.mark.parametrize(("fill", "width"), [(0.0, 0), (0.5, 40), (1.0, 80), (7.0, 80), (-1.0, 0)])
def test_the_ring_is_a_bar(fill, width):
    assert re.search(rf"height:10px;width:{width}px", sectors_html([{"ring_fill": fill}]))


def test_names_from_the_wire_are_text():
    assert "<b>" not in sectors_html([{"name": "<b>", "<b>": "<b>", "lost": 0}]).replace("&lt;b&gt;", "")
    assert sectors_html([]) == ""


def test_live_frames_are_done_when_they_are_over():
    report = {
        "status": {"unseen": 10, "complete": 20, "partial": 8, "lost": 2}, "fps": 100.0, "rate": 2e9,
        "latency": {"median": 0.012, "p99": 0.1}, "end_reason": "running",
    }  # fmt: skip
    text = progress_html(Progress(20, 40, 1.0, 1.0, 0.3, None, "running"), report)
    for part in (
        "30 of 40 frames (75 %)", "20 complete, 8 partial, 2 lost", "100 frames/s", "2.00 GB/s",
        "packet to merge 12 ms",
    ):  # fmt: skip
        assert part in text
    assert "end:" not in text
