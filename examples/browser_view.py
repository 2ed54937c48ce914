"""
Virtual detectors by hand, in the browser
=========================================

A simulated live detector of four sectors, each with a stream of its own. The page shows the reductions while
frames arrive, the accounts of every sector, and the detectors as outlines to drag: the picture follows from
the next frames on.

- ``python examples/browser_view.py``: a scan of 20 seconds, and then the page stays until Ctrl-C
- ``python examples/browser_view.py scan.mib``: a file

The URL is printed; it opens on this machine only.
"""

import sys

import numpy as np

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim import deformation
from framefold.sim.stem import cbed
from framefold.udfcore.tile import TileSlice, full_sig
from framefold.web.view import BrowserView

by_hand = __name__ == "__main__" and "sphinx" not in sys.modules


# %%
# A bent, strained crystal. Two packets in a hundred are lost on the way.
def simulated(scan, sig=(96, 96), sectors=4, pieces=4, loss=0.02, fps=200.0):
    crystal = cbed(scan, sig, bend=14, strain=deformation.smooth_random(scan, 0.01), dose=40000, falloff=3)
    frames = crystal.read(TileSlice(0, scan[0] * scan[1], full_sig(sig)))
    arrives = np.random.default_rng(1).random((len(frames), sectors * pieces)) >= loss
    return MemoryLiveSource(
        frames, sectors=sectors, pieces=pieces, valid=arrives, block_frames=8, fps=fps, nav_shape=scan
    )


# %%
# The sum shows where the detectors lie; the ring and the centre of mass are the ones to drag.
ctx = ff.Context()
files = sys.argv[1:] if by_hand else []
ds = ctx.load(*files) if files else ctx.load(simulated((64, 64) if by_hand else (16, 16)))
udfs = [
    ff.udfs.SumUDF(),
    ff.udfs.VirtualDetectorUDF("ring", cy=48, cx=48, r=30, ri=15),
    ff.udfs.CoMUDF(cy=48, cx=48, r=12),
]

# %%
# ``keep=True`` lets the page stay when the run is over. In a notebook, ``view`` as the last line of a cell
# embeds it.
view = BrowserView(keep=by_hand)
total, ring, com = ctx.run_udf(ds, udfs, plots=view, publish_interval=0.05)
print(total.report)
if by_hand:
    view.wait()

# %%
# What was dragged and typed is in the provenance of the results, and in the files saved from the page.
print(ring.provenance["parameters"])
