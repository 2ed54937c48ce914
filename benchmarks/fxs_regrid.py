"""Regridding against pyFAI and the machine's memory, and the way from raw frames to correlations.

1024 x 1024 frames of uint16 counts to 300 x 256 polar bins. pyFAI (a black box here) does the same with pixel
splitting, solid angle and polarisation, its matrix built beforehand; where it is not installed that table is left
out. Repetitions are interleaved.

Run: ``python benchmarks/fxs_regrid.py [repetitions]`` in an environment with pyFAI.
"""

import os
import sys
import time

import numba
import numpy as np
import threadpoolctl
from goals import at_least

import framefold as ff
from framefold.executor.local import LocalExecutor
from framefold.udfs.fxs import C2UDF, Geometry, PolarGrid, build_operator
from framefold.udfs.fxs.correlator import Correlator, Layout, Live, Sums

SIDE, N = 1024, 256
GEOMETRY = Geometry(
    distance=0.2, pixel_size=1e-4, wavelength=2e-10, centre=(512.3, 511.7), shape=(SIDE, SIDE)
)
GRID = PolarGrid(300, 256, 0.01, 0.75)


@numba.njit(nogil=True, cache=True)
def _read(frames):
    total = np.uint64(0)
    for value in frames:
        total += value
    return total


def correlator(operator, threads):
    layout = Layout(operator.weight, np.arange(129), groups=2)
    return Correlator(layout, operator, threads), layout


def pyfai_job():
    try:
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator
    except ImportError:
        print("pyFAI is not installed: its row is left out", file=sys.stderr)
        return None
    size = GEOMETRY.pixel_size[0]
    ai = AzimuthalIntegrator(
        dist=GEOMETRY.distance, poni1=GEOMETRY.centre[0] * size, poni2=GEOMETRY.centre[1] * size, pixel1=size,
        pixel2=size, wavelength=GEOMETRY.wavelength,
    )  # fmt: skip
    ai.detector.shape = ai.detector.max_shape = (SIDE, SIDE)

    def run(frames):
        for frame in frames:
            ai.integrate2d(frame, 300, 256, radial_range=(0.01, 0.75), azimuth_range=(-180, 180), unit="q_A^-1",
                           method=("full", "csr", "cython"), polarization_factor=1.0)  # fmt: skip

    return run


def interleaved(jobs, repetitions, clock=time.perf_counter):
    """Return ms per frame; with ``time.process_time`` that of the processor, which other programs do not change."""
    times = {name: [] for name in jobs}
    for _ in range(repetitions + 1):
        for name, (job, frames) in jobs.items():
            began = clock()
            job()
            times[name].append((clock() - began) / frames * 1e3)
    return {name: np.array(t[1:]) for name, t in times.items()}


def regrid(frames, repetitions):
    operator = build_operator(GEOMETRY, GRID)
    peer = pyfai_job()
    for threads in (1, 2):
        ours, _ = correlator(operator, threads)
        jobs = {"framefold": (lambda o=ours: o.regrid(frames[:64]), 64)}
        if peer is not None:
            jobs["pyFAI, csr, full splitting"] = (lambda: peer(frames[:4]), 4)
        if threads == 1:
            jobs["sum of all pixels"] = (lambda: _read(frames[:64].reshape(-1)), 64)
        clock = time.process_time if threads == 1 else time.perf_counter
        with threadpoolctl.threadpool_limits(threads, user_api="openmp"):
            times = interleaved(jobs, repetitions, clock)
        base = times["framefold"]
        kind = "1 thread, processor time" if threads == 1 else "2 threads, wall time"
        print(f"\n| {kind} | min, ms/frame | median | framefold is faster, min | median | goal |")
        print("|---|---:|---:|---:|---:|---|")
        for name, t in times.items():
            goal = at_least(t.min() / base.min(), 4) if name.startswith("pyFAI") else ""
            print(f"| {name} | {t.min():.3f} | {np.median(t):.3f} | {t.min() / base.min():.1f} | "
                  f"{np.median(t) / np.median(base):.1f} | {goal} |")  # fmt: skip


def end_to_end(frames, repetitions):
    operator = build_operator(GEOMETRY, GRID)
    fastest = {}
    for threads in (1, 2):
        clock = time.process_time if threads == 1 else time.perf_counter
        only, _ = correlator(operator, threads)
        bare, layout = correlator(operator, threads)
        sums, live = Sums.zeros(layout), Live.zeros(layout)

        def loop(bare=bare, sums=sums, live=live):
            for a in range(0, N, 64):
                polar = bare.regrid(frames[a : a + 64])
                bare.measure(polar)
                bare.add(polar, [(i, -1) for i in range(64)], np.arange(64) % 2, np.ones(64), sums, live)
            bare.flush(sums)

        with ff.Context(executor=LocalExecutor(threads)) as ctx:
            whole, part = ctx.load(frames, sig_dims=2), ctx.load(frames[:64], sig_dims=2)
            udf = C2UDF(GEOMETRY, GRID)
            jobs = {
                "regridding alone": (
                    lambda o=only: [o.regrid(frames[a : a + 64]) for a in range(0, N, 64)],
                    N,
                ),
                "bare loop to C2": (loop, N),
                "ctx.run_udf": (lambda ctx=ctx, ds=whole, udf=udf: ctx.run_udf(ds, udf.copy()), N),
                "ctx.run_udf, 64 frames": (lambda ctx=ctx, ds=part, udf=udf: ctx.run_udf(ds, udf.copy()), 64),
            }
            times = {k: t.min() for k, t in interleaved(jobs, repetitions, clock).items()}
        short = times.pop("ctx.run_udf, 64 frames") * 64
        times["ctx.run_udf, per further frame"] = (times["ctx.run_udf"] * N - short) / (N - 64)
        kind = "1 thread, processor time" if threads == 1 else "2 threads, wall time"
        print(
            f"\n| raw frames in memory to C2, two halves: {kind} | min, ms/frame | over regridding | of the bare loop |"
        )
        print("|---|---:|---:|---:|")
        for name, t in times.items():
            print(f"| {name}{f', {N} frames' * (name == 'ctx.run_udf')} | {t:.3f} | {t / times['regridding alone']:.2f} | "
                  f"{100 * times['bare loop to C2'] / t:.0f} % |")  # fmt: skip
        fastest[threads] = times
    rate = {t: 1e3 / f["ctx.run_udf, per further frame"] for t, f in fastest.items()}
    print(
        f"\nimages/s in a long run: {rate[1]:.0f} per processor second with 1 thread, {rate[2]:.0f} with 2 threads"
    )


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    frames = np.tile(
        np.random.default_rng(0).poisson(2.0, (32, SIDE, SIDE)).astype(np.uint16), (N // 32, 1, 1)
    )
    print(f"{N} frames of {SIDE} x {SIDE} uint16; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    regrid(frames, repetitions)
    end_to_end(frames, repetitions)


if __name__ == "__main__":
    main()
