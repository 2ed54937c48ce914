"""``framefold fxs``: correlate shots, look at correlations, invert them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli import fxs_arguments as arguments
from framefold.cli import fxs_demo, fxs_simulate
from framefold.cli.command import Command
from framefold.cli.run import INTERRUPTED, follow, live_picture
from framefold.cli.source_arguments import (
    add_backend,
    add_dataset,
    add_place,
    add_progress,
    add_selection,
    backends,
    make_context,
    open_dataset,
    selection,
    wants_progress,
)
from framefold.errors import FramefoldError

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2 import C2UDF
    from framefold.udfs.fxs.c2_result import Correlation
    from framefold.udfs.fxs.kam import Invariants

DESCRIPTION = """Fluctuation X-ray scattering: angular correlations of many shots, and what follows from them.

  framefold fxs demo --particle 4v8r.pdb.gz
  framefold fxs simulate shots.h5 --particle 4v8r.pdb.gz --shots 2000 --photons 1e5
  framefold fxs c2 shots.h5 --geometry shots.poni --adu-per-photon 1 --save c2.nxs --plot=c2.png
  framefold fxs show c2.nxs --plot=c2.png
  framefold fxs invert c2.nxs --lmax 8 --save bl.nxs --plot=bl.png
  framefold fxs filter bl.nxs --diameter 200 --save filtered.nxs --plot=filtered.png"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="demo|simulate|c2|show|invert|filter", required=True)
    fxs_demo.add_arguments(
        parts.add_parser("demo", help="simulated shots, correlated while they arrive, and their invariants")
    )
    fxs_simulate.add_arguments(
        parts.add_parser(
            "simulate", help="shots of a particle in random orientation, as a file or a live stream"
        )
    )
    c2 = parts.add_parser("c2", help="sum angular correlations over a file or a live stream")
    add_dataset(c2)
    for add in (arguments.add_detector, arguments.add_bins, arguments.add_shots, add_selection):
        add(c2)
    output = c2.add_argument_group("output")
    _output(output, "c2.nxs", live=True)
    add_progress(output)  # type: ignore[arg-type]  # groups take arguments as parsers do
    output.add_argument("--dry-run", action="store_true", help="print coverage and memory, and read nothing")
    add_place(c2)
    add_backend(c2)
    show = parts.add_parser("show", help="agreement, alarms and a picture of saved correlations")
    show.add_argument("file", metavar="FILE", help="from framefold fxs c2 --save")
    show.add_argument("--plot", metavar="FILE", help="picture: .png, .pdf, .svg")
    invert = parts.add_parser("invert", help="invariants B_l by Kam's relation, from saved correlations")
    invert.add_argument("file", metavar="FILE", help="from framefold fxs c2 --save")
    invert.add_argument("--lmax", type=int, default=8, metavar="L", help="largest l, even (default 8)")
    invert.add_argument(
        "--method", choices=("triangular", "lsq"), default="triangular", help="(default triangular)"
    )
    invert.add_argument("--diameter", type=float, metavar="A", help="of the particle: limits l at small q")
    invert.add_argument(
        "--n-particles", type=float, default=1.0, metavar="N", help="mean per shot (default 1)"
    )
    _output(invert.add_argument_group("output"), "bl.nxs", live=False)
    clean = parts.add_parser(
        "filter", help="take out of saved invariants what no particle of that size scatters"
    )
    clean.add_argument("file", metavar="FILE", help="from framefold fxs invert --save")
    clean.add_argument(
        "--diameter", type=float, required=True, metavar="A", help="of the particle, rather too large"
    )
    _output(clean.add_argument_group("output"), "filtered.nxs", live=False)


def _output(group: Any, name: str, *, live: bool) -> None:
    group.add_argument("--save", metavar="FILE", help=f"for instance {name}")
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    text = "live picture in a window, or in a file: --plot=view.png" if live else "picture: .png, .pdf, .svg"
    group.add_argument("--plot", metavar="FILE", help=text, **({"nargs": "?", "const": True} if live else {}))


def _run(args: argparse.Namespace) -> int:
    if getattr(args, "save", None) and Path(args.save).exists() and not args.overwrite:
        raise FramefoldError(f"{args.save} exists: use another name, or --overwrite")
    parts = {"demo": fxs_demo.run, "simulate": fxs_simulate.run, "c2": _c2, "show": _show, "invert": _invert,
             "filter": _filter}  # fmt: skip
    return parts[args.what](args)


def _c2(args: argparse.Namespace) -> int:
    plots = None if args.dry_run else live_picture(args.plot, args.file)
    with make_context(args) as ctx:
        ds = open_dataset(ctx, args)
        udf = arguments.make_c2(args, ds)
        if args.dry_run:
            return _dry_run(udf, ds)
        chosen = selection(args, ds)
        udf = udf.calibrated(ctx, ds, corrections=chosen["corrections"])
        final, stopped = follow(
            ctx, ds, [udf], plots=plots, progress=wants_progress(args), backends=backends(args), **chosen
        )
    if final is None:
        print("framefold fxs c2: stopped before the first result", file=sys.stderr)
        return INTERRUPTED
    c = udf.correlation(final.buffers[0])
    _tell(c, float(final.buffers[0]["hit_rate"].data[0]))
    _write(c, args)
    return INTERRUPTED if stopped else 0


def _dry_run(udf: C2UDF, ds: Any) -> int:
    operator = udf.operator()
    assert operator is not None  # there is a geometry
    sums, stacks = udf.memory()
    used = float((operator.weight > 0).mean())
    print(f"{ds.name}: {ds.shape.nav.size} frames of {tuple(ds.shape.sig)} {ds.dtype}")
    grid = udf.params.grid
    print(f"{grid.n_q} rings of {grid.q_min:.4g} .. {grid.q_max:.4g} 1/Angstrom, {grid.n_phi} angles, "
          f"{100 * used:.1f} % of the bins covered, {len(udf.layout().orders)} orders")  # fmt: skip
    print(f"memory in each process: {sums / 1e6:.0f} MB of sums, {stacks / 1e6:.0f} MB of stacks")
    return 0


def _show(args: argparse.Namespace) -> int:
    from framefold.udfs.fxs.c2_result import Correlation  # noqa: PLC0415

    c = Correlation.load(args.file)
    _tell(c, None)
    if args.plot:
        _figure(c, args.plot, Path(args.file).name)
    return 0


def _invert(args: argparse.Namespace) -> int:
    from framefold.udfs.fxs.c2_result import Correlation  # noqa: PLC0415
    from framefold.udfs.fxs.kam import invert  # noqa: PLC0415

    c = Correlation.load(args.file)
    inv = invert(c, args.lmax, method=args.method, diameter=args.diameter, n_particles=args.n_particles)
    print("  l   CC1/2   |B_l| / |B_0|")
    size = [float(np.linalg.norm(np.nan_to_num(b))) for b in inv.b_l]
    for degree, cc, norm in zip(inv.degrees, inv.cc_half, size, strict=True):
        print(f"{degree:3d}  {cc:6.3f}   {norm / size[0]:.3e}")
    _keep(inv, args)
    return 0


def _filter(args: argparse.Namespace) -> int:
    from framefold.udfs.fxs.invariants_file import load  # noqa: PLC0415
    from framefold.udfs.fxs.mtif import filter_invariants  # noqa: PLC0415

    before = load(args.file)
    found = filter_invariants(before, args.diameter)
    print("  l  terms of rings   taken out")
    for k in range(1, len(before.degrees)):
        whole = np.nan_to_num(before.b_l[k])
        change = np.linalg.norm(np.nan_to_num(found.invariants.b_l[k] - before.b_l[k])) / np.linalg.norm(
            whole
        )
        print(f"{before.degrees[k]:3d}  {found.terms[k]:5d} of {len(before.q):5d}   {100 * change:8.2f} %")
    _keep(found.invariants, args)
    return 0


def _keep(inv: Invariants, args: argparse.Namespace) -> None:
    if args.save:
        from framefold.udfs.fxs.invariants_file import save  # noqa: PLC0415

        save(inv, args.save, overwrite=args.overwrite)
        print(f"saved to {args.save}")
    if args.plot:
        from framefold.plot.fxs import figure_invariants  # noqa: PLC0415

        figure_invariants(inv).savefig(args.plot)
        print(f"picture in {args.plot}")


def _write(c: Correlation, args: argparse.Namespace) -> None:
    if args.save:
        c.save(args.save, overwrite=args.overwrite)
        print(f"saved to {args.save}")
    if isinstance(args.plot, str):
        _figure(c, args.plot, Path(args.file).name)
    if not args.save and not args.plot:
        print("nothing was saved: add --save c2.nxs to keep the correlations, --plot=c2.png for a picture")


def _figure(c: Correlation, path: str, title: str) -> None:
    from framefold.plot.fxs import figure_correlation  # noqa: PLC0415

    figure_correlation(c, f"{title}: {c.n_frames()} shots").savefig(path)
    print(f"picture in {path}")


def _tell(c: Correlation, hit_rate: float | None) -> None:
    rate = "" if hit_rate is None else f", hit rate {100 * hit_rate:.1f} %"
    print(f"{c.n_frames()} {'pairs' if c.paired else 'shots'} correlated{rate}")
    known = c.self_term is not None
    print("photon self-term: " + ("subtracted" if known else "not known, because --adu-per-photon is not"))
    if not c.halves or min(c.n_frames(half=h) for h in (0, 1)) < 2:
        return
    found = c.cc_half()
    print("q (1/A)   CC1/2    CC*   shots for CC 0.5   0.9")
    rows = zip(found.q, found.curve, found.cc_star, *found.shots_needed, strict=True)
    for q, cc, star, half, most in rows:
        print(f"{q:7.4f}  {cc:6.3f} {star:6.3f}   {half:14.3g} {most:8.3g}")
    print(f"odd / even orders: {np.nanmedian(c.odd_even()):.2g} (a wrong centre or mask raises it)")


COMMAND = Command(
    "fxs", "fluctuation X-ray scattering: angular correlations and invariants", _arguments, _run, DESCRIPTION
)
