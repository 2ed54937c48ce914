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
        "names", nargs="*", metavar="NAME", help="benchmarks to run, by parts of their names (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="only the short built-in test")
    parser.add_argument(
        "--size", type=float, default=256.0, metavar="MB", help="of the built-in test (default: 256)"
    )


def _run(args: argparse.Namespace) -> int:
    scripts = [] if args.quick else scripts_in(Path("benchmarks"))
    chosen = [s for s in scripts if not args.names or any(n in s.stem for n in args.names)]
    if args.names and not chosen:
        listed = ", ".join(s.stem for s in scripts) or "none here: benchmarks/ comes with the repository"
        raise FramefoldError(f"no benchmark {' or '.join(args.names)}; there are: {listed}")
    if not chosen:
        return built_in(int(args.size * 1e6))
    failed = 0
    for script in chosen:
        print(f"== {script}", flush=True)
        failed += bool(subprocess.run([sys.executable, str(script)], check=False).returncode)
    return 1 if failed else 0


def scripts_in(folder: Path) -> list[Path]:
    """Return the benchmark scripts of a checkout, by name."""
    return sorted(folder.glob("bench_*.py"))


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
