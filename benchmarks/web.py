"""The browser view: pictures per second in a real browser, and what an open page costs a run.

    python benchmarks/web.py [--repeat 5] [--seconds 3]

The first part measures the transport: its run is over, so that the limit of pictures during a run does not count.
The other parts have that limit as it is by default, and print it.

Chromium runs headless on the same machine and draws in software, so that on few cores it takes what the run would
have had. Runs with no view, with a view that nobody looks at, and with one page open are interleaved; figures are
medians, ratios are taken pair by pair.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bokeh
import numpy as np
import psutil
from shared import Endless

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfcore.dataset import Dataset
from framefold.web.page import RUN_FPS
from framefold.web.view import BrowserView

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GOAL_FPS = 30
GOAL_SHARE = {True: 0.85, False: 0.95}  # two cores or fewer; more
SIDE = 512
PARTS = ("pictures", "file", "live")
# a new profile would update components and fetch lists meanwhile: that is not what a page costs
QUIET_BROWSER = [
    "--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
    "--disable-extensions", "--disable-sync", "--disable-default-apps", "--metrics-recording-only",
]  # fmt: skip


@contextlib.contextmanager
def page(view):
    """One page open in a headless browser; ends when the block does."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(f"this benchmark needs a browser: none of {', '.join(NAMES)} is on the path")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        options += [
            "--remote-debugging-port=0",
            "--window-size=1200,900",
        ]  # stays open while it can be debugged
        options += QUIET_BROWSER
        with subprocess.Popen(
            [program, *options, view.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:  # fmt: skip
            try:
                wait_for(lambda: sum(view.shown) > 0)
                yield process.pid
            finally:
                process.terminate()
                process.wait(30)


def cpu_seconds(pid):
    """CPU time of a process and all below it."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the browser did not answer")
        time.sleep(0.02)


def pictures_per_second(seconds, dtype):
    """Confirmed pictures of 512 x 512 while a new one is offered every 5 ms, and CPU seconds for each.

    The run is over: nothing else happens in this process.
    """
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 1000, (8, SIDE, SIDE)).astype(dtype)
    with ff.Context(executor="inline") as ctx, BrowserView(keep=True, quiet=True) as view:
        steps = list(ctx.run_udf_iter(frames, ff.udfs.SumUDF(), partition_frames=1))
        ctx.run_udf(frames, ff.udfs.SumUDF(), plots=view)
        with page(view) as pid:
            stop = threading.Event()

            def post():
                i = 0
                while not stop.wait(0.005):
                    view.update(steps[i % len(steps)])
                    i += 1

            thread = threading.Thread(target=post)
            thread.start()
            time.sleep(1.0)
            before, t0, own, browser = (
                sum(view.shown),
                time.perf_counter(),
                time.process_time(),
                cpu_seconds(pid),
            )
            time.sleep(seconds)
            n = sum(view.shown) - before
            found = (
                n / (time.perf_counter() - t0),
                (time.process_time() - own) / n,
                (cpu_seconds(pid) - browser) / n,
            )
            stop.set()
            thread.join()
    return found


def bench_fps(args):
    rows = []
    for dtype in ("uint16", "float32"):
        found = np.median([pictures_per_second(args.seconds, dtype) for _ in range(args.repeat)], axis=0)
        rows.append(
            (f"pictures per second without a limit, 512 x 512, sums of {dtype} frames", found[0], GOAL_FPS)
        )
        rows.append(("CPU time of each in the server, ms", 1e3 * found[1], None))
        rows.append(("CPU time of each in the browser, ms", 1e3 * found[2], None))
    return rows


class Job:
    """A run whose speed is measured, in bytes per second."""

    def file(self, ctx, view, seconds):
        block = np.ones((64, SIDE, SIDE), dtype="uint16")
        times = max(1, round(seconds * 5e9 / block.nbytes))
        ds = Dataset(Endless(block, times * len(block)))
        t0 = time.perf_counter()
        ctx.run_udf(ds, [ff.udfs.SumUDF(), ff.udfs.SumSigUDF()], plots=view)
        return times * block.nbytes / (time.perf_counter() - t0)

    def live(self, ctx, view, seconds):
        block = np.ones((64, SIDE, SIDE), dtype="uint16")
        frames = round(seconds * 4e9 / block[0].nbytes)
        source = MemoryLiveSource(block, sectors=4, block_frames=16, repeats=None, stated_frames=frames)
        ds = ctx.load(source, nav_shape=(frames,))
        t0 = time.perf_counter()
        res = ctx.run_udf(ds, ff.udfs.SumUDF(), plots=view)
        assert res.damage.all()
        return frames * block[0].nbytes / (time.perf_counter() - t0)


def bench_cost(args, name, title):
    job = getattr(Job(), name)
    few = (os.cpu_count() or 1) <= 2
    goal = GOAL_SHARE[few]
    rates = {"none": [], "unseen": [], "page": []}
    pictures = []
    with ff.Context() as ctx, BrowserView(keep=True, quiet=True) as view:
        ctx.run_udf(np.ones((4, 4, 8, 8), dtype="uint16"), ff.udfs.SumUDF(), plots=view)
        job(ctx, None, 0.2)  # kernels
        for _ in range(args.repeat):
            rates["none"].append(job(ctx, None, args.seconds))
            rates["unseen"].append(job(ctx, view, args.seconds))
            with page(view):
                before, t0 = sum(view.shown), time.perf_counter()
                rates["page"].append(job(ctx, view, args.seconds))
                pictures.append((sum(view.shown) - before) / (time.perf_counter() - t0))
            wait_for(lambda: not view.shown)
    share = {k: statistics.median(a / b for a, b in zip(v, rates["none"])) for k, v in rates.items()}
    speed = statistics.median(rates["none"]) / 1e9
    return [
        (f"{title} ({speed:.2f} GB/s alone): a view that nobody looks at / no view", share["unseen"], None),
        (f"{title}: one page open / no view", share["page"], goal),
        (
            f"{title}: pictures per second on that page, at most {RUN_FPS:g} by default",
            statistics.median(pictures),
            None,
        ),
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some of it")
    args = parser.parse_args()
    rows = []
    if "pictures" in args.only:
        rows += bench_fps(args)
    if "file" in args.only:
        rows += bench_cost(args, "file", "Sum and SumSig over frames in memory")
    if "live" in args.only:
        rows += bench_cost(args, "live", "Sum over four live sectors, partial frames")
    lines = [
        f"Bokeh {bokeh.__version__}, headless Chromium on the same cores.",
        "",
        "| what | measured | goal | |",
        "|---|---|---|---|",
    ]
    for what, value, goal in rows:
        verdict = "" if goal is None else "met" if value >= goal else "**missed**"
        lines.append(f"| {what} | {value:.3g} | {'reported' if goal is None else f'>= {goal}'} | {verdict} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
