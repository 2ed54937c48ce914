"""A command of the ``framefold`` program, and the list of all of them."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# each module has a COMMAND; in the order of the help text
_MODULES = ("info", "run", "convert", "udf", "strain", "ptycho", "cdi", "fxs", "emulate", "demo", "bench")


@dataclass(frozen=True)
class Command:
    """A command. Packages add theirs through the entry point group ``framefold.commands``.

    Attributes
    ----------
    name
        What users type after ``framefold``.
    help
        One line for ``framefold --help``.
    add_arguments
        Declares the arguments on the parser of the command.
    run
        Does it, and returns the exit code: 0 if all is well. Errors are raised as `FramefoldError`.
    description
        For ``framefold NAME --help``; empty: `help`.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    description: str = ""


def commands() -> Mapping[str, Command]:
    """Return all commands by name: built in, then of plug-ins; a broken plug-in is reported and skipped."""
    built_in = (importlib.import_module(f"framefold.cli.{name}").COMMAND for name in _MODULES)
    found: dict[str, Command] = {c.name: c for c in built_in}
    for point in importlib.metadata.entry_points(group="framefold.commands"):
        try:
            command = point.load()
        except Exception as exc:  # noqa: BLE001  # a broken plug-in must not break the others
            warnings.warn(f"command {point.name} ({point.value}) does not load: {exc!r}", stacklevel=2)
            continue
        if not isinstance(command, Command):
            warnings.warn(f"command {point.name} ({point.value}) is not a Command", stacklevel=2)
        elif command.name in found:
            warnings.warn(f"command {command.name} of {point.value} is taken; skipped", stacklevel=2)
        else:
            found[command.name] = command
    return found
