"""
Ptychography
============

Object and probe from overlapping diffraction patterns: nothing is known but the geometry and the positions.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.plot.colour import hue_rgb
from framefold.sim.ptycho import ptycho_scan

# %%
# A synthetic scan with counting noise: 196 patterns of 64 x 64 pixels, a defocused and slightly astigmatic
# probe.
scan = ptycho_scan(196, 64, probe_radius=10, step=3.5, photons=5e5, seed=3)
ctx = ff.Context()
ds = ctx.load(scan.source())

# %%
# The starting probe comes from the mean frame; its defocus is searched for. Frames stay in memory, so
# iterations are quick. ``ctx.run_udf`` gives the end, ``ctx.iterate`` also what happens on the way.
udf = ff.udfs.Ptychography()
states = list(ctx.iterate(ds, udf, n=60, publish_every=0))
for note in udf.notes:
    print("-", note)
result = states[-1].buffers[0]


# %%
# The phase of the object appears in a few iterations.
def frame_of(phase):
    """Return the part of the canvas that got light."""
    rows, columns = (
        np.flatnonzero(np.isfinite(phase).any(axis=1)),
        np.flatnonzero(np.isfinite(phase).any(axis=0)),
    )
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


part = frame_of(result["phase"].data)
fig, axes = plt.subplots(1, 4, figsize=(13, 3.9), layout="constrained")
for ax, state in zip(axes[:3], (states[0], states[4], states[-1]), strict=True):
    ax.imshow(state["phase"].data[part], cmap="gray")
    ax.set_title(f"iteration {state.iteration}: E = {state.history['error'][-1]:.4f}")
truth = np.angle(scan.object)
axes[3].imshow(truth[part], cmap="gray")
axes[3].set_title("what was put in")
for ax in axes:
    ax.set_xticks([])
    ax.set_yticks([])

# %%
# Probe (hue is phase, brightness is amplitude) and the error over the iterations: fifteen of RPIE, then AP.
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for ax, probe, title in (
    (axes[0], result["probe"].data[0], "probe found"),
    (axes[1], scan.probe[0], "probe put in"),
):
    turned = probe * np.exp(-1j * np.angle(probe.sum()))
    ax.imshow(hue_rgb(np.angle(turned), np.abs(turned) / np.abs(turned).max()))
    ax.set_title(title)
    ax.set_axis_off()
axes[2].semilogy(states[-1].history["error"])
axes[2].set_xlabel("iteration")
axes[2].set_ylabel("error E")
axes[2].grid(True, which="both", lw=0.3)
plt.show()

# %%
# ``result.save("scan.cxi")`` writes what other programs read. The same from the command line:
# ``framefold ptycho scan.cxi --save out.cxi --plot=out.png``.
