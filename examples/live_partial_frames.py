"""
Live: partial frames of eight sectors
=====================================

A detector of eight sub-detectors, each with a stream of its own, and one packet in a hundred lost. Three
reductions run while the scan goes on: a sum and a virtual detector fold every piece where it arrives, a third
one looks at whole frames only.

- ``python examples/live_partial_frames.py``: a simulated detector
- ``python examples/live_partial_frames.py "k2is://225.1.1.1:2001-2008?iface=eth1" 256 256``: a real one, with
  its scan

Ctrl-C ends the acquisition and keeps what has arrived.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import framefold as ff
from framefold.sim import deformation
from framefold.sim.stem import cbed
from framefold.testing import DetectorEmulator
from framefold.udfcore.tile import TileSlice, full_sig

# %%
# The simulated detector: a bent, strained crystal, sent in datagrams at 400 frames/s by eight sectors side by
# side, each of them four packets per frame. One in a hundred does not arrive.


def simulated(scan=(48, 48), sig=(96, 128)):
    crystal = cbed(scan, sig, bend=14, strain=deformation.smooth_random(scan, 0.01), dose=40000, falloff=3)
    frames = crystal.read(TileSlice(0, scan[0] * scan[1], full_sig(sig)))
    return DetectorEmulator("k2is", frames, sectors=8, piece=(24, 16), rate=400, loss=0.01, seed=1), scan


# %%
# A UDF of one's own, unchanged from files. Its Fourier transform needs whole frames, so it is given those
# whose every packet arrived.


class Fineness(ff.UDF):
    """The share of a frame's power in its fine structure."""

    def get_result_buffers(self):
        return {"fineness": self.buffer("nav", dtype="float32")}

    def get_worker_data(self):
        y, x = (np.fft.fftfreq(n) for n in self.meta.dataset_shape.sig)
        return {"fine": np.hypot(y[:, None], x) > 0.1}

    def process_frame(self, frame):
        power = np.abs(np.fft.fft2(frame)) ** 2
        self.results.fineness[:] = power[self.worker_data.fine].sum() / power.sum()


# %%
# A live source is a dataset like any other. ``on_ready`` is called when everything listens: the place to
# start the scan.
ctx = ff.Context()
if __name__ == "__main__" and len(sys.argv) > 1:
    detector, url, scan = None, sys.argv[1], tuple(map(int, sys.argv[2:])) or None
else:
    detector, scan = simulated()
    url = detector.url
live = ctx.load(url, nav_shape=scan)
height, width = live.shape.sig
right = np.zeros((height, width), dtype=np.float32)
right[:, width // 2 :] = 1
udfs = [ff.udfs.SumUDF(), ff.udfs.ApplyMasksUDF(masks=[right]), Fineness()]


def ready(info):
    print(f"listening to {len(info.endpoints)} sectors: the scan may start")
    if detector is not None:
        detector.start(info)


total, right_half, fineness = ctx.run_udf(
    live,
    udfs,
    plots=True,
    publish_interval=0.2,
    on_ready=ready,
)

# %%
# The report accounts for every packet of every sector.
print(total.report)

# %%
# The sum uses what arrived of incomplete frames. ``coverage`` says how many frames each pixel holds: the sum
# divided by it is a mean without a trace of the loss. Results with one value per frame are masked where the
# frame is incomplete.
fig, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
pictures = {
    "mean of what arrived": total["intensity"].data / np.maximum(total.coverage, 1),
    "frames per pixel (coverage)": total.coverage,
    "right half of the detector": right_half["intensity"].masked_data.squeeze(),
    "fine structure (whole frames)": fineness["fineness"].masked_data,
}
for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
    image = ax.imshow(picture, cmap=plt.get_cmap("viridis").with_extremes(bad="0.75"))
    ax.set_title(name)
    ax.set_axis_off()
    fig.colorbar(image, cax=ax.inset_axes((1.03, 0, 0.05, 1)))
if __name__ == "__main__" and len(sys.argv) > 1:
    plt.show()
