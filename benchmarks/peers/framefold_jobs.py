"""Runs benchmark jobs with framefold; the twin of `libertem_jobs.py`."""

import json
import sys
import time

import numpy as np
from watch import Watch

import framefold as ff


def noop(n_buffers):
    class NoOp(ff.UDF):
        def get_result_buffers(self):
            return {f"b{i}": self.buffer("nav", dtype="float32") for i in range(n_buffers)}

        def process_frame(self, frame):
            pass

    return NoOp()


def python_sum(frame):
    return float(frame[0, 0]) + float(frame[-1, -1])


class FirstPixel(ff.UDF):
    """A frame UDF that costs next to nothing."""

    def get_result_buffers(self):
        return {"first": self.buffer("nav", dtype="float32")}

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def process_frame(self, frame):
        self.results.first[:] = frame[0, 0]


def udfs_of(job, sig):
    from framefold.udfs import ApplyMasksUDF, CrystallinityUDF, StdDevUDF, SumSigUDF, SumUDF

    rng = np.random.default_rng(0)
    dense = rng.random((16, *sig)).astype("float32")
    y, x = np.ogrid[: sig[0], : sig[1]]
    disk = (y - sig[0] / 2) ** 2 + (x - sig[1] / 2) ** 2 < (sig[0] / 8) ** 2
    return {
        "sum": lambda: [SumUDF()],
        "sum_dark_gain": lambda: [SumUDF()],
        "sumsig": lambda: [SumSigUDF()],
        "stddev": lambda: [StdDevUDF()],
        "masks_1": lambda: [ApplyMasksUDF(masks=dense[:1])],
        "masks_4": lambda: [ApplyMasksUDF(masks=dense[:4])],
        "masks_16": lambda: [ApplyMasksUDF(masks=dense)],
        "disk": lambda: [ApplyMasksUDF(masks=[disk])],
        "fused": lambda: [SumUDF(), SumSigUDF(), StdDevUDF()],
        "mixed": lambda: [SumUDF(), FirstPixel()],
        "slow": lambda: [SumUDF(), StdDevUDF(), CrystallinityUDF(rad_in=5, rad_out=60)],
        "noop_1": lambda: [noop(1)],
        "noop_9": lambda: [noop(9)],
    }[job]()


def main():
    spec = json.loads(sys.stdin.readline())
    ctx = ff.Context(workers=2) if spec["executor"] == "dask" else ff.Context(executor=spec["executor"])
    sig = tuple(spec["sig"])
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["job"] == "quit":
            break
        ds = ctx.load(
            command["path"],
            nav_shape=command["nav"],
            sig_shape=command["sig"],
            dtype=command["dtype"],
            format="raw",
        )
        corrections = None
        if command["job"] == "sum_dark_gain":
            rng = np.random.default_rng(1)
            corrections = ff.Corrections(dark=rng.random(sig), gain=rng.random(sig) + 0.5)
        watch = Watch() if command.get("watch") else None
        t0, c0 = time.perf_counter(), time.process_time()
        if command["job"] == "map_sum":
            ctx.map(ds, np.sum)
        elif command["job"] == "map_python":
            ctx.map(ds, python_sum)
        elif command["job"] == "slow_snapshots":
            for snapshot in ctx.run_udf_iter(
                ds, udfs_of("slow", sig), publish="latest", publish_interval=0.1
            ):
                assert all(
                    buffer.data is not None for result in snapshot.buffers for buffer in result.values()
                )
        elif command["job"] == "slow_plots":
            ctx.run_udf(ds, udfs_of("slow", sig), plots=True)
        else:
            ctx.run_udf(ds, udfs_of(command["job"], tuple(command["sig"])), corrections=corrections)
        used = {"seconds": time.perf_counter() - t0, "cpu": time.process_time() - c0}
        if watch is not None:
            used["anonymous_mib"] = watch.stop()
        print(json.dumps(used), flush=True)
    ctx.close()


if __name__ == "__main__":
    main()
