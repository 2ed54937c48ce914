"""Bragg disks against LiberTEM-blobfinder, py4DSTEM and the Cramer-Rao bound, interleaved in one run.

    python benchmarks/strain.py [--frames 2048] [--repeat 5]

The peers run as black boxes in environments of their own: ``FRAMEFOLD_BLOBFINDER_PYTHON`` and
``FRAMEFOLD_PY4DSTEM_PYTHON`` name their python; they see the first 512 and 32 frames. py4DSTEM is not told the
lattice: it searches each pattern for disks, on one core. Data: 256x256 frames in memory, 25 disks of radius 6 px, known
lattice; the doses are those for which the bound (template and dose known) is 0.019 and 0.111 px, where the goals were
set. Beside the frames per second of the wall clock stand those per second of processor time on all cores: what a quiet
machine gives.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from goals import at_least, at_most

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
DOSES = {"high": (48.0, 1.0), "low": (1.74, 0.1)}
LATTICE = ((127.5, 127.5), (1.4, 54.0), (54.0, -1.4))
OURS = ("auto", "ml4", "parabola")
PEER = {"blobfinder fast": False, "blobfinder fast, upsampled": True}
BLIND = {"py4DSTEM, polynomial": ("poly", 1), "py4DSTEM, multicorr": ("multicorr", 2)}
PEER_FRAMES, BLIND_FRAMES = 512, 32
GOALS = {"auto": 9000, "parabola": 13000}
GOALS_PX = {"high": {"auto": 0.024, "parabola": 0.045}, "low": {"auto": 0.14}}
GOALS_STRAIN = {"high": 6e-5, "low": 3.5e-4}


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
        (frames // 64, 64), SIG, LATTICE, RADIUS, dose=counts, background=background, falloff=0.0,
        structure=structure, descan=1.2, seed=3,
    )  # fmt: skip


class Peer:
    """The process that runs another program."""

    def __init__(self, python, script):
        self.process = subprocess.Popen(
            [python, str(Path(__file__).parent / "peers" / script), "threads"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self):
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the peer ended: {self.process.args}")

    def ask(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["cpu"], np.load(job["out"])

    def run_blind(self, file, scan, subpixel, blur, out):
        t = scan.truth
        job = {
            "file": str(file), "radius": RADIUS, "sig": SIG, "frames": BLIND_FRAMES, "subpixel": subpixel,
            "blur": blur, "expected": t.centres.mean(axis=0).tolist(), "out": str(out),
        }  # fmt: skip
        seconds, cpu, saved = self.ask(job)
        centers = saved["centers"]
        solve = np.linalg.pinv(np.column_stack([np.ones(len(t.indices)), t.indices]))
        fit = np.einsum("ij,njk->nik", solve, centers)
        return seconds, cpu, centers, fit[:, 1], fit[:, 2]

    def run(self, file, scan, upsample, out):
        t = scan.truth
        job = {
            "file": str(file), "radius": RADIUS, "lattice": [t.zero.tolist(), t.a.tolist(), t.b.tolist()],
            "correlation": "fast", "indices": t.indices.tolist(), "upsample": upsample, "out": str(out),
        }  # fmt: skip
        seconds, cpu, saved = self.ask(job)
        order = [int(np.flatnonzero((saved["indices"] == h).all(axis=1))[0]) for h in t.indices]
        centers = saved["centers"].reshape(-1, len(order), 2)[:, order]
        return seconds, cpu, centers, saved["a"].reshape(-1, 2), saved["b"].reshape(-1, 2)


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
    return float(np.sqrt(np.nanmean([s.eps_xx**2, s.eps_yy**2])))


def strain_bound(sigma):
    """Return the bound of eps_xx of a 5x5 lattice whose disks have the standard deviation `sigma`."""
    return sigma / np.sqrt(50) / np.hypot(*LATTICE[1])


def rms(centers, t):
    return float(np.sqrt(np.nanmean((centers - t.centres[: len(centers)]) ** 2)))


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
    args = parser.parse_args()
    python = os.environ.get("FRAMEFOLD_BLOBFINDER_PYTHON")
    peer = Peer(python, "blobfinder_jobs.py") if python else None
    python = os.environ.get("FRAMEFOLD_PY4DSTEM_PYTHON")
    blind = Peer(python, "py4dstem_disks.py") if python else None
    ctx, cores, text = ff.Context(), os.cpu_count(), []
    with tempfile.TemporaryDirectory() as folder:
        for dose, (level, background) in DOSES.items():
            scan = scan_of(dose, args.frames)
            frames, t = scan.array(), scan.truth
            file, out = Path(folder) / f"{dose}.npy", Path(folder) / "out.npz"
            np.save(file, frames[: PEER_FRAMES // 64])
            ds = ctx.load(frames)
            runs = {}
            for i in range(args.repeat + 1):
                for name in OURS:
                    runs.setdefault(name, []).append(ours(ctx, ds, scan, name))
                for name, upsample in PEER.items() if peer and i <= 2 else ():
                    runs.setdefault(name, []).append(peer.run(file, scan, upsample, out))
                for name, how in BLIND.items() if blind and i <= 2 else ():
                    runs.setdefault(name, []).append(blind.run_blind(file, scan, *how, out))
            rows = []
            for name, all_runs in runs.items():
                kept = all_runs[1:]  # the first compiles
                wall, cpu = min(r[0] for r in kept), min(r[1] for r in kept)
                n = BLIND_FRAMES if name in BLIND else PEER_FRAMES if name in PEER else args.frames
                n = min(n, args.frames)
                off, strain = rms(kept[0][2], t), strain_rms(kept[0][3], kept[0][4], t)
                rows.append([
                    f"`{name}`" if name in OURS else name, f"{n / wall:.0f}", f"{cores * n / cpu:.0f}",
                    at_least(cores * n / cpu, GOALS[name]) if name in GOALS else "",
                    f"{off:.4f}", at_most(off, GOALS_PX[dose][name]) if name in GOALS_PX[dose] else "",
                    f"{strain:.1e}", at_most(strain, GOALS_STRAIN[dose]) if name == "auto" else "",
                ])  # fmt: skip
            fft, gather = bare_ffts(frames.reshape(-1, *SIG)[:256], scan)
            note = (
                f"{level:g} counts/px on {background:g}: bound {bound(level, background):.4f} px "
                f"({bound(level, background, True):.4f} were height and background known), of strain "
                f"{strain_bound(bound(level, background)):.1e}. Bare transforms of the "
                f"crops: {cores * 256 / fft:.0f} frames/s on {cores} cores; cutting the crops out: "
                f"{cores * 256 / gather:.0f}."
            )
            header = [
                "method",
                "frames/s",
                f"frames per {cores} core seconds",
                "goal",
                "RMS px",
                "goal",
                "RMS strain",
                "goal",
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
    print(f"{args.frames} frames of 256x256, 25 disks of radius 6 px.\n\n" + "\n".join(text))


if __name__ == "__main__":
    main()
