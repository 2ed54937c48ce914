"""
Synthetic diffraction from a strained crystal
=============================================

A scan over an edge dislocation: what the patterns look like, and the strain that went into them.
"""

import matplotlib.pyplot as plt

from framefold.sim import deformation
from framefold.sim.noise import Detector
from framefold.sim.stem import cbed

# %%
# Deformation fields are closed forms over the scan; lengths are in scan steps.
shape = (40, 40)
field = deformation.dislocation(shape, burgers=0.4)

# %%
# Patterns are made when asked for: 1600 frames exist as a recipe only.
scan = cbed(
    shape,
    sig=(128, 128),
    strain=field,
    dose=30_000,
    structure="dynamical",
    thickness=0.9,
    thickness_wedge=0.6,
    background=0.2,
    descan=2.0,
    detector=Detector(hot=((20, 30),), dead=((90, 60),)),
)
frames = scan.frames(0, 1600)[::533]

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for ax, frame in zip(axes, frames, strict=True):
    ax.imshow(frame, vmax=40, cmap="magma")
    ax.set_axis_off()
fig.suptitle("Four frames, in counts")

# %%
# The truth belongs to the scan: strain, rotation, the place and intensity of every disk.
maps = {"eps_xx": field.eps_xx, "eps_yy": field.eps_yy, "eps_xy": field.eps_xy, "theta": field.theta}
fig, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for ax, (name, values) in zip(axes, maps.items(), strict=True):
    image = ax.imshow(100 * values, vmin=-3, vmax=3, cmap="RdBu_r")
    ax.set_title(name)
    ax.set_axis_off()
fig.colorbar(image, ax=axes, label="% (theta: 0.01 rad)", shrink=0.8)

# %%
scan.truth.centres.shape  # frames, reflections, (y, x)
