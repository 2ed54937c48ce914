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
import select
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
from framefold.kernels.reduce import sum_frames
from framefold.udfcore.live import AcquisitionStart, LiveOptions, PieceGrid, SectorSpec

SECTORS, SIDE = 4, 512
WIDTH = SIDE // SECTORS
STRIPE = SIDE * WIDTH * 2
CHUNK = 8  # frames that are sent, or received by C1, at once
LEAST = 2**19  # bytes that are worth a call
SKIPPED = 0.2
GOALS = {"path A": 0.85, "path B": 0.75}


class Stripes:
    """A feed of four connections; the only numbers are the positions in the streams."""

    def __init__(self, ports, frames):
        self.endpoint, self._frames = f"stripes://{ports[0]}", frames
        self._ports, self._sockets, self._poll = ports, [], select.poll()
        self._ended = 0
        self._spare = np.empty((SECTORS, CHUNK * STRIPE), np.uint8)
        self._here = [None] * SECTORS  # rows, their bytes or a buffer of that size, what arrived
        self._next = [0] * SECTORS
        self._told = False

    def connect(self):
        self._sockets = [socket.create_connection(("127.0.0.1", p)) for p in self._ports]
        self._sector_of = {c.fileno(): s for s, c in enumerate(self._sockets)}

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

    def receive(self, assembly, timeout):
        for s in range(SECTORS):
            if self._here[s] is None:
                self._open_place(assembly, s)
        ready = self._poll.poll(timeout * 1000)
        for fd, _ in ready:
            self._read(assembly, self._sector_of[fd])
        return Over("end-message") if self._ended == SECTORS else None

    def _open_place(self, assembly, s):
        # a sector that is a whole block ahead waits for the others
        rows = None
        if self._next[s] <= min(self._next) + assembly.block_frames:
            rows = assembly.ahead(s, self._next[s])
        if rows is None:
            return
        if rows.flags.c_contiguous:
            space = rows.reshape(-1).view(np.uint8)
        else:  # whole frames: stripes are put in from memory that stays in the cache
            rows = rows[:CHUNK]
            space = self._spare[s][: len(rows) * STRIPE]
        self._here[s] = [rows, space, 0, 0]
        self._wait_for(s, len(space))

    def _wait_for(self, s, left):
        self._sockets[s].setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(left, LEAST))
        self._poll.register(self._sockets[s], select.POLLIN)

    def _read(self, assembly, s):
        rows, space, got, done = here = self._here[s]
        n = self._sockets[s].recv_into(space.data[got:], 0, socket.MSG_DONTWAIT)
        if not n:
            self._poll.unregister(self._sockets[s])
            self._ended += 1
            return
        here[2] = got = got + n
        whole = got // STRIPE
        if got == len(space):
            self._here[s] = None
            self._poll.unregister(self._sockets[s])
        elif len(space) - got < LEAST:
            self._wait_for(s, len(space) - got)
        if whole > done:
            if not rows.flags.c_contiguous:
                part = space[done * STRIPE : whole * STRIPE].view(np.uint16)
                rows[done:whole] = part.reshape(-1, SIDE, WIDTH)
            here[3] = whole
            self._next[s] += whole - done
            assembly.filled(s, self._next[s] - (whole - done), whole - done)

    def heard(self):
        return ""

    def close(self):
        for connection in self._sockets:
            connection.close()


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
            "stripes://here", LiveOptions(n_frames=frames), None, 0, lambda: Stripes(ports, frames)
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
