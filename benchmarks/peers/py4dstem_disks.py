"""py4DSTEM as a black box: read jobs as JSON lines, answer with times; the disks it finds go to a file.

Runs in an environment of its own, with py4DSTEM installed. It looks for disks anywhere in each pattern, without
knowing a lattice, on one core.
"""

import contextlib
import json
import os
import sys
import time


def kernel(radius, shape):
    """Return a disk minus the ring around it, centred on the first pixel."""
    import numpy as np

    y, x = (np.fft.fftfreq(n, 1 / n) for n in shape)
    fine = (np.arange(8) + 0.5) / 8 - 0.5
    r = np.hypot(y[:, None, None, None] + fine[:, None], x[:, None, None] + fine)
    disk, ring = (r <= radius).mean(axis=(-1, -2)), ((r > radius) & (r <= 1.5 * radius)).mean(axis=(-1, -2))
    return disk / disk.sum() - ring / ring.sum()


def main():
    with contextlib.redirect_stdout(sys.stderr):
        import numpy as np
        import py4DSTEM
        from py4DSTEM.braggvectors.diskdetection import find_Bragg_disks
    print(json.dumps({"ready": True, "version": py4DSTEM.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        frames = np.load(job["file"], mmap_mode="r").reshape(-1, *job["sig"])[: job["frames"]]
        template = kernel(job["radius"], job["sig"])
        began, cpu = time.perf_counter(), sum(os.times()[:4])
        with contextlib.redirect_stdout(sys.stderr):
            found = find_Bragg_disks(
                np.array(frames, dtype=np.float32), template, subpixel=job["subpixel"], minPeakSpacing=2 * job["radius"],
                edgeBoundary=4, minRelativeIntensity=0.05, maxNumPeaks=60, sigma_cc=job["blur"],
            )  # fmt: skip
        seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - cpu
        expected = np.array(job["expected"])
        centers = np.full((len(frames), len(expected), 2), np.nan)
        for n, peaks in enumerate(found):
            at = np.column_stack([peaks.data["qx"], peaks.data["qy"]])
            far = np.hypot(*(at[:, None] - expected).transpose(2, 0, 1))
            nearest = far.argmin(axis=0)
            near = far.min(axis=0) < job["radius"]
            centers[n, near] = at[nearest[near]]
        np.savez(job["out"], centers=centers)
        print(json.dumps({"seconds": seconds, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
