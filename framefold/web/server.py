"""A Bokeh server in a thread of its own, with its own event loop; stopped, it leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from framefold.errors import FramefoldError
from framefold.web.access import access_to, auth_provider, reachable_name

STOP_SECONDS = 10.0
HANDSHAKE_SECONDS = 0.5  # for browsers to answer that a websocket closes


def require_bokeh() -> None:
    """Raise an error that says what to install, if Bokeh is missing."""
    try:
        import bokeh.server.server  # noqa: F401, PLC0415  # heavy: only where a page is served
    except ImportError as exc:
        raise FramefoldError("the browser view needs bokeh: pip install 'framefold[web]'") from exc


class PageServer:
    """Serves one page.

    Parameters
    ----------
    make_page
        Fills the Bokeh document of each browser tab; called in the event loop.
    address, port
        Where to listen; port 0 takes a free one.
    token
        See `access_to`.
    routes
        Further Tornado routes; called with the access rules' user check already done by their keys.

    Attributes
    ----------
    url
        To open.
    loop
        The event loop; runs until `stop`.

    Raises
    ------
    FramefoldError
        If the address cannot be used.
    """

    def __init__(
        self,
        make_page: Callable[[Any], None],
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        routes: Sequence[tuple[Any, ...]] = (),
    ) -> None:
        require_bokeh()
        from bokeh.server.util import bind_sockets  # noqa: PLC0415

        try:
            self._sockets, self.port = bind_sockets(address, port)
        except OSError as exc:
            raise FramefoldError(
                f"the browser view cannot listen on {address}:{port}: {exc}. Port 0 takes a free one."
            ) from exc
        try:
            access = access_to(address, self.port, token)
        except BaseException:
            self._close_sockets()
            raise
        query = "" if access.token is None else f"?token={access.token}"
        self.url = f"http://{reachable_name(address)}:{self.port}/{query}"
        self.loop = asyncio.new_event_loop()
        self._error: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._serve,
            args=(make_page, access, list(routes), ready),
            name="framefold-web",
            daemon=True,  # an interpreter that ends does not wait for a page
        )
        self._thread.start()
        ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _serve(self, make_page: Any, access: Any, routes: list[Any], ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._listen(make_page, access, routes)
        except BaseException as exc:  # noqa: BLE001  # raised again in the caller's thread
            self._error = exc
            self._close_sockets()
            self.loop.close()
            return
        finally:
            ready.set()
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self._wind_down())
            self.loop.close()
            asyncio.set_event_loop(None)

    def _listen(self, make_page: Any, access: Any, routes: list[Any]) -> None:
        from bokeh.application import Application  # noqa: PLC0415
        from bokeh.application.handlers.function import FunctionHandler  # noqa: PLC0415
        from bokeh.server.server import BaseServer  # noqa: PLC0415
        from bokeh.server.tornado import BokehTornado  # noqa: PLC0415
        from tornado.httpserver import HTTPServer  # noqa: PLC0415
        from tornado.ioloop import IOLoop  # noqa: PLC0415

        # a tab that is closed while a picture is on its way is nothing to warn of
        logging.getLogger("bokeh.server.views.ws").addFilter(_worth_telling)
        app = self._app = BokehTornado(
            {"/": Application(FunctionHandler(make_page))},
            extra_websocket_origins=list(access.hosts),
            extra_patterns=routes,
            auth_provider=auth_provider(access),
            secret_key=secrets.token_bytes(32),
            sign_sessions=True,  # a websocket opens only with what the page was given
            generate_session_ids=True,
            check_unused_sessions_milliseconds=2_000,
            unused_session_lifetime_milliseconds=5_000,
            websocket_max_message_size_bytes=2**20,  # pages send clicks and numbers
        )
        self._http = HTTPServer(app, max_body_size=2**20, max_buffer_size=2**22)
        self._http.add_sockets(self._sockets)
        self._server = BaseServer(IOLoop.current(), app, self._http)
        self._server.start()

    async def _wind_down(self) -> None:
        """Close every connection and end what still runs in the loop."""
        self._http.stop()  # first: browsers try to connect again at once
        for websocket in self._websockets():
            websocket.close(1001, "the view has ended")
        rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        if rest:
            await asyncio.wait(rest, timeout=HANDSHAKE_SECONDS)
        await self._http.close_all_connections()
        sessions = self._server.get_sessions()
        self._server.stop(wait=False)
        for session in sessions:
            session.destroy()
        rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    def _websockets(self) -> list[Any]:
        return [c._socket for c in getattr(self._app, "_clients", ())]  # bokeh has no public way to them

    def hasten(self) -> None:
        """Send at once, in the event loop: the end of a picture would wait 40 ms for a receipt (Nagle)."""
        for websocket in self._websockets():
            if websocket.ws_connection is not None:  # not one that has just gone
                websocket.set_nodelay(True)

    def call(self, fn: Callable[..., Any], *args: Any) -> None:
        """Run `fn` soon in the event loop; from any thread, and in vain once the server is stopped."""
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop is closed
            return

    def stop(self) -> None:
        """Close all sockets and end the thread; harmless when repeated."""
        if not self._thread.is_alive():
            return
        self.call(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_SECONDS)


def _worth_telling(record: logging.LogRecord) -> bool:
    return "connection was closed" not in record.getMessage()
