"""Compressed images over ZeroMQ: which threads pay for their decoding.

    python benchmarks/live_packed.py [--frames 400] [--side 512]

A DECTRIS detector (stream V2, bslz4) is emulated in this process. What counts is processor time, by thread: the thread
that receives must not decode, or it would be the limit of the stream; the threads that fold share that work.
"""

import argparse
import threading
import time

import numpy as np

import framefold as ff
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.kernels.reduce import sum_frames
from framefold.testing.emulator import DetectorEmulator

ROUNDS = 3
RECEIVER, FOLDS = "framefold-live", "framefold-lane"


def by_thread(used):
    """Note the processor time of every thread that ends."""
    plain = threading.Thread.run

    def run(self):
        try:
            plain(self)
        finally:
            used[self.name] = used.get(self.name, 0.0) + time.thread_time()

    threading.Thread.run = run


def decode_alone(data):
    """Return processor seconds per decoded GB of decoding and adding up, without anything else."""
    from framefold.io.live.protocols.dectris_messages import parse_message
    from framefold.udfcore.live import AcquisitionStart

    encoder = DectrisEncoder("bslz4")
    encoder.begin(AcquisitionStart(len(data), data.shape[1:], data.dtype, None, (), 0, {}))
    arrays = [
        next(iter(parse_message(memoryview(encoder.frame(i, f)[0])).arrays.values()))
        for i, f in enumerate(data)
    ]
    out, acc = np.empty_like(data[:1]), np.zeros(data.shape[1:], np.uint64)
    best = np.inf
    for _ in range(ROUNDS):
        began = time.thread_time()
        for array in arrays:
            array.decode_into(out[0])
            sum_frames(out, acc)
        best = min(best, time.thread_time() - began)
    return best / (data.nbytes / 1e9), sum(len(a.data) for a in arrays) / data.nbytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--side", type=int, default=512)
    args = parser.parse_args()
    data = np.random.default_rng(0).poisson(3.0, (args.frames, args.side, args.side)).astype(np.uint16)
    alone, share = decode_alone(data[:64])
    used, rows = {}, []
    by_thread(used)
    with ff.Context(executor="threads", workers=2) as ctx:
        for _ in range(ROUNDS + 1):
            used.clear()
            with DetectorEmulator("dectris", data, rate=None) as detector:
                live = ctx.load(detector.url, nav_shape=(args.frames,))
                result = ctx.run_udf(live, ff.udfs.SumUDF(), on_ready=lambda info: detector.start())
            assert (result["intensity"].data == data.sum(axis=0, dtype=np.uint64)).all()
            rows.append([sum(v for k, v in used.items() if k.startswith(n)) for n in (RECEIVER, FOLDS)])
    receiver, folds = np.median(rows[1:], axis=0) / (data.nbytes / 1e9)
    print(
        f"{args.frames} images of {args.side} x {args.side} uint16, bslz4 to {100 * share:.0f} %; sum of all images.\n"
    )
    print("| CPU s per decoded GB | |")
    print("|---|---|")
    print(f"| the thread that receives | {receiver:.2f} |")
    print(f"| the threads that fold, together | {folds:.2f} |")
    print(f"| decoding and adding up alone | {alone:.2f} |")


if __name__ == "__main__":
    main()
