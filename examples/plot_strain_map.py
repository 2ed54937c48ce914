"""
Strain from convergent-beam patterns
====================================

From a scan to a map that can be published: disks, lattice, reference, axes, error bars.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.sim import deformation
from framefold.sim.stem import cbed

# %%
# A crystal with an edge dislocation. The inside of the disks varies, as dynamical diffraction makes it, and
# the pattern moves on the detector during the scan (descan). With your own data this line is ``ds =
# ctx.load("scan.mib")``.
shape = (36, 44)
truth = deformation.dislocation(shape, burgers=0.35)
scan = cbed(
    shape, sig=(128, 128), strain=truth, dose=150_000, structure="dynamical", thickness=0.9, background=0.2,
    descan=2.0, falloff=0.5, seed=1,
)  # fmt: skip
ctx = ff.Context()
ds = ctx.load(scan)

# %%
# One call finds the radius of the disks and the lattice, measures every disk by maximum likelihood, fits a
# lattice to each frame and compares it with the median of the scan.
m = ff.strain_map(ctx, ds)
m

# %%
# Always look at some fits first. Circles: disks found; crosses: where the lattice has them; arrows: the
# difference, 20 times as long. A radius that is off shows at once.
m.plot_fit(18, 33)

# %%
# The reference should be crystal that is known to be unstrained: here the corners far from the core.
# Nothing is read again for this, nor for other axes.
far = np.zeros(shape, bool)
far[:6, :6] = far[:6, -6:] = far[-6:, :6] = far[-6:, -6:] = True
m = m.rereference(roi=far)
m.plot()

# %%
# Error bars come with every value. Against the truth of this simulation they hold:
truth_xx = truth.eps_xx - truth.eps_xx[far].mean()
z = (m.eps_xx - truth_xx) / m.sigma_xx
print(f"typical error bar of eps_xx: {np.nanmedian(m.sigma_xx):.1e}")
for k, expected in ((1, "68 %"), (2, "95 %")):
    print(f"within {k} error bars: {np.nanmean(np.abs(z) < k):.0%} (expected {expected})")

# %%
# Profile through the core with error bars, next to the truth.
row = 15
x = np.arange(shape[1])
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
low, high = (100 * (m.eps_xx[row] + k * m.sigma_xx[row]) for k in (-1, 1))
ax.fill_between(x, low, high, alpha=0.3, label="± 1 sigma")
ax.plot(x, 100 * m.eps_xx[row], ".-", label="measured")
ax.plot(x, 100 * truth_xx[row], "k--", lw=1, label="truth")
ax.set(xlabel="scan position", ylabel=r"$\varepsilon_{xx}$ (%)")
ax.legend()

# %%
# Saved as NeXus, the map opens elsewhere, and here: ``StrainMap.load("strain.nxs")`` can be re-referenced
# and rotated without the data. On the command line the same is ``framefold strain scan.mib --save
# strain.nxs --plot=strain.png``.
