"""The browser view: a live plot like the others, that serves a page instead of opening a window."""

from __future__ import annotations

import atexit
import html
import math
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from framefold.errors import FramefoldError, UDFError, UDFRunCancelled
from framefold.plot.panels import panels_of
from framefold.udfcore.results import Snapshot
from framefold.web.control import Control
from framefold.web.hub import Hub
from framefold.web.page import RUN_FPS, Page
from framefold.web.pattern import sample_pattern
from framefold.web.saving import Downloads, can_draw
from framefold.web.server import PageServer, require_bokeh
from framefold.web.status import describe

GOODBYE_SECONDS = 2.0  # for open pages to show the final result before the server goes


class BrowserView:
    """Follows runs with a page in the browser; pass it as ``plots=``, or ``"browser"`` for the defaults.

    Parameters
    ----------
    plots
        As ``plots=`` of a run: True, names, ``(name, function)``, `PlotSpec` objects.
    address
        Where to listen. Anything but loopback needs a token: anyone who has it sees the data and can stop
        the run. Traffic is not encrypted; an SSH tunnel to loopback is.
    port
        0: a free one.
    token
        Part of the URL. None: none on loopback, elsewhere a random one.
    keep
        Serve on after the run, until `stop`, the end of the process, or the next run with this view.
    quiet
        Do not print the URL.
    fps
        Pictures per second that a page gets at most while a run is on: a browser beside the run takes its
        time from the folds. None: 2.5 for each core of the machine. Nothing waits for this at the end of the
        run, nor within a second of a change of tab, colours or parameters.

    Raises
    ------
    UDFError
        If `fps` is not above zero.

    Attributes
    ----------
    url
        To open in a browser; None before the first run.

    Examples
    --------
    >>> from framefold.web.view import BrowserView
    >>> view = BrowserView(["intensity"], keep=True)
    >>> # ctx.run_udf(ds, udf, plots=view); input("Enter ends the view"); view.stop()
    """

    def __init__(
        self,
        plots: Any = True,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        keep: bool = False,
        quiet: bool = False,
        fps: float | None = None,
    ) -> None:
        require_bokeh()
        if fps is not None and not 0 < fps < math.inf:
            raise UDFError(f"BrowserView(fps={fps}): pictures per second, above 0; None for 2.5 per core")
        self._plots = plots
        self._where = (address, port, token)
        self.keep = keep
        self._quiet = quiet
        self._fps = RUN_FPS if fps is None else fps
        self._run: Any = None
        self._lock = threading.Lock()
        self._server: PageServer | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pages: set[Page] = set()
        self._waking = False
        self._told: set[str] = set()
        self._atexit: Any = None
        self._idle = threading.Event()
        self._idle.set()
        self.hub = Hub()

    # --- the side of the run -----------------------------------------------------------------

    def connect(self, run: Any) -> None:
        """Take the run that pages may stop and change; called before `begin`."""
        self._run = run

    def begin(self, first: Snapshot, udfs: Sequence[Any]) -> None:
        """Serve the page of a run that is about to begin.

        Raises
        ------
        UDFError
            For names in ``plots=`` that no result has.
        FramefoldError
            If the address cannot be used.
        """
        run, plan = self._run, getattr(self._run, "plan", None)
        dataset = getattr(plan, "dataset", None)
        panels = None
        try:
            panels = _panels(self._plots, first, udfs)
        except FramefoldError:
            raise
        except Exception:  # noqa: BLE001  # a get_results that needs data: the panels come with the first snapshot
            panels = None
        self._told.clear()
        self.hub.begin(
            first, udfs, None if run is None else Control(run, udfs),
            title=getattr(dataset, "name", ""), total=int(getattr(plan, "n_rows", 0) or 0),
            frame_bytes=0 if dataset is None else dataset.shape.sig.size * dataset.dtype.itemsize,
            report=run.report if callable(getattr(run, "report", None)) else dict,
        )  # fmt: skip
        link = _dashboard(run)
        self.hub.links = {"dask dashboard": link} if link else {}
        if panels is not None:
            self.hub.pattern = sample_pattern(plan, udfs, first)
            self.hub.draw(panels)
        self._serve()
        self._wake()

    def update(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot; returns at once, whatever browsers do."""
        if not self.hub.panels:
            try:
                self.hub.draw(_panels(self._plots, snapshot, self.hub.udfs))
            except Exception as exc:  # noqa: BLE001  # a view never ends a run
                self._report("the page", exc)
        self.hub.post(snapshot)
        self._wake()

    def close(self, final: Snapshot) -> None:
        """Show the final result; without `keep`, end the server once open pages have it."""
        self.update(final)
        self._leave()

    def fail(self, error: BaseException) -> None:
        """Say on the pages how the run ended; without `keep`, end the server."""
        partial = getattr(error, "partial", None)
        if isinstance(partial, Snapshot):
            self.hub.post(partial)
        if isinstance(error, (UDFRunCancelled, GeneratorExit, KeyboardInterrupt)):
            self.hub.end("stopped")
        else:
            self.hub.end("failed", f"{type(error).__name__}: {error}")
        self._wake()
        self._leave()

    def _leave(self) -> None:
        self._run = None
        if self.keep:
            return
        self.wait_for_pages(GOODBYE_SECONDS)
        self.stop()

    # --- the side of the browsers ------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the present run was ended by a page's Stop button."""
        return self.hub.control is not None and self.hub.control.stopped

    @property
    def shown(self) -> list[int]:
        """How many pictures each open page has had on its screen."""
        return [page.shown for page in self._pages]

    @property
    def url(self) -> str | None:
        """To open in a browser; None while nothing is served."""
        return None if self._server is None else self._server.url

    def _serve(self) -> None:
        with self._lock:
            if self._server is not None:
                return
            pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="framefold-web-pool")
            downloads = Downloads(self.hub, pool)
            paths = {"Save HDF5": downloads.path("snapshot.h5")}
            if can_draw():
                paths["Save PNG"] = downloads.path("snapshot.png")

            def make_page(doc: Any) -> None:
                page = Page(self.hub, doc, pool, paths, self._report, self._fps)
                self._pages.add(page)
                doc.on_event("document_ready", lambda _event: self._hasten())
                doc.on_session_destroyed(lambda _context: self._left(page))

            address, port, token = self._where
            try:
                self._server = PageServer(
                    make_page, address=address, port=port, token=token, routes=[downloads.route()]
                )
            except BaseException:
                pool.shutdown(wait=False)
                raise
            self._pool = pool
            self._idle.clear()
            ref = weakref.ref(self)
            self._atexit = partial(_stop, ref)
            atexit.register(self._atexit)
        if not self._quiet:
            print(f"framefold: live view at {self.url}", file=sys.stderr)  # noqa: T201  # the user opens it

    def _hasten(self) -> None:
        if self._server is not None:
            self._server.hasten()

    def _left(self, page: Page) -> None:
        page.close()
        self._pages.discard(page)

    def _wake(self) -> None:
        """Tell the pages that there is something new; many calls become one."""
        server = self._server
        if server is None or self._waking:
            return
        self._waking = True
        server.call(self._wake_pages)

    def _wake_pages(self) -> None:
        self._waking = False
        for page in list(self._pages):
            page.wake()

    def wait_for_pages(self, seconds: float) -> bool:
        """Wait until every open page that still answers shows the newest picture; False if time ran out."""
        server = self._server
        if server is None:
            return True
        done = threading.Event()
        give_up = threading.Event()

        def look() -> None:
            if all(p.settled for p in self._pages):
                done.set()
            elif not give_up.is_set():
                server.loop.call_later(0.01, look)

        server.call(look)
        found = done.wait(seconds)
        give_up.set()
        return found

    def stop(self) -> None:
        """End the server: no socket and no thread is left. Open pages keep their last picture."""
        with self._lock:
            server, pool, self._server, self._pool = self._server, self._pool, None, None
            if server is None:
                return
            for page in list(self._pages):
                server.call(page.close)
            server.stop()
            self._pages.clear()
            self._waking = False
            if pool is not None:
                pool.shutdown()
            atexit.unregister(self._atexit)
            self._idle.set()

    def wait(self) -> None:
        """Serve until Ctrl-C, or until `stop` is called from another thread; then end the server."""
        try:
            self._idle.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def _report(self, what: str, exc: Exception) -> None:
        """Show an error in a picture once, on stderr; the run goes on."""
        if what not in self._told:
            self._told.add(what)
            print(  # noqa: T201  # for the person who looks at the page
                f"framefold: {what!r} cannot be drawn in the browser view: {describe(exc)}", file=sys.stderr
            )

    def __enter__(self) -> BrowserView:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<BrowserView {self.url or 'not serving'}>"

    def _repr_html_(self) -> str:
        """Embed the page in the cell of a notebook; the browser must reach this machine by the same name."""
        if self.url is None:
            return "<i>BrowserView: not serving</i>"
        address = html.escape(self.url, quote=True)
        return f"<iframe src='{address}' width='100%' height='860' style='border:1px solid #ccc'></iframe>"


def _stop(ref: weakref.ref[BrowserView]) -> None:
    view = ref()
    if view is not None:
        view.stop()


def _panels(plots: Any, snapshot: Snapshot, udfs: Sequence[Any]) -> list[Any]:
    panels = panels_of(plots, snapshot.buffers, udfs)
    if not panels:
        names = ", ".join(k for r in snapshot.buffers for k in r)
        raise UDFError(
            f"plots=: none of the results ({names}) is 1-D or 2-D; pass [(name, function)] or plots=None"
        )
    return panels


def _dashboard(run: Any) -> str | None:
    """Return the address of the dask dashboard, None where there is none."""
    executor: Any = getattr(run, "executor", None)
    if not getattr(executor, "processes", False):
        return None
    try:
        link = executor.client.dashboard_link
    except Exception:  # noqa: BLE001  # a scheduler without a dashboard, or an executor that is not dask
        return None
    return link if isinstance(link, str) and link.startswith(("http://", "https://")) else None
