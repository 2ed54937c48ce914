"""
A result that grows
===================

Every run can be watched: snapshots arrive while it goes on, and none of them changes afterwards.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.sim.stem import cbed

# a wedge of growing thickness, slightly bent: thickness fringes
scan = cbed(
    (32, 32), (64, 64), structure="dynamical", thickness=0.2, thickness_wedge=2.5, bend=2, dose=20_000
)
ctx = ff.Context()
ds = ctx.load(scan)

# %%
# A snapshot after each merge of a partition. ``damage`` says which frames are in.
steps = list(ctx.run_udf_iter(ds, ff.udfs.SumSigUDF(), partition_frames=64))
picked = [steps[i] for i in np.linspace(0, len(steps) - 1, 4).astype(int)]

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for ax, step in zip(axes, picked, strict=True):
    ax.imshow(step.buffers[0]["intensity"].masked_data, cmap="viridis")
    ax.set_title(f"{step.n_frames} frames")
    ax.set_axis_off()
