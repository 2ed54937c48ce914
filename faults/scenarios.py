"""What may go wrong around a run, each as a function that raises if framefold did not survive it.

A scenario returns how many attempts it made. `run.py` runs each in a process of its own, with a limit on time.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import framefold as ff
from framefold.errors import ExecutorError, FramefoldError, UDFRunCancelled, WorkerLost
from framefold.udfs import SumUDF

DATA = np.random.default_rng(3).integers(0, 1000, (20, 30, 8, 8)).astype("uint16")


class Slow(ff.UDF):
    """Sums, 2 ms a frame; with large buffers that stay on the workers or without."""

    def __init__(self, large=False, seconds=0.002):
        super().__init__(large=large, seconds=seconds)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="int64", reduce="sum", large=self.params.large),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
            "first": self.buffer("nav", dtype="int64"),
        }

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def process_frame(self, frame):
        time.sleep(self.params.seconds)
        self.results.total += frame
        self.results.count += 1
        self.results.first[:] = frame[0, 0]


def check(result):
    np.testing.assert_array_equal(result["total"].data, DATA.sum(axis=(0, 1), dtype="int64"))
    np.testing.assert_array_equal(result["first"].data, DATA[..., 0, 0])
    assert result["count"].data.tolist() == [600]


def expect(error, text, call):
    """Check that `call` ends in `error` with `text` in its message, and return the error."""
    try:
        call()
    except error as exc:
        notes = "\n".join(getattr(exc, "__notes__", []))
        if text not in f"{exc}\n{notes}":
            raise AssertionError(f"{text!r} is not in: {exc}\n{notes}") from exc
        return exc
    raise AssertionError(f"no {error} was raised")


def workers_of(ctx):
    return ctx.executor._connected()._local.pids()


def worker_killed_at_random_times(attempts=20):
    """SIGKILL one worker somewhere in a run: the result is exact."""
    rng = random.Random(1)
    with ff.Context(workers=2) as ctx:
        for i in range(attempts):
            ctx.executor.client.wait_for_workers(2, timeout=60)
            victim = rng.choice(workers_of(ctx))
            timer = threading.Timer(rng.uniform(0, 0.8), os.kill, (victim, signal.SIGKILL))
            timer.start()
            check(ctx.run_udf(DATA, Slow(large=bool(i % 2))))
            timer.cancel()
            timer.join()
    return attempts


def every_worker_killed(attempts=5):
    """SIGKILL all workers in mid-run: they are started again, the result is exact."""
    with ff.Context(workers=2) as ctx:
        for i in range(attempts):
            ctx.executor.client.wait_for_workers(2, timeout=60)
            killed = False
            for part in ctx.run_udf_iter(DATA, Slow(large=bool(i % 2)), partition_frames=20):
                if not killed and part.damage.sum() >= 60:
                    killed = True
                    for pid in workers_of(ctx):
                        os.kill(pid, signal.SIGKILL)
            check(part.buffers[0])
    return attempts


SCHEDULER = """
import asyncio
from distributed import Scheduler, Worker
async def main():
    async with Scheduler(host="127.0.0.1", dashboard_address="127.0.0.1:0", port=0) as s:
        async with Worker(s.address, nthreads=1, host="127.0.0.1", memory_limit=0):
            print(s.address, flush=True)
            await s.finished()
asyncio.run(main())
"""


def scheduler_lost():
    """SIGKILL a scheduler in mid-run: an error that says so, with what was merged."""
    head = subprocess.Popen([sys.executable, "-c", SCHEDULER], stdout=subprocess.PIPE, text=True)
    address = head.stdout.readline().strip()
    ctx = ff.Context(address)

    def run():
        for part in ctx.run_udf_iter(DATA, Slow(seconds=0.02)):
            if part.damage.any():
                head.kill()

    exc = expect(ExecutorError, "scheduler", run)
    assert 0 < exc.partial.damage.sum() < 600
    head.wait()
    return 1


def disk_full_while_saving():
    """Files may not grow past 10 kB: an error, and nothing under the final name."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    big = np.ones((4, 300, 300), "float64")
    result = ff.Context(executor="inline").run_udf(big, SumUDF())
    suffixes = (".h5", ".nxs", ".npy", ".npz", ".png", ".zarr")
    with tempfile.TemporaryDirectory() as folder:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            for suffix in suffixes:
                path = Path(folder) / f"out{suffix}"
                try:
                    result.save(path)
                except (OSError, FramefoldError):
                    assert not path.exists(), f"half of {path.name} was left"
                else:
                    size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")))
                    assert suffix in {".png", ".zarr"}, f"{path.name} claims to hold 720 kB in {size} bytes"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return len(suffixes)


class Raises(Slow):
    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 234:
            raise ZeroDivisionError("by the user")
        super().process_frame(frame)


class Leaks(Slow):
    kept: list = []  # noqa: RUF012  # on purpose

    def process_frame(self, frame):
        self.kept.append(np.ones(10_000_000))
        super().process_frame(frame)


class Exits(Slow):
    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 234:
            os._exit(3)
        super().process_frame(frame)


class ExitsPolitely(Slow):
    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 234:
            sys.exit("enough")
        super().process_frame(frame)


def contexts():
    return ff.Context(executor="inline"), ff.Context(executor="threads"), ff.Context(workers=2)


def udf_that_raises():
    """The user's exception, with UDF, frame and partition named, on every executor."""
    for ctx in contexts():
        with ctx:
            expect(ZeroDivisionError, "(7, 24)", lambda: ctx.run_udf(DATA, Raises(seconds=0)))
            check(ctx.run_udf(DATA, Slow(seconds=0)))
    return 3


def udf_that_leaks():
    """Memory ends in mid-run: a MemoryError that names the UDF, and a usable context."""
    with ff.Context(executor="threads") as ctx:
        ctx.run_udf(DATA, Slow(seconds=0))
        limit = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (2 * 1024**3, limit[1]))
        try:
            expect(MemoryError, "Leaks.process_frame", lambda: ctx.run_udf(DATA, Leaks(seconds=0)))
        finally:
            Leaks.kept.clear()
            resource.setrlimit(resource.RLIMIT_DATA, limit)
        check(ctx.run_udf(DATA, Slow(seconds=0)))
    return 1


def udf_that_sleeps():
    """A run that takes too long is cancelled from another thread, on every executor."""
    for ctx in contexts():
        with ctx:
            check(ctx.run_udf(DATA, Slow(seconds=0)))  # its workers are there now
            threading.Timer(1.5, ctx.executor.cancel).start()
            t0 = time.monotonic()
            expect(UDFRunCancelled, "cancelled", lambda: ctx.run_udf(DATA, Slow(seconds=0.1)))
            assert time.monotonic() - t0 < 20
    return 3


def udf_that_exits():
    """`os._exit` in a worker names the partition; `sys.exit` is an exception like others."""
    with ff.Context(workers=2) as ctx:
        expect(
            WorkerLost, "of Exits ended its worker", lambda: ctx.run_udf(DATA, Exits(seconds=0), retries=1)
        )
        ctx.executor.client.wait_for_workers(2, timeout=60)
        check(ctx.run_udf(DATA, Slow(seconds=0)))
    for ctx in contexts():
        with ctx:
            expect(BaseException, "enough", lambda: ctx.run_udf(DATA, ExitsPolitely(seconds=0)))
    return 4


def tls_cluster():
    """A cluster with certificates: runs with them, is refused without."""
    from distributed import Client  # noqa: PLC0415
    from distributed.security import Security  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
            check=True, capture_output=True,
        )  # fmt: skip
        files = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
        port = free_port()
        address = f"tls://127.0.0.1:{port}"
        head = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
                "--no-dashboard", "--protocol", "tls"]  # fmt: skip
        worker = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            address,
            "--no-dashboard",
            "--no-nanny",
        ]
        for command in (head, worker):
            process = subprocess.Popen([*command, *files], stderr=subprocess.DEVNULL, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
        security = Security(
            tls_ca_file=str(cert), tls_client_cert=str(cert), tls_client_key=str(key), require_encryption=True
        )
        with Client(address, security=security, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            with ff.Context(client) as ctx:
                check(ctx.run_udf(DATA, Slow(seconds=0)))
        expect(
            ExecutorError, "names no certificates", lambda: ff.Context(address).run_udf(DATA, Slow(seconds=0))
        )
    return 2


def free_port():
    import socket  # noqa: PLC0415

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


SCENARIOS = (
    worker_killed_at_random_times,
    every_worker_killed,
    scheduler_lost,
    disk_full_while_saving,
    udf_that_raises,
    udf_that_leaks,
    udf_that_sleeps,
    udf_that_exits,
    tls_cluster,
)
