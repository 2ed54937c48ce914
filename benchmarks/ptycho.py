"""Ptychography against the bare Fourier transforms of the same frames, interleaved in one run.

    python benchmarks/ptycho.py [--repeat 7]

One thread, frames in memory. The bare time is that of the two transforms per mode and frame that no algorithm can do
without, by the same FFTW plans. Every ratio is the median over repetitions in which the candidates took turns.
"""

import argparse
import functools
import os
import resource
import statistics
import time

import numpy as np

import framefold as ff
from framefold.sim.ptycho import ptycho_scan
from framefold.udfcore.namespace import has_device
from framefold.udfs.ptycho import Geometry, Ptychography, ScanPositions
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.kernels.fftw import FFTWKernels
from framefold.udfs.ptycho.quality import object_error

GOALS = {("AP", 1): 1.6, ("EPIE", 1): 1.6, ("RPIE", 1): 1.8, ("DM", 1): 2.6, ("DM", 3): 2.0}


class Turns:
    """An open iteration, one step at a time."""

    def __init__(self, ctx, source, recipe, scan, modes):
        udf = Ptychography(recipe=f"1000 {recipe}", probe=scan.probe, modes=modes, subpixel=None)
        self.steps = ctx.iterate(source, udf, publish_every=0, lanes=1)
        for _ in range(4):
            self.state = next(self.steps)

    def __call__(self):
        self.state = next(self.steps)
        return float(self.state.history["seconds"][-1])


def bare(n, frames, modes, patient=False):
    kernels = FFTWKernels((n, n), modes, patient=patient)

    def run():
        t0 = time.perf_counter()
        for _ in range(frames):
            kernels._forward()
            kernels._backward()
        return time.perf_counter() - t0

    return run


def ratios(ctx, n, frames, modes, repeat, rows):
    scan = ptycho_scan(frames, n, modes=modes)
    calls = {"FFT": bare(n, frames, modes)}
    for recipe in ("AP", "RPIE", "EPIE", "DM", "ML"):
        calls[recipe] = Turns(ctx, scan.source(), recipe, scan, modes)
    seconds = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            seconds[name].append(call())
    for name in calls:
        if name == "FFT":
            continue
        found = statistics.median(a / b for a, b in zip(seconds[name], seconds["FFT"], strict=True))
        goal = GOALS.get((name, modes))
        met = "" if goal is None else "met" if found <= goal else "**missed**"
        rows.append(
            (
                f"{name}, {frames} frames of {n} x {n}, {modes} mode(s): iteration / bare FFT",
                f"{found:.2f}",
                goal or "",
                met,
            )
        )
    for call in calls.values():
        if isinstance(call, Turns):
            call.steps.close()


def time_to_error(ctx, rows):
    scan = ptycho_scan(400, 128)
    w = illuminated(scan.illumination)
    start = 0.9 * scan.probe
    udf = Ptychography(probe=start)
    for _ in range(2):  # the first run compiles
        for state in ctx.iterate(scan.source(), udf.copy(), n=40, publish_every=0):
            found = state["object"].data
            y, x = (min(a, b) for a, b in zip(found.shape, w.shape, strict=True))
            if object_error(found[:y, :x], scan.object[:y, :x], w[:y, :x]) <= 0.032:
                break
    seconds = float(state.history["seconds"].sum())
    rows.append(
        (
            f"s to object error .032, 400 frames of 128 x 128 ({state.iteration} iterations, all cores)",
            f"{seconds:.2f}",
            1.0,
            "met" if seconds <= 1 else "**missed**",
        )
    )


def overhead(ctx, rows):
    scan = ptycho_scan(100, 32, probe_radius=6, step=2.5)
    udf = Ptychography(recipe="200 AP", probe=scan.probe, subpixel=None)
    it = ctx.iterate(scan.source(), udf, n=200, publish_every=0)
    values = sorted(s.buffers[0].report["overhead_seconds"] * 1e3 for s in it)
    found = values[len(values) // 2]
    rows.append(
        (
            "ms of threads, barrier and sums per pass (median)",
            f"{found:.3f}",
            1.0,
            "met" if found <= 1 else "**missed**",
        )
    )


def repeated(n, frames):
    """Return frames of a few positions over and over, which take no time to simulate, and what makes the UDF."""
    few = ptycho_scan(16, n)
    data = np.concatenate([few.frames] * (frames // 16 + 1))[:frames]
    side = int(np.sqrt(frames)) + 1
    places = ScanPositions(np.indices((side, side)).reshape(2, -1).T[:frames] * 17.0, units="px")
    return data, functools.partial(Ptychography, few.geometry, places, probe=few.probe, subpixel=None)


def card(ctx, rows, sizes=((256, 1024, None), (400, 1025, 0.24)), n=20):
    """A graphics card against all cores, iteration by iteration; on a machine without one nothing is measured.

    The goal of .24 s is what PyNX published for a card of 2017.
    """
    for pixels, frames, most in sizes:
        data, make = repeated(pixels, frames)
        for recipe in ("AP", "DM"):
            seconds = {}
            for backend in ("cpu", "cupy"):
                udf = make(recipe=f"{n} {recipe}", backend=backend)
                history = ctx.iterate(data, udf, publish_every=1e9).to_end().report["history"]
                seconds[backend] = statistics.median(history["seconds"][n // 2 :])
            what = f"{recipe}, {frames} frames of {pixels} x {pixels}"
            ratio = seconds["cpu"] / seconds["cupy"]
            rows.append(
                (f"{what}: all cores / card", f"{ratio:.1f}", 10, "met" if ratio >= 10 else "**missed**")
            )
            if most is not None and recipe == "AP":
                found = seconds["cupy"]
                met = "met" if found <= most else "**missed**"
                rows.append((f"{what}: s per cycle on the card", f"{found:.3f}", most, met))


def large(ctx, rows, repeat):
    """The size of a published figure (PyNX, 2017): 1025 frames of 400 x 400, one cycle of alternating projections."""
    n, frames = 400, 1025
    data, make = repeated(n, frames)
    steps = ctx.iterate(data, make(recipe="1000 AP"), publish_every=0)
    for _ in range(4):
        next(steps)
    pairs = [
        (float(next(steps).history["seconds"][-1]), bare(n, 64, 1, patient=True)()) for _ in range(repeat)
    ]
    steps.close()
    seconds, floor = (statistics.median(v) for v in zip(*pairs, strict=True))
    floor *= frames / 64 / len(os.sched_getaffinity(0))
    met = "met" if seconds <= 0.8 else "missed"
    rows.append(
        (
            f"s per cycle of AP, {frames} frames of {n} x {n}, all cores (bare FFTs {floor:.2f} s)",
            f"{seconds:.2f}",
            0.8,
            met,
        )
    )


def start_up(ctx, rows):
    n, frames = 128, 50_000
    one = ptycho_scan(1, n).frames[0]
    data = np.broadcast_to(one, (frames, n, n))
    side = int(np.sqrt(frames)) + 1
    places = np.indices((side, side)).reshape(2, -1).T[:frames] * 6.0
    geometry = Geometry(wavelength=1e-10, distance=2.0, detector_pixel=75e-6, kind="far")
    probe = ptycho_scan(1, n).probe
    udf = Ptychography(geometry, ScanPositions(places, units="px"), probe=probe, modes=4, recipe="1 AP")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    t0 = time.perf_counter()
    ready = []
    it = ctx.iterate(
        np.ascontiguousarray(data),
        udf,
        on_ready=lambda _: (ready.append(time.perf_counter() - t0), it.stop()),
    )
    list(it)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    raw = 2 * frames * n * n * 2 / 2**30
    rows.append(
        (
            f"s until 50,000 frames of 128 x 128 with 4 modes are ready ({grown:.1f} GiB more memory, {raw:.1f} GiB of it two copies of the counts)",
            f"{ready[0]:.1f}",
            10,
            "met" if ready[0] <= 10 else "**missed**",
        )
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument(
        "--part",
        choices=("all", "ratios", "whole", "large", "card"),
        default="all",
        help="whole: of whole runs",
    )
    args = parser.parse_args()
    rows = []
    with ff.Context(executor="threads") as ctx:
        for modes in (1, 3) if args.part in ("all", "ratios") else ():
            ratios(ctx, 128, args.frames, modes, args.repeat, rows)
        if args.part in ("all", "large"):
            large(ctx, rows, args.repeat)
        if args.part in ("all", "whole"):
            overhead(ctx, rows)
            time_to_error(ctx, rows)
            start_up(ctx, rows)
        if args.part in ("all", "card") and has_device():
            card(ctx, rows)
        elif args.part == "card":
            parser.error("--part card needs CuPy and a CUDA device")
    lines = [
        "| what | measured | goal | |",
        "|---|---|---|---|",
        *(f"| {a} | {b} | {c} | {d} |" for a, b, c, d in rows),
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
