"""``framefold strain``: from a file of convergent-beam patterns to a strain map."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from framefold.cli.command import Command
from framefold.cli.source_arguments import (
    add_dataset,
    add_place,
    add_progress,
    add_selection,
    make_context,
    open_dataset,
    selection,
    wants_progress,
)
from framefold.errors import FramefoldError

DESCRIPTION = """Measure the Bragg disks of each frame, fit their lattice, and map the strain.

  framefold strain scan.mib --save strain.nxs --plot=strain.png
  framefold strain scan.h5 --reference roi:0:64,0:20 --axes a
  framefold strain scan.h5 --reference spacings:0.192,0.192,90,0.021
  framefold strain merlin://127.0.0.1:6342 --nav-shape 128,128 --radius 6.1 \\
      --lattice 128,128,1.2,31.5,31.4,-1.3 --plot=browser

Radius and lattice are found where they are not given; a live stream needs both."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    disks = parser.add_argument_group("disks and lattice")
    disks.add_argument("--radius", type=float, metavar="PX", help="of the disks (default: found)")
    disks.add_argument(
        "--lattice", metavar="ZY,ZX,AY,AX,BY,BX", help="direct beam and two vectors, px (default: found)"
    )
    disks.add_argument(
        "--subpixel",
        metavar="auto|ml4|ml6|parabola|upsample[:N]|com",
        default="auto",
        help="maximum likelihood without (ml4) and with (ml6) a tilt of the intensity inside the disks, "
        "the better one for each disk (auto, default), or the fast mode (parabola); for comparison the "
        "correlation interpolated to N points per px (upsample) or its centre of mass (com)",
    )
    disks.add_argument(
        "--search", type=float, metavar="PX", help="how far disks may be from where they are expected"
    )
    disks.add_argument(
        "--correlation",
        choices=("crop", "full", "sparse", "auto"),
        default="crop",
        help="find disks by correlation of their surroundings (crop, default), of whole frames (full), by "
        "sparse templates, or the one of the first two that is less work (auto)",
    )
    disks.add_argument(
        "--hybrid",
        type=float,
        default=1.0,
        metavar="P",
        help="weight of the correlation, of crops or whole frames, from 1 (cross correlation, default) to 0 "
        "(phase correlation)",
    )
    disks.add_argument(
        "--match",
        choices=("expected", "nearest"),
        default="expected",
        help="a disk belongs to the place where it was looked for (default), or to the nearest point of a "
        "lattice that is followed outwards: for crystals that are bent or turned far",
    )
    disks.add_argument(
        "--counts-per-electron",
        type=float,
        metavar="G",
        help="for errors and weights (default: 1; found for frames that do not hold whole numbers)",
    )
    disks.add_argument(
        "--pedestal",
        type=float,
        metavar="COUNTS",
        help="of no electron (default: 0; found where the noise beside the disks shows it)",
    )
    disks.add_argument("--saturation", type=float, metavar="COUNTS", help="leave out pixels from here on")
    tensor = parser.add_argument_group("strain")
    tensor.add_argument(
        "--reference",
        default="median",
        metavar="median|roi:Y0:Y1,X0:X1|spacings:DA,DB,DEG,STEP",
        help="unstrained crystal: the median of all frames (default), the mean of a part of the scan, or the "
        "material's spacings of the planes of a and b with the angle between a and b and the reciprocal "
        "length per px, for instance spacings:0.192,0.192,90,0.021; without STEP, in nm, where the file "
        "states it",
    )
    tensor.add_argument(
        "--axes",
        default="scan",
        metavar="scan|a|DEG",
        help="x along the fast scan (default), along a, or at an angle",
    )
    tensor.add_argument(
        "--definition", choices=("biot", "small"), default="biot", help="finite (default) or small strain"
    )
    tensor.add_argument(
        "--scan-rotation",
        type=float,
        default=0.0,
        metavar="DEG",
        help="from the detector's axes to the scan's",
    )
    tensor.add_argument("--flip-y", action="store_true", help="reverse y of the detector first")
    tensor.add_argument(
        "--ellipse",
        default="0,0",
        metavar="SIZE,DEG",
        help="elliptic distortion to undo, for instance 0.02,30",
    )
    tensor.add_argument(
        "--aspect",
        type=float,
        metavar="RATIO",
        help="height over width of a detector pixel (default: as the file states, else 1)",
    )
    add_selection(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--save", metavar="FILE", help="write the map: .nxs or .h5")
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    group.add_argument(
        "--plot",
        nargs="?",
        const=True,
        metavar="FILE|browser",
        help="live picture in a window; the map in a file: --plot=strain.png; or live on a page: "
        "--plot=browser",
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and read nothing")
    add_progress(group)  # type: ignore[arg-type]  # groups take arguments as parsers do
    add_place(parser)


def _run(args: argparse.Namespace) -> int:
    from framefold.cli.run import live_picture  # noqa: PLC0415  # loads what draws
    from framefold.strainmap import region, strain_map  # noqa: PLC0415  # the help text comes without numba
    from framefold.strainmap.calibration import step_of  # noqa: PLC0415
    from framefold.udfs.blobfinder.lattice import LatticeFit  # noqa: PLC0415
    from framefold.udfs.blobfinder.strain import Spacings  # noqa: PLC0415

    lattice = None if args.lattice is None else _lattice(args.lattice)
    axes = _axes(args.axes)
    ellipse = _numbers(args.ellipse, 2, "--ellipse takes SIZE,DEG, for instance 0.02,30")
    if args.save is not None:
        _check_save(Path(args.save), args.overwrite)
    to_file = isinstance(args.plot, str) and args.plot != "browser"
    with make_context(args) as ctx:
        ds = open_dataset(ctx, args)
        reference: Any = _reference(args.reference)
        material = reference if isinstance(reference, list) else None
        if material is not None:
            if step_of(ds) is None:
                raise FramefoldError(
                    "the file states no reciprocal length per px of its detector: "
                    "--reference spacings:DA,DB,DEG,STEP"
                )
            reference = "median"
        if not isinstance(reference, (str, Spacings)):
            reference = region(reference, tuple(ds.shape.nav))
        options: dict[str, Any] = {
            "axes": axes, "scan_rotation": args.scan_rotation, "flip_y": args.flip_y,
            "ellipse": (ellipse[0], ellipse[1]), "definition": args.definition, "subpixel": args.subpixel,
            "correlation": _correlation(args.correlation, args.search, args.hybrid),
            "gain": args.counts_per_electron, "pedestal": args.pedestal,
            "aspect": args.aspect, "saturation": args.saturation, "fit": LatticeFit(match=args.match),
        }  # fmt: skip
        if args.dry_run:
            return _dry_run(ctx, ds, args, lattice, {**options, "reference": reference})
        plots = None if to_file else live_picture(args.plot, args.file)
        found = strain_map(
            ctx, ds, args.radius, lattice, reference=reference, progress=wants_progress(args), plots=plots,
            **options, **selection(args, ds),
        )  # fmt: skip
        if material is not None:
            found = found.rereference(spacings=(material[0], material[1], material[2]))
        _tell(found)
        if args.save is not None:
            found.save(args.save, overwrite=args.overwrite)
            print(f"saved to {args.save}")
        if to_file:
            found.plot(args.plot)
            print(f"picture in {args.plot}")
        if args.save is None and args.plot is None:
            print("nothing was saved: add --save strain.nxs to keep the map, --plot=strain.png for a picture")
        if args.plot == "browser" and plots is not None:
            print(f"{plots.url} shows the result until Ctrl-C", file=sys.stderr)
            plots.wait()
        elif args.plot is True:
            import matplotlib.pyplot as plt  # noqa: PLC0415

            plt.show()
    return 0


def _dry_run(ctx: Any, ds: Any, args: argparse.Namespace, lattice: Any, options: dict[str, Any]) -> int:
    if lattice is None or args.radius is None:
        print(
            "radius and lattice would be found first, from up to 128 frames; give --radius and --lattice "
            "to see "
            "the plan of the run"
        )
        return 0
    from framefold.strainmap.calibration import aspect_of  # noqa: PLC0415
    from framefold.udfs.blobfinder.strain_udf import StrainUDF  # noqa: PLC0415

    options["gain"], options["pedestal"] = options["gain"] or 1.0, options["pedestal"] or 0.0
    options["aspect"] = options["aspect"] or aspect_of(ds)
    print(ctx.inspect(ds, StrainUDF(lattice, args.radius, **options), roi=selection(args, ds)["roi"]))
    return 0


def _tell(found: Any) -> None:
    import numpy as np  # noqa: PLC0415

    zero, a, b = (f"({y:.3f}, {x:.3f})" for y, x in found.lattice[0].rows())
    print(f"radius {found.radius:.3f} px, zero {zero}, a {a}, b {b} px (y, x), {len(found.indices)} disks")
    n = int(found.valid.sum())
    print(f"{n} of {found.valid.size} frames valid")
    if not n:
        print("no frame has a lattice there: check radius, lattice and search", file=sys.stderr)
        return
    for name, sigma in (("eps_xx", "xx"), ("eps_yy", "yy"), ("eps_xy", "xy"), ("theta", "theta")):
        values, errors = getattr(found, name), getattr(found, f"sigma_{sigma}")
        low, mid, high = np.nanquantile(values, [0.01, 0.5, 0.99])
        unit = "rad" if name == "theta" else ""
        print(
            f"{name:7} 1 %: {low:+.5f}  median: {mid:+.5f}  99 %: {high:+.5f}  "
            f"error: {np.nanmedian(errors):.1e} {unit}".rstrip()
        )


def _numbers(text: str, n: int, message: str) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != n:
        raise FramefoldError(f"{message}; got {text!r}")
    return values


def _lattice(text: str) -> list[list[float]]:
    v = _numbers(text, 6, "--lattice takes six numbers ZY,ZX,AY,AX,BY,BX in px")
    return [v[0:2], v[2:4], v[4:6]]


def _correlation(name: str, search: float | None, hybrid: float) -> Any:
    from framefold.udfs.blobfinder import correlate  # noqa: PLC0415

    if name == "auto":
        if search is not None or hybrid != 1.0:
            raise FramefoldError(
                "--search and --hybrid go with --correlation crop, full or sparse, not with auto"
            )
        return "auto"
    if name == "sparse":
        if hybrid != 1.0:
            raise FramefoldError("--hybrid goes with --correlation crop or full: sparse templates are linear")
        return correlate.SparseCorrelation(search)
    kinds = {
        "crop": correlate.CropCorrelation,
        "full": correlate.FullFrameCorrelation,
    }
    return kinds[name](search, hybrid=hybrid)


def _axes(text: str) -> Any:
    if text in ("scan", "a"):
        return text
    return _numbers(text, 1, "--axes takes scan, a, or an angle in degrees")[0]


def _reference(text: str) -> Any:
    from framefold.cli.values import parse_slices  # noqa: PLC0415

    if text == "median":
        return text
    kind, _, where = text.partition(":")
    if kind == "spacings":
        from framefold.udfs.blobfinder.strain import Spacings  # noqa: PLC0415

        message = "--reference spacings: takes DA,DB,DEG,STEP, or DA,DB,DEG in nm for a calibrated detector"
        if where.count(",") == 2:
            return _numbers(where, 3, message)
        return Spacings(*_numbers(where, 4, message))
    if kind != "roi" or not where:
        raise FramefoldError(
            f"--reference takes median, roi:Y0:Y1,X0:X1 or spacings:DA,DB,DEG,STEP, got {text!r}"
        )
    return parse_slices(f"[{where}]")


def _check_save(path: Path, overwrite: bool) -> None:
    """Refuse before the run what would fail after it."""
    from framefold.io.save import check_target  # noqa: PLC0415

    if path.suffix.lower() not in (".nxs", ".h5", ".hdf5"):
        raise FramefoldError(f"--save writes .nxs or .h5, not {path.suffix or 'a name without ending'!r}")
    if path.exists() and not overwrite:
        raise FramefoldError(f"{path} exists: use another name, or --overwrite")
    check_target(path, overwrite=overwrite)


COMMAND = Command("strain", "map the strain of a crystal from its Bragg disks", _arguments, _run, DESCRIPTION)
