"""How the invariants of a particle converge with shots, before and after filtering, and what that takes.

30 blobs, 2 Angstrom: polar shots without noise, and photons on a detector of four panels. Errors are of
``(q q')^2 B_l(q, q')``, relative to the truth; time is that of the processor.

Run: ``python benchmarks/fxs_invariants.py [most shots]``.
"""

import sys
import time

import numpy as np

import framefold as ff
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid
from framefold.udfs.fxs.kam import invert
from framefold.udfs.fxs.mtif import filter_invariants

SIDE, WIDTH, DEGREES = 128, 4.0, 6
GRID = PolarGrid(40, 64, 0.01, 0.3)
GEOMETRY = Geometry(
    distance=0.1, pixel_size=1.7e-4, wavelength=2e-10, centre=(SIDE / 2, SIDE / 2), shape=(SIDE, SIDE)
)


def errors(found, truth):
    weight = np.outer(GRID.q, GRID.q) ** 2
    known = [np.isfinite(b) for b in found]
    return [np.linalg.norm((weight * (b - t))[k]) / np.linalg.norm((weight * t)[k])
            for b, t, k in zip(found, truth, known, strict=True)]  # fmt: skip


def converge(name, particle, shots, udf, most):
    truth = particle.invariants(GRID.q, DEGREES) * shots.scale**2
    diameter = particle.diameter + 8 * WIDTH  # blobs reach four standard deviations beyond their centres
    frames = shots.array()
    with ff.Context() as ctx:
        ds = ctx.load(frames, sig_dims=2)
        n = 64
        while n <= most:
            began = time.process_time()
            res = ctx.run_udf(ds, udf.copy(), roi=np.arange(most) < n)
            run = time.process_time()
            found = invert(udf.correlation(res), DEGREES)
            inverted = time.process_time()
            clean = filter_invariants(found, diameter).invariants
            done = time.process_time()
            row = [*errors(found.b_l[1:], truth[1:]), *errors(clean.b_l[1:], truth[1:])]
            print(f"| {name} | {n} | " + " | ".join(f"{100 * e:.2f}" for e in row)
                  + f" | {run - began:.2f} | {1e3 * (inverted - run):.0f} | {1e3 * (done - inverted):.0f} |",
                  flush=True)  # fmt: skip
            n *= 4


def main():
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    particle = Particle.blobs(30, seed=3, radius=25.0, width=WIDTH)
    print("errors in %\n")
    print(
        "| shots | number | B_2 | B_4 | B_6 | filtered B_2 | B_4 | B_6 | correlate, s | invert, ms | filter, ms |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    polar = simulate(particle, GEOMETRY, most, grid=GRID, seed=2)
    converge("polar, no noise", particle, polar, C2UDF(None, GRID, wavelength=2.0), most)
    panels = simulate(particle, GEOMETRY, most, photons=1e5, panels=(2, 2), seed=2)
    udf = C2UDF(GEOMETRY, GRID, mask=panels.mask, pixels=PixelModel(adu_per_photon=1.0))
    converge("1e5 photons, four panels", particle, panels, udf, most)


if __name__ == "__main__":
    main()
