"""``framefold cdi``: from a diffraction pattern to the object behind it."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.cli.command import Command
from framefold.cli.source_arguments import add_dataset, add_place, add_progress, make_context, wants_progress
from framefold.cli.values import load_array
from framefold.errors import FramefoldError
from framefold.udfcore.namespace import require_device

if TYPE_CHECKING:
    from framefold.context import Context
    from framefold.udfcore.metadata import Metadata
    from framefold.udfs.cdi.algebra import Operator
    from framefold.udfs.cdi.starts import Multistart, Start
    from framefold.udfs.cdi.state import CDI

RECIPE = "ER**100*(Sup*ER**50*HIO**200)**5"
OFF_CENTER = 0.05  # of the array: beyond, the direct beam is probably elsewhere

DESCRIPTION = """Phase a coherent diffraction pattern (2-D) or Bragg peak (3-D) from many random starts.

  framefold cdi pattern.cxi --starts 50 --save out.cxi --plot=out.png
  framefold cdi scan.h5 --key /entry/data --frames volume --recipe "ML**20*ER**50*(Sup*ER**20*HIO**80)**10"
  framefold cdi pattern.npy --mask bad.npy --support box.npy --starts 20 --workers 8

Recipes multiply operators, the last acts first: ER SF HIO ASR HPR RAAR DM ChargeFlip ML Sup(threshold=0.25)
Detwin ScaleObj PSF LLK Show Save ... Parameters go by name: HIO(beta=0.8)."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    group = parser.add_argument_group("pattern")
    group.add_argument(
        "--frames",
        default="auto",
        metavar="WHAT",
        help="volume: frames are slices of a 3-D peak; sum: exposures of one pattern; N: that frame "
        "(default: a single frame, else volume)",
    )
    group.add_argument(
        "--center", metavar="Y,X", help="direct beam or Bragg peak, pixels (default: the middle of the array)"
    )
    group.add_argument("--crop", type=int, metavar="N", help="use N pixels a side about the centre")
    group.add_argument("--mask", metavar="FILE", help=".npy, True or not 0: pixels that were not measured")
    group.add_argument(
        "--pixel-size", type=float, metavar="M", help="of the object, m (default: from the file)"
    )
    group = parser.add_argument_group("reconstruction")
    group.add_argument("--recipe", default=RECIPE, help="default: %(default)s")
    group.add_argument(
        "--support",
        default="auto",
        metavar="auto|FILE",
        help=".npy, where the object may be (default: auto, from the autocorrelation)",
    )
    add = group.add_argument
    add("--threshold", type=float, default=0.1, help="of --support auto (default: %(default)s)")
    add("--starts", type=int, default=10, metavar="N", help="random starts (default: %(default)s)")
    add("--keep", type=int, default=5, metavar="N", help="the best, compared (default: %(default)s)")
    add(
        "--free",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="pixels held out as judges (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the first start (default: %(default)s)")
    group.add_argument("--double", action="store_true", help="double precision")
    add(
        "--backend",
        choices=("cpu", "cupy"),
        default="cpu",
        help="cupy: one start after another on a graphics card, with --workers one on each (default: cpu)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--save", metavar="FILE", help=".cxi or .npz: object, support, eigenmodes, PRTF, FSC")
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    group.add_argument(
        "--plot",
        nargs="?",
        const=True,
        metavar="FILE|browser",
        help="the result in a window, a picture that grows with the starts: --plot=out.png, or a page: "
        "--plot=browser",
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and iterate nothing")
    add_progress(group)  # type: ignore[arg-type]  # groups take arguments as parsers do
    add_place(parser)


def _run(args: argparse.Namespace) -> int:
    from framefold.udfs.cdi.starts import multistart  # noqa: PLC0415  # loads numba

    recipe = _recipe(args)
    keep = min(args.keep, args.starts)
    if keep < 2:
        raise FramefoldError(f"--starts {args.starts} --keep {args.keep}: two starts or more are compared")
    if args.save is not None:
        _check_target(Path(args.save), args.overwrite)
    if args.plot is True:
        from framefold.plot.live import has_windows  # noqa: PLC0415  # matplotlib only where wanted

        if not has_windows():
            raise FramefoldError("--plot needs a window system, and there is none: use --plot=view.png")
    with make_context(args) as ctx:
        cdi = _pattern(ctx, args)
        if args.dry_run:
            print(_plan(cdi, recipe, args))
            return 0
        watch = _Watch(args, cdi)
        # one after another: a large one on all cores, on a card anyway
        alone = args.workers is None and args.scheduler is None
        alone = alone and (args.backend == "cupy" or math.prod(cdi.shape) >= 2**19)
        if alone and args.backend == "cupy":
            require_device("--backend cupy")
        found = multistart(
            cdi, recipe, args.starts, keep, free=args.free, seed=args.seed,
            run_tasks=None if alone else ctx.run_tasks, batch=2 * ctx.executor.capacity,
            on_batch=watch.batch, backend="cupy" if args.backend == "cupy" else "numpy",
        )  # fmt: skip
        watch.close(found)
    print(_table(found))
    if args.save is not None:
        _save(found, args.save)
        print(f"saved to {args.save}")
    if watch.page is not None:
        print(f"{watch.page.url} shows the result until Ctrl-C", file=sys.stderr)
        watch.page.wait()
    elif args.plot is True:
        import matplotlib.pyplot as plt  # noqa: PLC0415

        from framefold.plot.cdi import multistart_figure  # noqa: PLC0415

        multistart_figure(found, plt.figure)
        plt.show()
    elif args.plot is not None:
        from framefold.plot.cdi import multistart_figure, save_atomically  # noqa: PLC0415  # matplotlib

        save_atomically(multistart_figure(found), args.plot)
        print(f"picture in {args.plot}")
    if args.save is None and args.plot is None:
        print("nothing was saved: add --save out.cxi to keep the object, --plot=out.png for a picture")
    return 0


def _recipe(args: argparse.Namespace) -> Operator:
    from framefold.plot.cdi import Show  # noqa: PLC0415
    from framefold.udfs.cdi.prepare import InterpMask  # noqa: PLC0415
    from framefold.udfs.cdi.recipe import OPERATORS, parse  # noqa: PLC0415
    from framefold.udfs.cdi.support import AutoCorrelationSupport  # noqa: PLC0415

    recipe = parse(args.recipe, {**OPERATORS, "Show": Show})
    if args.support == "auto":
        recipe = recipe * AutoCorrelationSupport(args.threshold) * InterpMask()
    return recipe


def _pattern(ctx: Context, args: argparse.Namespace) -> CDI:
    """Return the data as a reconstruction that has not begun."""
    from framefold.udfs.cdi.state import CDI  # noqa: PLC0415

    values, metadata = _read(ctx, args)
    mask = np.zeros(values.shape, dtype=bool)
    if metadata is not None and metadata.mask is not None and metadata.mask.shape == values.shape[-2:]:
        mask |= metadata.mask
    if args.mask is not None:
        given = load_array(args.mask)
        if given.shape not in (values.shape, values.shape[-2:]):
            raise FramefoldError(f"--mask has shape {given.shape}, the pattern has shape {values.shape}")
        mask |= given != 0
    values, mask = centred(values, mask, args.center, args.crop)
    _warn_off_center(np.where(mask, 0, values), args.center)
    size = args.pixel_size
    if size is None and metadata is not None:
        size = _object_pixel(metadata, values.shape)
    support = None
    if args.support != "auto":
        support = load_array(args.support) != 0
        if support.shape != values.shape:
            raise FramefoldError(f"--support has shape {support.shape}, the pattern has shape {values.shape}")
    return CDI(
        values, support, mask=mask, pixel_size=size, seed=args.seed,
        precision="double" if args.double else "single",
    )  # fmt: skip


def _read(ctx: Context, args: argparse.Namespace) -> tuple[npt.NDArray[Any], Metadata | None]:
    from framefold.cli.source_arguments import open_dataset  # noqa: PLC0415
    from framefold.udfs.pick import PickUDF  # noqa: PLC0415

    metadata = None
    if args.file.endswith(".npy") and args.format is None:
        stack = load_array(args.file)
        if stack.ndim == 2:
            stack = stack[None]
    else:
        ds = open_dataset(ctx, args)
        metadata = ds.metadata
        stack = ctx.run_udf(ds, PickUDF())["intensity"].data
    if stack.ndim != 3:
        raise FramefoldError(f"{args.file}: patterns are 2-D or 3-D, the data have shape {stack.shape}")
    what = args.frames
    if what == "auto":
        what = "0" if len(stack) == 1 else "volume"
    if what == "volume":
        if len(stack) < 4:
            raise FramefoldError(
                f"{args.file} has {len(stack)} frames, too few for a volume: --frames sum or a number"
            )
        return stack, metadata
    if what == "sum":
        return stack.sum(axis=0, dtype=np.float64), metadata
    if not what.isdigit() or int(what) >= len(stack):
        raise FramefoldError(f"--frames {what} is not volume, sum or a number below {len(stack)}")
    return stack[int(what)], metadata


def centred(
    values: npt.NDArray[Any], mask: npt.NDArray[np.bool_], center: str | None, crop: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return pattern and mask with the beam at ``n // 2``; what lies outside the detector was not measured.

    Raises
    ------
    FramefoldError
        For a centre outside the array, or one with another number of coordinates.
    """
    if center is None and crop is None:
        return values, mask
    at = [n // 2 for n in values.shape]
    if center is not None:
        try:
            given = [round(float(w)) for w in center.split(",")]
        except ValueError as exc:
            raise FramefoldError(f"--center {center!r} is not Y,X in pixels") from exc
        if len(given) not in (2, values.ndim):
            raise FramefoldError(
                f"--center {center!r} has {len(given)} numbers, the pattern {values.ndim} axes"
            )
        at[values.ndim - len(given) :] = given
    if not all(0 <= c < n for c, n in zip(at, values.shape, strict=True)):
        raise FramefoldError(f"--center {center} lies outside the pattern of shape {values.shape}")
    shape = [n if crop is None or (values.ndim == 3 and i == 0) else crop for i, n in enumerate(values.shape)]
    out, hidden = np.zeros(shape, dtype=values.dtype), np.ones(shape, dtype=bool)
    take, put = [], []
    for c, n, m in zip(at, values.shape, shape, strict=True):
        a, b = max(0, c - m // 2), min(n, c - m // 2 + m)
        take.append(slice(a, b))
        put.append(slice(a - c + m // 2, b - c + m // 2))
    out[tuple(put)], hidden[tuple(put)] = values[tuple(take)], mask[tuple(take)]
    return out, hidden


def _warn_off_center(values: npt.NDArray[Any], center: str | None) -> None:
    from scipy import ndimage  # noqa: PLC0415

    total = float(values.sum())
    if center is not None or total <= 0:
        return
    smooth = ndimage.uniform_filter(values.astype(np.float32), 5)
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    off = max(abs(int(p) - n // 2) / n for p, n in zip(peak, values.shape, strict=True))
    if off > OFF_CENTER:
        where = ",".join(str(int(p)) for p in peak[-2:])
        print(
            f"framefold cdi: the pattern is brightest at {where}, {100 * off:.0f} % off the middle: "
            f"if the beam is there, add --center {where}",
            file=sys.stderr,
        )


def _object_pixel(metadata: Metadata, shape: tuple[int, ...]) -> float | None:
    """Return ``wavelength distance / (n pixel)`` where the file states all of it."""
    if not (metadata.wavelength and metadata.camera_length and metadata.pixel_size):
        return None
    return metadata.wavelength * metadata.camera_length / (shape[-1] * metadata.pixel_size[-1])


def _plan(cdi: CDI, recipe: Operator, args: argparse.Namespace) -> str:
    from framefold.udfs.cdi.algebra import simplify, steps  # noqa: PLC0415

    iterations = sum(n for op, n in steps(simplify(recipe)) if op.iterates)
    shape = " x ".join(map(str, cdi.shape))
    counts, hidden = cdi.data.counts, float((cdi.data.code == 0).mean())
    pixel = "pixel size unknown: --pixel-size" if cdi.pixel_size is None else f"pixel {cdi.pixel_size:.4g} m"
    size = 6 * cdi.complex_dtype.itemsize * math.prod(cdi.shape) / 2**20
    lines = [
        f"pattern    {shape}, {counts:.4g} counts, {100 * hidden:.3g} % not measured",
        f"object     {pixel}",
        f"recipe     {recipe}",
        f"iterations {iterations} for each of {args.starts} starts",
        f"memory     {size:.3g} MiB for each start at a time",
    ]
    return "\n".join(lines)


class _Watch:
    """Says how far the starts are, and keeps the picture of the best."""

    def __init__(self, args: argparse.Namespace, cdi: CDI) -> None:
        self._args, self._cdi = args, cdi
        self._line = wants_progress(args)
        self.page: Any = None
        self._run: Any = None
        if args.plot == "browser":
            from framefold.plot.cdi_snapshot import StartsRun  # noqa: PLC0415
            from framefold.web.view import BrowserView  # noqa: PLC0415  # bokeh only where wanted

            self.page = BrowserView(keep=True)
            self._run = StartsRun(cdi, args.starts, self.page)

    def batch(self, starts: Any) -> bool:
        """Show the state after some more starts; False: the page asked for an end."""
        best: Start = starts[0]
        if self._line:
            text = f"{len(starts)} of {self._args.starts} starts, best free LLK {best.rank:.4g}"
            print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
        if self._run is not None:
            return bool(self._run.batch(starts))
        growing = isinstance(self._args.plot, str) and len(starts) < self._args.starts
        if growing and best.end is not None:
            from framefold.plot.cdi import save_atomically, start_figure  # noqa: PLC0415
            from framefold.udfs.cdi.likelihood import record  # noqa: PLC0415

            save_atomically(start_figure(record(best.end)), self._args.plot)
        return True

    def close(self, found: Multistart) -> None:
        """End the line, and show the end on the page."""
        if self._line:
            print(file=sys.stderr)
        if self._run is not None:
            self._run.close(found)


def _table(found: Multistart) -> str:
    lines = [f"{'start':>6}  {'free LLK':>9}  {'LLK':>9}  {'error':>8}  {'support':>8}"]
    lines.append("-" * len(lines[0]))
    for start in found.starts[:10]:
        if start.fit is None:
            lines.append(f"{start.seed:>6}  failed: {start.reason}")
        else:
            f = start.fit
            figures = f"{f.llk_free:>9.4g}  {f.llk:>9.4g}  {f.error:>8.4f}"
            lines.append(f"{start.seed:>6}  {figures}  {100 * start.support:>6.2f} %")
    if len(found.starts) > 10:
        failed = sum(s.fit is None for s in found.starts)
        lines.append(f"   ... {len(found.starts) - 10} more" + (f", {failed} failed" if failed else ""))
    lines.append(f"the best {len(found.solutions)} share {100 * found.weights[0]:.2f} % (first eigenmode)")
    lines.append(_resolution("PRTF 1/e", found.prtf))
    if found.fsc is not None:
        lines.append(_resolution("FSC 1/2 bit", found.fsc))
    return "\n".join(lines)


def _resolution(name: str, curve: Any) -> str:
    if not np.isfinite(curve.cutoff):
        return f"{name}: not crossed within the detector; the resolution is that of its edge"
    unit = "px" if curve.pixel_size is None else "m"
    return f"{name}: at {curve.cutoff:.4g} cycles/px, half period {curve.resolution:.4g} {unit}"


def _check_target(path: Path, overwrite: bool) -> None:
    if path.suffix not in (".cxi", ".h5", ".hdf5", ".npz"):
        raise FramefoldError(f"--save {path}: a reconstruction is saved as .cxi or .npz")
    if path.exists() and not overwrite:
        raise FramefoldError(f"{path} exists: use another name, or --overwrite")
    if not path.resolve().parent.is_dir():
        raise FramefoldError(f"--save {path}: there is no folder {path.parent}")


def _save(found: Multistart, path: str) -> None:
    from framefold.udfs.cdi.save import save_state  # noqa: PLC0415

    figures = [(s.seed, s.rank, np.nan if s.fit is None else s.fit.llk, s.support) for s in found.starts]
    extra = {
        "modes": found.modes, "mode_weights": found.weights, "prtf_frequency": found.prtf.frequency,
        "prtf": found.prtf.value, "starts_seed_llkfree_llk_support": np.array(figures),
    }  # fmt: skip
    if found.fsc is not None:
        extra |= {"fsc": found.fsc.value, "fsc_limit": found.fsc.limit}
    save_state(found.best, path, extra)


COMMAND = Command(
    "cdi", "phase a coherent diffraction pattern, from many random starts", _arguments, _run, DESCRIPTION
)
