"""From costs measured here to 256 workers: where the head node saturates, and what puts that off.

    python benchmarks/scaling.py

The costs of a task, of a merged byte, of a call to a session and of a TCP connection are measured on this machine; a
discrete-event simulation of the head's loop uses nothing else. It is checked against 1, 2 and 4 real dask
workers whose tasks sleep, so that the cores of this machine do not enter.
"""

import argparse
import heapq
import math
import socket
import statistics
import threading
import time
from dataclasses import dataclass

from executors import Sleep, run

from framefold.executor.dask import DaskExecutor
from framefold.udfcore.partitioning import HEAD_SECONDS, TARGET_SECONDS

WINDOW = 4  # tasks in flight per worker, as DaskRun keeps
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Costs:
    """Seconds, measured here."""

    head_task: float  # head: hand out a task, take and merge a small partial
    head_byte: float  # head: per byte of a partial
    worker_task: float  # worker: beside the work itself
    call: float  # one call to a session on a worker
    latency: float  # one way of a small TCP message
    byte: float  # per byte through one TCP connection


class Echo:
    """A session that answers."""

    def __init__(self, rank):
        self.rank = rank

    async def ping(self):
        return self.rank


def measure():
    executor = DaskExecutor(workers=2)
    run(executor, 4, Sleep())
    head_task = median(lambda: run(executor, 400, Sleep())) / 400
    sizes = (1 << 20, 4 << 20, 15 << 20)
    walls = [median(lambda s=s: run(executor, 40, Sleep(0, s)), 3) / 40 for s in sizes]
    head_byte = (walls[-1] - walls[0]) / (sizes[-1] - sizes[0])
    slow = median(lambda: run(executor, 60, Sleep(0.05)), 3)
    worker_task = max(0.0, slow / 30 - 0.05)
    sessions = executor.open_session(Echo, 2)
    sessions[0].call("ping")
    call = median(lambda: [sessions[0].call("ping") for _ in range(50)]) / 50
    for session in sessions:
        session.close()
    executor.close()
    latency, byte = tcp()
    return Costs(head_task, head_byte, worker_task, call, latency, byte)


def median(call, n=5):
    times = []
    for _ in range(n):
        t0 = time.perf_counter()
        call()
        times.append(time.perf_counter() - t0)
    return statistics.median(times)


def tcp(size=64 << 20, rounds=200):
    """Return the one-way latency and the seconds per byte of a loopback connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = server.accept()
        with peer:
            for _ in range(rounds):
                peer.recv(1)
                peer.sendall(b"x")
            left, buffer = size, bytearray(1 << 20)
            while left:
                left -= peer.recv_into(buffer, min(left, len(buffer)))
            peer.sendall(b"x")

    thread = threading.Thread(target=answer)
    thread.start()
    with socket.create_connection(server.getsockname()) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        t0 = time.perf_counter()
        for _ in range(rounds):
            s.sendall(b"x")
            s.recv(1)
        latency = (time.perf_counter() - t0) / rounds / 2
        data = bytes(size)
        t0 = time.perf_counter()
        s.sendall(data)
        s.recv(1)
        byte = (time.perf_counter() - t0) / size
    thread.join()
    server.close()
    return latency, byte


def simulate(costs, workers, tasks, seconds, size):
    """Return the wall time of `tasks` of `seconds` each, whose partials have `size` bytes.

    The head is one server: every partial occupies it for its cost, after which the worker gets a new task. A worker
    with a full window goes on meanwhile.
    """
    head = costs.head_task + costs.head_byte * size
    busy = [0.0] * workers  # when a worker is done with all that it was given
    done = []  # (time, worker): partials on their way to the head
    left = tasks
    clock = 0.0

    def give(worker, now):
        nonlocal left
        if left:
            left -= 1
            busy[worker] = max(busy[worker], now) + seconds + costs.worker_task
            heapq.heappush(done, (busy[worker], worker))

    for _ in range(WINDOW):
        for worker in range(workers):
            give(worker, 0.0)
    while done:
        ready, worker = heapq.heappop(done)
        clock = max(clock, ready) + head
        give(worker, clock)
    return clock


def check(costs):
    """Compare the model with real workers; rows of (workers, ms, bytes, real, model)."""
    rows = []
    for workers in (1, 2, 4):
        executor = DaskExecutor(workers=workers)
        run(executor, 2 * workers, Sleep())
        for ms, size in ((5, 8), (20, 8), (20, 1 << 20), (100, 8)):
            tasks = workers * max(12, int(1500 / ms))
            real = median(lambda e=executor, t=tasks, m=ms, s=size: run(e, t, Sleep(m / 1000, s)), 3)
            rows.append((workers, ms, size, real, simulate(costs, workers, tasks, ms / 1000, size)))
        executor.close()
    return rows


def offline(costs, wanted, size):
    """Return the efficiency for every number of workers; `wanted` None: tasks as long as the planner makes them."""
    out = []
    for workers in WORKERS:
        tasks = 40 * workers
        seconds = wanted or max(TARGET_SECONDS, HEAD_SECONDS * workers)
        out.append(tasks * seconds / workers / simulate(costs, workers, tasks, seconds, size))
    return out


def tree(costs, workers, size, fan=8):
    """Seconds until one large buffer per worker is merged: all to the head, and by a tree of workers."""
    flat = workers * costs.head_byte * size
    levels = math.ceil(math.log(workers, fan)) if workers > 1 else 0
    return flat, levels * (fan - 1) * 2 * costs.byte * size + costs.head_byte * size


def live(costs, hosts, frame, network, interval=0.1):
    """Frames per second of path B, and the share of its time that the head spends with `hosts` sessions.

    Each host receives 1/hosts of every frame and sends the part that it does not own to the owners.
    """
    out_bytes = frame / hosts * (hosts - 1) / hosts
    per_frame = out_bytes / network if hosts > 1 else 0.0
    receive = frame / hosts / network
    return 1 / (per_frame + receive), hosts * (costs.call + costs.head_task) / interval


def iterate(costs, workers, seconds, state):
    """Return the efficiency of an iteration: `seconds` of work in all, then a ring allreduce of `state` bytes."""
    if workers == 1:
        return 1.0
    step = 2 * (workers - 1)
    allreduce = step * costs.latency + 2 * state * (workers - 1) / workers * costs.byte
    return seconds / workers / (seconds / workers + allreduce)


def page(costs, rows):
    lines = [
        f"Measured here: head {costs.head_task * 1e3:.2f} ms a task and {costs.head_byte * 2**20 * 1e3:.2f} ms a MiB; worker "
        f"{costs.worker_task * 1e3:.2f} ms a task; session call {costs.call * 1e3:.2f} ms; TCP {costs.latency * 1e6:.0f} us, "
        f"{1e-9 / costs.byte:.1f} GB/s.",
        "",
        "**The model against real workers** (tasks sleep)",
        "",
        "| workers | task, ms | partial | real, s | model, s | model / real |",
        "|---|---|---|---|---|---|",
        *(
            f"| {w} | {ms} | {size >> 10 or size} {'KiB' if size >> 10 else 'B'} | {real:.2f} | {model:.2f} | {model / real:.2f} |"
            for w, ms, size, real, model in rows
        ),
        "",
        "**Offline**: efficiency (work done / lanes x time)",
        "",
        "| task, partial | " + " | ".join(map(str, WORKERS)) + " | head saturates at |",
        "|---|" + "---|" * (len(WORKERS) + 1),
    ]
    for seconds, size, text in (
        (0.02, 8, "20 ms, small"),
        (0.2, 8, "200 ms, small"),
        (None, 8, "planner: 200 ms, 4 ms a lane if more; small"),
        (0.2, 1 << 20, "200 ms, 1 MiB"),
        (0.2, 47 << 20, "200 ms, 47 MiB with every partial"),
    ):
        head = costs.head_task + costs.head_byte * size
        limit = f"{(seconds + costs.worker_task) / head:.0f} workers" if seconds else "-"
        cells = " | ".join(f"{e:.0%}" for e in offline(costs, seconds, size))
        lines.append(f"| {text} | {cells} | {limit} |")
    flat, by_tree = zip(*(tree(costs, w, 47 << 20) for w in WORKERS), strict=True)
    lines += [
        "",
        "**Large buffers** stay on the worker and travel once: seconds to collect 47 MiB (C2 of 300 rings) from every worker",
        "",
        "| way | " + " | ".join(map(str, WORKERS)) + " |",
        "|---|" + "---|" * len(WORKERS),
        "| all to the head (built) | " + " | ".join(f"{s:.1f}" for s in flat) + " |",
        "| tree of workers, 8 at a time (model only) | " + " | ".join(f"{s:.1f}" for s in by_tree) + " |",
        "",
        "**Live, path B**: frames of 8 MiB over 25 Gbit/s links (assumed), sectors spread over the hosts",
        "",
        "| hosts | 1 | 2 | 4 | 8 | 16 | 32 |",
        "|---|---|---|---|---|---|---|",
    ]
    several = [live(costs, h, 8 << 20, 25e9 / 8) for h in (1, 2, 4, 8, 16, 32)]
    lines += [
        "| frames/s | " + " | ".join(f"{fps:.0f}" for fps, _ in several) + " |",
        "| share of the head's time | " + " | ".join(f"{share:.0%}" for _, share in several) + " |",
        "",
        "**Iterative**: efficiency of an iteration of 20 s of work in all, allreduce of the state over a ring of TCP connections",
        "",
        "| state | " + " | ".join(map(str, WORKERS)) + " |",
        "|---|" + "---|" * len(WORKERS),
    ]
    for mib in (1, 16, 128):
        cells = " | ".join(f"{iterate(costs, w, 20.0, mib << 20):.0%}" for w in WORKERS)
        lines.append(f"| {mib} MiB | {cells} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    costs = measure()
    print(page(costs, check(costs)))


if __name__ == "__main__":
    main()
