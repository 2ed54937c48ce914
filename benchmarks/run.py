"""All benchmarks, one after the other, the most telling first; each page of tables goes to a folder.

    python benchmarks/run.py [--only udf masks ...] [--minutes 25] [--out bench_output]

A page says machine, versions, date and commands; text about it stands in ``docs/benchmarks.md``, reasons for missed
goals in ``docs/benchmarks/reasons.toml``. Figures of a busy machine are worth little: pages of the documentation are
replaced on purpose only, with ``--out docs/benchmarks``. Peers run in environments of their own, named by
``FRAMEFOLD_LIBERTEM_PYTHON``, ``FRAMEFOLD_LIBERTEM_LIVE_PYTHON``, ``FRAMEFOLD_BLOBFINDER_PYTHON``,
``FRAMEFOLD_PY4DSTEM_PYTHON``, ``FRAMEFOLD_PYFAI_PYTHON`` and ``FRAMEFOLD_XFRAME`` (its command); rows of those that
are not there are left out.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import summary

HERE = Path(__file__).resolve().parent
# the scripts of each page, with arguments that make it last about a minute; the most telling pages first
PAGES = {
    "udf": ["udf --gib 0.5 --repeat 5"],
    "strain": ["strain --frames 1024 --repeat 3", "strain_disk --frames 4096 --repeat 2"],
    "ptycho": ["ptycho --repeat 5 --frames 400"],
    "live_engine": ["live_engine"],
    "live_sectors": ["live_sectors --frames 2400 --rounds 5"],
    "live_shuffle": ["live_shuffle --frames 3200 --rounds 4"],
    "live_tcp": ["live_tcp --frames 3000 --rounds 5"],
    "live_udp": ["live_udp --seconds 3 --probe 0.7 --from-rate 0.3 --receivers process"],
    "live_udp_sectors": ["live_udp_sectors --seconds 1 --rounds 1"],
    "live_packed": ["live_packed"],
    "io_memmap": ["io_memmap"],
    "io_hdf5": ["io_hdf5 --frames 512 --repeat 5"],
    "iterate_scaling": ["iterate_scaling"],
    "fxs": [
        "fxs_c2 5",
        "fxs_threads 9",
        "fxs_xframe 6",
        "fxs_regrid 3",
        "fxs_memory --frames 1024",
        "fxs_invariants 1024",
    ],
    "plots": ["plots --repeat 3 --seconds 1 3"],
    "web": ["web --repeat 3 --seconds 2"],
    "masks": ["masks --gib 0.25 --repeat 5"],
    "ssb": ["ssb --repeat 3"],
    "kernels": ["kernels --megabytes 128 --repeats 3"],
    "cdi": ["cdi --repeat 3"],
    "fhkl": ["fhkl --repeat 3"],
    "executors": ["executors"],
    "scaling": ["scaling"],
}
LIMIT = 900
PYTHONS = {"fxs_regrid": "FRAMEFOLD_PYFAI_PYTHON"}  # scripts that import their peer


def machine() -> str:
    """Say where and when, and with which versions."""
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("numpy", "scipy", "numba", "dask"))
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before, Python {platform.python_version()}, {versions}."
    )


def run(line: str) -> str | None:
    """Run a script with its arguments; return its command and what it printed, or None if it failed."""
    name, *arguments = line.split()
    script = HERE / f"{name}.py"
    python = os.environ.get(PYTHONS.get(name, ""), sys.executable)
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    try:
        done = subprocess.run(
            [python, script, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: longer than {LIMIT} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}: ended with {done.returncode}", file=sys.stderr)
        return None
    command = " ".join([f"python benchmarks/{name}.py", *arguments])
    what = (ast.get_docstring(ast.parse(script.read_text())) or "").splitlines()[0]
    return f"{what}\nCommand: `{command}`.\n\n{done.stdout.strip()}\n"


def page(name: str) -> tuple[str | None, list[str]]:
    """Return the page of all scripts of `name` that worked, None if none did; and those that did not."""
    about = machine()
    found = {line: run(line) for line in PAGES[name]}
    failed = [line for line, text in found.items() if text is None]
    parts = [text or f"`{line}` did not work in this run.\n" for line, text in found.items()]
    return (None if len(failed) == len(found) else "\n".join([about + "\n", *parts])), failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=PAGES, default=list(PAGES), metavar="PAGE")
    parser.add_argument("--minutes", type=float, default=60.0, help="no page begins later than this")
    parser.add_argument("--out", type=Path, default=Path("bench_output"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    failed, left = [], []
    for name in [n for n in PAGES if n in args.only]:
        began = time.perf_counter()
        if began - start > 60 * args.minutes:
            left.append(name)
            continue
        text, broken = page(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        failed += broken
        if text is not None:
            (args.out / f"{name}.md").write_text(text)
    (args.out / "summary.md").write_text(summary.summary(args.out))
    print(f"pages and summary.md in {args.out}, {(time.perf_counter() - start) / 60:.1f} minutes")
    for what, names in (("no time left for", left), ("failed", failed)):
        if names:
            print(f"{what}: {', '.join(names)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
