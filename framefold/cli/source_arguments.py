"""The arguments that say which data, where and how: shared by the commands that read a dataset."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from framefold.cli.values import load_array, parse_assignment, parse_dtype, parse_roi, parse_shape
from framefold.errors import FramefoldError

if TYPE_CHECKING:
    from framefold.context import Context
    from framefold.udfcore.corrections import Corrections
    from framefold.udfcore.dataset import Dataset


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the file and what describes it."""
    parser.add_argument(
        "file", metavar="FILE", help="file, folder, 'glob*.tif' or address; its format is found by content"
    )
    group = parser.add_argument_group("dataset")
    group.add_argument("--format", metavar="NAME", help="format, where it shall not be found by content")
    group.add_argument(
        "--nav-shape", metavar="Y,X", help="scan shape, where the file has none or another one"
    )
    group.add_argument("--sig-shape", metavar="Y,X", help="frame shape of a raw file")
    group.add_argument("--dtype", help="of a raw file, for instance uint16 or >u2")
    group.add_argument(
        "--key", metavar="PATH", help="which array inside the file (framefold info lists them)"
    )
    group.add_argument(
        "--sync-offset", type=int, default=0, metavar="N", help="frame i is frame i+N of the file"
    )
    group.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the format; repeatable",
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add region of interest and corrections."""
    group = parser.add_argument_group("selection and corrections")
    group.add_argument(
        "--roi", metavar="SLICES|FILE", help="part of the scan: '[:, :64]', or a .npy file with a mask"
    )
    group.add_argument("--dark", metavar="FILE", help=".npy frame to subtract")
    group.add_argument("--gain", metavar="FILE", help=".npy frame to multiply with")
    group.add_argument("--excluded", metavar="FILE", help=".npy mask of bad pixels")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add where it runs."""
    group = parser.add_argument_group("where it runs")
    group.add_argument("--workers", type=int, metavar="N", help="start N local processes (default: threads)")
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the dask cluster there, for instance tcp://head:8786"
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend",
        choices=("cpu", "cupy"),
        default="cpu",
        help="cupy: compute on a graphics card what can be, the rest on the processor (default: cpu)",
    )


def backends(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Return ``backends=`` of a run for ``--backend``.

    Raises
    ------
    FramefoldError
        If there is no device.
    """
    if args.backend == "cpu":
        return None
    from framefold.udfcore.namespace import MISSING, has_device  # noqa: PLC0415  # after the help text

    if not has_device():
        raise FramefoldError(f"--backend cupy: {MISSING}")
    return ("cupy", "numpy")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add ``--progress`` and ``--no-progress``."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="progress line (default: in a terminal)",
    )


def make_context(args: argparse.Namespace) -> Context:
    """Return the context for ``--workers`` and ``--scheduler``; nothing is started yet."""
    from framefold.context import Context  # noqa: PLC0415  # the help text comes without loading numba

    if args.workers is not None and args.scheduler is not None:
        raise FramefoldError("--workers starts a local cluster, --scheduler uses another: give one of them")
    return Context(args.scheduler, workers=args.workers)


def open_dataset(ctx: Context, args: argparse.Namespace) -> Dataset:
    """Return the dataset that the arguments describe."""
    options: dict[str, Any] = dict(parse_assignment(o) for o in args.option)
    if args.sync_offset:
        options["sync_offset"] = args.sync_offset
    return ctx.load(
        args.file,
        format=args.format,
        nav_shape=None if args.nav_shape is None else parse_shape(args.nav_shape),
        sig_shape=None if args.sig_shape is None else parse_shape(args.sig_shape),
        dtype=None if args.dtype is None else parse_dtype(args.dtype),
        key=args.key,
        **options,
    )


def selection(args: argparse.Namespace, ds: Dataset) -> dict[str, Any]:
    """Return ``roi=`` and ``corrections=`` of a run."""
    roi = None if args.roi is None else parse_roi(args.roi, tuple(ds.shape.nav))
    return {"roi": roi, "corrections": _corrections(args)}


def _corrections(args: argparse.Namespace) -> Corrections | None:
    from framefold.udfcore.corrections import Corrections  # noqa: PLC0415

    arrays = {"dark": args.dark, "gain": args.gain, "excluded_pixels": args.excluded}
    given: dict[str, Any] = {name: load_array(path) for name, path in arrays.items() if path is not None}
    return Corrections(**given) if given else None


def wants_progress(args: argparse.Namespace) -> bool:
    """Tell whether a progress line is wanted."""
    import sys  # noqa: PLC0415

    return sys.stderr.isatty() if args.progress is None else bool(args.progress)
