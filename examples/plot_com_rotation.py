"""
Centre of mass, its rotation, and the phase
===========================================

The beam is deflected by the gradient of the phase. Detectors are mounted at some angle to the scan; the field
itself says at which.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.plot.picture import draw
from framefold.sim.phase_scan import phase_scan
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfs import ICoMUDF

# %%
# Some charged particles of different size, on a detector turned by 90 degrees.
n = 80
y, x = np.mgrid[:n, :n]
phase = np.zeros((n, n))
for at, size, strength in (((20, 24), 5, 1.0), ((52, 18), 9, 0.7), ((44, 56), 13, 1.2), ((12, 60), 3, 0.8)):
    r2 = (y - at[0]) ** 2 + (x - at[1]) ** 2
    phase += strength / (1 + r2 / size**2) ** 2
scan = phase_scan(phase, 0.4e-10, every=2, voltage=80e3, semiangle=20e-3, dose=3000, scan_rotation=90)
optics = scan.optics
known = {
    "voltage": 80e3,
    "semiangle": optics.semiangle,
    "radius": optics.radius,
    "scan_step": optics.scan_step,
}

# %%
# ``scan_rotation="auto"`` turns the field until it is free of curl, as a gradient must be, in closed form.
ctx = ff.Context()
ds = ctx.load(scan.frames)
as_it_is = ctx.run_udf(ds, ICoMUDF(**known))
found = ctx.run_udf(ds, ICoMUDF(scan_rotation="auto", **known))
for name, result in (("as it is", as_it_is), ("found", found)):
    angle, curl = result["scan_rotation"].data[0], result["curl"].data[0]
    print(f"{name}: rotation {angle:.1f} degrees, {100 * curl:.0f} % of the gradients are curl")

# %%
fig, axes = plt.subplots(2, 3, figsize=(12.5, 7.4), layout="constrained")
field = PlotSpec("hue-phase", ("field_y", "field_x"), title="deflection", units="px")
for row, result, name in ((0, as_it_is, "unturned"), (1, found, "turned by the angle found")):
    draw(axes[row, 0], result, field)
    draw(
        axes[row, 1], result, PlotSpec("image", ("phase",), title=f"phase, {name}", cmap="gray", units="rad")
    )
truth = scan.seen - scan.seen.mean()
axes[0, 2].imshow(truth, cmap="gray")
axes[0, 2].set_title("the object as the probe sees it")
row = 10
axes[1, 2].plot(truth[row], label="truth")
axes[1, 2].plot(found["phase"].data[row], ".", label="found")
axes[1, 2].set_title(f"row {row}")
axes[1, 2].set_ylabel("rad")
axes[1, 2].legend()
