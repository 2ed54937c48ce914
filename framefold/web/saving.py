"""Downloads of the snapshot that a page shows: all numbers as HDF5, all pictures as PNG."""

from __future__ import annotations

import importlib.util
import io
import secrets
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from framefold.udfcore.combine import combined, labels
from framefold.udfcore.results import Snapshot
from framefold.web.hub import Hub

_TYPES = {".h5": "application/x-hdf5", ".png": "image/png"}


def can_draw() -> bool:
    """Tell whether pictures can be made here: PNG needs matplotlib."""
    return importlib.util.find_spec("matplotlib") is not None


def as_hdf5(snapshot: Snapshot, names: list[str]) -> bytes:
    """Return the results of a snapshot as a NeXus file."""
    with tempfile.TemporaryDirectory(prefix="framefold-") as folder:
        path = Path(folder) / "snapshot.h5"
        combined(names, snapshot.buffers).save(path)
        return path.read_bytes()


def as_png(snapshot: Snapshot, hub: Hub) -> bytes:
    """Return all panels of a snapshot in one picture."""
    from framefold.plot.figure import Board  # noqa: PLC0415  # loads matplotlib later

    board = Board(hub.panels, snapshot.buffers, on_error=lambda panel, exc: None)
    board.update(snapshot.buffers, f"{hub.title}   {snapshot.n_frames} frames".strip())
    out = io.BytesIO()
    board.figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


class Downloads:
    """The route ``/save/KEY/NAME``; only pages know the key.

    Parameters
    ----------
    hub
        Has the snapshot.
    pool
        Where files are made.
    """

    def __init__(self, hub: Hub, pool: Executor) -> None:
        self._hub = hub
        self._pool = pool
        self.key = secrets.token_urlsafe(24)

    def path(self, name: str) -> str:
        """Return where `name` (``"snapshot.h5"`` or ``"snapshot.png"``) is to be had."""
        return f"/save/{self.key}/{name}"

    def make(self, name: str) -> bytes | None:
        """Return the file, None if there is nothing yet."""
        snapshot = self._hub.snapshot
        if snapshot is None:
            return None
        if name.endswith(".png"):
            return as_png(snapshot, self._hub)
        return as_hdf5(snapshot, labels([type(u).__name__ for u in self._hub.udfs]))

    def route(self) -> tuple[str, Any]:
        """Return pattern and handler for Tornado."""
        from tornado.web import HTTPError, RequestHandler  # noqa: PLC0415  # comes with bokeh

        key, pool, make = self.key, self._pool, self.make

        class Handler(RequestHandler):
            """Sends the file."""

            async def get(self, given: str, name: str) -> None:
                if not secrets.compare_digest(given, key):
                    raise HTTPError(403)
                data = await _in(pool, make, name)
                if data is None:
                    raise HTTPError(404, reason="no result yet")
                self.set_header("Content-Type", _TYPES[Path(name).suffix])
                self.set_header("Content-Disposition", f'attachment; filename="{name}"')
                self.set_header("Cache-Control", "no-store")
                self.finish(data)

        return r"/save/([\w-]+)/(snapshot\.(?:h5|png))", Handler


async def _in(pool: Executor, fn: Callable[..., Any], *args: Any) -> Any:
    import asyncio  # noqa: PLC0415  # only where a page is served

    return await asyncio.get_running_loop().run_in_executor(pool, fn, *args)
