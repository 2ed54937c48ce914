"""``framefold convert``: write a dataset as HDF5, Zarr or npy."""

from __future__ import annotations

import argparse

from framefold.cli.command import Command
from framefold.cli.source_arguments import (
    add_dataset,
    add_progress,
    add_selection,
    open_dataset,
    selection,
    wants_progress,
)
from framefold.cli.values import parse_dtype

DESCRIPTION = """Write a dataset, or part of it, as a file that other programs open.

  framefold convert scan.mib scan.nxs
  framefold convert scan.raw scan.zarr --sig-shape 256,256 --dtype uint16 --nav-shape 64,64 --dark dark.npy"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("out", metavar="OUT", help=".h5, .nxs, .zarr or .npy")
    add_selection(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out-dtype", metavar="DTYPE", help="of the frames (default: as they are, float32 if corrected)"
    )
    group.add_argument(
        "--compression", default="bslz4", metavar="NAME", help="of HDF5: bslz4 (default), gzip, none"
    )
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_progress(group)  # type: ignore[arg-type]  # groups take arguments as parsers do


def _run(args: argparse.Namespace) -> int:
    from framefold.context import Context  # noqa: PLC0415

    with Context(executor="inline") as ctx:
        ds = open_dataset(ctx, args)
        ctx.export(
            ds,
            args.out,
            dtype=None if args.out_dtype is None else parse_dtype(args.out_dtype),
            compression=args.compression,
            progress=wants_progress(args),
            overwrite=args.overwrite,
            **selection(args, ds),
        )
    print(f"{ds.name} {ds.shape} {ds.dtype} written to {args.out}")
    return 0


COMMAND = Command("convert", "write a dataset as HDF5, Zarr or npy", _arguments, _run, DESCRIPTION)
