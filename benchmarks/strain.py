"""Bragg disks against LiberTEM-blobfinder and the Cramer-Rao bound, interleaved in one run.

    python benchmarks/strain.py [--frames 2048] [--repeat 5] [--out docs/benchmarks/strain.md]

The peer runs as a black box in an environment of its own: ``FRAMEFOLD_BLOBFINDER_PYTHON`` names its python. Data:
256x256 frames in memory, 25 disks of radius 6 px, known lattice. Beside the frames per second of the wall clock stand
those per second of processor time on all cores: what a quiet machine gives.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import framefold as ff
from framefold.sim import kernels_disk as kd
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.disks import corners_of, plan_disks, scratch_of
from framefold.udfs.blobfinder.kernels_correlate import gather_crops
from framefold.udfs.blobfinder.lattice import as_lattice
from framefold.udfs.blobfinder.patterns import Disk

RADIUS, SIG, DISKS = 6.0, (256, 256), 25
# counts per px of disk and of background
DOSES = {"high": (40.0, 1.0), "low": (1.35, 0.1)}
OURS = ("auto", "ml4", "parabola")
PEER = {"blobfinder fast": False, "blobfinder fast, upsampled": True}
GOALS = {"auto": 9000, "parabola": 13000}


def bound(level, background, known=False):
    """Return the Cramer-Rao bound per coordinate, px, from finite differences of exactly rendered disks."""

    def frame(y, x, height=level, back=background):
        out = np.full((40, 40), float(back))
        kd.add_disk(out, y, x, RADIUS, height, 0.0, 0.0)
        return out

    found = []
    for y, x in ((20.0, 20.0), (20.3, 19.8), (19.6, 20.45)):
        m, h = frame(y, x), 0.05
        J = [(frame(y + h, x) - frame(y - h, x)) / (2 * h), (frame(y, x + h) - frame(y, x - h)) / (2 * h)]
        if not known:
            J += [frame(y, x, 1.0, 0.0), np.ones_like(m)]
        at = np.hypot(*(np.mgrid[:40, :40] - np.array([y, x])[:, None, None])) < RADIUS + 3
        V = np.stack([v[at] for v in J])
        found.append(np.linalg.inv((V / m[at]) @ V.T)[:2, :2].trace() / 2)
    return float(np.sqrt(np.mean(found)))


def scan_of(dose, frames, structure="uniform"):
    level, background = DOSES[dose]
    counts = level * DISKS * np.pi * RADIUS**2
    return cbed(
        (frames // 64, 64), SIG, radius=RADIUS, dose=counts, background=background, falloff=0.0,
        structure=structure, descan=1.2, seed=3,
    )  # fmt: skip


class Peer:
    """The process that runs LiberTEM-blobfinder."""

    def __init__(self, python):
        script = Path(__file__).parent / "peers" / "blobfinder_jobs.py"
        self.process = subprocess.Popen(
            [python, str(script), "threads"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self):
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the peer ended: is libertem-blobfinder installed there?")

    def run(self, file, scan, upsample, out):
        t = scan.truth
        job = {
            "file": str(file), "radius": RADIUS, "lattice": [t.zero.tolist(), t.a.tolist(), t.b.tolist()],
            "correlation": "fast", "indices": t.indices.tolist(), "upsample": upsample, "out": str(out),
        }  # fmt: skip
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        saved = np.load(out)
        order = [int(np.flatnonzero((saved["indices"] == h).all(axis=1))[0]) for h in t.indices]
        centers = saved["centers"].reshape(len(t.centres), -1, 2)[:, order]
        return answer["seconds"], answer["cpu"], centers, saved["a"].reshape(-1, 2), saved["b"].reshape(-1, 2)


def ours(ctx, ds, scan, subpixel):
    t = scan.truth
    udf = ff.udfs.StrainUDF((t.zero, t.a, t.b), RADIUS, subpixel=subpixel, reference=np.stack([t.a, t.b]))
    began, cpu = time.perf_counter(), time.process_time()
    result = ctx.run_udf(ds, udf)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    flat = [result[k].data.reshape(len(t.centres), *result[k].data.shape[2:]) for k in ("centers", "a", "b")]
    return seconds, cpu, *flat


def strain_rms(a, b, t):
    from framefold.udfs.blobfinder.strain import Frame, strain_of

    s = strain_of(a, b, np.zeros(3), np.stack([t.a, t.b]), Frame())
    return float(np.sqrt(np.mean([s.eps_xx**2, s.eps_yy**2])))


def rms(centers, t):
    return float(np.sqrt(np.mean((centers - t.centres) ** 2)))


def bare_ffts(frames, scan):
    """Return the seconds that only the transforms of the crops take on one core, with pyfftw."""
    import pyfftw

    t = scan.truth
    plan = plan_disks(
        SIG, as_lattice((t.zero, t.a, t.b)), Disk(RADIUS), CropCorrelation(), "parabola", gain=1.0, min_snr=5.0,
        saturation=None, excluded=None,
    )  # fmt: skip
    crops = pyfftw.empty_aligned((len(plan.hk), 26, 26), "float32")
    spectrum = pyfftw.empty_aligned((len(plan.hk), 26, 14), "complex64")
    forward = pyfftw.FFTW(crops, spectrum, axes=(1, 2), flags=("FFTW_MEASURE",))
    back = pyfftw.FFTW(spectrum, crops, axes=(1, 2), direction="FFTW_BACKWARD", flags=("FFTW_MEASURE",))
    began = time.thread_time()
    for _ in frames:
        forward.execute()
        back.execute()
    transforms = time.thread_time() - began
    corners, _inside = corners_of(plan, None)
    room = scratch_of(plan)
    good = np.ones(SIG, bool)
    began = time.thread_time()
    for k in range(0, len(frames), len(room)):
        part = room[: len(frames[k : k + len(room)])]
        gather_crops(frames[k : k + len(room)], 0, 0, True, good, np.inf, corners, True, part)
    return transforms, time.thread_time() - began


def table(title, rows, header):
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows] + [""])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    python = os.environ.get("FRAMEFOLD_BLOBFINDER_PYTHON")
    peer = Peer(python) if python else None
    ctx, cores, text = ff.Context(), os.cpu_count(), []
    with tempfile.TemporaryDirectory() as folder:
        for dose, (level, background) in DOSES.items():
            scan = scan_of(dose, args.frames)
            frames, t = scan.array(), scan.truth
            file, out = Path(folder) / f"{dose}.npy", Path(folder) / "out.npz"
            np.save(file, frames)
            ds = ctx.load(frames)
            runs = {}
            for i in range(args.repeat + 1):
                for name in OURS:
                    runs.setdefault(name, []).append(ours(ctx, ds, scan, name))
                for name, upsample in PEER.items() if peer and i <= 2 else ():
                    runs.setdefault(name, []).append(peer.run(file, scan, upsample, out))
            rows = []
            for name, all_runs in runs.items():
                kept = all_runs[1:]  # the first compiles
                wall, cpu = min(r[0] for r in kept), min(r[1] for r in kept)
                rows.append([
                    f"`{name}`" if name in OURS else name, f"{args.frames / wall:.0f}",
                    f"{cores * args.frames / cpu:.0f}", GOALS.get(name, ""), f"{rms(kept[0][2], t):.4f}",
                    f"{strain_rms(kept[0][3], kept[0][4], t):.1e}",
                ])  # fmt: skip
            fft, gather = bare_ffts(frames.reshape(-1, *SIG)[:256], scan)
            note = (
                f"{level:g} counts/px on {background:g}: bound {bound(level, background):.4f} px "
                f"({bound(level, background, True):.4f} were height and background known). Bare transforms of the "
                f"crops: {cores * 256 / fft:.0f} frames/s on {cores} cores; cutting the crops out: "
                f"{cores * 256 / gather:.0f}."
            )
            header = [
                "method",
                "frames/s",
                f"frames per {cores} core seconds",
                "goal",
                "RMS px",
                "RMS strain",
            ]
            text += [table(f"Dose: {dose}", rows, header), note, ""]
        rows = []
        for structure in ("tilt", "half", "fringes"):
            scan = scan_of("high", 256, structure)
            frames = scan.array()
            np.save(Path(folder) / "structured.npy", frames)
            ds = ctx.load(frames)
            row = [structure, *(f"{rms(ours(ctx, ds, scan, m)[2], scan.truth):.3f}" for m in OURS)]
            if peer:
                file = Path(folder) / f"{structure}.npy"
                np.save(file, frames)
                row += [f"{rms(peer.run(file, scan, u, out)[2], scan.truth):.3f}" for u in PEER.values()]
            rows.append(row)
        header = ["inside of the disks", *(f"`{m}`" for m in OURS), *(PEER if peer else ())]
        text += [table("Disks with structure, high dose, RMS px", rows, header)]
    where = f"{cores} cores, {platform.machine()}, {args.frames} frames of 256x256, 25 disks of radius 6 px."
    report = "# Bragg disks and strain\n\n" + where + "\n\n" + "\n".join(text)
    print(report)
    if args.out:
        args.out.write_text(report)


if __name__ == "__main__":
    main()
