"""Eight K2 IS sectors over UDP: the highest rate that the engine keeps, against plain processes (L1).

    python benchmarks/live_udp_sectors.py [--seconds 2] [--rounds 3] [--from-rate 1]

The detector is that of ``live_udp.py``: 64 packets of 22360 bytes a frame, 12 bits a pixel, sent by a process of its
own on the same cores. C1: two plain processes with four sectors each, one compiled loop that receives, unpacks and adds
up, without a framework. Path A folds pieces where they arrive, path B puts frames together; both unpack on receipt and
count every packet. Rates rise by an eighth; a rate is kept while no more than one packet in a thousand is lost, and what
is lost must be lost as whole blocks or in the socket. Sums of runs without loss are compared.
"""

import argparse
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import live_udp as base
import numba
import numpy as np
from processes import end
from shared import Whole

import framefold as ff
from framefold.io.live import kernels_receive as r
from framefold.io.live.kernels_packet import unpack12

GOALS = {"path A": 0.85, "path B": 0.75}
KEPT, STEP, QUIET = 1e-3, 1.125, 0.5
PLAIN = 2  # processes
HEAD = 40


@numba.njit(nogil=True, cache=True)
def add_up(net, s, count, pixels, acc):
    """Add the packets of a batch to the sums of their pieces."""
    for i in range(count):
        packet = net.batch[i]
        x, y = packet[28] * 256 + packet[29], packet[30] * 256 + packet[31]
        row = acc[s, y // base.PIECE[0], x // base.PIECE[1]]
        unpack12(packet[HEAD : base.PACKET], pixels)
        for j in range(pixels.shape[0]):
            row[j] += pixels[j]


@numba.njit(nogil=True, cache=True)
def spin(net, pixels, acc):
    """Take what waits in the sockets; return the number of packets."""
    got = 0
    while True:
        some = 0
        for s in range(net.sockets.shape[0]):
            n = r._receive_from(net, s)
            if n > 0:
                add_up(net, s, n, pixels, acc)
                some += n
        if some == 0 or got > 4096:
            return got
        got += some


def plain(sectors):
    """C1 for some sectors: receive, unpack, add up, until nothing comes any more."""
    socks, net, _kept = base.sockets(sectors)
    acc = np.zeros((sectors, base.SHAPE[0] // base.PIECE[0], base.SHAPE[1] // base.SECTORS // base.PIECE[1],
                    base.PIECE[0] * base.PIECE[1]), np.uint64)  # fmt: skip
    pixels = np.zeros(acc.shape[-1], np.uint16)
    spin(net, pixels, acc)
    yield [s.getsockname()[1] for s in socks]
    got, last = 0, None
    while last is None or time.monotonic() - last < QUIET:
        if select.select(socks, [], [], 0.01)[0]:
            got, last = got + spin(net, pixels, acc), time.monotonic()
    for s in socks:
        s.close()
    yield {"got": got, "sum": int(acc.sum())}


class Ours:
    """The engine; frames are counted by it."""

    def __init__(self, udf):
        self.ctx, self.udf = ff.Context(executor="threads", workers=2), udf

    def run(self, frames):
        live = self.ctx.load(base.url(frames), nav_shape=(frames,))
        result = self.ctx.run_udf(live, self.udf, on_ready=lambda ready: tell(base.ports(ready.endpoints)))
        stats = result.report["sectors"]
        lost, overrun, drops = (sum(s[k] for s in stats) for k in ("lost", "overrun", "kernel_drops"))
        # late: their blocks were closed because others were lost
        if lost > overrun + drops + sum(s["late"] for s in stats):
            raise SystemExit(f"pieces were lost of which nobody knows why: {stats}")
        return {"got": sum(s["valid"] for s in stats), "sum": int(result["intensity"].data.sum())}


def tell(value):
    print(json.dumps(value), flush=True)


def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def receiver(kind):
    """Serve one receiver: orders come on stdin, ports and results go to stdout."""
    warnings.simplefilter("ignore")
    ours = None if kind == "plain" else Ours({"path A": ff.udfs.SumUDF(), "path B": Whole()}[kind])
    tell("ready")
    for line in sys.stdin:
        frames, before = json.loads(line), cpu()
        if ours is None:
            parts = plain(base.SECTORS // PLAIN)
            tell(next(parts))
            result = next(parts)
        else:
            result = ours.run(frames)
        tell({**result, "cpu": cpu() - before})


class Peer:
    def __init__(self, kind):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--receive", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )  # fmt: skip
        self.hear()

    def order(self, frames):
        self.process.stdin.write(f"{frames}\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a receiver has died")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        end(self.process)


def probe(peers, rate, seconds, folder):
    """Send at a rate; return the share that was lost (None: the sender was too slow), the sum and CPU seconds per GB."""
    ports = [p for peer in peers for p in peer.order(base.frames_of(rate, seconds))]
    sender, report, _ = base.emulate(ports, rate, seconds, folder)
    sender.wait()
    answers = [peer.hear() for peer in peers]
    log = json.loads(report.read_text())
    sent = sum(log["acquisitions"][0]["sent"])
    got = sum(a["got"] for a in answers)
    gigabytes = got * base.PACKET / 1e9
    if log["seconds"] > 1.15 * seconds:
        return None, 0, 0.0
    return 1 - got / sent, sum(a["sum"] for a in answers), sum(a["cpu"] for a in answers) / gigabytes


def climb(kinds, args, folder):
    """Return the highest rate that each kind of receiver keeps, and its CPU seconds per GB at the lowest rate."""
    best, used, left, rate = dict.fromkeys(kinds, 0.0), {}, list(kinds), args.from_rate
    while left:
        sums = set()
        for kind in list(left):
            for _ in range(2):  # one bad moment does not end it
                lost, total, cost = probe(kinds[kind], rate, args.seconds, folder)
                if lost is not None and lost <= KEPT:
                    break
            used.setdefault(kind, cost)
            words = "sender too slow" if lost is None else f"{100 * lost:.2f} % lost"
            print(f"  {kind}, {rate:.2f} GB/s: {words}", file=sys.stderr, flush=True)
            if lost is None or lost > KEPT:
                left.remove(kind)
                continue
            best[kind] = rate
            if lost == 0:
                sums.add(total)
        if len(sums) > 1:
            raise SystemExit(f"the sums differ at {rate:.2f} GB/s: {sums}")
        if not best["C1"]:
            raise SystemExit(
                f"plain processes do not keep {rate:g} GB/s either: begin lower, with --from-rate"
            )
        rate *= STEP
    return best, used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="at each rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--from-rate", type=float, default=1.0, help="GB/s")
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        receiver(args.receive)
        return
    kinds = {
        "C1": [Peer("plain") for _ in range(PLAIN)],
        "path A": [Peer("path A")],
        "path B": [Peer("path B")],
    }
    with tempfile.TemporaryDirectory() as folder:
        for peers in kinds.values():  # compilers and caches
            probe(peers, 0.05, 0.5, folder)
        rounds = [climb(kinds, args, folder) for _ in range(args.rounds)]
    for peers in kinds.values():
        for peer in peers:
            peer.close()
    print(f"Eight sectors over UDP, {base.SHAPE[0]} x {base.SHAPE[1]} pixels of 12 bits, sum of all frames;")
    print(f"median of {args.rounds} climbs, {args.seconds:g} s at each rate, {os.cpu_count()} cores.\n")
    print(
        f"| receiver | highest rate kept, GB/s of packets | CPU s per GB at {args.from_rate:g} GB/s, start included | / C1 | goal | |"
    )
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        rate, used = (statistics.median(part[kind] for part in parts) for parts in zip(*rounds, strict=True))
        if kind == "C1":
            print(f"| C1, {PLAIN} plain processes | {rate:.2f} | {used:.2f} | 1 | | |")
            continue
        ratios = [best[kind] / best["C1"] if best["C1"] else 0.0 for best, _ in rounds]
        ratio, goal = statistics.median(ratios), GOALS[kind]
        spread, met = f"{min(ratios):.2f} to {max(ratios):.2f}", "met" if ratio >= goal else "**missed**"
        print(f"| {kind} | {rate:.2f} | {used:.2f} | {ratio:.2f} ({spread}) | {goal} | {met} |")


if __name__ == "__main__":
    main()
