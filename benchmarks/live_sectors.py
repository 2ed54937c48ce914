"""Four sectors over four TCP connections: the engine against plain processes that do nothing else (L1).

    python benchmarks/live_sectors.py [--frames 2400] [--rounds 5]

A detector of 512 x 512 uint16 in four stripes is sent from memory by a process of its own. C1: one process per
stripe receives in place and adds up with the same compiled loop, without a framework. Path A folds stripes as they
lie, path B puts frames together. What counts is the time from a fifth of the bytes to the last one, at the sender;
sums are compared. All runs are interleaved.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
from processes import end
from shared import Whole

import framefold as ff
from framefold.io.live.feed import Over
from framefold.io.live.sequential import SequentialSource
from framefold.io.live.tcp import Closed, TcpConnection
from framefold.kernels.reduce import sum_frames
from framefold.udfcore.live import AcquisitionStart, LiveOptions, PieceGrid, SectorSpec

SECTORS, SIDE = 4, 512
WIDTH = SIDE // SECTORS
STRIPE = SIDE * WIDTH * 2
CHUNK = 8  # frames that are sent, or received by C1, at once
SKIPPED = 0.2
GOALS = {"path A": 0.85, "path B": 0.75}


class Stripe:
    """Reads one connection; the only numbers are the positions in the stream."""

    def __init__(self, sector, port):
        self._sector, self._port = sector, port
        self._connection = TcpConnection("127.0.0.1", port)
        self._rows = None
        self._got = self._done = self._next = 0

    def connect(self):
        self._connection.connect()

    def receive(self, assembly, timeout):
        if self._rows is None:
            self._rows = assembly.ahead(self._sector, self._next, timeout)
            self._got = self._done = 0
            if self._rows is None:
                return None
        try:
            self._got = self._connection.read_rows(self._rows, self._got, timeout)
        except Closed:
            return Over("end-message")
        whole = self._got // STRIPE
        if whole > self._done:
            assembly.filled(self._sector, self._next, whole - self._done)
            self._next += whole - self._done
            self._done = whole
        if whole == len(self._rows):
            self._rows = None
        return None

    def close(self):
        self._connection.close()


class Stripes:
    """A feed of four connections, each with a thread of its own, as in C1."""

    def __init__(self, ports, frames):
        self.endpoint, self._frames = f"stripes://{ports[0]}", frames
        self.readers = [Stripe(s, p) for s, p in enumerate(ports)]
        self._told = False

    def connect(self):
        for reader in self.readers:
            reader.connect()

    def begin(self, timeout, *, wanted):
        if self._told:
            time.sleep(timeout)
            return None
        self._told = True
        sectors = tuple(
            SectorSpec(
                s, (slice(0, SIDE), slice(s * WIDTH, (s + 1) * WIDTH)), PieceGrid((SIDE, WIDTH), ((0, 0),)), f"stripe {s}"
            )
            for s in range(SECTORS)
        )  # fmt: skip
        return AcquisitionStart(self._frames, (SIDE, SIDE), np.dtype("uint16"), None, sectors, 0)

    def heard(self):
        return ""

    def close(self):
        for reader in self.readers:
            reader.close()


def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def plain(port, frames):
    """C1: receive one stripe in place and add it up."""
    ring = np.empty((CHUNK, SIDE, WIDTH), np.uint16)
    view = ring.reshape(-1).view(np.uint8).data
    acc = np.zeros((SIDE, WIDTH), np.uint64)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(frames // CHUNK):
            got = 0
            while got < len(view):
                got += connection.recv_into(view[got:], 0, socket.MSG_WAITALL)
            sum_frames(ring, acc)
    return acc


class Ours:
    def __init__(self, udf):
        self.ctx, self.udf = ff.Context(executor="threads", workers=2), udf

    def __call__(self, ports, frames):
        source = SequentialSource(
            "stripes://here",
            LiveOptions(n_frames=frames, deadline=60.0),
            None,
            0,
            lambda: Stripes(ports, frames),
        )
        live = self.ctx.load(source, nav_shape=(frames,))
        return self.ctx.run_udf(live, self.udf)["intensity"].data


def receiver(kind):
    """Serve one receiver: orders come on stdin, answers go to stdout."""
    if kind.startswith("plain"):
        s = int(kind.removeprefix("plain"))
        run = lambda ports, frames: plain(ports[s], frames)  # noqa: E731
    else:
        run = Ours({"path A": ff.udfs.SumUDF(), "path B": Whole()}[kind])
    sum_frames(np.zeros((CHUNK, SIDE, WIDTH), np.uint16), np.zeros((SIDE, WIDTH), np.uint64))
    print("ready", flush=True)
    for line in sys.stdin:
        order, before = json.loads(line), cpu()
        result = run(order["ports"], order["frames"])
        print(json.dumps({"cpu": cpu() - before, "sum": int(result.sum())}), flush=True)


class Peer:
    def __init__(self, kind):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--receive", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )  # fmt: skip
        assert self.process.stdout.readline().strip() == "ready"

    def order(self, ports, frames):
        self.process.stdin.write(json.dumps({"ports": ports, "frames": frames}) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        end(self.process)


def send(listeners, stripes, frames):
    """Send to whoever connects; return bytes per second behind the first fifth."""
    connections = [listener.accept()[0] for listener in listeners]
    rounds = frames // CHUNK
    skipped = int(rounds * SKIPPED)
    spans = []

    def one(connection, data):
        for k in range(rounds):
            if k == skipped:
                began = time.perf_counter()
            connection.sendall(data)
        ended = time.perf_counter()
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        connection.close()
        spans.append((began, ended))

    threads = [threading.Thread(target=one, args=pair) for pair in zip(connections, stripes, strict=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = max(e for _, e in spans) - min(b for b, _ in spans)
    return SECTORS * STRIPE * CHUNK * (rounds - skipped) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        receiver(args.receive)
        return
    frames = args.frames // CHUNK * CHUNK
    few = np.random.default_rng(0).integers(0, 4000, (SECTORS, CHUNK, SIDE, WIDTH)).astype(np.uint16)
    total = int(few.sum(dtype=np.int64)) * (frames // CHUNK)
    stripes = [memoryview(np.ascontiguousarray(f).reshape(-1).view(np.uint8)) for f in few]
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(SECTORS)]
    ports = [listener.getsockname()[1] for listener in listeners]
    kinds = {"C1": [f"plain{s}" for s in range(SECTORS)], "path A": ["path A"], "path B": ["path B"]}
    peers = {kind: [Peer(name) for name in names] for kind, names in kinds.items()}
    rates, seconds = {k: [] for k in kinds}, {k: [] for k in kinds}
    gigabytes = frames * SECTORS * STRIPE / 1e9
    for k in range(args.rounds + 1):
        for kind, those in peers.items():
            for peer in those:
                peer.order(ports, frames)
            rate = send(listeners, stripes, frames)
            answers = [peer.answer() for peer in those]
            if sum(a["sum"] for a in answers) != total:
                raise SystemExit(f"{kind} computed another sum")
            if k:  # the first is for compilers and caches
                rates[kind].append(rate)
                seconds[kind].append(sum(a["cpu"] for a in answers) / gigabytes)
    for those in peers.values():
        for peer in those:
            peer.close()
    print(f"{frames} frames of {SIDE} x {SIDE} uint16 in {SECTORS} stripes over TCP, sum of all frames;")
    print(f"median of {args.rounds} interleaved rounds, {os.cpu_count()} cores.\n")
    print("| receiver | GB/s | CPU s per GB | / C1 | goal | |")
    print("|---|---|---|---|---|---|")
    for kind, values in rates.items():
        rate, used = statistics.median(values), statistics.median(seconds[kind])
        if kind == "C1":
            print(f"| C1, {SECTORS} plain processes | {rate / 1e9:.2f} | {used:.2f} | 1 | | |")
            continue
        ratios = [a / b for a, b in zip(values, rates["C1"], strict=True)]
        ratio, goal = statistics.median(ratios), GOALS[kind]
        spread, met = f"{min(ratios):.2f} to {max(ratios):.2f}", "met" if ratio >= goal else "**missed**"
        print(f"| {kind} | {rate / 1e9:.2f} | {used:.2f} | {ratio:.2f} ({spread}) | {goal} | {met} |")


if __name__ == "__main__":
    main()
