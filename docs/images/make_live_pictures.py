"""The pictures of live-plots.md: runs held half-way, as a window, a picture file and the page show them.

python docs/images/make_live_pictures.py        # needs playwright and Chromium for the page
"""

import shutil
import threading
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.plot.live import LiveFigure
from framefold.sim import deformation
from framefold.sim.ptycho import ptycho_scan
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder import Disk, StrainUDF, find_lattice
from framefold.web.view import BrowserView

HERE = Path(__file__).parent
mpl.use("Agg")


def held(ctx, ds, udfs, share, name):
    """Save the live figure of a run when a share of the frames is in."""
    view = LiveFigure(True, title="scan")
    picture = HERE / name
    for step in ctx.run_udf_iter(ds, udfs, partition_frames=64):
        if view.figure is None:
            view.begin(step, udfs)
        if step.n_frames >= share * step.damage.size:
            view.update(step)
            view.figure.savefig(picture, dpi=70)
            break


def page(crystal, scan):
    """Save what the browser shows of a live run."""
    from playwright.sync_api import sync_playwright

    frames = crystal.reshape(-1, *crystal.shape[2:])
    arrives = np.random.default_rng(1).random((len(frames), 16)) >= 0.02
    source = MemoryLiveSource(
        frames, sectors=4, pieces=4, valid=arrives, block_frames=8, fps=200.0, nav_shape=scan
    )
    udfs = [
        ff.udfs.SumUDF(),
        ff.udfs.VirtualDetectorUDF("ring", cy=48, cx=48, r=30, ri=15),
        ff.udfs.CoMUDF(cy=48, cx=48, r=12),
    ]
    with (
        ff.Context() as ctx,
        BrowserView(keep=True, quiet=True) as view,
        sync_playwright() as p,
    ):
        ds = ctx.load(source)
        run = threading.Thread(target=lambda: ctx.run_udf(ds, udfs, plots=view, publish_interval=0.1))
        run.start()
        while view.url is None:
            time.sleep(0.05)
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1080, "height": 960})
        tab.goto(view.url)
        while view.hub.progress().done < 0.6 * len(frames):
            tab.wait_for_timeout(100)
        tab.get_by_text("detectors", exact=True).click()
        tab.wait_for_timeout(3000)
        tab.screenshot(path=HERE / "live-browser.png")
        run.join()
        browser.close()


def main():
    scan, sig = (48, 48), (96, 96)
    strain = deformation.smooth_random(scan, 0.02)
    crystal = cbed(scan, sig, bend=14, strain=strain, dose=40000, falloff=3).array()
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(crystal)
        held(
            ctx,
            ds,
            [
                ff.udfs.SumUDF(),
                ff.udfs.StdDevUDF(),
                ff.udfs.CoMUDF(r=12),
                ff.udfs.VirtualDetectorUDF("ring", r=30, ri=15),
            ],
            0.6,
            "live-window.png",
        )
        found = find_lattice(ctx, ds)
        udf = StrainUDF(
            lattice=(found.lattice.zero, found.lattice.a, found.lattice.b), pattern=Disk(found.radius)
        )
        held(ctx, ds, [udf], 0.7, "live-strain.png")
        view, udf = LiveFigure(True), ff.udfs.Ptychography()
        data = ptycho_scan(196, 64, probe_radius=10, step=3.5, photons=5e5, seed=3)
        for state in ctx.iterate(ctx.load(data.source()), udf, n=25, publish_every=0):
            if state.iteration == 12:
                view.begin(state, [udf])
                view.figure.savefig(HERE / "live-ptychography.png", dpi=70)
                break
    page(
        cbed(
            (64, 64), sig, bend=14, strain=deformation.smooth_random((64, 64), 0.01), dose=40000, falloff=3
        ).array(),
        (64, 64),
    )


if __name__ == "__main__":
    main()
