"""Damaged files, guided by code coverage: every reader of our own answers with a source or a DataError.

    python faults/fuzz_files.py [--inputs 100000] [--formats mib ser ...]

Each format runs in a process of its own under a limit on memory and on the time of one input. Atheris
(``pip install 'framefold[faults]'``) guides the mutations by the branches that an input reached.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 2 * 1024**3
SECONDS_PER_INPUT = 5


def seeds():
    """Return the module of the tests that writes small sound files of every format."""
    spec = importlib.util.spec_from_file_location("seeds", ROOT / "tests" / "io" / "test_fuzz.py")
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
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "sound").write_bytes(path.read_bytes())
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")

    def one(raw):
        path.write_bytes(raw)
        module._open_and_read(fmt, str(path))

    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-runs={inputs}", f"-timeout={SECONDS_PER_INPUT}", "-max_len=6000",
            f"-artifact_prefix={folder}/", "-print_final_stats=1", "-rss_limit_mb=0", "-seed=1",
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def run_one(name, inputs):
    """Fuzz one format; return what happened as plain values."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", name, "--inputs", str(inputs), "--folder", folder]
        t0 = time.perf_counter()
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        text = done.stdout + done.stderr
        stats = {
            k: int(v)
            for k, _, v in (line.removeprefix("stat::").partition(":") for line in text.splitlines())
            if line_is_number(v)
        }
        return {
            "what": f"{name} file",
            "inputs": stats.get("number_of_executed_units", 0),
            "seconds": time.perf_counter() - t0,
            "survived": done.returncode == 0,
            "text": "" if done.returncode == 0 else text[-3000:],
        }


def line_is_number(text):
    return text.strip().isdigit()


def run(inputs, names=None):
    """Yield a row per format; `inputs` are shared among them."""
    names = list(names or seeds().OWN)
    for name in names:
        yield run_one(name, -(-inputs // len(names)))


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
    failed = 0
    for row in run(args.inputs, args.formats):
        print(json.dumps({k: v for k, v in row.items() if k != "text"}), flush=True)
        if not row["survived"]:
            print(row["text"], file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
