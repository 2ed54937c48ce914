"""The sums of `C2UDF`, and what is watched and drawn while they grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfs.fxs import convergence
from framefold.udfs.fxs.correlator import Layout, diagonal_shape, row_shape
from framefold.udfs.fxs.frame_masks import PATTERNS
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.shots import VetoCode


def pictures(grid: PolarGrid) -> tuple[PlotSpec, ...]:
    """Return what is drawn during a run."""
    rings = Axis("q", grid.q_step, float(grid.q[0]), "1/Å")
    first = convergence.shells(grid.n_q)[0]
    parts = Axis("q", (first.stop - first.start) * grid.q_step, float(grid.q[first].mean()), "1/Å")
    return (
        PlotSpec("line", ("saxs",), title="SAXS", scale="log", units="photons / pixel", axes=(rings,)),
        PlotSpec("image", ("contrast",), title="C2(q, q, D) / SAXS²", symmetric=True,
                 axes=(Axis("D", 360 / grid.n_phi, 0.0, "degrees"), rings)),
        PlotSpec("line", ("cc_half",), title="CC1/2 per shell", axes=(parts,)),
        PlotSpec("image", ("cc_map",), title="CC1/2", symmetric=True, axes=(Axis("order"), parts)),
        PlotSpec("line", ("odd_even",), title="odd / even orders: centre and mask alarm", axes=(rings,)),
        PlotSpec("line", ("score",), title="score of frames"),
    )  # fmt: skip


def declared(
    single: Callable[..., BufferDecl], grid: PolarGrid, layout: Layout, *, variance: bool, noise: int
) -> dict[str, BufferDecl]:
    """Return the declarations; `single` makes one, `variance` asks for the mean frame of the self-term.

    `noise` is the number of pairs of rings that share pixels, where the self-term is summed by frame; or 0.
    """
    n_rows = len(layout.live_rows)
    shells = len(convergence.shells(grid.n_q))
    only = "result_only"
    buffers = {
        "products": single("single", layout.sum_shape, layout.sum_dtype, reduce="sum", large=True),
        "amplitudes": single(
            "single", (*layout.sum_shape[:2], grid.n_q), "complex128", reduce="sum", large=True
        ),
        "product_frames": single("single", (layout.groups,), "int64", reduce="sum", large=True),
        "ring_sum": single("single", (grid.n_q,), "float64", use="private", reduce="sum"),
        "ring_sum2": single("single", (grid.n_q,), "float64", use="private", reduce="sum"),
        "ring_frames": single("single", (grid.n_q,), "int64", use="private", reduce="sum"),
        "used": single("single", (layout.groups,), "int64", use="private", reduce="sum"),
        "codes": single("single", (len(VetoCode),), "int64", use="private", reduce="sum"),
        "scale_sums": single("single", (2,), "float64", use="private", reduce="sum"),
        "live_diagonals": single("single", diagonal_shape(layout), "float64", use="private", reduce="sum"),
        "live_rows": single("single", row_shape(layout), "float64", use="private", reduce="sum"),
        "score": single("nav", dtype="float32"),
        "scale": single("nav", dtype="float32"),
        "veto_code": single("nav", dtype="uint8"),
        "saxs": single("single", (grid.n_q,), "float64", use=only),
        "saxs2": single("single", (grid.n_q,), "float64", use=only),
        "diagonal": single("single", (grid.n_phi, grid.n_q), "float64", use=only),
        "contrast": single("single", (grid.n_phi, grid.n_q), "float64", use=only),
        "rows": single("single", (n_rows, grid.n_phi, grid.n_q), "float64", use=only),
        "cc_half": single("single", (shells,), "float64", use=only),
        "cc_map": single("single", (diagonal_shape(layout)[1], shells), "float64", use=only),
        "shots_needed": single("single", (2, shells), "float64", use=only),
        "odd_even": single("single", (grid.n_q,), "float64", use=only),
        "hit_rate": single("single", (1,), "float64", use=only),
    }
    if variance:
        buffers |= {
            "variance_sum": single("sig", dtype="float64", reduce="sum", large=True),
            "variance_scale": single("single", (2,), "float64", reduce="sum", large=True),
        }
    if noise:
        buffers |= {
            "noise_sum": single("single", (noise, grid.n_phi // 2 + 1), "float64", reduce="sum", large=True),
            "noise_frames": single("single", (1,), "int64", reduce="sum", large=True),
        }
    for masks in layout.of_masks:
        buffers |= {
            "mask_products": single("single", masks.sum_shape, masks.sum_dtype, reduce="sum", large=True),
            "mask_amplitudes": single(
                "single", (*masks.sum_shape[:2], grid.n_q), "complex128", reduce="sum", large=True
            ),
            "mask_frames": single("single", (masks.groups,), "int64", reduce="sum", large=True),
            "mask_patterns": single("single", (PATTERNS, *grid.shape), "uint8", reduce="sum", large=True),
            "mask_taken": single("single", (PATTERNS,), "uint8", reduce="sum", large=True),
        }
    return buffers


def live_results(r: Any, grid: PolarGrid, n: int, seen: int, *, halves: bool) -> dict[str, Any]:
    """Return what is worth watching, from the small sums `r` of `n` used frames of `seen`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        saxs, saxs2 = (np.nan_to_num(x / r.ring_frames) for x in (r.ring_sum, r.ring_sum2))
    pair = convergence.halves_of(r.live_diagonals, r.used, halves)
    cc_map, curve, needed = convergence.live_curves(*pair, grid.n_q)
    spectrum = r.live_diagonals.sum(axis=0) / max(n, 1)
    diagonal = convergence.to_angles(spectrum[:, 0], grid.n_phi)
    return {
        "saxs": saxs,
        "saxs2": saxs2,
        "diagonal": diagonal,
        "contrast": np.divide(diagonal, saxs**2, out=np.zeros_like(diagonal), where=saxs > 0),
        "rows": convergence.to_angles(np.moveaxis(r.live_rows, 1, 0) / max(n, 1), grid.n_phi).swapaxes(0, 1),
        "cc_half": curve,
        "cc_map": cc_map,
        "shots_needed": needed,
        "odd_even": convergence.odd_even(spectrum[:, min(1, spectrum.shape[1] - 1)]),
        "hit_rate": np.array([n / seen if seen else 0.0]),
    }
