"""Reading bitshuffle-LZ4 HDF5: the direct path against h5py with hdf5plugin, interleaved in one run.

    python benchmarks/io_hdf5.py [--frames 256] [--repeat 7]

Frames are 512 x 512 uint16 electron counts (direct beam, rings, background), one chunk each, in the page cache.
Both sides read the same tiles of four frames into a buffer per thread. Every rate is the median of the
repetitions; every ratio is against h5py with one thread, pair by pair.
"""

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from goals import at_least

from framefold.io.hdf5 import open_hdf5
from framefold.udfcore.tile import TileSlice, full_sig

SIDE = 512
DEPTH = 4
GOAL = 5.0  # two threads against h5py


def write(path: Path, frames: int) -> float:
    """Write the file; return its compression ratio."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    r = np.hypot(y - SIDE / 2, x - SIDE / 2)
    mean = 3 * np.exp(-r / 60) + 0.02 + 40 * (np.abs(r - 100) < 2)
    distinct = rng.poisson(mean, (min(frames, 32), SIDE, SIDE)).astype("u2")
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "data", (frames, SIDE, SIDE), "u2", chunks=(1, SIDE, SIDE), **hdf5plugin.Bitshuffle(cname="lz4")
        )
        for start in range(0, frames, len(distinct)):
            data[start : start + len(distinct)] = distinct[: frames - start]
        return data.nbytes / data.id.get_storage_size()


def seconds(read: Callable[[int, int, np.ndarray], None], frames: int, threads: int) -> float:
    """Return the wall time to read all frames with `threads` threads, each every n-th tile."""
    starts = list(range(0, frames, DEPTH))

    def work(which: int) -> None:
        out = np.empty((DEPTH, SIDE, SIDE), "u2")
        for start in starts[which::threads]:
            stop = min(frames, start + DEPTH)
            read(start, stop, out[: stop - start])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.h5"
        compression = write(path, args.frames)
        source = open_hdf5(path)
        assert source.stats().path == "direct", source.stats()
        with h5py.File(path) as file:
            dataset = file["data"]

            def by_h5py(start: int, stop: int, out: np.ndarray) -> None:
                dataset.read_direct(out, np.s_[start:stop])

            def direct(start: int, stop: int, out: np.ndarray) -> None:
                source.read(TileSlice(start, stop, full_sig((SIDE, SIDE))), out)

            jobs = {
                ("h5py + hdf5plugin", 1): by_h5py,
                ("h5py + hdf5plugin", 2): by_h5py,
                ("framefold, direct", 1): direct,
                ("framefold, direct", 2): direct,
            }
            both = np.empty((2, DEPTH, SIDE, SIDE), "u2")
            by_h5py(0, DEPTH, both[0])
            direct(0, DEPTH, both[1])
            assert np.array_equal(both[0], both[1])
            times: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
            for _ in range(args.repeat):
                for (name, threads), read in jobs.items():
                    times[name, threads].append(seconds(read, args.frames, threads))
    text = table(times, args.frames, compression)
    print(text)


def table(times: dict[tuple[str, int], list[float]], frames: int, compression: float) -> str:
    """Return the Markdown table."""
    base = next(iter(times.values()))
    nbytes = frames * SIDE * SIDE * 2
    lines = [
        f"{frames} frames of {SIDE} x {SIDE} uint16, compressed {compression:.1f} : 1, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, median of {len(base)}.",
        "",
        "| path | threads | GB/s | ratio to h5py | ratio of the best times | goal |",
        "|---|---|---|---|---|---|",
    ]
    for (name, threads), taken in times.items():
        ratio = statistics.median(b / t for b, t in zip(base, taken, strict=True))
        goal = at_least(ratio, GOAL) if name.startswith("framefold") and threads == 2 else ""
        lines.append(
            f"| {name} | {threads} | {nbytes / statistics.median(taken) / 1e9:.2f} "
            f"| {ratio:.2f} | {min(base) / min(taken):.2f} | {goal} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
