"""From a file to a saved strain map with nothing given: how long, and what reading has to do with it.

    python benchmarks/strain_disk.py [--frames 4096] [--folder /tmp] [--repeat 3]

Frames of 256x256 uint16 with 25 disks. The file is put out of the operating system's cache before each run. Times of a
scan of 256x256 frames are those of the frames here in proportion; finding the lattice takes as long for any scan.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import framefold as ff
from framefold.sim.deformation import dislocation
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder import Disk, find_lattice

SIG, WHOLE = (256, 256), 65536


def evict(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path):
    """Return the seconds that reading the file alone takes, with as many threads as there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    size, threads = os.path.getsize(path), os.cpu_count()
    began = time.perf_counter()

    def part(k):
        with open(path, "rb", buffering=0) as file:
            file.seek(k * size // threads)
            left, room = size // threads, bytearray(1 << 22)
            while left > 0 and (n := file.readinto(room)):
                left -= n

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))
    return time.perf_counter() - began


def run(ctx, path, shape, out):
    times = []
    began = time.perf_counter()
    ds = ctx.load(path, nav_shape=shape, sig_shape=SIG)
    found = find_lattice(ctx, ds)
    times.append(time.perf_counter() - began)
    m = ff.strain_map(ctx, ds, pattern=Disk(found.radius, found.softness), lattice=found.lattice)
    times.append(time.perf_counter() - began - times[0])
    m.save(out, overwrite=True)
    times.append(time.perf_counter() - began - sum(times))
    return m, times


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=4096)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    shape = (args.frames // 64, 64)
    scan = cbed(
        shape, SIG, radius=6.0, strain=dislocation(shape), dose=120_000, background=0.3, descan=1.2, seed=3
    )
    ctx = ff.Context()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, out = Path(folder) / "scan.npy", Path(folder) / "strain.nxs"
        target = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(args.frames, *SIG))
        for k in range(0, args.frames, 256):
            target[k : k + 256] = scan.frames(k, min(k + 256, args.frames))
        target.flush()
        del target
        runs, alone = [], []
        for _ in range(args.repeat + 1):
            evict(path)
            alone.append(read(path))
            evict(path)
            m, times = run(ctx, path, shape, out)
            runs.append(times)
    best, reading = min(runs[1:], key=sum), min(alone[1:])
    factor = WHOLE / args.frames
    print(f"{int(m.valid.sum())} of {m.valid.size} frames valid, radius {m.radius:.2f} px\n")
    print(f"| step | {args.frames} frames, s | in proportion, 256x256 frames, s |")
    print("|---|---|---|")
    for name, seconds, scaled in (
        ("find radius and lattice", best[0], best[0]),
        ("read, measure, fit", best[1], factor * best[1]),
        ("save", best[2], factor * best[2]),
        ("reading alone", reading, factor * reading),
    ):
        print(f"| {name} | {seconds:.2f} | {scaled:.1f} |")
    whole = best[0] + factor * (best[1] + best[2])
    print(f"\nReading alone is {100 * factor * reading / whole:.0f} % of the whole.")


if __name__ == "__main__":
    main()
