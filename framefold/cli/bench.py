"""``framefold bench``: how fast this machine is; all benchmarks where the repository is at hand."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from framefold.cli.command import Command
from framefold.errors import FramefoldError

FRAME = (256, 256)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="pages of benchmarks/run.py to make (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="only the short built-in test")
    parser.add_argument(
        "--size", type=float, default=256.0, metavar="MB", help="of the built-in test (default: 256)"
    )


def _run(args: argparse.Namespace) -> int:
    script = Path("benchmarks") / "run.py"
    if args.quick or not script.exists():
        if args.names:
            raise FramefoldError(
                f"no benchmark {args.names[0]} here: benchmarks/run.py is in a checkout of the repository"
            )
        return built_in(int(args.size * 1e6))
    only = ["--only", *args.names] if args.names else []
    return subprocess.run([sys.executable, str(script), *only], check=False).returncode


def built_in(nbytes: int, repeats: int = 5) -> int:
    """Measure reading memory by numpy, and `SumUDF` over the same bytes; best of `repeats`."""
    from framefold.context import Context  # noqa: PLC0415
    from framefold.udfs.sum import SumUDF  # noqa: PLC0415

    frames = max(16, nbytes // (2 * FRAME[0] * FRAME[1]))
    data = np.full((frames, *FRAME), 3, dtype=np.uint16)
    flat = data.reshape(-1).view(np.uint64)
    read = _best(lambda: flat.max(), repeats)
    with Context(executor="threads") as ctx:
        ds = ctx.load(data)
        ctx.run_udf(ds, SumUDF())  # compiles
        udf = _best(lambda: ctx.run_udf(ds, SumUDF()), repeats)
        lanes = ctx.executor.capacity
    gb = data.nbytes / 1e9
    print(f"{frames} frames of {FRAME[0]} x {FRAME[1]} uint16, {gb:.2f} GB in memory, best of {repeats}")
    print(f"numpy, one pass over the bytes, 1 thread  {gb / read:6.1f} GB/s")
    print(f"framefold SumUDF, {lanes} threads {'':<14}{gb / udf:6.1f} GB/s")
    return 0


def _best(work: object, repeats: int) -> float:
    assert callable(work)
    times = []
    for _ in range(repeats):
        t0 = time.perf_counter()
        work()
        times.append(time.perf_counter() - t0)
    return min(times)


COMMAND = Command("bench", "measure this machine, or run the benchmarks of a checkout", _arguments, _run)
