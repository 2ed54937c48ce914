"""The flow of pictures to one page, without a browser: one in flight, the newest next, looks, errors."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bokeh.document import Document

from framefold.executor.follow import by_merge
from framefold.plot.panels import panels_of
from framefold.udfs.sum import SumUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF
from framefold.web.contents import DETECTORS
from framefold.web.control import Control
from framefold.web.hub import Hub
from framefold.web.page import Page


class Doc(Document):
    """A document whose next tick is the next turn of the loop."""

    def add_next_tick_callback(self, callback):
        asyncio.get_running_loop().call_soon(callback)


class Bench:
    """A page over a hub, and a hand that confirms pictures as a browser would."""

    def __init__(self, run, snapshots, plots=True, **options):
        self.run, self.snapshots = run, snapshots
        self.hub = Hub()
        self.hub.begin(
            snapshots[0], run.udfs, Control(run, run.udfs), title="<scan>", total=24, frame_bytes=160
        )
        self.hub.draw(panels_of(plots, snapshots[0].buffers, run.udfs))
        self.errors = []
        self.pool = ThreadPoolExecutor(1)
        self.page = Page(self.hub, Doc(), self.pool, {}, lambda *a: self.errors.append(a), **options)

    def post(self, snapshot):
        self.hub.post(snapshot)
        self.page.wake()

    @property
    def sent(self):
        return self.page.frame.tick.data["n"][0]

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)

    async def confirm(self):
        self.page.frame.ack.data = {"n": [self.sent]}
        await asyncio.sleep(0)

    async def settle(self):
        """Confirm until the page shows all there is."""
        async with asyncio.timeout(30):
            while not (self.page._mailbox.empty and self.page._mailbox.in_flight is None):
                self.page.frame.ack.data = {"n": [self.sent]}
                await asyncio.sleep(0.001)

    async def show(self, snapshot):
        self.post(snapshot)
        await self.settle()

    def pixels(self):
        return self.page._panes[self.page._active()].canvas.pixels


def bench(steps, scenario, **options):
    async def work():
        b = Bench(*steps, **options)
        b.page._begin()
        await b.until(lambda: b.sent == 1)
        await b.confirm()
        try:
            return await scenario(b)
        finally:
            b.page.close()
            b.pool.shutdown()

    return asyncio.run(work())


def test_one_picture_in_flight_and_then_the_newest(steps, data):
    async def scenario(b):
        b.post(b.snapshots[1])
        await b.until(lambda: b.sent == 2)
        for snapshot in b.snapshots[2:]:
            b.post(snapshot)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert b.sent == 2  # the browser has not confirmed
        await b.confirm()
        await b.until(lambda: b.sent == 3)
        await b.confirm()
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert b.sent == 3  # nothing new: nothing is sent
        return b.pixels()

    total = data.astype(np.int64).sum((0, 1))
    low, high = total.min(), total.max()
    assert np.abs(bench(steps, scenario) - (1 + 254 * (total - low) / (high - low))).max() < 1.5


async def _held_back(b):
    """Post a snapshot to a page that gets no other picture for 1000 s of a run."""
    b.post(b.snapshots[1])
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert b.sent == 1


def test_the_last_picture_of_a_run_does_not_wait(steps, data):
    async def scenario(b):
        await _held_back(b)
        b.post(b.snapshots[-1])
        await b.until(lambda: b.sent == 2)
        await b.settle()
        return b.pixels()

    total = data.astype(np.int64).sum((0, 1))
    low, high = total.min(), total.max()
    assert np.abs(bench(steps, scenario, fps=1e-3) - (1 + 254 * (total - low) / (high - low))).max() < 1.5


def test_what_a_hand_changes_is_shown_at_once(steps, monkeypatch):
    monkeypatch.setattr("framefold.web.page.HAND_SECONDS", 1000.0)

    async def scenario(b):
        await _held_back(b)
        next(w for i, p, w in b.page._form._widgets if i == 1 and p.name == "r").value = "2.5"
        await b.until(lambda: b.sent == 2)
        await b.confirm()
        b.post(b.snapshots[2])  # the frames that were folded with it
        await b.until(lambda: b.sent == 3)

    bench(steps, scenario, fps=1e-3)


def test_a_closed_page_gets_nothing(steps):
    async def scenario(b):
        b.page.close()
        b.post(b.snapshots[-1])
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert b.sent == 1
        assert b.page.settled

    bench(steps, scenario)


def test_another_look_shows_the_same_data_again(steps):
    async def scenario(b):
        await b.show(b.snapshots[-1])
        pane = b.page._panes[b.page._active()]
        before = b.pixels()
        pane._mode.value = "manual"
        await b.settle()
        high = pane._high.value
        assert pane._low.value < high
        pane._low.value = (pane._low.value + high) / 2
        await b.settle()
        after = b.pixels()
        assert (after == 1).sum() > (before == 1).sum()
        assert pane._ticker.ticks

    bench(steps, scenario)


def test_another_tab_is_drawn_when_it_is_looked_at(steps, data):
    async def scenario(b):
        await b.show(b.snapshots[-1])
        names = list(b.page._panes)
        assert names == ["Sum: intensity", "VirtualDetector: intensity", DETECTORS]
        assert b.page._panes[names[1]].canvas.pixels is None
        b.page.frame.tabs.active = 1
        await b.until(lambda: b.sent == 3)
        await b.confirm()
        picture = b.pixels()
        assert picture.shape == data.shape[:2]
        assert picture[0, 0] == 1
        assert picture[-1, -1] == 255

    bench(steps, scenario)


def test_a_picture_that_fails_is_told_once_and_the_page_goes_on(steps):
    calls = []

    def broken(values):
        calls.append(1)
        if len(calls) > 2:
            raise ZeroDivisionError("no such picture")
        return values

    async def scenario(b):
        for snapshot in b.snapshots[1:4]:
            await b.show(snapshot)
        assert [(name, str(exc)) for name, exc in b.errors] == [("broken(intensity)", "no such picture")]
        b.page.frame.tabs.active = 1
        await b.until(lambda: b.sent == 5)
        assert b.pixels().shape == (4, 6)

    run, snapshots = steps
    bench((run, snapshots), scenario, plots=[[("intensity", broken)], ["intensity"]])


def test_progress_and_header_on_the_page(steps):
    async def scenario(b):
        assert "&lt;scan&gt;" in b.page.frame.header.text
        await b.show(b.snapshots[-1])
        await b.until(lambda: "complete" in b.page.frame.progress.text)
        assert "24 of 24 frames (100 %)" in b.page.frame.progress.text
        assert b.page.frame.stop.disabled

    bench(steps, scenario)


@pytest.fixture
def waiting(run_of, data):
    run = run_of(data)
    return run, [run.snapshot(final=False)]


def test_a_dragged_outline_becomes_parameters(waiting):
    async def scenario(b):
        shape = b.page._detectors._shapes[0]
        shape.source.data = {**shape.source.data, "cx": [5.004], "a": [3.0], "wa": [6.0]}
        await b.until(lambda: b.hub.control.version == 1)
        assert b.run.feed._patches[1] == {"cx": 5.0, "r": 3.0}
        text = {p.name: w for i, p, w in b.page._form._widgets if i == 1}
        await b.until(lambda: text["cx"].value == "5")
        assert text["r"].value == "3"

    bench(waiting, scenario)


def test_typed_parameters_move_the_outline_and_mistakes_are_told(waiting):
    async def scenario(b):
        text = {p.name: w for i, p, w in b.page._form._widgets if i == 1}
        text["r"].value = "2.5"
        await b.until(lambda: b.hub.control.version == 1)
        await b.show(b.snapshots[0])
        await b.until(lambda: b.page._detectors._shapes[0].source.data["a"][0] == 2.5)
        text["ri"].value = "9"
        await b.until(lambda: "the inner radius 9.0 must be below" in b.page._form.error.text)
        text["r"].value = "wide"
        assert "r=&#x27;wide&#x27; is not a number" in b.page._form.error.text
        assert b.run.feed._patches[1] == {"r": 2.5}

    bench(waiting, scenario)


def test_the_stop_button(waiting):
    async def scenario(b):
        b.page._stop()
        await b.until(b.run.feed.cancelled.is_set)

    bench(waiting, scenario)


def test_another_run_builds_the_page_anew(steps, run_of, data):
    async def scenario(b):
        run = run_of(data)
        b.hub.begin(run.snapshot(final=False), run.udfs, None, title="second")
        b.hub.draw(panels_of(["intensity"], b.hub.snapshot.buffers, run.udfs))
        b.page.wake()
        await b.until(lambda: b.sent == 2)
        assert "second" in b.page.frame.header.text
        assert list(b.page._panes) == ["Sum: intensity"]

    bench(steps, scenario)


def test_a_run_of_the_same_kind_keeps_the_page_and_its_looks(steps, run_of, data):
    async def scenario(b):
        await b.show(b.snapshots[-1])
        panes, before = dict(b.page._panes), b.pixels()
        panes["Sum: intensity"]._mode.value = "manual"
        panes["Sum: intensity"]._high.value = 1e6
        await b.settle()
        # the same UDFs with another radius, on other data
        run = run_of(data[::-1], SumUDF(), VirtualDetectorUDF("disk", cy=4, cx=3, r=3))
        last = [run.snapshot(final=False), *by_merge(run)][-1]
        b.hub.begin(last, run.udfs, Control(run, run.udfs), title="second")
        b.page.wake()  # nothing is known yet of what will be drawn
        b.hub.draw(panels_of(True, last.buffers, run.udfs))
        b.page.wake()
        await b.until(lambda: "second" in b.page.frame.header.text)
        await b.settle()
        assert b.page._panes == panes
        assert (b.pixels() == 1).all()  # by the limits of the first run
        assert (before > 1).any()
        text = {p.name: w for i, p, w in b.page._form._widgets if i == 1}
        assert text["r"].value == "3"
        assert b.page._detectors._shapes[0].source.data["a"][0] == 3

    bench(steps, scenario)
