"""``framefold udf``: list the UDFs, and check one of your own."""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from typing import Any

from framefold.cli.command import Command
from framefold.cli.udf_names import aliases, make_udf, udf_names
from framefold.cli.values import parse_assignment, parse_shape
from framefold.errors import FramefoldError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="list|check", required=True)
    parts.add_parser("list", help="all UDFs that --udf knows by name, with their parameters")
    check = parts.add_parser("check", help="run a UDF on random data, cut and merged in many ways")
    check.add_argument("name", metavar="NAME|MODULE:CLASS")
    check.add_argument(
        "-p", action="append", default=[], dest="params", metavar="KEY=VALUE", help="parameter of the UDF"
    )
    check.add_argument("--shape", metavar="Y,X,KY,KX", help="of the random data (default: several)")
    check.add_argument("--dtype", help="of the random data (default: several)")
    check.add_argument("-n", type=int, default=50, help="number of cases (default: 50)")


def _run(args: argparse.Namespace) -> int:
    return _list() if args.what == "list" else _check(args)


def _list() -> int:
    short = {name: alias for alias, name in aliases().items()}
    for name, cls in udf_names().items():
        also = f" (or {short[name]})" if name in short else ""
        print(f"{name}{also}: {_first_line(cls)}")
        print(textwrap.indent(_parameters(cls), "    "))
    print("\nYour own: --udf mymodule:MyUDF or --udf my_file.py:MyUDF")
    return 0


def _first_line(cls: Any) -> str:
    return (inspect.getdoc(cls) or "").split("\n", 1)[0].rstrip(".").replace("``", "")


def _parameters(cls: Any) -> str:
    found = [
        p
        for p in inspect.signature(cls).parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if not found:
        return "no parameters"
    return textwrap.fill(
        "-p " + ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in found),
        width=100, subsequent_indent="   ", break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _check(args: argparse.Namespace) -> int:
    from framefold.testing.check_udf import check_udf  # noqa: PLC0415  # needs hypothesis

    udf = make_udf(args.name, dict(parse_assignment(p) for p in args.params))
    shape = None if args.shape is None else parse_shape(args.shape)
    try:
        check_udf(udf, shape, args.dtype, n=args.n)
    except ImportError as exc:
        raise FramefoldError("checking needs hypothesis: pip install 'framefold[test]'") from exc
    except AssertionError as exc:
        print(f"{args.name}: {exc}", file=sys.stderr)
        return 1
    print(f"{args.name}: the same answer in {args.n} random cuts, orders, tilings, ROIs and corrections")
    return 0


COMMAND = Command("udf", "list the UDFs, or check your own", _arguments, _run)
