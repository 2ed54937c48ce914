"""Mask sums and centres of mass against the memory limit and against conversion plus sgemm, in one run.

    python benchmarks/masks.py [--gib 0.5] [--repeat 7]

The data are uint16 frames of 256 x 256 in memory. Rows are measured in turn, so that a disturbance hits all of
them; each figure is the median.
"""

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from threadpoolctl import threadpool_limits

import framefold as ff

SIG = (256, 256)


def memory_limit(data, pool):
    """Add up all of the data, one part per thread."""
    parts = np.array_split(data.reshape(-1).view(np.uint64), pool._max_workers)
    return lambda: list(pool.map(_add_up, parts))


@numba.njit(nogil=True)
def _add_up(a):
    s = np.uint64(0)
    for v in a:
        s += v
    return s


def sgemm(data, masks, pool, block=16384, depth=32):
    """Convert blocks in cache and multiply by the masks: what plain numpy can do."""
    flat = data.reshape(-1, SIG[0] * SIG[1])
    columns = np.ascontiguousarray(masks.reshape(len(masks), -1).T)
    out = np.zeros((len(flat), len(masks)))

    def part(start):
        frames = flat[start : start + depth]
        buffer = np.empty((len(frames), block), np.float32)
        for b in range(0, flat.shape[1], block):
            np.copyto(buffer, frames[:, b : b + block])
            out[start : start + depth] += buffer @ columns[b : b + block]

    def call():
        with threadpool_limits(1):
            list(pool.map(part, range(0, len(flat), depth)))

    return call


def disk(radius):
    y, x = np.ogrid[: SIG[0], : SIG[1]]
    return (y - SIG[0] / 2) ** 2 + (x - SIG[1] / 2) ** 2 <= radius**2


def jobs(data, pool):
    """Return what to measure by title."""
    rng = np.random.default_rng(1)
    dense = rng.random((16, *SIG)).astype(np.float32)
    whole = rng.integers(0, 10, SIG)
    ctx = ff.Context()
    ds = ctx.load(data)
    udfs = {
        "1 dense mask, float32": ff.udfs.ApplyMasksUDF(dense[:1]),
        "4 dense masks": ff.udfs.ApplyMasksUDF(dense[:4]),
        "16 dense masks": ff.udfs.ApplyMasksUDF(dense),
        "1 dense mask, float64": ff.udfs.ApplyMasksUDF(dense[:1].astype(np.float64)),
        "1 dense mask, integer (exact)": ff.udfs.ApplyMasksUDF(whole),
        "disk, 5 % fill (exact)": ff.udfs.ApplyMasksUDF(disk(32)),
        "disk, 5 % fill, weighted": ff.udfs.ApplyMasksUDF(disk(32) * np.float32(1.5)),
        "disk, 5 % fill, shifted": ff.udfs.ApplyMasksUDF(disk(32), shifts=(3, -5)),
        "4 segments": ff.udfs.VirtualDetectorUDF("segments", r=100),
        "CoM, whole frame": ff.udfs.CoMUDF(),
        "CoM, disk of 5 % fill": ff.udfs.CoMUDF(r=32),
        "radial profile, 128 rings": ff.udfs.RadialProfileUDF(),
    }
    calls = {"memory limit": memory_limit(data, pool)}
    for k in (1, 4, 16):
        calls[f"plain numpy: convert and sgemm, {k}"] = sgemm(data, dense[:k], pool)
    for title, udf in udfs.items():
        calls[title] = lambda udf=udf: ctx.run_udf(ds, udf)
    return calls


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=0.5)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args(argv)
    side = int(np.sqrt(args.gib * 2**30 / (SIG[0] * SIG[1] * 2)))
    data = np.random.default_rng(0).poisson(20, (side, side, *SIG)).astype(np.uint16)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        calls = jobs(data, pool)
        seconds = {title: [] for title in calls}
        for call in calls.values():
            call()  # compile
        for _ in range(args.repeat):
            for title, call in calls.items():
                t0 = time.perf_counter()
                call()
                seconds[title].append(time.perf_counter() - t0)
            print(".", end="", file=sys.stderr, flush=True)
    speed = {title: data.nbytes / statistics.median(t) / 1e9 for title, t in seconds.items()}
    lines = [
        f"{side * side} frames of 256 x 256 uint16.",
        "",
        "| job | GB/s | of the memory limit | against sgemm |",
        "|---|---|---|---|",
    ]
    for title, value in speed.items():
        plain = next(
            (
                speed[f"plain numpy: convert and sgemm, {k}"]
                for k in (16, 4, 1)
                if title.startswith(f"{k} dense")
            ),
            None,
        )
        share = f"{100 * value / speed['memory limit']:.0f} %"
        lines.append(
            f"| {title} | {value:.2f} | {share} | {'' if plain is None else f'{value / plain:.1f}'} |"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
