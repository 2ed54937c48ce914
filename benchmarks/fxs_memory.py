"""Memory of correlations, what travels to the head node, and what watching costs.

1024 x 1024 uint16 frames to 300 x 256 polar bins, all orders, two halves: 93 MB of sums in each process. The sums stay
where they are summed and travel at intervals and at the end, as deltas: each partition is in one of them. Snapshots and
plots read small projections only. One process with threads, and two dask workers, each in a fresh process, so that
peaks of memory are their own. Times are those of the processor, workers included. Runs without watching,
with snapshots and with a figure (no window) are interleaved; ratios are taken of pairs. A picture file that grows
costs more, see `benchmarks/plots.py`.

Run: ``python benchmarks/fxs_memory.py [--frames 2048] [--repeat 3]``.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from goals import at_most
from shared import Endless

import framefold as ff
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.merge import Merger
from framefold.udfs.fxs import C2UDF, Geometry, PolarGrid

SIDE = 1024
GEOMETRY = Geometry(
    distance=0.2, pixel_size=1e-4, wavelength=2e-10, centre=(512.3, 511.7), shape=(SIDE, SIDE)
)
GRID = PolarGrid(300, 256, 0.01, 0.75)
SLOWER = 1.05


class Arrivals:
    """Counts what is merged on the head node."""

    def __init__(self):
        self.deltas, self.delta_bytes, self.small_bytes = 0, 0, 0
        self.shipped, self.folded = [], []

    def __enter__(self):
        self.original = Merger.merge

        def merge(merger, partial, original=self.original):
            size = sum(a.nbytes for arrays in partial.arrays for a in arrays.values())
            if partial.delta:
                self.deltas += 1
                self.delta_bytes += size
                self.shipped += partial.tasks
            else:
                self.folded += partial.tasks
                self.small_bytes += size
            return original(merger, partial)

        Merger.merge = merge
        return self

    def __exit__(self, *exc):
        Merger.merge = self.original
        if sorted(self.shipped) != sorted(self.folded):
            sys.exit("partitions came twice, or not at all, inside of deltas")


def peak(pid):
    """Return the most memory a process had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e3
    return 0.0


def children(pid):
    """Return processes below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                found += [int(child), *children(child)]
    return found


def processor_seconds():
    """Return what this process and those below it have used."""
    ticks = 0
    for pid in children(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def watch(ctx, ds, how):
    """Return seconds of the processor for one run, and what arrived at the head."""
    udf = C2UDF(GEOMETRY, GRID)
    began = processor_seconds()
    with Arrivals() as arrivals:
        if how == "snapshots":
            for _ in ctx.run_udf_iter(ds, udf, publish="latest"):
                pass
        else:
            ctx.run_udf(ds, udf, plots=True if how == "figure" else None)
    if how == "figure":
        plt.close("all")
    return processor_seconds() - began, arrivals


def case(workers, frames, repeat):
    """Print what was found with so many workers (0: threads of one process), as JSON."""
    mpl.use("Agg")
    block = np.random.default_rng(0).poisson(2.0, (32, SIDE, SIDE)).astype("uint16")
    kinds = ("nothing", "snapshots", "figure")
    found = {kind: [] for kind in kinds}
    found |= {"bytes": {}}
    with ff.Context(**({"workers": workers} if workers else {})) as ctx:
        ds = Dataset(Endless(block, frames))
        watch(ctx, Dataset(Endless(block, 256)), "nothing")
        found["mb"] = {"head": peak(os.getpid()), "workers": sorted(map(peak, children(os.getpid())))[-workers:]
                       if workers else []}  # fmt: skip
        watch(ctx, Dataset(Endless(block, 256)), "figure")
        for _ in range(repeat):
            for kind in kinds:
                seconds, a = watch(ctx, ds, kind)
                found[kind].append(seconds)
                found["bytes"][kind] = (a.deltas, a.delta_bytes / 1e6, a.small_bytes / 1e6)
        found["mb"]["head, watched"] = peak(os.getpid())
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="0: threads of one process")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case is not None:
        case(args.case, args.frames, args.repeat)
        return
    print(f"{args.frames} frames, {args.repeat} interleaved repetitions; load {os.getloadavg()[0]:.1f}\n")
    print(
        "| sums in | watched by | deltas | MB of deltas | MB of small buffers | processor s, median | of not watching, median | goal |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---|")
    memory = []
    for workers in args.workers:
        command = [sys.executable, __file__, "--case", str(workers), "--frames", str(args.frames), "--repeat",
                   str(args.repeat)]  # fmt: skip
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        name = f"{workers} workers" if workers else "one process"
        for kind, (deltas, large, small) in found["bytes"].items():
            ratio = statistics.median(a / b for a, b in zip(found[kind], found["nothing"], strict=True))
            goals = at_most(ratio, SLOWER) if kind != "nothing" else ""
            print(f"| {name} | {kind} | {deltas} | {large:.1f} | {small:.1f} | {statistics.median(found[kind]):.2f} | "
                  f"{ratio:.3f} | {goals} |", flush=True)  # fmt: skip
        memory.append((name, found["mb"]))
    print("\n| peak memory, MB | head | head, watched | workers |\n|---|---:|---:|---|")
    for name, mb in memory:
        each = ", ".join(f"{x:.0f}" for x in mb["workers"])
        print(f"| {name} | {mb['head']:.0f} | {mb['head, watched']:.0f} | {each} |")


if __name__ == "__main__":
    main()
