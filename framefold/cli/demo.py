"""``framefold demo``: a synthetic 4D-STEM scan, five reductions in one pass, a picture that grows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli import summary
from framefold.cli.command import Command
from framefold.errors import FramefoldError
from framefold.udfcore.combine import combined

if TYPE_CHECKING:
    from framefold.sim.scan import Cbed
    from framefold.udfcore.results import UDFResult
    from framefold.udfcore.udf import UDF

NAMES = ("sum", "std", "com", "adf", "df")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        default="demo_output",
        metavar="FOLDER",
        help="for picture and results (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes; 0: threads (default: %(default)s)"
    )


def _run(args: argparse.Namespace) -> int:
    from framefold.cli.demo_data import make_scan  # noqa: PLC0415  # only for the demo itself

    return demo(make_scan(), Path(args.out), workers=args.workers)


def demo(scan: Cbed, out: Path, *, workers: int) -> int:
    """Reduce the scan while it is made, and again from a file; leave picture and results in `out`."""
    from framefold.cli.demo_data import Calibrated, write_scan  # noqa: PLC0415
    from framefold.context import Context  # noqa: PLC0415
    from framefold.plot.live import LiveFigure  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FramefoldError(f"--out {out} cannot be made: {exc}") from exc
    picture, saved = out / "demo.png", out / "demo.nxs"
    source, udfs = Calibrated(scan), reductions(scan)
    where = f"{workers} processes (a local dask cluster)" if workers else "threads of this process"
    path = out / "scan.nxs"
    with Context(workers=workers) if workers else Context(executor="threads") as ctx:
        _say(
            "1",
            f"A synthetic 4D-STEM scan, {source.shape} {source.dtype}: bent crystal, charged precipitates,",
        )
        _say("", "counting noise. Written to a file:")
        t0 = time.perf_counter()
        path.unlink(missing_ok=True)
        write_scan(source, path)
        ds = ctx.load(path)
        _say("", f"{ds} in {time.perf_counter() - t0:.1f} s")
        _say("2", f"Five reductions in one pass, on {where}, while the frames are made, as from a detector.")
        _say("", f"Look at {picture}: it grows.")
        view = LiveFigure(pictures(), title="framefold demo", path=picture, share=0.2)
        ctx.run_udf(ctx.load(source), udfs, plots=view, progress=True, publish_interval=0.3)
        _say("3", "The same five reductions on the file:")
        results = ctx.run_udf(ds, udfs)
        _say("", summary.speed(results[0]))
    combined(NAMES, results).save(saved, overwrite=True)
    print()
    print(summary.table(NAMES, [{k: r[k] for k in shown} for r, shown in zip(results, _SHOWN, strict=True)]))
    print()
    _say(
        "4",
        f"The deflection that was found agrees with the one put in to {_error(scan, results):.2f} px rms.",
    )
    _say("5", f"Picture: {picture}")
    _say("", f"Results: {saved} (NeXus: any HDF5 viewer opens it)")
    _say("", f"Scan:    {path} ({path.stat().st_size / 1e6:.0f} MB), to try your own reduction on")
    return 0


_SHOWN = (("intensity",), ("std",), ("field_y", "field_x", "divergence"), ("intensity",), ("intensity",))


def _say(number: str, text: str) -> None:
    print(f"{number + '.' if number else '':<3}{text}", flush=True)


def reductions(source: Cbed) -> Sequence[UDF]:
    """Return the UDFs of the demo, in the order of `NAMES`."""
    from framefold.udfs.com import CoMUDF  # noqa: PLC0415
    from framefold.udfs.stddev import StdDevUDF  # noqa: PLC0415
    from framefold.udfs.sum import SumUDF  # noqa: PLC0415
    from framefold.udfs.virtual_detector import VirtualDetectorUDF  # noqa: PLC0415

    truth, r = source.truth, source.radius
    cy, cx = (float(v) for v in truth.zero)
    gap = float(np.hypot(*truth.a))
    by, bx = (float(v) for v in truth.zero + truth.b)
    outer = min(source.shape.sig) / 2
    return (
        SumUDF(),
        StdDevUDF(),
        # half-way to the next disks: only the direct beam, wherever it is deflected to
        CoMUDF(cy=cy, cx=cx, r=gap / 2, regression=0),
        VirtualDetectorUDF("ring", cy=cy, cx=cx, r=outer, ri=gap / 2),
        VirtualDetectorUDF("disk", cy=by, cx=bx, r=r),
    )


def pictures() -> list[Any]:
    """Return what is drawn, one list per UDF."""
    from framefold.udfcore.plotspec import PlotSpec  # noqa: PLC0415

    return [
        [
            PlotSpec(
                "image",
                ("intensity",),
                title="Sum of all patterns",
                scale="log",
                cmap="inferno",
                units="counts",
            )
        ],
        [
            PlotSpec(
                "image", ("std",), title="Standard deviation", scale="log", cmap="inferno", units="counts"
            )
        ],
        [
            PlotSpec("hue-phase", ("field_y", "field_x"), title="Deflection (centre of mass)", units="px"),
            PlotSpec("image", ("divergence",), title="Divergence: charge", symmetric=True, units="px / step"),
        ],
        [PlotSpec("image", ("intensity",), title="Virtual annular dark field", cmap="gray", units="counts")],
        [
            PlotSpec(
                "image", ("intensity",), title="Dark field of one reflection", cmap="gray", units="counts"
            )
        ],
    ]


def _error(source: Cbed, results: Sequence[UDFResult]) -> float:
    """Return the rms difference to the deflection that the scan was made with, means removed."""
    com = results[NAMES.index("com")]
    found = np.stack([com["field_y"].data, com["field_x"].data], axis=-1).reshape(-1, 2)
    put_in = source.truth.shift.reshape(-1, 2)
    difference = (found - found.mean(axis=0)) - (put_in - put_in.mean(axis=0))
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


COMMAND = Command("demo", "a synthetic scan, five reductions, a picture, in half a minute", _arguments, _run)
