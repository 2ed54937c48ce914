"""LiberTEM-blobfinder as a black box: read jobs as JSON lines, answer with times; centres go to a file.

Runs in an environment of its own, with libertem-blobfinder installed.
"""

import json
import os
import sys
import time


def main():
    import libertem.api as lt
    import numpy as np
    from libertem_blobfinder.common import gridmatching, patterns
    from libertem_blobfinder.udf.refinement import run_refine

    ctx = lt.Context.make_with(sys.argv[1], cpus=os.cpu_count())
    loaded = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if job["file"] not in loaded:
            loaded = {job["file"]: ctx.load("npy", path=job["file"])}
        ds = loaded[job["file"]]
        pattern = patterns.BackgroundSubtraction(radius=job["radius"], radius_outer=1.5 * job["radius"])
        zero, a, b = (np.array(v) for v in job["lattice"])
        began, cpu = time.perf_counter(), sum(os.times()[:4])
        result, indices = run_refine(
            ctx, ds, zero, a, b, pattern, gridmatching.Matcher(), correlation=job["correlation"],
            indices=np.array(job["indices"]), upsample=job["upsample"],
        )  # fmt: skip
        seconds = time.perf_counter() - began
        np.savez(
            job["out"],
            centers=result["refineds"].data,
            indices=indices,
            a=result["a"].data,
            b=result["b"].data,
        )
        print(json.dumps({"seconds": seconds, "cpu": sum(os.times()[:4]) - cpu}), flush=True)


if __name__ == "__main__":
    main()
