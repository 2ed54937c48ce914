"""Ptychography against py4DSTEM, a black box in an environment of its own.

    FRAMEFOLD_PY4DSTEM_PYTHON=/path/to/python python benchmarks/ptycho_py4dstem.py [--seconds 20]
        [--out docs/benchmarks/ptycho_py4dstem.md]

Both begin with the same probe, the true one times 0.9, and the true positions. The error is that of the object against
the truth, freed from factor, ramp and shift, where the scan illuminates it. Iterations take turns in no way: each program
runs alone, on all cores it uses.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import framefold as ff
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.quality import object_error

AT = (1, 5, 20)


def fitted(obj, scan):
    """Return an object of unknown margins on the grid of the truth."""
    out = np.ones(scan.object.shape, complex)
    y, x = (min(a, b) for a, b in zip(obj.shape, out.shape, strict=True))
    out[:y, :x] = obj[:y, :x]
    w = illuminated(scan.illumination)
    a, b = (np.where(m, v - v[m].mean(), 0) for v, m in ((out, np.ones_like(w)), (scan.object, w)))
    peak = np.abs(np.fft.ifft2(np.conj(np.fft.fft2(a)) * np.fft.fft2(b)))
    shift = np.unravel_index(int(np.argmax(peak)), peak.shape)
    return np.roll(out, shift, axis=(0, 1))


def error(obj, scan):
    return object_error(fitted(obj, scan), scan.object, illuminated(scan.illumination))


def ours(ctx, scan, modes, recipe, seconds):
    found, spent = [], 0.0
    udf = Ptychography(recipe=recipe, probe=0.9 * scan.probe, modes=modes, subpixel=None)
    list(ctx.iterate(scan.source(), udf.copy(), n=3, publish_every=0))  # compiles
    t0 = time.perf_counter()
    ready = []
    it = ctx.iterate(
        scan.source(), udf, publish_every=0, on_ready=lambda _: ready.append(time.perf_counter())
    )
    per = []
    for state in it:
        per.append(float(state.history["seconds"][-1]))
        spent += per[-1]
        found.append((spent, state["object"].data))
        if spent > seconds:
            break
    it.close()
    return ready[0] - t0, float(np.median(per)), found


def at(found, seconds, scan):
    done = [obj for t, obj in found if t <= seconds]
    return f"{error(done[-1], scan):.4f}" if done else "-"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    python = os.environ.get("FRAMEFOLD_PY4DSTEM_PYTHON")
    if not python:
        sys.exit("FRAMEFOLD_PY4DSTEM_PYTHON names the python of an environment that has py4DSTEM")
    rows, version = [], ""
    with ff.Context(executor="threads") as ctx, tempfile.TemporaryDirectory() as folder:
        for modes in (1, 3):
            scan = ptycho_scan(400, 128, modes=modes)
            for recipe in ("auto", "400 AP", "60 EPIE", "400 DM"):
                start, per, found = ours(ctx, scan, modes, recipe, args.seconds)
                label = "15 RPIE, then AP" if recipe == "auto" and modes == 1 else recipe.split()[-1]
                label = "30 RPIE, then AP" if recipe == "auto" and modes == 3 else label
                rows.append((modes, f"framefold, {label}", start, per, *(at(found, t, scan) for t in AT)))
            data, out = Path(folder) / "scan.npz", Path(folder) / "out.npz"
            np.savez(
                data, frames=scan.frames, probe=0.9 * scan.probe, pixels=scan.pixels, modes=modes,
                step=2 * 128 / 6.5 / 7,
            )  # fmt: skip
            script = Path(__file__).parent / "peers" / "py4dstem_jobs.py"
            subprocess.run(
                [python, "-W", "ignore", str(script), str(data), str(out), str(args.seconds)], check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            with np.load(out) as peer:
                version = str(peer["version"])
                for name in dict.fromkeys(k.split("|")[1] for k in peer.files if "|" in k):
                    key = f"{modes}|{name}"
                    found = list(zip(peer[f"{key}|at"], peer[f"{key}|objects"], strict=True))
                    per = float(np.median(np.diff(peer[f"{key}|times"])))
                    start = float(peer[f"{key}|start"])
                    rows.append((modes, f"py4DSTEM, {name}", start, per, *(at(found, t, scan) for t in AT)))
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, "
        f"py4DSTEM {version}. Command: `python benchmarks/ptycho_py4dstem.py --seconds {args.seconds:.0f}`.",
        "",
        "400 frames of 128 x 128, 7.5e5 counts each, noise of counting. Object error after so many seconds of iterations.",
        "",
        "| modes | program, algorithm | s to prepare | s/iteration | "
        + " | ".join(f"error at {t} s" for t in AT)
        + " |",
        "|---|---|---|---|---|---|---|",
        *(f"| {m} | {who} | {s:.2f} | {p:.3f} | {a} | {b} | {c} |" for m, who, s, p, a, b, c in rows),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
