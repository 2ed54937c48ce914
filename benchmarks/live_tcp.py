"""A Merlin stream over loopback TCP: framefold, LiberTEM-live and a receiver that does nothing (L6).

One process sends the same acquisition from memory to each receiver in turn; what counts is the time from a
fifth of the bytes to the last one, taken by the sender. The receivers run in processes of their own, with the
same reduction (sum of all frames), and are warmed up by a first acquisition.

    python benchmarks/live_tcp.py --libertem-live PYTHON [--frames 3000] [--rounds 5]
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

SKIPPED = 0.2
GOAL_RATIO, GOAL_SHARE = 2.0, 0.8


def stream(frames, side, dtype):
    """Return an acquisition as it goes over the wire, and its sum."""
    from framefold.io.live.replay.merlin import MerlinEncoder
    from framefold.udfcore.live import AcquisitionStart

    encoder = MerlinEncoder()
    few = np.random.default_rng(0).integers(0, 200, (16, side, side)).astype(dtype)
    nav = (frames // 50, 50)
    start = AcquisitionStart(frames, (side, side), np.dtype(dtype), nav, (), 1)
    parts = [b"".join(m) for m in encoder.begin(start)]
    parts += [b"".join(encoder.frame(i, few[i % 16])) for i in range(frames)]
    count = np.bincount(np.arange(frames) % 16, minlength=16)
    return b"".join(parts), np.tensordot(count, few.astype("int64"), 1)


def send(listener, data):
    """Send to who connects; return bytes per second behind the first fifth."""
    connection, _ = listener.accept()
    with connection:
        view, begin = memoryview(data), int(SKIPPED * len(data))
        connection.sendall(view[:begin])
        began = time.perf_counter()
        connection.sendall(view[begin:])
        seconds = time.perf_counter() - began
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until the receiver has closed: its work on the last frames is not ours
    return (len(data) - begin) / seconds


def answer_commands(listener, side):
    """Answer what a client asks at the command socket of the detector: the size of images, bits of a pixel."""
    while True:
        connection, _ = listener.accept()
        with connection:
            while head := connection.recv(15):
                asked = connection.recv(int(head[4:14]) - 1).decode().split(",")
                value = 12 if asked[1] == "COUNTERDEPTH" else side
                body = ",".join([*asked[:2], str(value), "0"])
                connection.sendall(f"MPX,{len(body) + 1:010d},{body}".encode())


def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def receive_null(port, nav, control):
    buffer = bytearray(2**20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while connection.recv_into(buffer):
            pass


class OurReceiver:
    def __init__(self):
        import framefold as ff

        self.ctx, self.udf = ff.Context(), ff.udfs.SumUDF()

    def __call__(self, port, nav, control):
        live = self.ctx.load(f"merlin://127.0.0.1:{port}", nav_shape=nav)
        return self.ctx.run_udf(live, self.udf)["intensity"].data.astype("int64")


class Theirs:
    def __init__(self):
        from libertem.udf.sum import SumUDF
        from libertem_live.api import LiveContext

        self.ctx, self.udf = LiveContext(), SumUDF()

    def __call__(self, port, nav, control):
        connect = self.ctx.make_connection("merlin")
        with connect.open(
            data_host="127.0.0.1", data_port=port, api_host="127.0.0.1", api_port=control, drain=False
        ) as connection:
            pending = connection.wait_for_acquisition(60.0)
            live = self.ctx.make_acquisition(conn=connection, nav_shape=nav, pending_aq=pending)
            return self.ctx.run_udf(dataset=live, udf=self.udf)["intensity"].data.astype("int64")


def receiver(kind):
    """Serve one receiver: ports come on stdin, answers go to stdout."""
    run = {"null": lambda: receive_null, "framefold": OurReceiver, "libertem-live": Theirs}[kind]()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        before = cpu()
        result = run(order["port"], tuple(order["nav"]), order["control"])
        checksum = (
            None if result is None else int((result * np.arange(result.size).reshape(result.shape)).sum())
        )
        print(json.dumps({"cpu": cpu() - before, "checksum": checksum}), flush=True)


class Peer:
    def __init__(self, kind, python):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} if python == sys.executable else None
        self.kind = kind
        self.process = subprocess.Popen(
            [python, __file__, "--receive", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=env,
        )  # fmt: skip
        while self.process.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                raise SystemExit(f"the receiver {kind} did not start")

    def run(self, listener, data, nav, control):
        order = {"port": listener.getsockname()[1], "nav": nav, "control": control}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        rate = send(listener, data)
        return rate, json.loads(self.process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--libertem-live",
        metavar="PYTHON",
        default=os.environ.get("FRAMEFOLD_LIBERTEM_LIVE_PYTHON"),
        help="a Python with libertem-live; default: FRAMEFOLD_LIBERTEM_LIVE_PYTHON",
    )
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--dtype", default="uint16")
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        receiver(args.receive)
        return
    frames = args.frames // 50 * 50
    data, total = stream(frames, args.side, args.dtype)
    checksum = int((total * np.arange(total.size).reshape(total.shape)).sum())
    peers = [Peer("null", sys.executable), Peer("framefold", sys.executable)]
    if args.libertem_live:
        peers.append(Peer("libertem-live", args.libertem_live))
    rates = {p.kind: [] for p in peers}
    seconds = {p.kind: [] for p in peers}
    commands = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer_commands, args=(commands, args.side), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for k in range(args.rounds + 1):
            for peer in peers:
                rate, answer = peer.run(listener, data, (frames // 50, 50), commands.getsockname()[1])
                if answer["checksum"] not in (None, checksum):
                    raise SystemExit(f"{peer.kind} computed another sum")
                if k:  # the first is for compilers and caches
                    rates[peer.kind].append(rate)
                    seconds[peer.kind].append(answer["cpu"] / (len(data) / 1e9))
    for peer in peers:
        peer.process.stdin.close()
        end(peer.process)
    ceiling = statistics.median(rates["null"])
    print(
        f"Merlin over loopback, {frames} frames of {args.side} x {args.side} {args.dtype}, sum of all frames;"
    )
    print(f"median of {args.rounds} interleaved rounds, {os.cpu_count()} cores.\n")
    print("| receiver | GB/s | frames/s | of the null receiver | CPU s per GB |")
    print("|---|---|---|---|---|")
    for kind, values in rates.items():
        rate, used = statistics.median(values), statistics.median(seconds[kind])
        per_s = rate / (len(data) / frames)
        print(f"| {kind} | {rate / 1e9:.2f} | {per_s:.0f} | {rate / ceiling:.2f} | {used:.2f} |")
    if args.libertem_live:
        ratios = [a / b for a, b in zip(rates["framefold"], rates["libertem-live"], strict=True)]
        share = statistics.median(a / b for a, b in zip(rates["framefold"], rates["null"], strict=True))
        ratio = statistics.median(ratios)
        met = "met" if ratio >= GOAL_RATIO or share >= GOAL_SHARE else "**missed**"
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print("\n| what | measured | goal | |\n|---|---|---|---|")
        print(
            f"| framefold / LiberTEM-live; framefold / null | {ratio:.1f} ({spread}); {share:.2f} | "
            f">= {GOAL_RATIO:g}, or >= {GOAL_SHARE:g} of null | {met} |"
        )


if __name__ == "__main__":
    main()
