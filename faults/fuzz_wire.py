"""Damaged messages and datagrams, guided by code coverage: every parser answers with frames or a StreamError.

    python faults/fuzz_wire.py [--inputs 100000] [--protocols merlin k2is ...]

Each protocol runs in a process of its own. Loops that are compiled otherwise are interpreted there, so that coverage
sees their branches; inputs that reached something new are then taken once more by the compiled ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from pathlib import Path

import guided

MESSAGES = ("merlin", "dectris", "dectris1", "karabo", "pva")
PACKETS = ("k2is", "jungfrau", "eiger-udp")
PROTOCOLS = MESSAGES + PACKETS
# an input of packets is hundreds of them, in interpreted loops: fewer are tried
WEIGHTS = {**dict.fromkeys(MESSAGES, 9), **dict.fromkeys(PACKETS, 1)}


def fuzz(name, inputs, folder):
    """Run in a child process: never returns, libFuzzer ends the process."""
    import atheris  # noqa: PLC0415  # instruments what is imported inside

    with atheris.instrument_imports(include=["framefold.io"]):
        import wire_targets  # noqa: PLC0415

        import framefold.io.decode  # noqa: F401, PLC0415
    seeds, take, longest = wire_targets.TARGETS[name]
    warnings.simplefilter("ignore")
    guided.fuzz(take, seeds(), folder, inputs, longest=longest, memory=8 * 1024**3)


def replay(name, folder):
    """Take the inputs that the fuzzer kept with compiled loops."""
    import wire_targets  # noqa: PLC0415

    warnings.simplefilter("ignore")
    for path in sorted((folder / "corpus").iterdir()):
        try:
            wire_targets.TARGETS[name][1](path.read_bytes())
        except Exception as exc:
            exc.add_note(f"compiled, with the input {path.read_bytes()[:200]!r}...")
            raise


def _replayed(name, folder):
    command = [sys.executable, __file__, "--replay", name, "--folder", folder]
    env = {**os.environ, "PYTHONPATH": str(guided.ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-4000:]


def run(inputs, names=None):
    """Yield a row per protocol; `inputs` are shared among them."""
    names = list(names or PROTOCOLS)
    total = sum(WEIGHTS[name] for name in names)
    for name in names:
        yield guided.child(
            __file__, name, -(-inputs * WEIGHTS[name] // total),
            f"{name} messages" if name in MESSAGES else f"{name} packets",
            after=lambda folder, name=name: _replayed(name, folder), NUMBA_DISABLE_JIT="1",
        )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged inputs in all")
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--replay", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        fuzz(args.child, args.inputs, args.folder)
    if args.replay:
        return replay(args.replay, args.folder)
    return guided.tell(run(args.inputs, args.protocols))


if __name__ == "__main__":
    sys.exit(main())
