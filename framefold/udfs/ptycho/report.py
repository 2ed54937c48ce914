"""What a reconstruction shows of itself: results, axes, plots, last words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framefold.udfcore.metadata import Axis
from framefold.udfcore.namespace import to_host
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfs.ptycho import diagnose, refine
from framefold.udfs.ptycho.ambiguity import displayed, remove_ambiguities
from framefold.udfs.ptycho.free_pixels import held
from framefold.udfs.ptycho.modes import powers
from framefold.udfs.ptycho.setup import Setup


def results(job: Any) -> Mapping[str, Any]:
    """Return the results by name, ambiguities removed."""
    loop, s = job.loop, job.setup
    weight, raw_object, raw_probe = map(to_host, (job.object_denominator(), loop.object, loop.probe))
    obj, probe = remove_ambiguities(raw_object, raw_probe, weight, phase_positive=job.params.phase_positive)
    modulus, phase = displayed(obj[0], weight)
    return {
        "object": obj[0] if len(obj) == 1 else obj,
        "probe": probe,
        "phase": phase,
        "modulus": modulus,
        "probe_main": probe[0],
        "error": job.history["error"],
        "positions": job.refined_pixels,
        "mode_powers": powers(probe),
        "pixel_size": np.asarray(s.pixel_size),
        "raw_object": raw_object,
        "raw_probe": raw_probe,
        "illumination": weight,
        **({"llk_free": held(job.history["llk_free"])} if job.params.free_pixels else {}),
    }


def last_words(job: Any) -> Iterator[str]:
    """Yield sentences about what may be wrong at the end."""
    if job.setup.geometry.kind == "far":
        said = diagnose.probe_at_border(to_host(job.loop.probe))
        if said is not None:
            yield said
    if job.params.refine_positions:
        affine = job.params.refine_positions == "affine"
        moved = refine.told_moves(job.start_pixels, job.loop.moves, affine)
        if moved is not None:
            yield moved
    error = job.history["error"]
    error = error[np.isfinite(error)]
    if len(error):
        hovers = getattr(job.recipe.stages[-1], "keeps_waves", False)
        lacks = diagnose.above_noise(float(error[-1]), job.setup.noise, job.params, hovers)
        if lacks is not None:
            yield lacks


def axes(setup: Setup) -> Mapping[str, tuple[Axis, ...]]:
    """Return the axes of the results."""
    size = setup.pixel_size
    wide = max(size) * max(setup.canvas.shape) > 2e-6
    factor, name = (1e6, "um") if wide else (1e9, "nm")
    unit = tuple(Axis(n, step * factor, 0.0, name) for n, step in zip("yx", size, strict=True))
    names = ("phase", "modulus", "probe_main", "illumination", "object")
    return {
        **dict.fromkeys(names, unit),
        **dict.fromkeys(("error", "llk_free"), (Axis("iteration", 1.0, 1.0, ""),)),
    }


def plots(params: Any) -> Sequence[PlotSpec]:
    """Return phase and modulus of the object, the probe, and the error."""
    free = PlotSpec("line", ("llk_free",), title="Deviance of pixels that the fit does not see")
    return (
        PlotSpec("image", ("phase",), title="Phase of the object", units="rad", cmap="gray"),
        PlotSpec("image", ("modulus",), title="Modulus of the object", cmap="gray"),
        PlotSpec("hue-phase", ("probe_main",), title="Probe"),
        PlotSpec("line", ("error",), title="Error E", scale="log"),
        *([free] if params.free_pixels else []),
    )
