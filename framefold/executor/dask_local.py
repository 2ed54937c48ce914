"""A dask cluster of processes on this machine: a scheduler in this process, workers as children.

Workers are started as ``python -m framefold.executor.dask_main``: unlike with multiprocessing the user's
script is not run again, so it needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO, Any

from framefold.errors import ExecutorError
from framefold.executor.dask_output import LINES_PER_SECOND, PIPED

START_TIMEOUT = 60.0
MAX_FAST_DEATHS = 3


class LocalProcesses:
    """A scheduler on the loopback interface and `n` worker processes, restarted when they die.

    Parameters
    ----------
    n
        Worker processes.
    threads
        Threads of each.
    """

    def __init__(self, n: int, threads: int) -> None:
        from distributed import Scheduler, SpecCluster  # noqa: PLC0415  # heavy

        self._closing = False
        self._children: dict[int, _Child] = {}
        self._thread: threading.Thread | None = None
        self._threads = threads
        self._cluster = SpecCluster(  # type: ignore[no-untyped-call]
            workers={},
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": "127.0.0.1",
                    "port": 0,
                    "dashboard": False,
                    "dashboard_address": "127.0.0.1:0",
                },
            },
            silence_logs=logging.CRITICAL,
        )
        self.address: str = self._cluster.scheduler_address
        self._wake_r, self._wake_w = os.pipe()
        for i in range(n):
            self._children[i] = self._start(i)
        self._thread = threading.Thread(target=self._watch, name="framefold-workers", daemon=True)
        self._thread.start()

    def _start(self, index: int, fast_deaths: int = 0) -> _Child:
        n = str(self._threads)
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path if isinstance(p, str)),
            "PYTHONUNBUFFERED": "1",
            PIPED: "1",
            "DASK_LOGGING__DISTRIBUTED": "critical",  # what matters is raised on the head
            **{f"{pool}_NUM_THREADS": n for pool in ("OMP", "OPENBLAS", "MKL", "NUMBA")},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "framefold.executor.dask_main", self.address, str(index), n],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
        )  # fmt: skip
        return _Child(index, process, fast_deaths)

    def wait(self, client: Any) -> None:
        """Wait until all workers are there.

        Raises
        ------
        ExecutorError
            If they do not come, with what they printed.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while len(client.nthreads()) < len(self._children):
            dead = [c for c in self._children.values() if c.process.poll() is not None]
            if any(c.fast_deaths >= MAX_FAST_DEATHS for c in dead) or time.monotonic() > deadline:
                raise ExecutorError(
                    f"{len(self._children)} local workers were started, {len(client.nthreads())} came up. "
                    f"Their last lines:\n{self.last_lines() or '(none)'}"
                )
            time.sleep(0.02)

    def last_lines(self, name: str | None = None) -> str:
        """Return what workers, or the one called `name`, printed last."""
        wanted = [c for c in self._children.values() if name is None or str(c.index) == name]
        return "\n".join(line for c in wanted for line in [*c.before, *c.lines])

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [c.process.pid for c in self._children.values()]

    def _watch(self) -> None:
        """Forward what workers print, and restart those that end."""
        while not self._closing:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_r, selectors.EVENT_READ)
                for child in self._children.values():
                    for stream, target in child.streams:
                        selector.register(stream, selectors.EVENT_READ, (child, target))
                for key, _ in selector.select(timeout=0.2):
                    if key.data is not None:
                        child, target = key.data
                        child.forward(key.fileobj, target)
            for index, child in list(self._children.items()):
                child.tick()
                if self._closing or child.process.poll() is None:
                    continue
                fast = child.fast_deaths + 1 if time.monotonic() - child.started < 1.0 else 0
                child.fast_deaths = max(fast, child.fast_deaths)
                if fast < MAX_FAST_DEATHS:
                    child.drain()
                    self._children[index] = self._start(index, fast)
                    self._children[index].before.extend([*child.before, *child.lines])

    def close(self) -> None:
        """End workers and scheduler; takes well below a second."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake_w, b"x")
        if self._thread is not None:
            self._thread.join()
        for child in self._children.values():
            child.process.terminate()
        deadline = time.monotonic() + 1.0
        for child in self._children.values():
            try:
                child.process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.drain()
        self._cluster.close(timeout=2)
        os.close(self._wake_r)
        os.close(self._wake_w)


class _Child:
    """One worker process and what it prints."""

    def __init__(self, index: int, process: subprocess.Popen[bytes], fast_deaths: int) -> None:
        self.index = index
        self.process = process
        self.started = time.monotonic()
        self.fast_deaths = fast_deaths
        self.lines: deque[str] = deque(maxlen=20)
        self.before: deque[str] = deque(maxlen=20)
        assert process.stdout is not None
        assert process.stderr is not None
        self.streams: list[tuple[IO[bytes], str]] = [(process.stdout, "stdout"), (process.stderr, "stderr")]
        for stream, _ in self.streams:
            os.set_blocking(stream.fileno(), False)
        self._rest = {"stdout": b"", "stderr": b""}
        self._second = 0
        self._count = 0

    def forward(self, stream: Any, target: str) -> bool:
        """Print what has come, line by line; return False at the end of the stream."""
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return False
        if not data:
            self.streams = [s for s in self.streams if s[0] is not stream]
            stream.close()
            return False
        *lines, self._rest[target] = (self._rest[target] + data).split(b"\n")
        for line in lines:
            self._print(line.decode(errors="replace"), target)
        return True

    def _print(self, line: str, target: str) -> None:
        self.lines.append(line)
        self.tick()
        self._count += 1
        if self._count <= LINES_PER_SECOND:
            self._write(line, target)

    def tick(self) -> None:
        """Once a second, say how many lines were left out, and begin to count anew."""
        second = int(time.monotonic())
        if second != self._second:
            dropped = self._count - LINES_PER_SECOND
            self._second, self._count = second, 0
            if dropped > 0:
                self._write(f"({dropped} lines more)", "stderr")

    def _write(self, line: str, target: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed stdout is no reason to stop
            getattr(sys, target).write(f"[worker {self.index}] {line}\n")

    def drain(self) -> None:
        """Print what is left and close the pipes."""
        for stream, target in list(self.streams):
            while self.forward(stream, target):
                pass
            stream.close()
        self.streams = []
