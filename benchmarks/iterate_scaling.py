"""Iterations on threads, on workers of one host and of two: time, what joining costs, start-up, memory.

    python benchmarks/iterate_scaling.py [--frames 4000]

Alternating projections on frames of 128 x 128; all ways have the same frames, and take turns in one process. "Two
hosts" are two workers of this machine that are told not to share memory: their sums go over loopback sockets.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from goals import at_least, at_most

import framefold as ff
from framefold.udfs.ptycho import Geometry, Ptychography, ScanPositions

N = 128
GEOMETRY = Geometry(wavelength=1e-10, distance=2.0, detector_pixel=75e-6, kind="far")


class Rounds(ff.IterativeUDF):
    """Nothing but passes over buffers of a size."""

    def __init__(self, size, passes=20):
        super().__init__(size=size, passes=passes)

    def get_loop_state(self):
        return {"x": 0.0}

    def get_pass_buffers(self):
        return {"sum": self.summed((self.params.size,), "float32")}

    def plan(self, iteration):
        from framefold.udfcore.iterative import Pass

        for _ in range(self.params.passes):
            yield Pass()

    def process_rows(self, frames, rows):
        pass

    def step(self, phase, results):
        self.loop.x += float(results.sum[0])


def frames_file(folder, n):
    """Write n frames that look like diffraction, 32 of them over and over."""
    rng = np.random.default_rng(0)
    y, x = np.indices((N, N)) - N // 2
    few = rng.poisson(60 * np.exp(-(y**2 + x**2) / 400), (32, N, N)).astype("u2")
    path = Path(folder) / f"frames{n}.npy"
    out = np.lib.format.open_memmap(path, "w+", "u2", (n, N, N))
    for i in range(0, n, 32):
        out[i : i + 32] = few[: min(32, n - i)]
    out.flush()
    return str(path)


def job(n, **options):
    side = int(np.ceil(np.sqrt(n)))
    rng = np.random.default_rng(1)
    grid = 5.0 * np.indices((side, side)).reshape(2, -1).T[:n] + rng.integers(-1, 2, (n, 2))
    return Ptychography(
        GEOMETRY, ScanPositions(grid, units="px"), recipe="AP", find_defocus=False, subpixel=None,
        probe_update_start=0, **options,
    )  # fmt: skip


def ways(stack):
    """Return the contexts to compare, with their lanes."""
    contexts = {
        "1 thread": (ff.Context(executor="threads"), 1),
        "2 threads": (ff.Context(executor="threads"), 2),
    }
    for name, workers in (("1 worker", 1), ("2 workers", 2), ("2 hosts", 2)):
        contexts[name] = (stack.enter_context(ff.Context(workers=workers)), 1)
        contexts[name][0].executor.map(abs, [1] * workers)
    contexts["2 hosts"][0].executor.client.run(apart)
    return contexts


def apart():
    """Let this worker share its memory with nobody."""
    import secrets

    from framefold.executor import iterate_links

    iterate_links.place_of_process = lambda: secrets.token_hex(8)


def seconds(ctx, source, udf, n, lanes):
    it = ctx.iterate(source, udf, n=n, lanes=lanes, publish_every=1e9)
    it.to_end()
    return np.sort(it.snapshot.history["seconds"][1:])  # the first one plans


def apart_from_others(task):
    """Iterate over some frames in this worker, for itself."""
    path, n = task
    return seconds(ff.Context(executor="threads"), path, job(n), 4, 1)[0]


def scaling(contexts, folder, n):
    strong, weak, both = {}, {}, []
    paths = {k: frames_file(folder, k) for k in (n, n // 2)}
    for _ in range(2):
        for name, (ctx, lanes) in contexts.items():
            strong.setdefault(name, []).append(seconds(ctx, paths[n], job(n), 4, lanes)[0])
            if not name.startswith("2"):
                weak.setdefault(name, []).append(seconds(ctx, paths[n // 2], job(n // 2), 4, lanes)[0])
        both.append(
            max(contexts["2 workers"][0].executor.map(apart_from_others, [(paths[n // 2], n // 2)] * 2))
        )
    strong = {k: min(v) for k, v in strong.items()}
    weak = {k: min(v) for k, v in weak.items()}
    lines = [
        f"**Strong and weak scaling**: one iteration of AP over {n} frames of {N} x {N}; weak: against half of them on one",
        "",
        "| on | s / iteration | speed-up | goal | weak efficiency | goal |",
        "|---|---|---|---|---|---|",
    ]
    for name, t in strong.items():
        kind = "1 thread" if "thread" in name else "1 worker"
        if name.startswith("1"):
            lines.append(f"| {name} | {t:.3f} | 1 | | | |")
        else:
            faster, even = strong[kind] / t, weak[kind] / t
            lines.append(
                f"| {name} | {t:.3f} | {faster:.2f} | {at_least(faster, 1.85)} | {even:.2f} | {at_least(even, 0.9)} |"
            )
    limit = strong["1 worker"] / min(both)
    lines += [
        "",
        f"Two processes that each iterate over half of the frames and join nothing reach {limit:.2f}: the cores share "
        "caches, memory and power.",
    ]
    return lines


def joining(contexts, folder):
    path = frames_file(folder, 64)
    lines = [
        "**A pass without work**: what barrier and sums cost, ms (goal: <= 1 ms where little is joined; otherwise twice"
        " the time of copying so much in and out)",
        "",
        "| joined | " + " | ".join(contexts) + " | copy in and out |",
        "|---|" + "---|" * (len(contexts) + 1),
    ]
    for size in (1000, 1_000_000, 4_000_000):
        row = []
        for ctx, lanes in contexts.values():
            udf = Rounds(size)
            row.append(1e3 * np.median(seconds(ctx, path, udf, 8, lanes)) / udf.params.passes)
        a, b = np.zeros(size, "f4"), np.zeros(size, "f4")
        times = []
        for _ in range(20):
            t0 = time.perf_counter()
            b[:] = a
            a[:] = b
            times.append(time.perf_counter() - t0)
        cells = " | ".join(f"{ms:.2f}" for ms in row)
        text = f"{size * 4 / 1e6:.3g} MB" if size > 1000 else "4 kB"
        lines.append(f"| {text} | {cells} | {1e3 * np.median(times):.2f} |")
    return lines


def child(path, n, modes):
    """Time the start and the memory of one run, in a process of its own."""
    ctx = ff.Context(executor="threads")
    few = np.load(path, mmap_mode="r")[:64].copy()
    ctx.iterate(few, job(64, modes=modes), n=1).to_end()  # loads and plans what is not counted
    base = memory("RssAnon")  # mapped files are not counted: the system drops them when it likes
    peaks, over = [base], threading.Event()

    def watch():
        while not over.wait(0.01):
            peaks.append(memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    ready = []
    t0 = time.perf_counter()
    it = ctx.iterate(
        path, job(n, modes=modes), n=1, on_ready=lambda _: ready.append(time.perf_counter() - t0)
    )
    it.to_end()
    over.set()
    watcher.join()
    print(ready[0], (max(peaks) - base) * 1024 / (n * N * N * 2), it.snapshot.history["seconds"][0])


def memory(name):
    """Return a figure of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def start_up(folder, n, modes):
    path = frames_file(folder, n)
    raw = n * N * N * 2
    args = [sys.executable, __file__, "--child", path, str(n), str(modes)]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    ready, share, each = map(float, done.stdout.split())
    return [
        f"**Start and memory**: {n} frames of {N} x {N}, {modes} modes, threads; code is loaded, transforms are planned",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
        f"| from the call to the first iteration, s | {ready:.1f} | {at_most(ready, 10 * n / 50000)} |",
        f"| peak memory above that of a small job / raw frames ({raw / 1e6:.0f} MB) | {share:.2f} | {at_most(share, 1.3)} |",
        f"| one iteration of AP, s | {each:.1f} | |",
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]), int(args.child[2]))
        return
    lines = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        contexts = ways(stack)
        lines += [*scaling(contexts, folder, args.frames), "", *joining(contexts, folder), ""]
        lines += start_up(folder, 10000, 4)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
