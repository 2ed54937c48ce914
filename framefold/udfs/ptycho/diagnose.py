"""What often goes wrong, found in positions, frames and probe, and said in a sentence with the mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.positions import typical_step

Array = npt.NDArray[Any]
FEWEST = 16  # positions: fewer form no grid
ON_GRID = 0.05  # of the step: how close to a grid's node
MOST_ON_GRID = 0.7  # of the positions have such a neighbour; those at the border have none
RIM = 0.05  # of the frame, on each side
RIM_POWER = 0.01  # of the probe's


def regular_grid(pixels: npt.NDArray[np.float64]) -> str | None:
    """Return a sentence if the positions form a lattice: its period is a solution of the fit on its own.

    They do if the vectors from the middlemost position to its neighbours lead from most others to a
    neighbour, too, for two directions.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415  # only where a run begins

    step = typical_step(pixels)
    if len(pixels) < FEWEST or step <= 0:
        return None
    tree = cKDTree(pixels)
    middle = pixels[int(np.argmin(np.linalg.norm(pixels - pixels.mean(axis=0), axis=1)))]
    vectors = pixels[np.asarray(tree.query(middle, k=7)[1])[1:]] - middle
    held = []
    for vector in vectors:
        distance = np.asarray(tree.query(pixels + vector)[0])
        if (distance < ON_GRID * step).mean() > MOST_ON_GRID:
            held.append(vector)
    if not any(abs(a[0] * b[1] - a[1] * b[0]) > 0.1 * step**2 for a in held for b in held):
        return None
    return (
        f"the positions form a regular grid of {step:.3g} px, whose period may show in object and probe: "
        "next time move each by a random quarter of a step, or scan a spiral"
    )


def unusable_frames(sample: Array, ids: npt.NDArray[np.int64]) -> list[str]:
    """Return sentences about frames ``(n, ny, nx)`` that are empty, or equal to an earlier one."""
    said = []
    flat = np.ascontiguousarray(sample.reshape(len(sample), -1))
    dead = flat.max(axis=1) <= 0
    if dead.any():
        said.append(
            f"{int(dead.sum())} of {len(sample)} sampled frames are empty, the first is frame {ids[dead][0]}"
            ": leave them away by roi="
        )
    seen: dict[bytes, int] = {}
    twins = []
    for i in np.flatnonzero(~dead).tolist():
        first = seen.setdefault(flat[i].tobytes(), i)
        if first != i:
            twins.append((int(ids[first]), int(ids[i])))
    if twins:
        said.append(
            f"{len(twins)} of {len(sample)} sampled frames equal an earlier one, frame {twins[0][1]} is "
            f"frame {twins[0][0]}: was the detector read twice, or is there no sample?"
        )
    return said


def probe_at_border(probe: Array) -> str | None:
    """Return a sentence if more than 1 % of the power of ``(M, ny, nx)`` lies in the outer 5 %."""
    power = (np.abs(probe) ** 2).sum(axis=0)
    ry, rx = (max(1, round(RIM * n)) for n in power.shape)
    total = float(power.sum())
    share = 1 - float(power[ry:-ry, rx:-rx].sum()) / total if total > 0 else 0.0
    if share <= RIM_POWER:
        return None
    return (
        f"warning: {100 * share:.2g} % of the probe's power lies at the border of its field (wavelength * "
        "distance / detector pixel): the probe is too wide for the pixels of the detector, or distance, "
        "wavelength or binning are wrong"
    )
