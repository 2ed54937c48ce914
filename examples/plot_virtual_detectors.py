"""
Virtual detectors
=================

Bright field, annular dark field and the quadrants of a segmented detector, from one pass over a scan.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold import masks
from framefold.sim import deformation
from framefold.sim.stem import cbed

# %%
# A bent crystal: the centre of the intensities moves over the scan.
scan = cbed(
    (48, 48), (96, 96), bend=14, strain=deformation.smooth_random((48, 48), 0.01), dose=4000, falloff=3
)

# %%
# Masks are arrays. A detector cut in quadrants is a stack of four.
cx, cy, width, height = 48, 48, 96, 96
stack = [
    masks.circular(cx, cy, width, height, radius=scan.radius + 1),
    masks.ring(cx, cy, width, height, radius=46, radius_inner=scan.radius + 4),
    *masks.segments(cx, cy, width, height, radius=46, n=4, rotation=-np.pi / 4),
]

# %%
# One UDF applies them all; any source of frames is a dataset.
ctx = ff.Context()
intensity = ctx.run_udf(ctx.load(scan), ff.udfs.ApplyMasksUDF(masks=stack))["intensity"].data

# %%
right, down, left, up = np.moveaxis(intensity[..., 2:], -1, 0)
pictures = {
    "bright field": intensity[..., 0],
    "annular dark field": intensity[..., 1],
    "right - left": right - left,
    "down - up": down - up,
}
fig, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray")
    ax.set_title(name)
    ax.set_axis_off()
