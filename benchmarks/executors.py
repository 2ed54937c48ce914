"""What executors cost: time to the first result, fixed cost of a run, efficiency against length of tasks.

    python benchmarks/executors.py [workers]

A task sleeps instead of computing, so that the machine's load does not enter: efficiency is
(sum of task times / lanes) / wall time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import framefold as ff
from framefold.executor.base import Executor
from framefold.executor.dask import DaskExecutor
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.udfcore.plan import RunOptions


class Sleep(ff.UDF):
    """One number per frame, after a while; `size` bytes of result per task."""

    def __init__(self, seconds: float = 0.0, size: int = 8) -> None:
        super().__init__(seconds=seconds, size=size)

    def get_result_buffers(self):
        return {"total": self.buffer("single", (self.params.size // 8,), dtype="float64", reduce="sum")}

    def process_frame(self, frame):
        time.sleep(self.params.seconds)


def seconds_of(call: Callable[[], object], n: int = 1) -> float:
    times = []
    for _ in range(n):
        t0 = time.perf_counter()
        call()
        times.append(time.perf_counter() - t0)
    return statistics.median(times)


def run(executor: Executor, frames: int, udf: ff.UDF) -> object:
    dataset = ff.Context(executor="inline").load(np.zeros((frames, 2, 2), dtype="uint8"))
    return to_end(Run(executor, dataset, [udf], RunOptions(partition_frames=1))).buffers


def main() -> None:
    lanes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    kinds = {
        "inline": lambda: InlineExecutor(),
        "threads": lambda: LocalExecutor(lanes),
        "dask": lambda: DaskExecutor(workers=lanes),
    }
    print(f"Efficiency of tasks of a given length on {lanes} lanes.\n")
    print("| executor | first result, s | run of 4 frames, ms | 2 ms | 10 ms | 50 ms | 200 ms | close, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, make in kinds.items():
        t0 = time.perf_counter()
        executor = make()
        run(executor, 4, Sleep())
        first = time.perf_counter() - t0
        fixed = seconds_of(lambda e=executor: run(e, 4, Sleep()), 5)
        cells = []
        for ms in (2, 10, 50, 200):
            n = max(20, min(400, int(3000 / ms))) * (1 if name == "inline" else lanes)
            wall = seconds_of(lambda e=executor, n=n, ms=ms: run(e, n, Sleep(ms / 1000)))
            cells.append(n * ms / 1000 / executor.capacity / wall)
        close = seconds_of(executor.close)
        shares = " | ".join(f"{c:.0%}" for c in cells)
        print(f"| {name} | {first:.3f} | {fixed * 1e3:.1f} | {shares} | {close:.2f} |")
    with_size(lanes)


def with_size(lanes: int) -> None:
    executor = DaskExecutor(workers=lanes)
    run(executor, 4, Sleep())
    print("\n| result per task, dask | MB/s merged |\n|---|---|")
    for mib in (1, 4, 15):
        wall = seconds_of(lambda m=mib: run(executor, 40, Sleep(0, m << 20)), 3)
        print(f"| {mib} MiB | {40 * mib * 1.048576 / wall:.0f} |")
    executor.close()


if __name__ == "__main__":
    main()
