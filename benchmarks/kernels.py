"""Each reduction kernel against the rate at which memory can be read, measured in the same run.

Usage: python benchmarks/kernels.py [--megabytes 256] [--repeats 7] [--only sum]

Prints a Markdown table: GB/s of raw data with one and two threads, and the fraction of the read limit with as many
threads. All measurements are interleaved, so that a busy machine hits them alike; the best of the repeats counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from framefold.kernels import convert, frame_moments, histogram, logsum, minmax, reduce, stddev, weighted
from framefold.udfcore.corrections import Corrections

SIG = (256, 256)
DEPTH = 32
Job = Callable[[np.ndarray], None]


@numba.njit(nogil=True, cache=True)
def read_words(words):
    """Read every word once and do next to nothing with it."""
    x = np.uint64(0)
    for i in range(words.size):
        x ^= words[i]
    return x


def tiles(frames: np.ndarray):
    for i in range(0, len(frames), DEPTH):
        yield frames[i : i + DEPTH]


def per_pixel(kernel, make):
    def job(frames):
        acc = make(frames.dtype)
        for tile in tiles(frames):
            kernel(tile, acc)

    return job


def per_frame(kernel, make):
    def job(frames):
        out = make(frames.dtype, len(frames))
        for i in range(0, len(frames), DEPTH):
            kernel(frames[i : i + DEPTH], out[i : i + DEPTH])

    return job


def power_sums(frames):
    s1, s2 = np.zeros(SIG, np.int64), np.zeros(SIG, np.int64)
    for tile in tiles(frames):
        stddev.power_sums(tile, s1, s2)


def deviations(frames):
    shift = stddev.first_mean(frames[:DEPTH])
    s1, s2 = np.zeros_like(shift), np.zeros_like(shift)
    for tile in tiles(frames):
        stddev.deviation_sums(tile, shift, s1, s2)


def moments(frames):
    n, mean, m2 = np.zeros(len(frames), np.int64), np.zeros(len(frames)), np.zeros(len(frames))
    for i in range(0, len(frames), DEPTH):
        part = slice(i, i + DEPTH)
        frame_moments.add_frame_moments(frames[part], n[part], mean[part], m2[part])


def logs(frames):
    acc, table = np.zeros(SIG), logsum.log_table()
    for tile in tiles(frames):
        logsum.add_logs(tile, acc, table)


def values(frames):
    counts = np.zeros(len(histogram.possible_values(frames.dtype)), np.int64)
    for tile in tiles(frames):
        histogram.count_values(tile, counts)


def bins(frames):
    edges, counts = np.linspace(0, 200, 257), np.zeros(256, np.int64)
    for tile in tiles(frames):
        histogram.count_bins(tile, edges, counts)


def rows_of(n_rows: int):
    """Yield parts of `n_rows` rows, as a plan cuts frames whose converted tile must stay in cache."""
    for y in range(0, SIG[0], n_rows):
        yield (slice(y, y + n_rows), slice(0, SIG[1]))


def converted(then: Callable | None, corrections: Corrections | None):
    """Convert (and correct) to float32 in tiles of 16 rows, then fold with `then`."""
    whole = (slice(0, SIG[0]), slice(0, SIG[1]))
    prepared = None if corrections is None else corrections.prepare(SIG, np.float32)

    def job(frames):
        out = np.empty((DEPTH, 16, SIG[1]), np.float32)
        acc = np.zeros(SIG)
        for tile in tiles(frames):
            for part in rows_of(16):
                target = out[: len(tile)]
                if prepared is None:
                    convert.convert(tile[(slice(None), *part)], target)
                else:
                    prepared.apply(tile, whole, part, target)
                if then is not None:
                    then(target, acc[part])

    return job


def jobs() -> dict[tuple[str, str], Job]:
    """Return the measurements by (kernel, dtype)."""
    rng = np.random.default_rng(0)
    bad = rng.random(SIG) < 1e-3
    corrections = Corrections(rng.random(SIG), rng.random(SIG) + 0.5, bad)
    sums = per_pixel(reduce.sum_frames, lambda dt: np.zeros(SIG, reduce.wide_dtype(dt)))
    sums_sig = per_frame(reduce.sum_sig, lambda dt, n: np.zeros(n, reduce.wide_dtype(dt)))
    largest = per_pixel(minmax.max_frames, lambda dt: np.full(SIG, minmax.lowest(dt), dt))
    largest_sig = per_frame(minmax.max_sig, lambda dt, n: np.full(n, minmax.lowest(dt), dt))
    found: dict[tuple[str, str], Job] = {}
    for dtype in ("u1", "u2", "u4", "f4"):
        found["sum per pixel", dtype] = sums
        found["sum per frame", dtype] = sums_sig
        found["max per pixel", dtype] = largest
        found["max per frame", dtype] = largest_sig
        found["variance per pixel", dtype] = power_sums if dtype in ("u1", "u2") else deviations
    found["moments per frame", "u2"] = moments
    weights = rng.random(SIG[0] * SIG[1])
    found["weighted sum per frame", "u2"] = per_frame(
        lambda tile, out: weighted.weighted_sum_sig(tile, weights, out), lambda dt, n: np.zeros(n)
    )
    found["value counts", "u2"] = values
    found["histogram in bins", "f4"] = bins
    found["log sum", "u2"] = logs
    found["to float32, sum", "u2"] = converted(reduce.sum_frames, None)
    found["corrected, sum", "u2"] = converted(reduce.sum_frames, corrections)
    found["to float32", "u2"] = converted(None, None)
    found["corrected", "u2"] = converted(None, corrections)
    return found


def measure(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    chosen = {k: v for k, v in jobs().items() if args.only in " ".join(k)}
    data = {}
    for _, dtype in chosen:
        if dtype not in data:
            n = args.megabytes * 2**20 // (np.prod(SIG) * np.dtype(dtype).itemsize) // (2 * DEPTH) * 2 * DEPTH
            data[dtype] = rng.integers(0, 200, (n, *SIG)).astype(dtype)
    best: dict[tuple[str, str, int], float] = {}
    with ThreadPoolExecutor(2) as pool:
        for repeat in range(args.repeats + 1):  # the first compiles
            for (name, dtype), job in [*((("read", dt), None) for dt in data), *chosen.items()]:
                frames = data[dtype]
                halves = frames[: len(frames) // 2], frames[len(frames) // 2 :]
                run = job if job is not None else (lambda f: read_words(f.reshape(-1).view(np.uint64)))
                for threads in (1, 2):
                    call = (
                        (lambda r=run, f=frames: r(f))
                        if threads == 1
                        else (lambda r=run, h=halves: list(pool.map(r, h)))
                    )
                    seconds = measure(call)
                    if repeat:
                        key = (name, dtype, threads)
                        best[key] = min(best.get(key, np.inf), seconds)
    print("| kernel | dtype | 1 thread, GB/s | of read | 2 threads, GB/s | of read |")
    print("|---|---|---|---|---|---|")
    for name, dtype in [*(("read", dt) for dt in data), *chosen]:
        cells = []
        for threads in (1, 2):
            rate = data[dtype].nbytes / best[name, dtype, threads] / 1e9
            cells += [f"{rate:.1f}", f"{best['read', dtype, threads] / best[name, dtype, threads]:.0%}"]
        print(f"| {name} | {dtype} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
