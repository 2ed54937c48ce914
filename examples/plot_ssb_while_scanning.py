"""
Phase while scanning: side bands
================================

Single side-band ptychography of a weak object, row by row, next to what a bright-field detector sees.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.sim.phase_scan import phase_scan
from framefold.udfs import SSBUDF

# %%
# A sheet of atoms, two of them missing and one heavier, 0.25 Å pixels. The probe steps by 0.5 Å; 4000
# electrons fall on each position.
n = 96
y, x = np.mgrid[:n, :n]
atoms = [
    (row * 12 + 3, (column * 24 + 12 * (row % 2) + shift + 2) % n)
    for row in range(8)
    for column in range(4)
    for shift in (0, 8)
]
missing, heavy = {20, 41}, 27
phase = np.zeros((n, n))
for i, (ay, ax) in enumerate(atoms):
    if i not in missing:
        dy, dx = (y - ay + n // 2) % n - n // 2, (x - ax + n // 2) % n - n // 2
        phase += (0.5 if i == heavy else 0.25) * np.exp(-(dy**2 + dx**2) / 5)
scan = phase_scan(phase, 0.25e-10, every=2, voltage=80e3, semiangle=25e-3, dose=4000)

# %%
# One pass over the frames. The UDF needs the probe's optics; a snapshot may be taken at any time. ``wiener``
# damps the highest frequencies, at which few detector pixels carry the phase.
ctx = ff.Context()
optics = scan.optics
udf = SSBUDF(80e3, optics.semiangle, optics.radius, optics.scan_step, wiener=0.05)
steps = list(ctx.run_udf_iter(ctx.load(scan.frames), udf, partition_frames=48 * 4))

# %%
# The phase is there as soon as a few rows are.
picked = [steps[i] for i in (2, 6, -1)]
fig, axes = plt.subplots(2, 3, figsize=(11, 7.2), layout="constrained")
limits = {"vmin": -0.05, "vmax": 0.25, "cmap": "gray"}
for ax, step in zip(axes[0], picked, strict=True):
    ax.imshow(step["phase"].masked_data, **limits)
    ax.set_title(f"side bands, {step.n_frames} of {scan.phase.size} frames")
axes[1, 0].imshow(scan.phase, vmin=0, vmax=0.5, cmap="gray")
axes[1, 0].set_title("object")
axes[1, 1].imshow(picked[-1]["bright_field"].data, cmap="gray")
axes[1, 1].set_title("bright-field counts")
spectrum = np.fft.fftshift(np.abs(picked[-1]["spectrum"].data))
axes[1, 2].imshow(np.log10(spectrum + 0.1), cmap="inferno")
axes[1, 2].set_title("spectrum: up to twice the aperture")
for ax in axes.flat:
    ax.set_axis_off()

# %%
# A bright-field detector adds up both side bands, in which the phase has opposite signs: without defocus it
# sees noise only. The bands one by one show every atom.
