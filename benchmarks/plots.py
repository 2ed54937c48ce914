"""What live plots cost a run: without, unseen (no window), and written to a picture file as it grows.

    python benchmarks/plots.py [--repeat 5] [--seconds 1 6]

Sum, standard deviation and crystallinity over 256 x 256 uint16 frames in memory, four pictures. The runs are
interleaved; ratios are taken pair by pair, figures are medians. A picture in a file is what a window costs, and more:
it is rendered and compressed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from shared import Endless

import framefold as ff
from framefold.plot.live import LiveFigure
from framefold.udfcore.dataset import Dataset

GOAL = 1.05


def udfs():
    return [ff.udfs.SumUDF(), ff.udfs.StdDevUDF(), ff.udfs.CrystallinityUDF(rad_in=5, rad_out=60)]


def seconds(ctx, ds, plots=None):
    """Seconds of a run, and seconds of processor time."""
    t0, c0 = time.perf_counter(), time.process_time()
    ctx.run_udf(ds, udfs(), plots=plots)
    found = time.perf_counter() - t0, time.process_time() - c0
    if plots is not None:
        import matplotlib.pyplot as plt

        plt.close("all")
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 6.0], help="of the runs, about")
    args = parser.parse_args()
    mpl.use("Agg")
    block = np.random.default_rng(0).poisson(20, (64, 256, 256)).astype("uint16")
    rows = []
    with ff.Context() as ctx, tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        probe = Dataset(Endless(block, 2048))
        for plots in (True, LiveFigure(True, path=picture), None):  # kernels, fonts
            speed = 2048 / seconds(ctx, probe, plots)[0]
        for length in args.seconds:
            ds = Dataset(Endless(block, max(64, round(speed * length))))
            found = {"none": [], "unseen": [], "file": []}
            for _ in range(args.repeat):
                found["none"].append(seconds(ctx, ds))
                found["unseen"].append(seconds(ctx, ds, True))
                found["file"].append(seconds(ctx, ds, LiveFigure(True, path=picture)))
            alone = statistics.median(s for s, _ in found["none"])
            for name, what in (
                ("unseen", "figure without a window"),
                ("file", "picture file, once a second"),
            ):
                pairs = list(zip(found[name], found["none"], strict=True))
                ratio, cpu = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
                goal = GOAL if name == "unseen" else None
                verdict = "" if goal is None else "met" if ratio <= goal else "**missed**"
                rows.append(
                    f"| run of {alone:.1f} s: {what} | {ratio:.3f} | {cpu:.3f} | {'reported' if goal is None else f'<= {goal}'} | {verdict} |"
                )
    lines = [
        "| with live plots / without | time | processor time | goal | |",
        "|---|---|---|---|---|",
        *rows,
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
