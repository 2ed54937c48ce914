"""The engine against LiberTEM 0.16 and against the machine's memory, interleaved in one run.

    python benchmarks/udf.py [--gib 1.0] [--repeat 5]

LiberTEM is installed into an environment of its own (``benchmarks/.peers/libertem``), or taken from
``FRAMEFOLD_LIBERTEM_PYTHON``. The data are a raw uint16 file in the page cache. Every figure is the median of the
repetitions; every ratio is LiberTEM's time divided by ours, pair by pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
from processes import end

HERE = Path(__file__).parent
SIG = (256, 256)
SMALL = (8, 8)

# job: (goal against the best LiberTEM executor, goal against its default dask context); None: not stated
GOALS = {
    "sum": (5, 6),
    "sumsig": (5, 6),
    "stddev": (5, 7),
    "masks_1": (4, 5),
    "masks_4": (3, 3.5),
    "masks_16": (2, 2.5),
    "disk": (10, 15),
    "fused": (5, 6),
    "sum_dark_gain": (5, 6),
    "map_sum": (4, 5),
    "map_python": (1, 3),
    "noop_1": (10, None),
    "noop_9": (20, None),
}
TITLES = {
    "sum": "SumUDF",
    "sumsig": "SumSigUDF",
    "stddev": "StdDevUDF",
    "masks_1": "ApplyMasksUDF, 1 dense mask",
    "masks_4": "ApplyMasksUDF, 4 dense masks",
    "masks_16": "ApplyMasksUDF, 16 dense masks",
    "disk": "ApplyMasksUDF, a disk (sparse)",
    "fused": "Sum + SumSig + StdDev in one pass",
    "sum_dark_gain": "SumUDF with dark and gain",
    "map_sum": "`ctx.map(np.sum)`",
    "map_python": "`ctx.map(python function)`",
    "noop_1": "empty `process_frame`, 1 nav buffer, 8 x 8 frames, inline",
    "noop_9": "empty `process_frame`, 9 nav buffers, 8 x 8 frames, inline",
}


class Peer:
    """A process that runs jobs on demand and says how long each took."""

    def __init__(self, python, script, executor):
        env = {**os.environ, "PYTHONPATH": str(HERE.parent), "NUMBA_NUM_THREADS": str(os.cpu_count() or 1)}
        self.process = subprocess.Popen(
            [python, str(HERE / "peers" / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._send({"executor": executor, "sig": SIG})
        while (line := self.process.stdout.readline()).strip() != "ready":
            if not line:
                raise RuntimeError(f"{script} with executor {executor} did not start")

    def _send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def run(self, job, data, **more):
        """Return what the job used: seconds, CPU seconds."""
        self._send({"job": job, **data, **more})
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the peer ended in job {job}")
            if line.startswith("{"):
                return json.loads(line)

    def close(self):
        self._send({"job": "quit"})
        end(self.process)


@numba.njit(nogil=True)
def read_all(a):
    s = np.uint64(0)
    for i in range(a.size):
        s += a[i]
    return s


def memory_limit(path):
    """Return bytes/s at which all cores read the mapped file and add it up."""
    data = np.memmap(path, dtype="uint64", mode="r")
    parts = np.array_split(data, os.cpu_count() or 1)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(read_all, parts))
        best = min(_timed(lambda: list(pool.map(read_all, parts))) for _ in range(5))
    return data.nbytes / best


def _timed(call):
    t0 = time.perf_counter()
    call()
    return time.perf_counter() - t0


def libertem_python():
    given = os.environ.get("FRAMEFOLD_LIBERTEM_PYTHON")
    if given:
        return given
    home = HERE / ".peers" / "libertem"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "libertem==0.16.*"], check=True)
    return str(python)


def make_file(folder, frames, sig, name):
    path = Path(folder) / name
    rng = np.random.default_rng(0)
    block = rng.poisson(20, (64, *sig)).astype("uint16")
    with open(path, "wb") as f:
        f.writelines(block.tobytes() for _ in range(frames // 64))
    side = int(np.sqrt(frames // 64)) * 8
    nav = (side, frames // side) if side and frames % side == 0 else (frames,)
    return {"path": str(path), "nav": nav, "sig": sig, "dtype": "uint16"}


def measure(peers, jobs, data, repeat):
    """Return seconds[job][peer] as lists, the peers taken in turn."""
    seconds = {job: {name: [] for name in peers} for job in jobs}
    for job in jobs:
        for name, peer in peers.items():
            peer.run(job, data)  # compile, fill caches
        for _ in range(repeat):
            for name, peer in peers.items():
                seconds[job][name].append(peer.run(job, data)["seconds"])
        print(job, {k: round(statistics.median(v), 4) for k, v in seconds[job].items()}, file=sys.stderr)
    return seconds


def ratio(theirs, ours):
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def table(seconds, data_bytes, limit, ours="framefold threads"):
    rows = [
        "| job | framefold, GB/s | of the memory limit | ratio to the best LiberTEM executor (goal) | ratio to LiberTEM's dask (goal) | |",
        "|---|---|---|---|---|---|",
    ]
    for job, by_peer in seconds.items():
        mine = by_peer[ours]
        others = {k: ratio(v, mine) for k, v in by_peer.items() if k.startswith("LiberTEM")}
        best = min(others, key=others.get)
        goal_best, goal_dask = GOALS[job]
        dask = others.get("LiberTEM dask")
        met = others[best] >= goal_best and (goal_dask is None or dask is None or dask >= goal_dask)
        speed = data_bytes / statistics.median(mine)
        rows.append(
            f"| {TITLES[job]} | {speed / 1e9:.2f} | {100 * speed / limit:.0f} % | "
            f"{others[best]:.1f} ({goal_best}; {best.split()[-1]}) | "
            f"{'' if dask is None else f'{dask:.1f}'}{'' if goal_dask is None else f' ({goal_dask})'} | "
            f"{'met' if met else '**missed**'} |"
        )
    return rows


def resources(peers, data, data_bytes, repeat):
    """Return rows of CPU seconds and of the anonymous memory of the whole process, libraries included."""
    rows = [
        "| job | CPU s per GB, framefold (LiberTEM threads) | peak anonymous MiB, framefold (LiberTEM threads) |",
        "|---|---|---|",
    ]
    names = ("framefold threads", "LiberTEM threads")
    for job in ("sum", "sum_dark_gain", "stddev", "masks_4", "fused"):
        used = {n: [peers[n].run(job, data) for _ in range(repeat)] for n in names}
        memory = [peers[n].run(job, data, watch=True)["anonymous_mib"] for n in names]
        cpu = [statistics.median(u["cpu"] for u in used[n]) / data_bytes * 1e9 for n in names]
        rows.append(f"| {TITLES[job]} | {cpu[0]:.2f} ({cpu[1]:.2f}) | {memory[0]:.0f} ({memory[1]:.0f}) |")
    return rows


def per_frame(seconds, frames):
    rows = [
        "| job | framefold, us per frame | LiberTEM, us per frame | ratio (goal) | |",
        "|---|---|---|---|---|",
    ]
    for job, by_peer in seconds.items():
        mine, theirs = by_peer["framefold inline"], by_peer["LiberTEM inline"]
        goal = GOALS[job][0]
        r = ratio(theirs, mine)
        rows.append(
            f"| {TITLES[job]} | {statistics.median(mine) / frames * 1e6:.2f} | "
            f"{statistics.median(theirs) / frames * 1e6:.2f} | {r:.1f} ({goal}) | {'met' if r >= goal else '**missed**'} |"
        )
    return rows


def first_result(python, script_text, repeat):
    return [
        _timed(lambda: subprocess.run([python, "-c", script_text], check=True, capture_output=True))
        for _ in range(repeat)
    ]


FIRST_FRAMEFOLD = """
import sys; sys.path.insert(0, {root!r})
import framefold as ff
ctx = ff.Context()
ds = ctx.load({path!r}, nav_shape=(100,), sig_shape={sig!r}, dtype="uint16", format="raw")
ctx.run_udf(ds, ff.udfs.SumUDF())["intensity"].data
"""
FIRST_LIBERTEM = """
from libertem.api import Context
from libertem.udf.sum import SumUDF
ctx = Context.make_with("inline")
ds = ctx.load("raw", path={path!r}, nav_shape=(100,), sig_shape={sig!r}, dtype="uint16")
ctx.run_udf(ds, SumUDF())["intensity"].data
"""


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=1.0, help="size of the data file")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--jobs", nargs="*", default=[j for j in GOALS if not j.startswith("noop")])
    args = parser.parse_args(argv)
    python = libertem_python()
    frames = int(args.gib * 2**30 / (SIG[0] * SIG[1] * 2)) // 64 * 64
    with tempfile.TemporaryDirectory() as folder:
        data = make_file(folder, frames, SIG, "large.raw")
        small = make_file(folder, 65536, SMALL, "small.raw")
        hundred = make_file(folder, 128, SIG, "hundred.raw")
        limit = memory_limit(data["path"])
        peers = {
            "framefold threads": Peer(sys.executable, "framefold_jobs.py", "threads"),
            "LiberTEM inline": Peer(python, "libertem_jobs.py", "inline"),
            "LiberTEM threads": Peer(python, "libertem_jobs.py", "threads"),
            "LiberTEM dask": Peer(python, "libertem_jobs.py", "dask"),
        }
        large = measure(peers, args.jobs, data, args.repeat)
        ours = peers["framefold threads"]
        snapshots = measure_pair(ours, "slow", "slow_snapshots", data, args.repeat)
        plots = measure_pair(ours, "slow", "slow_plots", data, args.repeat)
        mixed = measure_pair(ours, "sum", "mixed", data, args.repeat)
        corrected = measure_pair(ours, "sum", "sum_dark_gain", data, args.repeat)
        used = resources(peers, data, frames * SIG[0] * SIG[1] * 2, args.repeat)
        for peer in peers.values():
            peer.close()
        inline = {
            "framefold inline": Peer(sys.executable, "framefold_jobs.py", "inline"),
            "LiberTEM inline": Peer(python, "libertem_jobs.py", "inline"),
        }
        tiny = measure(inline, ["noop_1", "noop_9"], small, max(3, args.repeat // 2))
        for peer in inline.values():
            peer.close()
        values = {"root": str(HERE.parent), "path": hundred["path"], "sig": SIG}
        first_ours = first_result(sys.executable, FIRST_FRAMEFOLD.format(**values), args.repeat + 1)[1:]
        first_theirs = first_result(python, FIRST_LIBERTEM.format(**values), args.repeat)
    first = ratio(first_theirs, first_ours)
    seconds = statistics.median(first_ours)
    lines = [
        f"LiberTEM 0.16. Data: {frames} frames of 256 x 256 uint16 in the page cache; memory limit {limit / 1e9:.1f} GB/s "
        f"(all cores add up the mapped file).",
        "",
        *table(large, frames * SIG[0] * SIG[1] * 2, limit),
        "",
        *per_frame(tiny, 65536),
        "",
        *used,
        "",
        "| what | measured | goal | |",
        "|---|---|---|---|",
        f"| Sum + StdDev + Crystallinity with 10 snapshots per second / without | {snapshots:.3f} | 1.02 | {'met' if snapshots <= 1.02 else '**missed**'} |",
        f"| the same with live plots / without | {plots:.3f} | 1.05 | {'met' if plots <= 1.05 else '**missed**'} |",
        f"| SumUDF with dark and gain / without | {corrected:.2f} | reported | |",
        f"| SumUDF beside a `process_frame` UDF / alone | {mixed:.2f} | reported | |",
        f"| first result of a fresh process, 100 frames | {seconds:.2f} s | 0.5 s | {'met' if seconds <= 0.5 else '**missed**'} |",
        f"| the same, LiberTEM inline / framefold | {first:.1f} | 2 | {'met' if first >= 2 else '**missed**'} |",
    ]
    print("\n".join(lines))


def measure_pair(peer, plain, other, data, repeat):
    """Return the median ratio other / plain."""
    peer.run(plain, data)
    peer.run(other, data)
    return statistics.median(
        1 / (peer.run(plain, data)["seconds"] / peer.run(other, data)["seconds"])
        for _ in range(max(5, repeat))
    )


if __name__ == "__main__":
    main()
