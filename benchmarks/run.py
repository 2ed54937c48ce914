"""All benchmarks, one after the other, with quick defaults; the tables go to a folder.

    python benchmarks/run.py [--only udf masks ...] [--full] [--out bench_output]

Each page says machine, versions, date and command. Figures of a busy machine are worth little: pages of the
documentation are replaced on purpose only, with ``--out docs/benchmarks``; the notes at their end are kept.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import summary

HERE = Path(__file__).resolve().parent
# in order; the arguments make each take a minute or so
QUICK = {
    "kernels": ["--megabytes", "64", "--repeats", "3"],
    "io_memmap": ["--frames", "512", "--repeat", "3"],
    "io_hdf5": ["--frames", "64", "--repeat", "3"],
    "udf": ["--gib", "0.25", "--repeat", "2"],
    "masks": ["--gib", "0.125", "--repeat", "3"],
    "executors": [],
    "scaling": [],
    "live_engine": [],
    "live_tcp": ["--frames", "1000", "--rounds", "2"],
    "live_sectors": ["--frames", "600", "--rounds", "2"],
    "live_udp": ["--seconds", "3", "--probe", "0.5"],
    "ssb": ["--repeat", "3"],
    "strain": ["--frames", "256", "--repeat", "2"],
    "fxs_c2": ["3"],
    "fxs_regrid": [],
    "fhkl": ["--repeat", "2"],
    "ptycho": ["--repeat", "2", "--frames", "200"],
    "cdi": ["--repeat", "2", "--starts", "8"],
    "iterate_scaling": ["--frames", "1000"],
    "plots": ["--repeat", "1", "--seconds", "0.3"],
    "web": ["--repeat", "1", "--seconds", "1"],
}
LIMIT = 1800


def machine():
    """Say where and when, and with which versions."""
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("numpy", "scipy", "numba", "dask"))
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before, Python {platform.python_version()}, {versions}."
    )


def page(name, arguments):
    """Run a script; return its page, or None if it failed."""
    about = machine()
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        print(f"{name}: longer than {LIMIT} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}: ended with {done.returncode}", file=sys.stderr)
        return None
    text = done.stdout.strip()
    if not any(line.startswith("|") for line in text.splitlines()):
        text = f"```text\n{text}\n```"
    return f"{about} Command: `python benchmarks/{' '.join([name + '.py', *arguments])}`.\n\n{text}\n"


def notes(path):
    """Return what stands behind the last table of a page: written by people."""
    if not path.exists():
        return ""
    lines = path.read_text().splitlines()
    last = max((i for i, line in enumerate(lines) if line.startswith(("|", "```"))), default=-1)
    return "\n".join(lines[last + 1 :]).strip()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=QUICK, default=list(QUICK), metavar="NAME")
    parser.add_argument("--full", action="store_true", help="with each script's own defaults")
    parser.add_argument("--out", type=Path, default=Path("bench_output"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in [n for n in QUICK if n in args.only]:
        began = time.perf_counter()
        text = page(name, [] if args.full else QUICK[name])
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        if text is None:
            failed.append(name)
            continue
        path = args.out / f"{name}.md"
        kept = notes(path)
        path.write_text(f"{text}\n{kept}\n" if kept else text)
    (args.out / "summary.md").write_text(summary.summary(args.out))
    print(f"pages and summary.md in {args.out}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
