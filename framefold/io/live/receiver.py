"""Runs a receiver where it can hold its rate: in a process of its own, or in a thread.

``python -m framefold.io.live.receiver FD`` is the process: its spec comes as a line of JSON on the standard
input, its answer goes as a line of JSON to the standard output, then messages of eight numbers each. It ends
when its input closes, so that none is left when the session dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
from typing import IO, Any

from framefold.errors import StreamError
from framefold.io.live import kernels_receive as r
from framefold.io.live.core import MESSAGE_WORDS, Core, CoreSpec
from framefold.io.live.ring import Ring

log = logging.getLogger("framefold")
_MESSAGE = struct.Struct(f"<{MESSAGE_WORDS}q")
_SILENT_SECONDS = 3.0  # a start with compiled code takes one
_NICE = -10
_START_SECONDS = 120.0  # the first start compiles
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031

Message = tuple[int, ...]


class ThreadReceiver:
    """A receiver in a thread of this process.

    Parameters
    ----------
    spec
        What to receive.
    ring
        Where to.
    """

    def __init__(self, spec: CoreSpec, ring: Ring) -> None:
        self._messages: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()
        self._core = Core(spec, ring, self._messages.put)
        self._control = ring.arrays["control"]
        self._core.open()
        for text in self._core.warnings:
            warnings.warn(text, stacklevel=4)
        self.ports = self._core.ports
        self._thread = threading.Thread(target=self._run, name="framefold-receiver", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._core.run()
        except BaseException as exc:  # noqa: BLE001  # the thread that reads the messages raises it
            self._messages.put(exc)

    def next(self, timeout: float) -> Message | None:
        """Return the next message, or None if there is none for `timeout` seconds."""
        try:
            got = self._messages.get(timeout=max(timeout, 0)) if timeout > 0 else self._messages.get_nowait()
        except queue.Empty:
            return None
        if isinstance(got, BaseException):
            raise StreamError(f"the receiver failed: {got!r}") from got
        return got

    def close(self) -> None:
        """Stop the thread and close the sockets."""
        self._control[r.QUIT] = 1
        self._thread.join()
        self._core.close()


class ProcessReceiver:
    """A receiver in a process of its own: nothing that Python code here does can hold it up.

    Parameters
    ----------
    spec
        What to receive.
    ring
        Where to; its memory file is inherited.
    """

    def __init__(self, spec: CoreSpec, ring: Ring) -> None:
        self._buffer = bytearray()
        self._control = ring.arrays["control"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "framefold.io.live.receiver", str(ring.fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(ring.fd,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        try:
            self.ports = self._started(spec)
        except BaseException:
            self.close()
            raise

    def _started(self, spec: CoreSpec) -> list[int]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: the missing answer says so
            self._process.stdin.write(json.dumps(spec.as_dict()).encode() + b"\n")
            self._process.stdin.flush()
        if not self._read_line(_SILENT_SECONDS):
            log.warning(
                "starting what receives; the first time on a machine it is compiled, for up to half a minute"
            )
            if not self._read_line(_START_SECONDS):
                raise StreamError(f"the receiver did not get ready within {_START_SECONDS:.0f} s")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StreamError(answer["error"])
        for text in answer["warnings"]:
            warnings.warn(text, stacklevel=5)
        return list(answer["ports"])

    def _read_line(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not self._read(until - time.monotonic()):
                return False
        return True

    def _read(self, timeout: float) -> bool:
        """Add to the buffer what the process has written; False: nothing for `timeout` seconds."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], max(timeout, 0))[0]:
            return False
        data = os.read(fd, 1 << 16)
        if not data:
            raise StreamError(
                f"the receiver process has ended with code {self._process.wait()}: what it has not "
                "delivered is lost"
            )
        self._buffer += data
        return True

    def next(self, timeout: float) -> Message | None:
        """Return the next message, or None if there is none for `timeout` seconds."""
        until = time.monotonic() + timeout
        while len(self._buffer) < _MESSAGE.size:
            if not self._read(until - time.monotonic()):
                return None
        message = _MESSAGE.unpack_from(self._buffer)
        del self._buffer[: _MESSAGE.size]
        return message

    def close(self) -> None:
        """End the process."""
        self._control[r.QUIT] = 1
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Pipe:
    """Messages for the session; never waits for it."""

    def __init__(self, fd: int) -> None:
        self._fd, self._pending = fd, bytearray()
        if sys.platform == "linux":
            import fcntl  # noqa: PLC0415  # not on every system

            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(fd, False)

    def put(self, message: Message) -> None:
        """Add a message."""
        self._pending += _MESSAGE.pack(*message)

    def flush(self) -> None:
        """Write what the pipe has room for."""
        while self._pending:
            try:
                del self._pending[: os.write(self._fd, self._pending)]
            except BlockingIOError:
                return


def serve(fd: int, commands: IO[bytes], answers: int) -> None:
    """Receive until `commands` closes.

    Parameters
    ----------
    fd
        Memory file of the ring.
    commands
        Gives the spec as a line of JSON.
    answers
        Descriptor for answer and messages.
    """
    spec = CoreSpec(**json.loads(commands.readline()))
    ring = spec.ring(fd)
    pipe = _Pipe(answers)
    core = Core(spec, ring, pipe.put)
    control = ring.arrays["control"]
    try:
        core.open()
    except StreamError as exc:
        os.write(answers, json.dumps({"error": str(exc)}).encode() + b"\n")
        return
    os.write(answers, json.dumps({"ports": core.ports, "warnings": core.warnings}).encode() + b"\n")

    def watch() -> None:
        commands.read()
        control[r.QUIT] = 1

    threading.Thread(target=watch, daemon=True).start()
    try:
        while not control[r.QUIT]:
            core.cycle()
            pipe.flush()
    except BrokenPipeError:  # the session has gone
        pass
    finally:
        core.close()


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # before what folds, where that is allowed: sockets hold milliseconds
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    # Ctrl-C is for the session: it closes the input when it has got everything
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.fileno())
    # the watching thread may hold the lock of the input
    os._exit(0)
