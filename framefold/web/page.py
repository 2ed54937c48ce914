"""One browser tab: builds the page, sends it the newest picture, waits until it is on the screen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from framefold.plot.panels import Panel
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import Snapshot
from framefold.web.changes import Changes
from framefold.web.contents import DETECTORS, contents_of, header_html
from framefold.web.forms import DetectorPane, ParameterForm, in_pixels
from framefold.web.hub import Hub, pattern_of
from framefold.web.layout import Frame, page_frame
from framefold.web.likeness import likeness
from framefold.web.mailbox import Mailbox
from framefold.web.panes import Pane
from framefold.web.render import Picture, render
from framefold.web.status import progress_html, sectors_html

STATUS_SECONDS = 1.0  # texts cost a browser 25 ms, more than a picture
PULSE_SECONDS = 1.0
SHARE = 0.2  # of the time, at most, goes into making pictures for one page
# while a run is on, a picture costs 20 ms of the cores that fold: with two cores, there are 5 a second
RUN_FPS = 2.5 * (os.cpu_count() or 1)
HAND_SECONDS = 1.0  # for so long after a control was touched, pictures do not wait for that
SILENT_SECONDS = 1.0  # a tab that has not answered for so long is hidden
_FRAME = PlotSpec("image", ("frame",))


class Page:
    """Follows the hub for one Bokeh document. All methods but `render` run in the event loop.

    Parameters
    ----------
    hub
        State of the run.
    doc
        The Bokeh document of the tab.
    pool
        Where pictures are made; one thread, so that pages share what is left of the processor.
    downloads
        Label -> path.
    report
        Told once about a picture that cannot be drawn.
    fps
        Pictures per second at most, while the run is on and no control is touched.
    """

    def __init__(
        self,
        hub: Hub,
        doc: Any,
        pool: Executor,
        downloads: dict[str, str],
        report: Callable[[str, Exception], None],
        fps: float = RUN_FPS,
    ) -> None:
        self._hub, self._doc, self._pool, self._report = hub, doc, pool, report
        self._loop = asyncio.get_running_loop()
        self._mailbox: Mailbox[Snapshot] = Mailbox()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._run_seconds = 1 / fps
        self._next = self._next_run = self._next_status = 0.0
        self._by_hand = 0.0  # until then, somebody is at the controls
        self._epoch = self._revision = -1
        self._like: Any = None
        self._known = 0  # version of the parameters shown
        self._shown_at = self._loop.time()
        self._panes: dict[str, Pane] = {}
        self._dead: set[str] = set()
        self._panels: dict[str, Panel] = {}
        self._changes = Changes(hub, self._loop, lambda error: self._locked(partial(self._changed, error)))
        self._sent_at: dict[int, float] = {}
        self._closed = False
        self.shown = 0  # pictures that were on the screen
        self._report_now: dict[str, Any] = {}
        self._ready = False  # until the browser has drawn the page, nothing would be confirmed
        self.frame: Frame = page_frame(doc, downloads, self._stop)
        self.frame.ack.on_change("data", lambda _a, _o, new: self._confirm(new))
        self.frame.tabs.on_change("active", lambda _a, _o, _n: self._again())
        self._form: ParameterForm | None = None
        self._detectors: DetectorPane | None = None
        self._begin_run()
        doc.on_event("document_ready", lambda _event: self._begin())

    # --- the run speaks ----------------------------------------------------------------------

    def _begin(self) -> None:
        self._ready = True
        self._shown_at = self._loop.time()
        self._tell(self._report_now)
        self.wake()
        self._beat()

    def wake(self) -> None:
        """Send what is new, now or as soon as the page is ready for it."""
        if self._closed or not self._ready:
            return
        snapshot = self._hub.snapshot
        if self._epoch != self._hub.epoch:
            if self._hub.panels or not self._panes:  # else a run has begun of which nothing is known yet
                self._locked(self._begin_run)
            return
        if snapshot is not None and self._revision != self._hub.revision:
            self._revision = self._hub.revision
            self._mailbox.put(snapshot)
        self._advance()

    def close(self) -> None:
        """Forget the tab: it was closed."""
        self._closed = True
        for timer in (self._timer, self._pulse, self._late):
            if timer is not None:
                timer.cancel()

    def _beat(self) -> None:
        """Tell the state of a run from which no pictures come: a detector that waits, or loses everything."""
        self._pulse = self._loop.call_later(PULSE_SECONDS, self._beat)
        quiet = self._loop.time() - self._shown_at > PULSE_SECONDS
        if quiet and not self._hub.over and not self._busy and self._mailbox.in_flight is None:
            self._task = self._loop.create_task(self._tell_report())

    async def _tell_report(self) -> None:
        report = await self._loop.run_in_executor(self._pool, self._hub.report)
        self._locked(partial(self._tell, dict(report)))

    @property
    def settled(self) -> bool:
        """Whether the page shows all there is, or does not answer."""
        if self._closed or self._loop.time() - self._shown_at > SILENT_SECONDS:
            return True
        current = self._epoch == self._hub.epoch and self._revision == self._hub.revision
        return current and self._mailbox.empty and self._mailbox.in_flight is None and not self._busy

    def _locked(self, fn: Callable[[], None]) -> None:
        """Run `fn` with the document locked."""
        if not self._closed:
            self._doc.add_next_tick_callback(fn)

    def _again(self) -> None:
        """Show the same data once more: another tab was chosen, or another look."""
        self._next = self._next_status = 0.0
        self._mailbox.again()
        self._touch()

    def _touch(self) -> None:
        """Show what a hand on the controls brings about as soon as it is there."""
        self._by_hand = self._loop.time() + HAND_SECONDS
        self._advance()

    def _advance(self) -> None:
        if self._busy or self._closed or self._mailbox.empty or self._mailbox.in_flight is not None:
            return
        now = self._loop.time()
        free = self._hub.over or now < self._by_hand
        due = self._next if free else max(self._next, self._next_run)
        if self._timer is not None:  # what it waited for may count no more
            self._timer.cancel()
            self._timer = None
        if now < due:
            self._timer = self._loop.call_later(due - now, self._on_time)
            return
        taken = self._mailbox.take()
        if taken is not None:
            self._busy = True
            task = self._loop.create_task(self._send(*taken))
            self._task = task  # kept: the loop itself holds tasks weakly

    def _on_time(self) -> None:
        self._timer = None
        self._advance()

    async def _send(self, number: int, snapshot: Snapshot) -> None:
        name = self._active()
        pane = self._panes.get(name)
        look = None if pane is None else pane.look
        picture, report, seconds = await self._loop.run_in_executor(
            self._pool, self._render, name, look, snapshot
        )
        now = self._loop.time()
        self._next = now + seconds * (1 / SHARE - 1)
        self._next_run = now + self._run_seconds - seconds
        self._locked(partial(self._show, number, snapshot, name, picture, report))

    def _render(
        self, name: str, look: Any, snapshot: Snapshot
    ) -> tuple[Picture | None, dict[str, Any], float]:
        """Make the picture; runs in the pool."""
        began = time.thread_time()
        picture, report = None, {}
        try:
            results = snapshot.buffers
            report = dict(results[0].report)
            if look is not None and name == DETECTORS:
                found = pattern_of(results) or self._hub.pattern
                picture = None if found is None else render(_FRAME, [in_pixels(found)], look)
            elif look is not None:
                panel = self._panels[name]
                picture = render(panel.spec, panel.fields(results), look)
        except Exception as exc:  # noqa: BLE001  # a picture never ends a run, nor the page
            if name not in self._dead:
                self._dead.add(name)
                self._report(name, exc)
        return picture, report, time.thread_time() - began

    def _show(
        self, number: int, snapshot: Snapshot, name: str, picture: Picture | None, report: dict[str, Any]
    ) -> None:
        self._busy = False
        pane = self._panes.get(name)
        if picture is not None and pane is not None:
            pane.show(picture)
        now = self._loop.time()
        self._report_now = report
        if now >= self._next_status or (self._hub.over and self._mailbox.empty):
            self._annotate(pane)
        elif self._late is None:
            self._late = self._loop.call_later(self._next_status - now, self._on_late)
        self._sent_at[number] = snapshot.time
        self._shown_at = now
        self.frame.tick.data = {"n": [number]}

    def _annotate(self, pane: Pane | None) -> None:
        """Bring texts and colour bar up to date: they cost a browser more than a picture does."""
        self._next_status = self._loop.time() + STATUS_SECONDS
        if pane is not None:
            pane.annotate(last=self._hub.over)
        self._tell(self._report_now)

    def _on_late(self) -> None:
        self._late = None
        self._locked(lambda: self._annotate(self._panes.get(self._active())))

    def _tell(self, report: dict[str, Any]) -> None:
        self._report_now = report
        hub, frame = self._hub, self.frame
        frame.progress.text = progress_html(hub.progress(), report)
        frame.sectors.text = sectors_html(report.get("sectors") or ())
        frame.stop.disabled = hub.over or hub.control is None
        self._refresh()

    def _refresh(self) -> None:
        """Show the parameters as they are: another page may have changed them."""
        control = self._hub.control
        if control is None or control.version == self._known:
            return
        self._known = control.version
        if self._form is not None:
            self._form.refresh(control.values)
        if self._detectors is not None:
            self._detectors.refresh(control.values)

    def _confirm(self, data: Any) -> None:
        number = int(data["n"][0])
        merged = self._sent_at.pop(number, None)
        if self._mailbox.confirm(number):
            self.shown += 1
            if merged is not None and not self._hub.over:
                self._hub.latency = max(time.time() - merged, 0.0)
            self._advance()

    # --- the user speaks ---------------------------------------------------------------------

    def _stop(self) -> None:
        if self._hub.control is not None:
            self._pool.submit(self._hub.control.stop)

    def _changed(self, error: str) -> None:
        if self._form is not None:
            self._form.tell(error)
        if not error:
            self._refresh()
        self._touch()

    # --- the page ----------------------------------------------------------------------------

    def _begin_run(self) -> None:
        """Show another run, on the page as it stands if that suits."""
        hub = self._hub
        try:
            like = likeness(hub)
        except Exception:  # noqa: BLE001  # a result that cannot be drawn: the page tells
            like = None
        if like is None or like != self._like:
            self._build()
            self._like = like if len(self._panels) == len(hub.panels) else None
            return
        self._epoch, self._dead = hub.epoch, set()
        self._panels = dict(zip(self._panels, hub.panels, strict=True))
        self.frame.header.text = header_html(hub)
        self._known = -1  # parameters may be others
        if self._form is not None:
            self._form.tell("")
        self._follow()

    def _build(self) -> None:
        """Make panes for what the run draws."""
        hub = self._hub
        self._epoch, self._like = hub.epoch, None
        self._dead = set()
        self._known = 0
        self.frame.header.text = header_html(hub)
        made = contents_of(hub, self._changes.put, self._again, self._report)
        self._panes, self._panels = made.panes, made.panels
        self._form, self._detectors = made.form, made.detectors
        side = [] if made.form is None else [made.form.root]
        self.frame.fill({name: pane.root for name, pane in self._panes.items()}, side)
        self._follow()

    def _follow(self) -> None:
        if self._ready:  # texts are replaced where they stand
            self._tell(self._report_now)
        self._revision = -1
        self._loop.call_soon(self.wake)

    def _active(self) -> str:
        names = list(self._panes)
        index = self.frame.tabs.active
        return names[index] if 0 <= index < len(names) else ""
