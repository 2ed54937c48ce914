"""Runs benchmark jobs with LiberTEM; driven by lines of JSON on standard input (see `udf.py`)."""

import functools
import json
import sys
import time

import numpy as np
from watch import Watch


def noop(n_buffers):
    from libertem.udf import UDF

    class NoOp(UDF):
        def get_result_buffers(self):
            return {f"b{i}": self.buffer("nav", dtype="float32") for i in range(n_buffers)}

        def process_frame(self, frame):
            pass

    return NoOp()


def python_sum(frame):
    return float(frame[0, 0]) + float(frame[-1, -1])


def dense_mask(i, sig):
    return np.random.default_rng(i).random(sig).astype("float32")


def udfs_of(job, sig):
    from libertem.udf.masks import ApplyMasksUDF
    from libertem.udf.stddev import StdDevUDF
    from libertem.udf.sum import SumUDF
    from libertem.udf.sumsigudf import SumSigUDF

    y, x = np.ogrid[: sig[0], : sig[1]]
    disk = (y - sig[0] / 2) ** 2 + (x - sig[1] / 2) ** 2 < (sig[0] / 8) ** 2

    def masks(k):
        return [ApplyMasksUDF(mask_factories=[functools.partial(dense_mask, i, sig) for i in range(k)])]

    return {
        "sum": lambda: [SumUDF()],
        "sum_dark_gain": lambda: [SumUDF()],
        "sumsig": lambda: [SumSigUDF()],
        "stddev": lambda: [StdDevUDF()],
        "masks_1": lambda: masks(1),
        "masks_4": lambda: masks(4),
        "masks_16": lambda: masks(16),
        "disk": lambda: [
            ApplyMasksUDF(mask_factories=[lambda: disk.astype("float32")], use_sparse="scipy.sparse")
        ],
        "fused": lambda: [SumUDF(), SumSigUDF(), StdDevUDF()],
        "noop_1": lambda: [noop(1)],
        "noop_9": lambda: [noop(9)],
    }[job]()


def main():
    from libertem.api import Context
    from libertem.io.corrections import CorrectionSet

    spec = json.loads(sys.stdin.readline())
    ctx = Context() if spec["executor"] == "dask" else Context.make_with(spec["executor"])
    sig = tuple(spec["sig"])
    datasets = {}

    def load(path, nav, sig, dtype):
        if path not in datasets:
            datasets[path] = ctx.load(
                "raw", path=path, nav_shape=tuple(nav), sig_shape=tuple(sig), dtype=dtype
            )
        return datasets[path]

    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["job"] == "quit":
            break
        ds = load(command["path"], command["nav"], command["sig"], command["dtype"])
        corrections = None
        if command["job"] == "sum_dark_gain":
            rng = np.random.default_rng(1)
            corrections = CorrectionSet(dark=rng.random(sig), gain=rng.random(sig) + 0.5)
        watch = Watch() if command.get("watch") else None
        t0, c0 = time.perf_counter(), time.process_time()
        if command["job"] == "map_sum":
            ctx.map(ds, np.sum)
        elif command["job"] == "map_python":
            ctx.map(ds, python_sum)
        else:
            ctx.run_udf(ds, udfs_of(command["job"], tuple(command["sig"])), corrections=corrections)
        used = {"seconds": time.perf_counter() - t0, "cpu": time.process_time() - c0}
        if watch is not None:
            used["anonymous_mib"] = watch.stop()
        print(json.dumps(used), flush=True)
    ctx.close()


if __name__ == "__main__":
    main()
