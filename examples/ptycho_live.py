"""
Live: ptychography while the scan runs
======================================

Object and probe are reconstructed from the frames that have come, and from more of them in every iteration. A
packet in two hundred is lost on the way; frames that miss one are left out.

- ``python examples/ptycho_live.py``: a simulated spiral scan
- ``framefold ptycho URL --nav-shape N --positions planned.csv ...``: a real one

``stop()`` ends the acquisition and keeps what has arrived.
"""

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.sim.ptycho import ptycho_scan
from framefold.testing import DetectorEmulator
from framefold.udfs.ptycho import Ptychography, ScanPositions

# %%
# The simulated detector: 500 patterns of 64 x 64 pixels along a spiral, in datagrams of two sectors side by
# side, 50 frames/s. Where the probe will stand is known beforehand, from the plan of the scan; the wavelength
# and the distance of the detector are, too.
scan = ptycho_scan(500, 64, scan="spiral", probe_radius=9, photons=1.5e5, seed=5)
detector = DetectorEmulator("k2is", scan.frames, sectors=2, piece=(32, 32), rate=50, loss=0.005, seed=1)

# %%
# A live source is a dataset like any other. ``on_ready`` is called when everything listens: the place to
# start the scan. The first frames give the starting probe; all that come later take part from the next
# iteration on.
ctx = ff.Context()
live = ctx.load(detector.url, nav_shape=(len(scan.frames),), idle_timeout=2.0)
udf = Ptychography(scan.geometry, ScanPositions(scan.pixels, units="px"), free_pixels=0.02)
states = []
with detector:
    for state in ctx.iterate(live, udf, on_ready=detector.start, publish_every=0.4, plots=True):
        states.append(state)
        print(f"{state.n_frames} frames, iteration {state.iteration}, E = {state.history['error'][-1]:.2g}")
final = states[-1].buffers[0]
for note in udf.notes:
    print("-", note)

# %%
# What the detector sent and what came is in the report, as of every live run; ``damage`` says which frames
# took part.
print(final.report["live"]["status"])
lost = ~final.damage.reshape(-1)
print(f"{np.count_nonzero(lost)} frames missed a packet: {np.flatnonzero(lost)}")


# %%
# The object grows with the spiral; grey is what no light has reached. When the last frame has come, the
# recipe begins anew from what has been found, and ends with full sweeps until the error stands still.
growing = [s for s in states if not s.final]
whole = next(i for i, s in enumerate(states) if s.n_frames == states[-1].n_frames)
picked = [growing[0], states[whole // 3], states[2 * whole // 3], states[-1]]
fig = plt.figure(figsize=(13, 6.4), layout="constrained")
axes = fig.subplot_mosaic([["0", "1", "2", "3"], ["probe", "when", "error", "free"]])
seen = np.argwhere(np.isfinite(final["phase"].data))
(y0, x0), (y1, x1) = seen.min(axis=0), seen.max(axis=0) + 1
limits = np.nanquantile(final["phase"].data, [0.01, 0.99])
grey = plt.get_cmap("gray").with_extremes(bad="0.55")
for i, state in enumerate(picked):
    axes[str(i)].imshow(state["phase"].data[y0:y1, x0:x1], cmap=grey, vmin=limits[0], vmax=limits[1])
    axes[str(i)].set_title(f"phase, {state.n_frames} frames" if i < 3 else "at the end")
axes["probe"].imshow(np.abs(final["probe_main"].data), cmap="viridis")
axes["probe"].set_title("modulus of the probe")
y, x = final["positions"].data.T
axes["when"].scatter(x, y, c=np.arange(len(x)), s=4, cmap="viridis")
axes["when"].plot(x[lost], y[lost], "rx", ms=5, label="lost")
axes["when"].set(aspect="equal", title="order of the scan")
axes["when"].invert_yaxis()
axes["when"].legend(loc="upper right", bbox_to_anchor=(1.02, 1.04), handletextpad=0)
for name in ("0", "1", "2", "3", "probe", "when"):
    axes[name].set_axis_off()
began = next(s.iteration for s in states if s.n_frames == final.damage.sum())
for name, label in (("error", "E of the model"), ("free", "deviance of held-out pixels")):
    curve = final["error" if name == "error" else "llk_free"].data
    axes[name].plot(np.arange(1, len(curve) + 1), curve, lw=1.2)
    axes[name].axvline(began, color="0.6", ls=":", label="all frames are there")
    axes[name].set(title=label, xlabel="iteration")
axes["error"].set_yscale("log")
axes["error"].legend()
if __name__ == "__main__":
    plt.show()
