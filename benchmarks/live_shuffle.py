"""Whole frames from stripes that arrive in two worker groups, against plain processes (L2).

    python benchmarks/live_shuffle.py [--frames 4800] [--rounds 5] [--block 128]

The detector and C1 are those of ``live_sectors.py``: four stripes of 512 x 512 uint16 over four TCP connections,
C1 receives each in a process of its own and adds it up, without a framework. Here two dask workers receive two
stripes each, in rings of their own, and send one another what the other puts together to whole frames. What counts
is the time from a fifth of the bytes to the last one, at the sender; sums are compared; all runs are interleaved.
"""

import argparse
import os
import statistics
from dataclasses import dataclass, field, replace

import live_sectors as base
import numpy as np

import framefold as ff
from framefold.io.live import slots
from framefold.io.live.sequential import SequentialStream
from framefold.udfcore.live import AcquisitionStart, LiveOptions, PieceGrid, SectorSpec

GOAL = 0.5
SLOTS = 4


@dataclass(frozen=True)
class StripedSource:
    """The detector; its stripes may be received by several processes."""

    ports: tuple
    frames: int
    options: LiveOptions = field(default_factory=LiveOptions)
    url: str = "stripes://here"
    nav_shape: tuple | None = None
    sync_offset: int = 0

    def known(self):
        side, width = base.SIDE, base.WIDTH
        sectors = tuple(
            SectorSpec(
                s, (slice(0, side), slice(s * width, (s + 1) * width)), PieceGrid((side, width), ((0, 0),)),
                f"stripe {s}",
            )
            for s in range(len(self.ports))
        )  # fmt: skip
        meta = {"frame_time": 1.0}  # with block_time: blocks are as large as a slot from the first on
        return AcquisitionStart(self.frames, (side, side), np.dtype("uint16"), None, sectors, 0, meta)

    def open(self, sectors=None):
        return SequentialStream(make_feed(self, sectors), self.options, self.frames)


def make_feed(source, own):
    """Return the feed of some stripes: to it, these are all that there are."""
    slots.SLOT_LIMIT = 2**30  # larger blocks than one host would choose
    base.SECTORS = len(own)
    feed = base.Stripes([source.ports[s] for s in own], source.frames)
    every = source.known()

    def begin(timeout, *, wanted, _begin=feed.begin):
        start = _begin(timeout, wanted=wanted)
        return None if start is None else replace(every, sectors=tuple(every.sectors[s] for s in own))

    feed.begin = begin
    return feed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=4800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, nargs="+", default=[32, 128], help="frames")
    args = parser.parse_args()
    frames = args.frames // base.CHUNK * base.CHUNK
    few = np.random.default_rng(0).integers(0, 4000, (base.SECTORS, base.CHUNK, base.SIDE, base.WIDTH))
    total = int(few.sum(dtype=np.int64)) * (frames // base.CHUNK)
    stripes = [memoryview(np.ascontiguousarray(f, np.uint16).reshape(-1).view(np.uint8)) for f in few]
    listeners = [base.socket.create_server(("127.0.0.1", 0)) for _ in range(base.SECTORS)]
    ports = tuple(listener.getsockname()[1] for listener in listeners)
    plain = [base.Peer(f"plain{s}") for s in range(base.SECTORS)]
    rates = {"C1": [], **{n: [] for n in args.block}}
    frame = base.SIDE * base.SIDE * 2
    with ff.Context(workers=2) as ctx:
        for k in range(args.rounds + 1):
            for peer in plain:
                peer.order(ports, frames)
            rate = base.send(listeners, stripes, frames)
            if sum(peer.answer()["sum"] for peer in plain) != total:
                raise SystemExit("C1 computed another sum")
            rates["C1"] += [rate] if k else []
            for n in args.block:
                options = LiveOptions(
                    placement={0: "0", 1: "0", 2: "1", 3: "1"}, deadline=60.0, ring_bytes=SLOTS * n * frame,
                    block_time=1e9,  # blocks as large as a slot: both workers must cut alike
                )  # fmt: skip
                live = ctx.load(StripedSource(ports, frames, options), nav_shape=(frames,))
                sent = []
                sender = base.threading.Thread(
                    target=lambda sent=sent: sent.append(base.send(listeners, stripes, frames))
                )
                sender.start()  # accepts the connections that the run opens
                found = ctx.run_udf(live, base.Whole())["intensity"].data
                sender.join()
                if int(found.sum()) != total:
                    raise SystemExit(f"blocks of {n}: another sum")
                rates[n] += sent if k else []
    for peer in plain:
        peer.close()
    print(f"{frames} frames of {base.SIDE} x {base.SIDE} uint16 in {base.SECTORS} stripes over TCP;")
    print(f"median of {args.rounds} interleaved rounds, {os.cpu_count()} cores.\n")
    print("| receiver | GB/s | / C1 | goal | |\n|---|---|---|---|---|")
    print(f"| C1, {base.SECTORS} plain processes | {statistics.median(rates['C1']) / 1e9:.2f} | 1 | | |")
    for n in args.block:
        ratios = [a / b for a, b in zip(rates[n], rates["C1"], strict=True)]
        ratio, rate = statistics.median(ratios), statistics.median(rates[n]) / 1e9
        size = f"{n * frame / 1e6:.0f} MB, {n * frame / rate / 1e9:.2f} s"
        met = "met" if ratio >= GOAL else "**missed**"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| two workers, blocks of {n} frames ({size}) | {rate:.2f} | {ratio:.2f} ({spread}) | {GOAL} | {met} |"
        )


if __name__ == "__main__":
    main()
