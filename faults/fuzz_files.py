"""Damaged files, guided by code coverage: every reader of our own answers with a source or a DataError.

    python faults/fuzz_files.py [--inputs 100000] [--formats mib ser ...]

Each format runs in a process of its own under a limit on memory and on the time of one input.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from pathlib import Path

import guided


def seeds():
    """Return the module of the tests that writes small sound files of every format."""
    spec = importlib.util.spec_from_file_location("seeds", guided.ROOT / "tests" / "io" / "test_fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fuzz(name, inputs, folder):
    """Run in a child process: never returns, libFuzzer ends the process."""
    import atheris  # noqa: PLC0415  # instruments what is imported inside

    with atheris.instrument_imports(include=["framefold.io"]):
        import framefold.io.registry as registry  # noqa: PLC0415

        module = seeds()
        fmt = registry.formats()[name.split()[0]]
        fmt.open  # noqa: B018  # imports the reader here, so that it is instrumented
    path = module.OWN[name](folder)
    sound = path.read_bytes()
    warnings.simplefilter("ignore")

    def one(raw):
        path.write_bytes(raw)
        module._open_and_read(fmt, str(path))

    guided.fuzz(one, [sound], folder, inputs, longest=6000, memory=2 * 1024**3)


def run(inputs, names=None):
    """Yield a row per format; `inputs` are shared among them."""
    names = list(names or seeds().OWN)
    for name in names:
        yield guided.child(__file__, name, -(-inputs // len(names)), f"{name} file")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged files in all")
    parser.add_argument("--formats", nargs="*")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        fuzz(args.child, args.inputs, args.folder)
    return guided.tell(run(args.inputs, args.formats))


if __name__ == "__main__":
    sys.exit(main())
