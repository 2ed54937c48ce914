"""What the engine costs live: throughput against a bare loop, latency, slow plots, memory.

    python benchmarks/live_engine.py [throughput] [latency] [plots] [memory] [offline]

The stream lies in memory and costs nothing, so that ratios are about the engine alone; receivers have
their own. Ratios are medians of interleaved runs.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from goals import at_least, at_most
from shared import Whole

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.kernels.reduce import sum_frames
from framefold.udfcore.live import Block


@dataclass(frozen=True, eq=False)
class Recycled(MemoryLiveSource):
    """A source whose blocks are filled once and come again and again, at no cost."""

    ring: dict = field(default_factory=dict)

    def open(self, sectors=None):
        return RecycledStream(self, sectors)


class RecycledStream(MemoryStream):
    def _fill(self, n):
        src, slot = self._source, self._index % (2 * self._source.slots)
        key = (slot, n, self._layout)
        if key not in src.ring:
            src.ring[key] = super()._fill(n)
        else:
            for s, stats in zip(self._start.sectors, self._stats, strict=True):
                pieces = n * len(s.pieces)
                stats.received += pieces
                stats.valid += pieces
                stats.expected += pieces
        block, now = src.ring[key], time.monotonic()
        return Block(self._index, self._at, n, block.data, block.valid, now, now)

    def release(self, block):
        with self._changed:
            self._out.discard(block.index)
            self._free += 1
            self._changed.notify_all()


def source(sig=(512, 512), frames=64, send=20_000, sectors=4, pieces=1, block=16, fps=None, **kwargs):
    data = np.random.default_rng(0).integers(0, 4000, (frames, *sig)).astype("uint16")
    return Recycled(
        data, sectors=sectors, pieces=pieces, block_frames=block, repeats=None, stop_after=send, fps=fps,
        slots=4, **kwargs,
    )  # fmt: skip


def bare(src, lanes):
    """The loop without a framework: `lanes` threads take blocks and add them up in place."""
    import threading

    stream = src.open()
    stream.prepare("pieces")
    stream.wait_start(None)
    lock = threading.Lock()
    start = src.known()

    def work():
        accs = [
            [np.zeros(s.pieces.shape, dtype=np.uint64) for _ in range(len(s.pieces))] for s in start.sectors
        ]
        while True:
            with lock:
                block = stream.next_block(1)
            if not isinstance(block, Block):
                return
            for acc, data in zip(accs, block.data, strict=True):
                for a, piece in zip(acc, data, strict=True):
                    sum_frames(piece, a)
            stream.release(block)

    threads = [threading.Thread(target=work) for _ in range(lanes)]
    t0 = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - t0
    stream.close()
    return seconds


def engine(ctx, src, udf):
    ds = ctx.load(src.with_options(n_frames=src.stop_after))
    marks = {}
    ctx.run_udf(ds, udf, on_ready=lambda info: marks.setdefault("t", time.perf_counter()))
    return time.perf_counter() - marks["t"]


def row(what, measured, goal=""):
    print(f"| {what} | {measured} | {goal} |", flush=True)


def ratios(name, goal, make, n=5):
    """Interleave pairs of timings and print the median ratio."""
    found = []
    for _ in range(n):
        ours, theirs = make()
        found.append(theirs / ours)
    ratio = statistics.median(found)
    row(name, f"{ratio:.2f} ({min(found):.2f} to {max(found):.2f})", at_least(ratio, goal))


def throughput():
    lanes = 2
    with ff.Context(executor="threads", workers=lanes) as ctx:
        for label, kwargs in (
            ("4 sectors, 512 x 512 uint16", {"sectors": 4}),
            ("8 sectors of 4 pieces, 512 x 512 uint16", {"sectors": 8, "pieces": 4}),
        ):
            src = source(**kwargs)
            engine(ctx, src, ff.udfs.SumUDF())
            gb = src.stop_after * 512 * 512 * 2 / 1e9
            row(f"bare loop, {label}", f"{gb / bare(src, lanes):.1f} GB/s")
            ratios(
                f"L1, path A / bare loop, {label}", 0.85,
                lambda src=src: (engine(ctx, src, ff.udfs.SumUDF()), bare(src, lanes)),
            )  # fmt: skip
            ratios(
                f"L1, path B / bare loop, {label}", 0.75,
                lambda src=src: (engine(ctx, src, Whole()), bare(src, lanes)),
            )  # fmt: skip


def latency():
    with ff.Context(executor="threads", workers=2) as ctx:
        for label, udf in (("path A, sum", ff.udfs.SumUDF()), ("path B, whole frames", Whole())):
            src = source(send=2000, block=16, fps=1000.0)
            ds = ctx.load(src.with_options(n_frames=2000))
            report = ctx.run_udf(ds, udf, publish_interval=0.02).report["latency"]
            for part, goal in (("median", 30 if label.startswith("path A") else 90), ("p99", 100)):
                ms, name = 1e3 * report[part], part.replace("p99", "99 %")
                row(f"L3, last packet to merged, {label}: {name}", f"{ms:.1f} ms", at_most(ms, goal, " ms"))


LAST = [0.0]


class Marked(ff.UDF):
    """A sum that notes when it was called last."""

    engine = ff.EngineOptions(partial_frames=True, effects=True)

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {"intensity": self.buffer("sig", dtype="wide", reduce="sum")}

    def process_tile(self, tile):
        sum_frames(tile, self.results.intensity)
        LAST[0] = time.perf_counter()


def plots():
    def timed(pause):
        with ff.Context(executor="threads", workers=2) as ctx:
            src = source(sig=(256, 256), send=6000, fps=2000.0)
            t0 = time.perf_counter()
            for _ in ctx.run_udf_iter(ctx.load(src.with_options(n_frames=6000)), Marked()):
                time.sleep(pause)
            return LAST[0] - t0

    found = [timed(0.25) / timed(0.0) for _ in range(3)]
    ratio = statistics.median(found)
    row("L5, time to the last fold, loop body of 0.25 s / empty", f"{ratio:.2f}", at_most(ratio, 1.1))


def memory():
    def rss():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * 4096 / 1e6

    with ff.Context(executor="threads", workers=2) as ctx:
        src = source(sig=(16, 16), frames=256, send=1_000_000, sectors=2, block=256)
        seen = {}

        class Count(ff.UDF):
            engine = ff.EngineOptions(partial_frames=True)

            def get_result_buffers(self):
                return {
                    "n": self.buffer("nav", dtype="int64", reduce="sum"),
                    "s": self.buffer("sig", dtype="wide", reduce="sum"),
                }

            def process_tile(self, tile):
                self.results.n += 1
                self.results.s += tile.sum(axis=0)
                at = int(self.meta.frame_ids[0])
                if at > 10_000 and "first" not in seen:
                    seen["first"] = rss()
                if at > 990_000:
                    seen["last"] = rss()

        ctx.run_udf(ctx.load(src.with_options(history=4096)), Count())
        ratio = seen["last"] / seen["first"]
        row(
            "L8, memory after 10^6 frames / after 10^4, run without an end",
            f"{ratio:.3f}",
            at_most(ratio, 1.05),
        )


def offline():
    with ff.Context(executor="threads", workers=2) as ctx:
        data = np.random.default_rng(0).integers(0, 4000, (512, 512, 512)).astype("uint16")
        file = ctx.load(data)
        ctx.run_udf(file, ff.udfs.SumUDF())
        src = source(send=2048, sectors=1)

        def pair():
            t0 = time.perf_counter()
            for _ in range(4):
                ctx.run_udf(file, ff.udfs.SumUDF())
            return engine(ctx, src, ff.udfs.SumUDF()), time.perf_counter() - t0

        ratios("L8, time per frame offline / live, sum of 512 x 512 from memory", 0.77, pair)


def main():
    known = {
        "throughput": throughput,
        "latency": latency,
        "plots": plots,
        "memory": memory,
        "offline": offline,
    }
    print("| what | measured | goal |\n|---|---|---|")
    for name in sys.argv[1:] or known:
        known[name]()


if __name__ == "__main__":
    main()
