"""py4DSTEM's ptychography as a black box: reads a scan from .npz, reconstructs, writes objects and times.

python py4dstem_jobs.py scan.npz out.npz seconds
"""

import sys
import time

import numpy as np
import py4DSTEM
from py4DSTEM.process.phase import MixedstatePtychography, SingleslicePtychography

PIXEL = 0.1  # Angstrom: only ratios matter


def prepare(data, modes):
    frames, probe, pixels = data["frames"], data["probe"], data["pixels"]
    side, n = int(np.sqrt(len(frames))), frames.shape[-1]
    cube = py4DSTEM.DataCube(frames.reshape(side, side, n, n).astype(np.float32))
    cube.calibration.set_Q_pixel_size(1 / (n * PIXEL))
    cube.calibration.set_Q_pixel_units("A^-1")
    cube.calibration.set_R_pixel_size(float(data["step"]) * PIXEL)
    cube.calibration.set_R_pixel_units("A")
    kwargs = {
        "energy": 300e3, "datacube": cube, "semiangle_cutoff": 10.0, "verbose": False, "device": "cpu",
        "initial_probe_guess": probe[:modes] if modes > 1 else probe[0],
        "initial_scan_positions": (pixels - pixels.min(axis=0)) * PIXEL,
    }  # fmt: skip
    job = (
        MixedstatePtychography(num_probes=modes, **kwargs) if modes > 1 else SingleslicePtychography(**kwargs)
    )
    t0 = time.perf_counter()
    job.preprocess(
        plot_center_of_mass=False, plot_rotation=False, plot_probe_overlaps=False, force_com_rotation=0,
        force_com_transpose=False,
    )  # fmt: skip
    return job, time.perf_counter() - t0


def main():
    data, out, seconds = np.load(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    found = {}
    methods = {
        "gradient-descent": {},
        "gradient-descent, batches of 50": {"max_batch_size": 50, "seed_random": 0},
        "DM_AP": {"reconstruction_method": "DM_AP"},
    }
    for modes in (int(data["modes"]),):
        for name, options in methods.items():
            job, start = prepare(data, int(modes))
            times, objects, spent = [], [], 0.0
            while spent < seconds and len(times) < 400:
                t0 = time.perf_counter()
                job.reconstruct(num_iter=1, reset=False, progress_bar=False, **options)
                spent += time.perf_counter() - t0
                times.append(spent)
                # a picture whenever the time has doubled, and the last
                if not objects or spent > 1.3 * objects[-1][0] or spent >= seconds:
                    objects.append((spent, np.array(job.object)))
            key = f"{modes}|{name}"
            found[f"{key}|times"] = np.array(times)
            found[f"{key}|at"] = np.array([t for t, _ in objects])
            found[f"{key}|objects"] = np.stack([o for _, o in objects])
            found[f"{key}|start"] = np.array(start)
    np.savez(out, version=py4DSTEM.__version__, **found)


if __name__ == "__main__":
    main()
