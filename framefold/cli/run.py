"""``framefold run``: UDFs over a file, in one pass."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefold.cli import summary
from framefold.cli.command import Command
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
from framefold.cli.udf_names import make_udf
from framefold.cli.values import parse_assignment
from framefold.errors import FramefoldError, UDFRunCancelled
from framefold.udfcore.combine import combined, labels
from framefold.udfcore.live_dataset import LiveDataset

if TYPE_CHECKING:
    from framefold.context import Context
    from framefold.udfcore.dataset import Dataset
    from framefold.udfcore.live import LiveReady
    from framefold.udfcore.results import Snapshot, UDFResult
    from framefold.udfcore.udf import UDF

INTERRUPTED = 130

DESCRIPTION = """Run UDFs over a file, all in one pass over the data.

  framefold run scan.mib --udf sum --udf com -p r=24 --save out.nxs --plot=out.png
  framefold run scan.h5 --udf virtual -p shape=ring -p ri=20 -p r=40 --roi '[:, :64]'
  framefold run scan.npy --udf my_file.py:MyUDF -p threshold=3 --workers 8

-p belongs to the --udf before it. Values are numbers, lists, text, or @file.npy for an array."""


class _AddUDF(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.udf = [*(namespace.udf or []), (values, {})]


class _AddParameter(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if not namespace.udf:
            parser.error("-p belongs to the --udf before it: --udf com -p r=24")
        try:
            key, value = parse_assignment(values)
        except FramefoldError as exc:
            parser.error(str(exc))
        namespace.udf[-1][1][key] = value


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--udf",
        action=_AddUDF,
        required=True,
        metavar="NAME|MODULE:CLASS",
        help="repeatable; framefold udf list shows names",
    )
    parser.add_argument(
        "-p", action=_AddParameter, dest="udf", metavar="KEY=VALUE", help="parameter of the UDF before it"
    )
    add_selection(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--save", metavar="FILE", help="write results: .nxs, .zarr, .npz; one result: .npy, .tif, .csv, .png"
    )
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    group.add_argument(
        "--plot",
        nargs="?",
        const=True,
        metavar="FILE|browser",
        help="live picture in a window, in a file: --plot=view.png, or on a page: --plot=browser",
    )
    add_progress(group)  # type: ignore[arg-type]  # groups take arguments as parsers do
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and read nothing")
    add_place(parser)
    add_backend(parser)


def _run(args: argparse.Namespace) -> int:
    udfs = [make_udf(name, params) for name, params in args.udf]
    names = labels([name for name, _ in args.udf])
    if args.dry_run:
        return _dry_run(args, udfs)
    if args.save is not None:
        _check_target(Path(args.save), args.overwrite)
    plots = live_picture(args.plot, args.file)
    with make_context(args) as ctx:
        ds = open_dataset(ctx, args)
        final, stopped = follow(
            ctx, ds, udfs, plots=plots, progress=wants_progress(args), backends=backends(args),
            **selection(args, ds),
        )  # fmt: skip
    if final is None:
        print("framefold run: stopped before the first result", file=sys.stderr)
        return INTERRUPTED
    results = final.buffers
    if args.save is not None:
        combined(names, results).save(args.save, overwrite=args.overwrite)
    _tell(args, names, results)
    if stopped:
        print(
            f"framefold run: stopped after {final.n_frames} frames; the results above cover these",
            file=sys.stderr,
        )
    if args.plot == "browser" and (not stopped or plots.stopped):  # who stopped on the page still looks at it
        _keep_page(plots)
    elif args.plot is True and not stopped:
        _keep_window()
    return INTERRUPTED if stopped else 0


def follow(
    ctx: Context, ds: Dataset, udfs: Sequence[UDF], *, plots: Any, progress: Any, **options: Any
) -> tuple[Snapshot | None, bool]:
    """Run to the end or to Ctrl-C; return the last snapshot, and whether it was stopped."""
    # without a picture nobody looks at snapshots in between: the first, and the last
    interval = 0.1 if plots is not None else 3600.0
    live = isinstance(ds, LiveDataset)
    steps = ctx.run_udf_iter(
        ds, udfs, plots=plots, progress=progress, publish="latest", publish_interval=interval,
        on_ready=_listening if live else None, **options,
    )  # fmt: skip
    last = None
    with steps, _ctrl_c(ctx.stop if live else steps.cancel):
        try:
            for step in steps:
                last = step
        except UDFRunCancelled as exc:
            return exc.partial or last, True
    return last, live and last is not None and last.buffers[0].report["end_reason"] == "stopped"


def _listening(ready: LiveReady) -> None:
    """Tell that the detector may start."""
    where = ", ".join(ready.endpoints) or ready.url
    print(f"listening at {where}: the detector may start; Ctrl-C ends the acquisition", file=sys.stderr)


@contextmanager
def _ctrl_c(cancel: Any) -> Iterator[None]:
    """Let the first Ctrl-C end the run in an orderly way, and the second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        cancel()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def live_picture(plot: Any, title: str) -> Any:
    """Return the ``plots=`` of a run for ``--plot``: None, a window, a page, or a file that grows.

    Raises
    ------
    FramefoldError
        For a window where there is no window system.
    """
    if plot is None:
        return None
    if plot == "browser":
        from framefold.web.view import BrowserView  # noqa: PLC0415  # bokeh only where wanted

        return BrowserView(keep=True)
    from framefold.plot.live import LiveFigure, has_windows  # noqa: PLC0415  # matplotlib only where wanted

    label = Path(title).name
    if plot is True:
        if not has_windows():
            raise FramefoldError("--plot needs a window system, and there is none: use --plot=view.png")
        return LiveFigure(title=label)
    return LiveFigure(title=label, path=plot)


def _keep_window() -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    plt.show()


def _keep_page(view: Any) -> None:
    print(f"{view.url} shows the result until Ctrl-C", file=sys.stderr)
    view.wait()


def _dry_run(args: argparse.Namespace, udfs: Sequence[UDF]) -> int:
    from framefold.context import Context  # noqa: PLC0415
    from framefold.udfcore.inspection import inspect_run  # noqa: PLC0415
    from framefold.udfcore.plan import RunOptions  # noqa: PLC0415
    from framefold.udfcore.roi import as_roi  # noqa: PLC0415

    with Context(executor="threads") as ctx:  # no cluster is started for a look
        ds = open_dataset(ctx, args)
        chosen = selection(args, ds)
        roi = as_roi(chosen["roi"], tuple(ds.shape.nav), ds.name)
        options = RunOptions(roi=roi, corrections=chosen["corrections"], backends=backends(args))
        print(inspect_run(ds, udfs, options, args.workers or ctx.executor.capacity))
    return 0


def _check_target(path: Path, overwrite: bool) -> None:
    """Refuse before the run what would fail after it."""
    from framefold.io.save import check_target  # noqa: PLC0415

    if path.exists() and not overwrite:
        raise FramefoldError(f"{path} exists: use another name, or --overwrite")
    check_target(path, overwrite=overwrite)


def _tell(args: argparse.Namespace, names: Sequence[str], results: Sequence[UDFResult]) -> None:
    print(summary.table(names, results))
    print(summary.speed(results[0]))
    if "sectors" in results[0].report:
        print(results[0].report)
    if args.save is not None:
        print(f"saved to {args.save}")
    if isinstance(args.plot, str) and args.plot != "browser":
        print(f"picture in {args.plot}")
    if args.save is None and args.plot is None:
        print("nothing was saved: add --save out.nxs to keep the results, --plot=out.png for a picture")


COMMAND = Command("run", "run UDFs over a file, in one pass", _arguments, _run, DESCRIPTION)
