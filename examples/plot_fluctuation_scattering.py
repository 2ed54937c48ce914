"""
Fluctuation X-ray scattering
============================

Single molecules in random orientation scatter X-ray pulses. No shot can be oriented, but the angular
correlations of all shots converge, and from them come the invariants :math:`B_l(q, q')` of the molecule.

The molecule is a chaperonin of 128,780 atoms (PDB 4V8R), if the file is there; otherwise a few blobs.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.plot.fxs import figure_correlation, figure_invariants
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid
from framefold.udfs.fxs.kam import invert

structure = Path(os.environ.get("FRAMEFOLD_TEST_DATA", ".")) / "4v8r_chaperonin.pdb.gz"
molecule = Particle.from_file(structure) if structure.exists() else Particle.blobs(40, 1, radius=80, width=12)
print(f"{molecule.name}: {len(molecule.positions)} atoms, diameter {molecule.diameter:.0f} Angstrom")

# %%
# A detector of four panels with gaps between them, 0.8 m behind the sample, and 6 keV photons. A geometry may
# come from a pyFAI file as well: ``Geometry.from_poni("run.poni")``.
geometry = Geometry(distance=0.8, pixel_size=5.5e-4, photon_energy=6000, centre=(72, 72), shape=(144, 144))
shots = simulate(molecule, geometry, 1600, photons=2e6, panels=(2, 2), gap=4, seed=7)
frames = shots.array()

fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for ax, frame in zip(axes, frames[:4], strict=True):
    ax.imshow(np.where(shots.mask, np.nan, frame + 1.0), norm="log", cmap="inferno")
    ax.set_axis_off()
fig.suptitle("Four shots")

# %%
# Correlate them. The run takes files and live streams in the same way; ``plots=True`` shows it as it grows.
# Photons, gaps, polarisation and solid angle go into the weights of one sparse matrix.
grid = PolarGrid(n_q=72, n_phi=128, q_min=0.006, q_max=0.12)
udf = C2UDF(geometry, grid, mask=shots.mask, pixels=PixelModel(adu_per_photon=1.0))
ctx = ff.Context()
dataset = ctx.load(frames, sig_dims=2)
result = ctx.run_udf(dataset, udf)
correlation = udf.correlation(result)
figure_correlation(correlation, "1600 shots, corrected for gaps and photon noise")

# %%
# Kam's relation gives the invariants, which the simulation knows: dashed.
truth = molecule.invariants(grid.q, 6, model=molecule.diffraction(0.14)) * shots.scale**2
invariants = invert(correlation, l_max=6)
figure_invariants(invariants, truth)

# %%
# They converge with the number of shots: errors of :math:`B_l / B_0` outside the central maximum. What stays
# with many shots is the width of rings and pixels, which fills the minima of the intensity.
numbers = [25, 100, 400, 1600]
outside = grid.q > 0.055
norm = np.sqrt(np.outer(np.diag(truth[0]), np.diag(truth[0])))
true = (truth / norm)[:, outside][:, :, outside]
errors = []
for n in numbers:
    part = ctx.run_udf(dataset, udf, roi=np.arange(len(frames)) < n)
    found = invert(udf.correlation(part), l_max=6).b_l / norm
    difference = found[:, outside][:, :, outside] - true
    errors.append(np.sqrt((difference**2).sum(axis=(1, 2)) / (true**2).sum(axis=(1, 2)))[1:3])

fig, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
for degree, line in zip((2, 4), np.array(errors).T, strict=True):
    ax.loglog(numbers, line, "o-", label=f"$B_{degree}$")
ax.loglog(numbers, 1.2 / np.sqrt(numbers), "0.7", label=r"$\propto 1/\sqrt{N}$")
ax.set(xlabel="shots", ylabel="relative error")
ax.legend()
plt.show()
