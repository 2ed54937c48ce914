"""What a second core gives to the kernel of C2UDF, phase by phase, and what it gives to anything on this machine.

Each row is done by one thread, by two threads of one process, and by two processes that share nothing. Where two
such processes gain less than 2, no program can gain more: the cores share a clock, a cache, memory or a real core.

Run: ``python benchmarks/fxs_threads.py [repetitions]``.
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numba
import numpy as np
from goals import at_least

from framefold.udfs.fxs.c2_kernels import fold_orders
from framefold.udfs.fxs.correlator import Correlator, Layout, Sums

N, Q, P = 100, 300, 256
GOAL = 1.7


@numba.njit(nogil=True, cache=True)
def _read(values):
    total = 0.0
    for x in values:
        total += x
    return total


@numba.njit(nogil=True, cache=True)
def _count(n):
    x = np.uint64(n)
    for _ in range(n):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


class Count:
    """A chain of integer shifts: nothing but the clock of a core."""

    def __init__(self, threads):
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self):
        list(self.pool.map(_count, [20_000_000 // self.threads] * self.threads))


class Products:
    """SSYRK and sums whose operands stay in the cache of a core."""

    def __init__(self, threads):
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.stacks = [np.ones(2 * N * Q, np.float32) for _ in range(threads)]
        self.out = [
            (np.zeros((1, Q * (Q + 1) // 2)), np.zeros((1, Q), complex), np.zeros((Q, Q), np.float32))
            for _ in range(threads)
        ]

    def __call__(self):
        def job(t):
            for _ in range(120 // self.threads):
                fold_orders(self.stacks[t], 2 * N, 2 * N, Q, 0, 1, *self.out[t])

        list(self.pool.map(job, range(self.threads)))


class Stream:
    """Read 256 MB of memory."""

    def __init__(self, threads):
        self.pool = ThreadPoolExecutor(threads)
        self.parts = np.array_split(np.ones(32_000_000), threads)

    def __call__(self):
        list(self.pool.map(_read, self.parts))


class Kernel:
    """The kernel on polar images, one batch: `phase` picks its spectra, its products, or both."""

    def __init__(self, threads, phase="both"):
        layout = Layout(np.ones((Q, P), "f4"), np.arange(P // 2 + 1), groups=1, batch=N + 1)
        self.correlator, self.phase = Correlator(layout, None, threads), phase
        self.sums = Sums.zeros(layout)
        self.images = np.random.default_rng(0).random((N, Q, P), dtype=np.float32)
        self.items = [(i, -1) for i in range(N)]

    def __call__(self):
        if self.phase != "products":
            self.correlator.add(self.images, self.items, np.zeros(N, int), np.ones(N), self.sums)
        if self.phase == "spectra":
            self.correlator._fill[0] = 0
        else:
            self.correlator._fill[0] = N
            self.correlator.flush(self.sums)


def spectra(threads):
    return Kernel(threads, "spectra")


def products(threads):
    return Kernel(threads, "products")


JOBS = {
    "shifts in registers (clock)": Count,
    "products in cache (SSYRK)": Products,
    "memory stream": Stream,
    "kernel: centre, FFT, scatter": spectra,
    "kernel: products": products,
    "kernel, 100 images": Kernel,
}


def timed(*jobs):
    began = time.perf_counter()
    for job in jobs:
        job()
    return time.perf_counter() - began


def other(barrier, repetitions):
    """Do each job with one thread whenever the first process does."""
    for make in JOBS.values():
        job = make(1)
        job()
        for _ in range(repetitions):
            barrier.wait()
            job()
            barrier.wait()


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    process = context.Process(target=other, args=(barrier, repetitions), daemon=True)
    process.start()
    print(f"{repetitions} interleaved repetitions; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(
        "| what | 1 thread, ms | 2 threads, ms | gain, min | median | gain of two processes, min | median | goal |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, make in JOBS.items():
        one, two = make(1), make(2)
        one(), two()
        times = np.zeros((3, repetitions))
        for r in range(repetitions):
            barrier.wait()  # both do the same
            times[2, r] = timed(one, barrier.wait)
            times[0, r], times[1, r] = timed(one), timed(two)
        low, mid = times.min(axis=1), np.median(times, axis=1)
        goal = at_least(low[0] / low[1], GOAL) if name.startswith("kernel,") else ""
        print(f"| {name} | {1e3 * low[0]:.1f} | {1e3 * low[1]:.1f} | {low[0] / low[1]:.2f} | {mid[0] / mid[1]:.2f} | "
              f"{2 * low[0] / low[2]:.2f} | {2 * mid[0] / mid[2]:.2f} | {goal} |", flush=True)  # fmt: skip
    process.join()


if __name__ == "__main__":
    main()
