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
DARK = 0.02  # of the median counts of all frames: below, a frame has no light
ABOVE_NOISE = 1.5  # times what counting noise leaves of E: more has another reason
# their means over Poisson counts of 0, 1, 2, ... are those of (sqrt k - sqrt mean)^2 within 12 % (fitted)
NOISE_OF = np.array([0.0, 1.7, -1.5, 1.83, -0.16])

DARKEST = 2  # percentile
EVEN_SHARE = 0.02  # of the counts; 3 % of background made the object's error six times as large


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


def even_background(mean: Array, good: npt.NDArray[np.bool_]) -> str | None:
    """Return a sentence if the darkest pixels of the mean far-field frame make up much of it."""
    values = np.maximum(mean[good], 0)
    total = float(values.sum())
    dark = float(np.percentile(values, DARKEST)) if values.size else 0.0
    share = dark * values.size / total if total > 0 else 0.0
    if share <= EVEN_SHARE:
        return None
    return (
        f"nowhere is the mean frame darker than {dark:.3g} counts per pixel, {100 * share:.2g} % of all "
        "counts: if that is background, give it, background='estimate' ; --background estimate"
    )


def dark_frames(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which frames have hardly any of the light of the others, from the counts of each."""
    return np.asarray(counts <= DARK * np.median(counts))


def noise_error(sample: Array, good: npt.NDArray[np.bool_], limit: float) -> float:
    """Return the E that a true model of Poisson counts ``(n, ny, nx)`` has; NaN if these are no counts.

    ``sum (sqrt I - sqrt I_m)^2 / sum I``: a quarter of a count per pixel, less in the dark.
    """
    if sample.dtype.kind not in "iu" or len(sample) == 0:
        return float("nan")
    values = sample[(sample < limit) & good]
    total = float(values.sum(dtype=np.float64))
    if total <= 0 or values.min() < 0:
        return float("nan")
    few = np.minimum(values, len(NOISE_OF)).astype(np.int64)
    return float(np.append(NOISE_OF, 0.25)[few].sum() / total)


def above_noise(error: float, noise: float, params: Any, hovers: bool = False) -> str | None:
    """Return a sentence if E is far above what counting noise leaves, with what is not in the model yet."""
    if not error > ABOVE_NOISE * noise:
        return None
    ideas = [
        ("a recipe that ends with AP, '100 DM; 60 AP'", hovers),
        (
            "no probe= ; --probe (the one given may have a wrong size or sign of the defocus)",
            params.probe is not None,
        ),
        ("modes=3 ; --modes 3 (partial coherence, vibration)", params.modes == 1),
        ("refine_positions=True ; --refine-positions", not params.refine_positions),
        ("background='estimate' ; --background estimate", params.background is None),
        ("refine_brightness=True ; --refine-brightness (an unsteady beam)", not params.refine_brightness),
        ("orientation='auto' ; --orientation auto", params.orientation == "given"),
    ]
    untried = ", ".join(text for text, new in ideas if new)
    return (
        f"warning: E is {error:.3g}, {error / noise:.2g} times what counting noise would leave: the model "
        f"lacks something. Try in turn {untried}; check distance and wavelength; or the counts are no counts"
    )


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
