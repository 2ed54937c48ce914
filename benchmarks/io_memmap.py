"""Raw and Merlin uint16 tiles, summed, against a plain numba sum over the same memory map, interleaved in one run.

    python benchmarks/io_memmap.py [--frames 2048] [--repeat 9] [--depth 8]

Frames are 256 x 256, in the page cache. The plain sum of the Merlin file swaps bytes as it adds.
Every rate is the median of the repetitions, every ratio that of the pairs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from goals import at_least

from framefold.io.registry import open_source
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice, full_sig

SIG = (256, 256)
GOAL = 0.85
HEADER = 384


@numba.njit(nogil=True)
def total(rows: np.ndarray) -> int:
    """Return the sum of contiguous uint16."""
    s = np.uint64(0)
    for i in range(rows.size):
        s += rows[i]
    return s


@numba.njit(nogil=True)
def total_swapped(rows: np.ndarray) -> int:
    """Return the sum of contiguous big-endian uint16."""
    s = np.uint64(0)
    for i in range(rows.size):
        v = rows[i]
        s += np.uint16((v << np.uint16(8)) | (v >> np.uint16(8)))
    return s


def write(folder: Path, frames: int) -> tuple[Path, Path]:
    """Write the same frames raw and as a Merlin file."""
    data = np.random.default_rng(0).integers(0, 4096, (frames, *SIG)).astype("u2")
    raw, mib = folder / "scan.raw", folder / "scan.mib"
    data.tofile(raw)
    with open(mib, "wb") as file:
        for i, frame in enumerate(data, 1):
            head = (
                f"MQ1,{i:06d},{HEADER:05d},01,0256,0256,U16,   1x1,01,2024-07-02,0.001,MQ1A,T,1000000ns,12,"
            )
            file.write(head.encode().ljust(HEADER, b"\0") + frame.astype(">u2").tobytes())
    return raw, mib


def by_tiles(source: Source, depth: int) -> Callable[[], int]:
    """Return a function that sums all tiles of a source."""
    frames, sig = source.shape.nav.size, full_sig(SIG)
    out = np.empty((depth, *SIG), "u2")

    def run() -> int:
        s = 0
        for a in range(0, frames, depth):
            b = min(frames, a + depth)
            s += int(total(source.read(TileSlice(a, b, sig), out[: b - a]).reshape(-1)))
        return s

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--depth", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raw, mib = write(Path(name), args.frames)
        began = time.perf_counter()
        merlin = open_source(mib)
        opened = 1e3 * (time.perf_counter() - began)
        mapped = np.memmap(raw, "u2", "r").view(np.ndarray)
        stride = HEADER + 2 * SIG[0] * SIG[1]
        stored = np.memmap(mib, "u1", "r").view(np.ndarray).reshape(-1, stride)[:, HEADER:].view("u2")
        sides = {
            "raw": (
                lambda: int(total(mapped)),
                by_tiles(open_source(raw, sig_shape=SIG, dtype="uint16"), args.depth),
            ),
            "mib": (lambda: sum(int(total_swapped(f)) for f in stored), by_tiles(merlin, args.depth)),
        }
        size = mapped.nbytes / 1e9
        print(
            f"{args.frames} frames of {SIG[0]} x {SIG[1]} uint16 in the page cache, tiles of {args.depth}.\n"
        )
        print("| file | plain, GB/s | tiles, GB/s | ratio | goal |\n|---|---|---|---|---|")
        for label, pair in sides.items():
            assert pair[0]() == pair[1](), "both sides must give the same sum"
            times = [[_seconds(run) for run in pair] for _ in range(args.repeat)]
            plain, ours = (statistics.median(t) for t in zip(*times, strict=True))
            ratio = statistics.median(p / o for p, o in times)
            print(
                f"| {label} | {size / plain:.1f} | {size / ours:.1f} | {ratio:.2f} | {at_least(ratio, GOAL)} |"
            )
        print(f"\nOpening the Merlin file took {opened:.0f} ms.")


def _seconds(run: Callable[[], int]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
