"""How fast UDP detectors are received, and what is lost beside UDFs and beside code that holds the interpreter lock.

    python benchmarks/live_udp.py [--seconds 30]

A detector is emulated in a process of its own: eight sectors, packets of 22360 bytes as a K2 IS sends them. R is the
highest rate at which a bare loop of recvmmsg, which throws the packets away, loses nothing in the same run. Sender,
receiver and folds share the cores of this machine. What is lost is counted by the kernel (no room in the socket) or by
the receiver (no room in the ring: whole blocks, in all sectors).
"""

import argparse
import json
import multiprocessing
import select
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numba
import numpy as np

import framefold as ff
from framefold.io.live import open_url
from framefold.io.live.replay.make import make_emulator
from framefold.io.live.sockets import granted_buffer, kernel_drops
from framefold.udfcore.live import AcquisitionEnd

SECTORS, PIECE, SHAPE = 8, (930, 16), (1860, 512)
PACKET = 40 + PIECE[0] * PIECE[1] * 3 // 2
PACKETS = SHAPE[0] * SHAPE[1] // (PIECE[0] * PIECE[1])
LADDER = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2)
MEMORY = 8  # frames that the sender holds, and sends over and over
BUFFER = 64 << 20


class Busy(ff.UDF):
    """Holds the interpreter lock for some time in every frame."""

    def get_result_buffers(self):
        return {"n": self.buffer(kind="nav", dtype="int64", reduce="sum")}

    def process_frame(self, frame):
        total = 0
        for i in range(20000):
            total += i & 1
        self.results.n[...] = total


def frames_of(rate, seconds):
    """Return how many frames are sent at a rate in GB/s."""
    return max(1, round(rate * 1e9 / (PACKET * PACKETS) * seconds / MEMORY)) * MEMORY


def ports(endpoints):
    """Return the ports that were bound."""
    return [int(e.split(":")[2].split(" ")[0]) for e in map(str, endpoints)]


def emulate(ports, rate, seconds, folder):
    """Start a sender; its report says what was sent."""
    fps = rate * 1e9 / (PACKET * PACKETS)
    loops = frames_of(rate, seconds) // MEMORY
    report = Path(folder) / f"report-{time.monotonic_ns()}.json"
    command = [
        sys.executable, "-m", "framefold", "emulate", "k2is", "--random", f"{MEMORY},{SHAPE[0]},{SHAPE[1]}", "--sectors",
        str(SECTORS), "--piece", f"{PIECE[0]},{PIECE[1]}", "--mode", "series", "--rate", f"{fps:.3f}", "--loops", str(loops),
        "--to", f"127.0.0.1:{','.join(map(str, ports))}", "--report", str(report),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), report, loops * MEMORY


def sockets(n):
    """Return sockets of some sectors, what ``recvmmsg`` needs, and what must live as long."""
    from framefold.io.live import kernels_receive as r

    socks = []
    for _ in range(n):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        socks.append(sock)
    batch = np.zeros((24, PACKET + 1), np.uint8)
    vectors, headers = np.zeros((24, 2), np.uint64), np.zeros((24, 8), np.uint64)
    for i in range(24):
        vectors[i] = batch[i].ctypes.data, PACKET + 1
        headers[i, :4] = 0, 0, vectors[i].ctypes.data, 1
    fds = np.array([s.fileno() for s in socks], np.int32)
    net = r.Net(
        fds, np.zeros((n, 2), np.int32), headers, np.zeros((24, 16), np.uint8), batch, np.zeros(24, np.int64),
        np.zeros(2, np.int64), np.array([-1], np.int64),
    )  # fmt: skip
    return socks, net, vectors


def bare(pipe):
    """Receive and throw away, in a process of its own: one compiled loop over all sockets."""
    from framefold.io.live import kernels_receive as r

    @numba.njit(nogil=True)
    def spin(net, counts, rounds):
        for _ in range(rounds):
            some = False
            for s in range(net.sockets.shape[0]):
                n = r._receive_from(net, s)
                if n > 0:
                    counts[s] += n
                    some = True
            if not some:
                return

    socks, net, _kept = sockets(SECTORS)
    counts = np.zeros(SECTORS, np.int64)
    spin(net, counts, 1)
    began = time.process_time()
    pipe.send([s.getsockname()[1] for s in socks])
    while not pipe.poll(0):
        spin(net, counts, 10000)
        select.select(socks, [], [], 0.01)
    spin(net, counts, 1000000)
    pipe.send(
        (
            int(counts.sum()),
            sum(kernel_drops(s) for s in socks),
            time.process_time() - began,
            granted_buffer(socks[0]),
        )
    )


def run_bare(rate, seconds, folder):
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=bare, args=(there,))
    process.start()
    ports = here.recv()
    sender, report, _ = emulate(ports, rate, seconds, folder)
    sender.wait()
    time.sleep(0.2)
    here.send("stop")
    got, drops, cpu, granted = here.recv()
    process.join()
    log = json.loads(report.read_text())
    sent = sum(log["acquisitions"][0]["sent"])
    return {
        "sent": sent,
        "got": got,
        "lost": sent - got,
        "drops": drops,
        "cpu": cpu,
        "granted": granted,
        "seconds": log["seconds"],
    }


def url(frames):
    return (
        f"k2is://127.0.0.1:0?sectors={SECTORS}&width={SHAPE[1] // SECTORS}&height={SHAPE[0]}&piece={PIECE[0]}x{PIECE[1]}"
        f"&mode=series&first_frame=0&n_frames={frames}&idle_timeout=1&start_timeout=120"
    )


def run_ours(rate, seconds, folder, what, receiver):
    """Fold, or only give back, what is received; returns losses by kind."""
    frames, state = frames_of(rate, seconds), {}

    def begin(ready):
        state["sender"], state["report"], _ = emulate(ports(ready), rate, seconds, folder)

    full = url(frames) + f"&receiver={receiver}"
    if what == "received only":
        stream = open_url(full).open()
        stream.prepare()
        stream.wait_start(None)
        begin(stream.endpoints)
        while not isinstance(item := stream.next_block(120), AcquisitionEnd):
            if item is not None:
                stream.release(item)
        stats = [s.as_dict() for s in stream.stats()]
        latency = {}
        stream.close()
    else:
        udfs = {"Sum + StdDev": [ff.udfs.SumUDF(), ff.udfs.StdDevUDF()], "a busy process_frame": Busy()}[what]
        with ff.Context() as ctx:
            live = ctx.load(full, nav_shape=(frames,))
            result = ctx.run_udf(live, udfs, on_ready=lambda ready: begin(ready.endpoints))
        report = (result[0] if isinstance(result, tuple) else result).report
        stats, latency = report["sectors"], report["latency"]
        state["partial"] = report["status"]["partial"]
    state["sender"].wait()
    sent = sum(json.loads(state["report"].read_text())["acquisitions"][0]["sent"])
    total = {
        k: sum(s[k] for s in stats) for k in ("received", "valid", "lost", "overrun", "late", "kernel_drops")
    }
    # frames that are there in part must have lost packets in a socket: rings give up whole blocks
    whole = state.get("partial", 0) <= total["kernel_drops"] + total["late"]
    return {**total, "sent": sent, "latency": latency, "whole": whole}


def ceiling(seconds):
    """Bytes per second of the sender alone: nobody listens."""
    data = np.random.default_rng(0).integers(0, 4096, (MEMORY, *SHAPE)).astype(np.uint16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        emulator = make_emulator("k2is", data, sectors=SECTORS, piece=PIECE, mode="series", loops=100)
        cpu = time.process_time()
        emulator.start([f"udp://127.0.0.1:{port}"] * SECTORS)
        emulator.wait()
        sent = int(emulator.logs[0].sent.sum()) * PACKET
        return sent / emulator.seconds, (time.process_time() - cpu) / (sent / 1e9)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--probe", type=float, default=2.0, help="seconds at each rate while R is looked for")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="of R")
    parser.add_argument("--from-rate", type=float, default=0.0, help="GB/s at which the search for R begins")
    parser.add_argument(
        "--receivers", nargs="+", default=["process", "thread"], choices=["process", "thread"]
    )
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    most, most_cpu = ceiling(1.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        best, cost, granted = 0.0, 0.0, 0
        for rate in (r for r in LADDER if r >= args.from_rate):
            got = run_bare(rate, args.probe, folder)
            granted = got["granted"]
            late = got["seconds"] > 1.2 * args.probe
            print(
                f"bare {rate} GB/s: lost {got['lost']} of {got['sent']}, {got['cpu']:.2f} s CPU{', sender too slow' if late else ''}",
                file=sys.stderr,
                flush=True,
            )
            if got["lost"] or late:
                break
            best, cost = rate, got["cpu"] / (got["got"] * PACKET / 1e9)
        if not best:
            raise SystemExit("not even the bare loop keeps up: this machine is too busy to measure anything")
        for what in ("Sum + StdDev", "a busy process_frame"):
            for share in args.shares:
                for receiver in args.receivers:
                    got = run_ours(share * best, args.seconds, folder, what, receiver)
                    rows.append((what, share, receiver, got))
                    print(what, share, receiver, got, file=sys.stderr, flush=True)
    lines = [
        f"Socket buffers hold {granted >> 10} KiB each. Sender alone {most / 1e9:.2f} GB/s, {most_cpu:.2f} s CPU per GB. Bare loop without loss: R = {best:.2f} GB/s, "
        f"{cost:.2f} s CPU per GB.",
        "",
        "| beside | rate | receiver in | sent packets | lost in the socket | dropped as whole blocks | lost | aim |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, share, receiver, got in rows:
        aim = "0" if (what, share, receiver) == ("Sum + StdDev", 0.5, "process") else ""
        if aim:
            aim = "0: met" if got["lost"] == 0 else "0: **missed**"
        if not got["whole"]:
            aim += " **frames were torn**"
        lines.append(
            f"| {what} | {share} R = {share * best:.2f} GB/s | {receiver} | {got['sent']} | {got['kernel_drops']} | "
            f"{got['overrun']} | {100 * got['lost'] / max(1, got['valid'] + got['lost']):.2f} % | {aim} |"
        )
    torn = sum(not got["whole"] for *_, got in rows)
    so = "**not so**" if torn else "so it was"
    lines += ["", f"What the ring has no room for is lost as whole blocks of all sectors: {so} in every run."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
