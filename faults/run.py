"""Try what may go wrong, and print a table of what survived.

python faults/run.py [--inputs 100000] [--out docs/faults/table.md] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 900  # seconds for a scenario: one that hangs has not survived; machines may be busy


def scenario(function):
    """Run one scenario in a process of its own; return its row."""
    module, name = function.__module__, function.__name__
    code = f"import {module}; print('inputs', {module}.{name}())"
    env = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "PYTHONUNBUFFERED": "1"}
    t0 = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=LIMIT, check=False
        )
        text, rc = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as exc:
        text, rc = f"still running after {LIMIT} s\n{exc.stdout}", 1
    inputs = [int(line.split()[1]) for line in text.splitlines() if line.startswith("inputs ")]
    return {
        "what": name.replace("_", " "),
        "inputs": sum(inputs),
        "seconds": time.perf_counter() - t0,
        "survived": rc == 0 and bool(inputs),
        "text": text[-3000:],
    }


def rows(inputs, only):
    import fuzz_files  # noqa: PLC0415  # needs the paths set by main
    import fuzz_geometry  # noqa: PLC0415
    import fuzz_wire  # noqa: PLC0415
    import packets  # noqa: PLC0415
    import scenarios  # noqa: PLC0415

    for function in (*scenarios.SCENARIOS, *packets.SCENARIOS):
        if not only or function.__name__ in only:
            yield scenario(function), function.__doc__.splitlines()[0]
    if not only or "files" in only:
        for row in fuzz_files.run(inputs // 2):
            yield row, "Damaged headers, guided by coverage: a source or a DataError."
    if not only or "geometry" in only:
        for row in fuzz_geometry.run(inputs // 10):
            yield row, "Damaged texts, guided by coverage: a geometry, or an error that says what is wrong."
    if not only or "wire" in only:
        for row in fuzz_wire.run(inputs // 2):
            yield (
                row,
                "Damaged messages or packets, guided by coverage: frames or a StreamError, accounts that add up.",
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged files and messages in all")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", help="names of scenarios, or: files, geometry, wire")
    args = parser.parse_args()
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
        f"Command: `python faults/run.py --inputs {args.inputs}`.",
        "",
        "| what | attempts | seconds | survived | expected |",
        "|---|---|---|---|---|",
    ]
    failed = 0
    for row, expected in rows(args.inputs, args.only):
        print(json.dumps({k: v for k, v in row.items() if k != "text"}), flush=True)
        if not row["survived"]:
            failed += 1
            print(row["text"], file=sys.stderr)
        survived = "yes" if row["survived"] else "**no**"
        lines.append(f"| {row['what']} | {row['inputs']} | {row['seconds']:.0f} | {survived} | {expected} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    return failed


if __name__ == "__main__":
    sys.exit(main())
