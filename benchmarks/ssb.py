"""Side-band ptychography and centres of mass of scans: against the plain ways, interleaved in one run.

    python benchmarks/ssb.py [--repeat 7]

Data lie in memory. Every ratio is the median over repetitions in which the candidates took turns.
"""

import argparse
import statistics
import time

import numpy as np

import framefold as ff
from framefold.udfs import SSBUDF, CoMUDF, ICoMUDF, SumUDF
from framefold.udfs.fourd.optics import Aberrations, probe_optics
from framefold.udfs.fourd.sidebands import Geometry, add_rows, sidebands


def timed(call):
    t0 = time.perf_counter()
    call()
    return time.perf_counter() - t0


def take_turns(calls, repeat):
    """Return seconds[name] of each call, in turns, after one run of each to compile and fill caches."""
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    return seconds


def ratio(a, b):
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def geometry(side, radius):
    step = 0.8e-10 * 64 / side  # the same field of view
    optics = probe_optics(80e3, 25e-3, radius, max(step, 0.25e-10))
    return Geometry((64, 64), (side, side), optics, Aberrations(), (32, 32), 0.0, False, "ssb")


def per_frame(frames, at, bands, shape, out):
    """Apply all weights to each frame alone, and its two phases: what factorising saves."""
    weights = bands.weights.reshape(-1, bands.weights.shape[-1])
    q_x = np.arange(bands.n_x)
    for frame, (y, x) in zip(frames, at, strict=True):
        part = (weights @ frame).reshape(bands.n_x, -1)
        phase_x = np.exp(-2j * np.pi / shape[1] * (q_x * x % shape[1])).astype(np.complex64)
        phase_y = np.exp(-2j * np.pi / shape[0] * (bands.q_y * y % shape[0])).astype(np.complex64)
        out += phase_x[:, None] * part * phase_y


def factorised(side, repeat):
    """Return ratio of times per frame and largest relative difference, in one thread."""
    geo = geometry(side, 10.0)
    bands = sidebands(geo)
    rng = np.random.default_rng(0)
    rows = rng.poisson(20, (4, side, len(bands.pixels))).astype(np.float32)
    few = rows[0].astype(np.complex64)  # one row of frames; complex once, as matrix products need it
    at = [(0, x) for x in range(side)]
    total = np.zeros((bands.n_x, len(bands.q_y)), np.complex64)
    full = np.zeros((side, side // 2 + 1), np.complex128)
    seconds = take_turns(
        {
            "frame": lambda: per_frame(few, at, bands, (side, side), total),
            "row": lambda: add_rows(rows[:1], np.array([0]), bands, full),
            "rows": lambda: add_rows(rows, np.arange(4), bands, full),
        },
        repeat,
    )
    total[...], full[...] = 0, 0
    per_frame(few, at, bands, (side, side), total)
    add_rows(rows[:1], np.array([0]), bands, full)
    got = full[bands.q_y, : bands.n_x].T
    error = np.abs(got - total).max() / np.abs(total).max()
    one = ratio(seconds["frame"], seconds["row"])
    four = 4 * ratio(seconds["frame"], seconds["rows"])
    return len(bands.pixels), one, four, error


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    ctx = ff.Context(executor="threads")
    block = rng.poisson(3, (256, 64, 64)).astype(np.uint16)
    scan = np.concatenate([block] * 256).reshape(256, 256, 64, 64)
    geo = geometry(256, 10.0)
    udf = (80e3, 25e-3, geo.optics.radius, geo.optics.scan_step)
    seconds = take_turns({"ssb": lambda: ctx.run_udf(scan, SSBUDF(*udf))}, args.repeat)
    rate = 256 * 256 / statistics.median(seconds["ssb"])
    large = np.concatenate([rng.poisson(20, (64, 256, 256)).astype(np.uint16)] * 128).reshape(
        64, 128, 256, 256
    )
    both = take_turns(
        {
            "sum": lambda: ctx.run_udf(large, SumUDF()),
            "com": lambda: ctx.run_udf(large, CoMUDF()),
            "icom": lambda: ctx.run_udf(large, ICoMUDF()),
        },
        args.repeat,
    )
    com, icom = (ratio(both["sum"], both[name]) for name in ("com", "icom"))
    gb = large.nbytes / 1e9
    lines = [
        "| what | measured | goal | |",
        "|---|---|---|---|",
        f"| SSBUDF, 256 x 256 positions, 64 x 64 frames, {len(sidebands(geo).pixels)} bright-field pixels | {rate:.0f} frames/s | 10000 | {verdict(rate >= 1e4)} |",
    ]
    for side in (64, 128):
        pixels, one, four, error = factorised(side, args.repeat)
        goal, met = ("25", verdict(one >= 25)) if side == 64 else ("", "")
        lines.append(
            f"| weights on every frame / once per scan row, {side} x {side}, {pixels} pixels, one row at a time | {one:.0f} | {goal} | {met} |"
        )
        lines.append(
            f"| the same, four rows at a time (largest difference {error:.1e} of the strongest frequency) | {four:.0f} | | |"
        )
    lines += [
        f"| speed of CoMUDF / SumUDF, 256 x 256 frames ({gb / statistics.median(both['com']):.1f} GB/s) | {com:.2f} | 0.8 | {verdict(com >= 0.8)} |",
        f"| speed of ICoMUDF / SumUDF | {icom:.2f} | | |",
    ]
    print("\n".join(lines))


def verdict(met):
    return "met" if met else "**missed**"


if __name__ == "__main__":
    main()
