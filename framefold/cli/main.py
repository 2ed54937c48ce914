"""The ``framefold`` program: finds the command, runs it, turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from framefold.cli.command import Command, commands
from framefold.errors import FramefoldError
from framefold.udfcore.provenance import version

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    0: done. 1: an error inside a UDF or in framefold itself, with its traceback. 2: a mistake in what was
    asked for, in one line. 130: stopped by Ctrl-C.

    Parameters
    ----------
    argv
        Arguments; None: those of the process.
    """
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has said what is wrong, or shown the help
        return int(exc.code or 0)
    command: Command | None = getattr(args, "command", None)
    if command is None:
        parser.print_help()
        return OK
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(command, args)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = argparse.ArgumentParser(prog="framefold", description="Fold detector frames into answers.")
    parser.add_argument("--version", action="version", version=f"framefold {version()}")
    parts = parser.add_subparsers(metavar="COMMAND")
    for command in commands().values():
        sub = parts.add_parser(
            command.name,
            help=command.help,
            description=command.description or command.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of every error")
        sub.set_defaults(command=command)
    return parser


def _run(command: Command, args: argparse.Namespace) -> int:
    try:
        code = command.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("framefold: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except FramefoldError as exc:
        if args.debug:
            traceback.print_exc()
        else:
            print(f"framefold {command.name}: {exc}", file=sys.stderr)
            for note in getattr(exc, "__notes__", ()):
                print(note, file=sys.stderr)
        return USAGE
    except Exception:  # noqa: BLE001  # the program ends here: a UDF's own error, or one of ours
        traceback.print_exc()
        return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    print(f"framefold: warning: {message}", file=sys.stderr)
