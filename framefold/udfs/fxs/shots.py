"""What a shot counts: its scale, its score, and whether it is used at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class VetoCode(IntEnum):
    """Why a frame was not used."""

    USED = 0
    MISS = 1
    SATURATED = 2
    NO_AUX = 3
    INCOMPLETE = 4
    USER = 5
    UNPAIRED = 6


@dataclass(frozen=True, eq=False)
class ShotScale:
    """The factor s_j that multiplies a polar frame.

    Attributes
    ----------
    kind
        ``"none"``, ``"aux"`` or ``"ring"``.
    values
        Of ``"aux"``: what the frame is divided by, one per frame of the dataset (pulse energies).
    window
        Of ``"ring"``: q range in 1/Angstrom, whose weighted mean divides the frame.
    """

    kind: str = "none"
    values: Any = None
    window: tuple[float, float] | None = None

    @classmethod
    def none(cls) -> ShotScale:
        """Return a scale of 1 for all frames."""
        return cls()

    @classmethod
    def aux(cls, values: npt.ArrayLike) -> ShotScale:
        """Divide by given values relative to their median; NaN and what is not positive vetoes the frame."""
        array = np.asarray(values, dtype=np.float64).reshape(-1)
        good = array[np.isfinite(array) & (array > 0)]
        if not len(good):
            raise DataError("ShotScale.aux: no value is positive and finite")
        return cls("aux", array / np.median(good))

    @classmethod
    def ring(cls, q0: float, q1: float) -> ShotScale:
        """Divide by the mean of the frame in ``q0 .. q1``: from then on photons are relative to that ring."""
        if not 0 <= q0 < q1:
            raise DataError(f"ShotScale.ring({q0}, {q1}): 0 <= q0 < q1 is needed (1/Angstrom)")
        return cls("ring", None, (q0, q1))

    def factors(self, ids: Array, means: Floats, q: Floats, weight_sums: Floats) -> Floats:
        """Return s_j of frames; NaN where there is none.

        Parameters
        ----------
        ids
            Flat indices of the frames in the dataset.
        means
            ``(frames, n_q)`` ring means.
        q, weight_sums
            ``(n_q,)``: centres, and sums of the bins' weights (or ``(frames, n_q)``).
        """
        if self.kind == "none":
            return np.ones(len(ids))
        divisor = self.values[ids] if self.kind == "aux" else window_mean(means, q, weight_sums, self.window)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isfinite(divisor) & (divisor > 0), 1 / divisor, np.nan)

    def check(self, n_frames: int, q: Floats) -> None:
        """Raise `DataError` if the values or the window do not fit."""
        if self.kind == "aux" and len(self.values) != n_frames:
            raise DataError(f"ShotScale.aux has {len(self.values)} values, the dataset {n_frames} frames")
        if self.window is not None:
            check_window(self.window, q, "ShotScale.ring")


@dataclass(frozen=True, eq=False)
class Veto:
    """Which frames are used. A threshold is fixed before the run, never adapted in it.

    A running threshold would make the answer depend on the order of the frames.

    Attributes
    ----------
    kind
        ``"none"``, ``"threshold"``, ``"auto"``, ``"aux"`` or ``"custom"``.
    lo, hi
        Limits of the score, the mean photons in the hit window.
    k
        Of ``"auto"``: the limit is ``median + k * 1.4826 * MAD`` of the scores of a calibration set.
    values
        Of ``"aux"``: True where a frame is used.
    function
        Of ``"custom"``: takes the scores (``{"score", "saturated"}``, arrays) and returns flags.
    """

    kind: str = "none"
    lo: float = -np.inf
    hi: float = np.inf
    k: float = 5.0
    values: Any = None
    function: Callable[[Mapping[str, Array]], Array] | None = None

    @classmethod
    def none(cls) -> Veto:
        """Use all frames."""
        return cls()

    @classmethod
    def threshold(cls, lo: float = -np.inf, hi: float = np.inf) -> Veto:
        """Use frames with ``lo <= score <= hi``."""
        if not lo < hi:
            raise DataError(f"Veto.threshold({lo}, {hi}): lo < hi is needed")
        return cls("threshold", float(lo), float(hi))

    @classmethod
    def auto(cls, k: float = 5.0) -> Veto:
        """Use frames brighter than the misses: the threshold comes from ``C2UDF.calibrated``."""
        return cls("auto", k=float(k))

    @classmethod
    def aux(cls, values: npt.ArrayLike) -> Veto:
        """Use the frames flagged True, one flag per frame of the dataset."""
        return cls("aux", values=np.asarray(values, dtype=bool).reshape(-1))

    @classmethod
    def custom(cls, function: Callable[[Mapping[str, Array]], Array]) -> Veto:
        """Use the frames for which `function` of the scores is True."""
        return cls("custom", function=function)

    def calibrated(self, scores: Array) -> Veto:
        """Return the threshold that ``auto`` means for the scores of a calibration set."""
        known = np.asarray(scores, dtype=np.float64)
        known = known[np.isfinite(known)]
        if not len(known):
            raise DataError("no frame of the calibration set has a score: check geometry, mask and q window")
        median = np.median(known)
        spread = 1.4826 * np.median(np.abs(known - median))
        return replace(self, kind="threshold", lo=float(median + self.k * spread))

    def accepts(self, ids: Array, scores: Mapping[str, Array]) -> tuple[npt.NDArray[np.bool_], VetoCode]:
        """Return flags of frames, and the code of those refused."""
        score = scores["score"]
        if self.kind == "none":
            return np.ones(len(ids), bool), VetoCode.MISS
        if self.kind == "threshold":
            return (score >= self.lo) & (score <= self.hi), VetoCode.MISS
        if self.kind == "aux":
            return self.values[ids], VetoCode.USER
        assert self.function is not None  # "auto" is refused before the run
        flags = np.asarray(self.function(scores), dtype=bool)
        if flags.shape != (len(ids),):
            raise UDFError(f"Veto.custom: the function returned {flags.shape} flags for {len(ids)} frames")
        return flags, VetoCode.USER

    def check(self, n_frames: int) -> None:
        """Raise if the veto does not fit the dataset, or still needs a calibration."""
        if self.kind == "aux" and len(self.values) != n_frames:
            raise DataError(f"Veto.aux has {len(self.values)} flags, the dataset {n_frames} frames")
        self.check_ready()

    def check_ready(self) -> None:
        """Raise if the veto still needs a calibration."""
        if self.kind == "auto":
            raise UDFError(
                "Veto.auto has no threshold yet: udf = udf.calibrated(ctx, dataset), then run that"
            )


def check_window(window: tuple[float, float], q: Floats, what: str) -> None:
    """Raise `DataError` if no bin of the grid lies in a q window."""
    if not ((q >= window[0]) & (q <= window[1])).any():
        raise DataError(
            f"{what}: no polar bin lies in {window[0]:g} .. {window[1]:g}; "
            f"the grid has {q[0]:.4g} .. {q[-1]:.4g} 1/Angstrom"
        )


def window_mean(means: Floats, q: Floats, weight_sums: Floats, window: tuple[float, float] | None) -> Floats:
    """Return the mean over the good bins of a q window, per frame; ``(frames,)``.

    `weight_sums` is ``(n_q,)``, or ``(frames, n_q)`` where masks differ; NaN where nothing is good.
    """
    inside = np.ones(len(q), bool) if window is None else (q >= window[0]) & (q <= window[1])
    weights = np.where(inside, weight_sums, 0)
    total = np.broadcast_to(weights.sum(axis=-1), len(means))
    found = np.full(len(means), np.nan)
    np.divide((means * weights).sum(axis=1), total, out=found, where=total > 0)
    return found


def half_of(ids: Array) -> npt.NDArray[np.int64]:
    """Return 0 or 1 for each frame: one bit of a hash of its index (splitmix64).

    Independent of batches and partitions, and of any pattern in the pulses.
    """
    with np.errstate(over="ignore"):
        x = np.asarray(ids).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x & np.uint64(1)).astype(np.int64)


def sampled(ids: Array, every: int, n_frames: int) -> npt.NDArray[np.bool_]:
    """Return which frames belong to a sample of one in `every`, by another hash of the index.

    Short runs are sampled more densely, so that some 256 of their `n_frames` are taken, or all.
    """
    every = min(every, max(1, n_frames // 256))
    with np.errstate(over="ignore"):
        x = (np.asarray(ids).astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
        x ^= x >> np.uint64(32)
        x *= np.uint64(0xD6E8FEB86659FD93)
        x ^= x >> np.uint64(32)
    return x % np.uint64(every) == 0
