"""Progress: what is shown, how often, and where."""

from __future__ import annotations

import io
import sys
import types

import pytest

from framefold.errors import FramefoldError, UDFRunCancelled
from framefold.plot import progress
from framefold.plot.progress import Reporter, State, progress_observer, text_of
from framefold.udfcore.events import PartitionDone, RunEnded, RunStarted


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(observer, clock, n_partitions, step, error=None):
    observer(RunStarted(10 * n_partitions, 1000, "scan.npy"))
    for i in range(n_partitions):
        clock.now += step
        observer(PartitionDone(i, 10, step, "w"))
    observer(RunEnded(clock.now, error))


@pytest.mark.parametrize(
    "state, expected",
    [
        (State("a", 100, 10**7, 50, 0.25), "a: 50 of 100 frames (50 %), 2.00 GB/s, 0.2 s left"),
        (State("a", 100, 1000, 0, 1.0), "a: 0 of 100 frames (0 %)"),
        (State("a", 100, 1000, 1, 60.0), "a: 1 of 100 frames (1 %), 0.0 MB/s, 1 h 39 min left"),
        (State("a", 100, 1000, 25, 30.0), "a: 25 of 100 frames (25 %), 0.0 MB/s, 1 min 30 s left"),
        (State("a", 100, 10**6, 100, 20.0, "done"), "a: 100 of 100 frames (100 %), done in 20 s, 5.0 MB/s"),
        (State("a", 0, 10**6, 0, 0.0, "done"), "a: 0 of 0 frames (100 %), done in 0 s, 0.0 MB/s"),
        # never rounded up to 100 % before the end
        (State("a", 1000, 1000, 999, 1.0), "a: 999 of 1000 frames (99 %), 1.0 MB/s, 0.0 s left"),
    ],
)
def test_text_states_frames_speed_and_time(state, expected):
    assert text_of(state) == expected


def test_the_time_left_follows_from_the_frames_not_from_the_start_of_workers():
    # the first 16 frames came after 60 s of compiling, the next 100 in 2 s
    first = State("a", 1116, 1000, 16, 60.0, first_done=16, first_seconds=60.0)
    assert first.seconds_left is None
    later = State("a", 1116, 1000, 116, 62.0, first_done=16, first_seconds=60.0)
    assert later.seconds_left == 20.0


def test_shows_at_most_once_per_interval_and_always_at_the_end():
    clock, seen = Clock(), []
    run(Reporter(seen.append, 1.0, clock), clock, 80, 0.0625)
    # 5 s in steps of 1 s, and the end
    assert len(seen) == 6
    assert [s.ended for s in seen] == [None] * 5 + ["done"]
    assert seen[-1].done == seen[-1].total == 800


@pytest.mark.parametrize(
    "error, word",
    [
        (None, "done"),
        (UDFRunCancelled("x"), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (ValueError("x"), "failed"),
    ],
)
def test_the_last_line_says_how_it_ended(error, word):
    clock, seen = Clock(), []
    run(Reporter(seen.append, 1.0, clock), clock, 1, 0.1, error)
    assert seen[-1].ended == word


def test_a_reporter_can_follow_several_runs():
    clock, seen = Clock(), []
    reporter = Reporter(seen.append, 1e9, clock)
    run(reporter, clock, 3, 0.1)
    run(reporter, clock, 2, 0.1)
    assert [(s.done, s.total) for s in seen] == [(30, 30), (20, 20)]


def test_terminal_line_is_rewritten_in_place_and_fits_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    out = io.StringIO()
    show = progress.terminal_line(out)
    show(State("a_very_long_name_of_a_file.mib", 100, 10, 50, 1.0))
    show(State("a_very_long_name_of_a_file.mib", 100, 10, 100, 2.0, "done"))
    first, second = out.getvalue().split("\r")[1:]
    assert len(first) == 29
    assert second.endswith("\n")
    assert out.getvalue().count("\n") == 1


def test_without_a_terminal_lines_are_rare(monkeypatch):
    out = io.StringIO()  # no terminal
    monkeypatch.setattr(sys, "stderr", out)
    clock = Clock()
    observer = progress_observer(True)
    observer._clock = clock
    run(observer, clock, 300, 0.1)  # 30 s
    assert 2 <= len(out.getvalue().splitlines()) <= 4


def test_a_terminal_gets_one_line(monkeypatch):
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", out)
    observer = progress_observer(True)
    clock = Clock()
    observer._clock = clock
    run(observer, clock, 10, 0.5)
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().count("\r") == 11


def test_an_own_bar_is_driven_through_start_update_close():
    calls = []
    bar = types.SimpleNamespace(
        start=lambda total: calls.append(("start", total)),
        update=lambda n: calls.append(("update", n)),
        close=lambda: calls.append("close"),
    )
    run(progress_observer(bar), Clock(), 2, 0.1)
    assert calls == [("start", 20), ("update", 10), ("update", 10), "close"]


def test_something_else_is_refused():
    with pytest.raises(FramefoldError, match=r"neither True nor an object with start\(total\)"):
        progress_observer("yes")


@pytest.fixture
def fake_ipython(monkeypatch):
    """A kernel that keeps what cells would show, by display id."""
    shown = {}
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display = types.ModuleType("IPython.display")
    display.display = lambda data, raw, display_id: shown.setdefault(display_id, []).append(data)

    def update_display(data, raw, display_id):
        assert display_id in shown, "updated before it was displayed"
        shown[display_id].append(data)

    display.update_display = update_display
    ipython.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_a_notebook_gets_one_bar_in_one_place(fake_ipython):
    observer = progress_observer(True)
    clock = Clock()
    observer._clock = clock
    run(observer, clock, 5, 1.0)
    (versions,) = fake_ipython.values()
    assert len(versions) == 6
    assert "width:20.0%" in versions[0]["text/html"]
    assert "width:100.0%" in versions[-1]["text/html"]
    assert "50 of 50 frames" in versions[-1]["text/plain"]
