"""Runs a fuzzer in a process of its own, and reads what it did: coverage guides the mutations (atheris)."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS_PER_INPUT = 5  # of the processor: the machine may have other things to do
PATIENCE = 60  # s by the clock, for what hangs


def fuzz(one, seeds, folder, inputs, *, longest, memory):
    """Call `one` with mutations of `seeds` in this process: never returns, libFuzzer ends it."""
    import atheris  # noqa: PLC0415  # optional

    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds):
        (corpus / f"sound{i}").write_bytes(seed)

    def in_time(raw):
        began = time.process_time()
        one(raw)
        assert time.process_time() - began < SECONDS_PER_INPUT, "an input took too long"

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-runs={inputs}", f"-timeout={PATIENCE}", f"-max_len={longest}",
            f"-artifact_prefix={os.environ.get('FUZZ_ARTIFACTS', folder)}/", "-print_final_stats=1",
            "-rss_limit_mb=0", "-seed=1", "-len_control=0",
        ],
        in_time,
    )  # fmt: skip
    atheris.Fuzz()


def child(script, name, inputs, what, *, after=None, **environment):
    """Run ``script --child name`` in a process of its own; return what happened as plain values.

    `after` is called with the folder, which holds the inputs that reached something new in ``corpus``, and
    returns the text of a failure or nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, script, "--child", name, "--inputs", str(inputs), "--folder", folder]
        t0 = time.perf_counter()
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, errors="replace")
        text = done.stderr + done.stdout  # tracebacks go to stdout, and are to be the end
        failure = "" if done.returncode == 0 else text[-4000:]
        if not failure and after is not None:
            failure = after(Path(folder))
        return {
            "what": what,
            "inputs": _stats(text).get("number_of_executed_units", 0),
            "seconds": time.perf_counter() - t0,
            "survived": not failure,
            "text": failure,
        }


def tell(rows):
    """Print rows as JSON and what went wrong in them; return how many did not survive."""
    failed = 0
    for row in rows:
        print(json.dumps({k: v for k, v in row.items() if k != "text"}), flush=True)
        if not row["survived"]:
            print(row["text"], file=sys.stderr)
            failed += 1
    return failed


def _stats(text):
    pairs = (line.removeprefix("stat::").partition(":")[::2] for line in text.splitlines())
    return {key: int(value) for key, value in pairs if value.strip().isdigit()}
