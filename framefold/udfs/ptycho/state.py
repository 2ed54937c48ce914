"""What a reconstruction goes on from, and the sums of its passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from framefold.udfcore.iterative import PassBuffer


def dtypes(params: Any) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the dtypes of waves and of real arrays."""
    double = params.precision == "double"
    return np.dtype("c16" if double else "c8"), np.dtype("f8" if double else "f4")


def loop_state(job: Any) -> Mapping[str, Any]:
    """Return probe, object, momenta and the place in the recipe; waves lie where they are computed."""
    complex_, real = dtypes(job.params)
    probe = job.xp.asarray(job.setup.probe.astype(complex_))
    obj = job.xp.asarray(job.setup.object.astype(complex_))
    still = np.zeros(job.setup.corner.shape)
    return {
        "probe": probe, "object": obj, "bank": job.shifted(probe), "v_probe": 0 * probe,
        "v_object": 0 * obj, "background": job.xp.asarray(job.setup.background.astype(real)),
        "corner": job.setup.corner, "bank_index": job.setup.bank, "moves": still,
        "best_error": np.inf, "best_object": obj.copy(), "best_probe": probe.copy(),
        "bad_iterations": 0, "rollbacks": 0, "refill": False,
        "dark": np.zeros(len(still), bool), "power": np.ones(len(still)), "surveyed": 0, "flip": "none",
        "update_probe": False, "update_object": True, "damping": 1.0, "last_error": np.inf,
        "free_best": np.inf, "free_age": 0, "free_object": np.zeros(0), "free_probe": np.zeros(0),
        "free_moves": np.zeros(0), "momentum_age": 0, "overlap": 1.0, "stage": 0, "stage_iteration": 0,
    }  # fmt: skip


def pass_buffers(job: Any) -> Mapping[str, PassBuffer]:
    """Return the numerators of object and probe, the misfit, and what the refinements need."""
    loop, complex_ = job.loop, dtypes(job.params)[0]
    return {
        "object": job.summed(
            loop.object.shape,
            complex_,
            windowed=True,
            phase=("residual", "relax", "object", "slopes", "sweep"),
        ),
        "probe": job.summed(loop.bank.shape, complex_, phase=("residual", "probe", "slopes", "sweep")),
        "misfit": job.summed((3,), "float64"),
        "moves": job.summed(job.setup.corner.shape, "float64", phase="positions"),
        "ratio": job.summed(job.setup.window.shape, "float64", phase="background"),
        "free": job.summed((2,), "float64", phase="free"),
        "counts": job.summed(job.setup.corner.shape[:1], "float64", phase="survey"),
        "brightness": job.summed(job.setup.corner.shape, "float64", phase="brightness"),
        "line": job.summed((3,), "float64", phase="line"),
        "weight": job.summed(loop.object.shape[-2:], dtypes(job.params)[1], phase="sweep"),
    }
