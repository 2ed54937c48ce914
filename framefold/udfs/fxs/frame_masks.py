"""Masks that differ from frame to frame: their summed products, and the estimate that divides by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from framefold.errors import DataError
from framefold.udfs.fxs.correlator import Correlator, Sums
from framefold.udfs.fxs.mask_effects import Pattern, uncentred
from framefold.udfs.fxs.measured import joint
from framefold.udfs.fxs.selfterm import SelfTerm

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
PATTERNS = 32  # frames whose masks are kept: bias of centring and photon noise are means over them


def slots_of(n_frames: int) -> dict[int, int]:
    """Return the place of each frame whose mask is kept, by its index; they are evenly spaced."""
    kept = np.unique(np.linspace(0, n_frames - 1, min(PATTERNS, n_frames)).astype(np.int64))
    return {int(frame): slot for slot, frame in enumerate(kept)}


def left_out(frames: Array, lost: Array | None, saturation: float | None) -> list[Array | None]:
    """Return which pixels of each frame are lost or full, flat; None where there is none."""
    found: list[Array | None] = []
    for i, frame in enumerate(frames):
        gone = np.zeros(len(frame), bool) if lost is None else lost[i].reshape(-1)
        if saturation is not None:
            gone = gone | (frame >= saturation)
        found.append(gone if gone.any() else None)
    return found


class MaskFold:
    """Adds the products of the weights of frames to accumulators, as a `Correlator` does with the frames.

    Parameters
    ----------
    correlator
        Of the weights, with ``Layout.of_masks``.
    weight
        ``(n_q, n_phi)``, of all frames.
    n_frames
        Of the dataset: the masks of some, evenly spaced, are kept.
    """

    def __init__(self, correlator: Correlator, weight: npt.NDArray[np.float32], n_frames: int) -> None:
        self.correlator, self.weight = correlator, weight
        self._slots = slots_of(n_frames)

    def add(
        self,
        valid: npt.NDArray[np.bool_],
        items: Sequence[tuple[int, int]],
        groups: Array,
        ids: Array,
        sums: Sums,
        patterns: Array,
        taken: Array,
    ) -> None:
        """Add the masks of frames, or those that pairs of frames share.

        Parameters
        ----------
        valid
            ``(n, n_q, n_phi)``: bins of each frame that count.
        items, groups, sums
            As for `Correlator.add`.
        ids
            Global index of each frame.
        patterns, taken
            ``(32, n_q, n_phi)`` and ``(32,)``: masks that are kept, and which of them are there.
        """
        if not items:
            return
        weights = np.stack([self.weight * joint(valid, item) for item in items])
        each = [(i, -1) for i in range(len(items))]
        self.correlator.add(weights, each, groups, np.ones(len(items)), sums)
        for item in items:
            slot = self._slots.get(int(ids[item[0]]))
            if slot is not None:
                patterns[slot] += joint(valid, item)
                taken[slot] += 1


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """What is known of masks that differ from frame to frame.

    Attributes
    ----------
    products, amplitudes
        As in `Correlation`, of the weights w_j in place of the frames.
    patterns
        ``(n, n_q, P)`` uint8: masks of some frames, 1 where a bin counts.
    """

    products: Floats
    amplitudes: npt.NDArray[np.complex128]
    patterns: npt.NDArray[np.uint8]


def mean_mask_correlation(products: Floats, n: int, n_phi: int) -> Floats:
    """Return ``M(q, q', D)``, the mean over frames, from summed products ``(orders, n_q, n_q)``."""
    return np.moveaxis(_angles(products, n_phi), 0, 2) / n


def divided(
    products: Array,
    amplitudes: Array,
    mask_products: Floats,
    mask_amplitudes: Array,
    n: int,
    weight: Array,
    patterns: npt.NDArray[np.uint8],
    *,
    centred: bool,
    covariance: bool,
    noise: SelfTerm | None = None,
    min_pairs: float = 0.02,
    tolerance: float = 1e-9,
) -> Floats:
    """Return C_m that an unmasked detector would have given, ``(P/2 + 1, n_q, n_q)``.

    Each angle is divided by the pairs of bins that were really measured, ``C = S(D) / M(D)``, with S and M
    the sums of the products of frames and of their weights w_j. What all frames share, taken from the
    amplitudes ``a = sum_j A_j`` and ``b = sum_j W_j``, is subtracted as
    ``C = (S/M - aa*/bb*) / (1 - M/bb*)``. With one mask that is the covariance,
    ``(S - aa*/n) / (n - 1) / M_1``. It is exact where masks depend neither on the data nor, bin by bin, on
    one another; without static structure it is so for any masks that do not depend on the data. The bias of
    centring is the mean of T[C] (see `mask_effects.corrected`) over `patterns`.

    Parameters
    ----------
    products, amplitudes
        Sums over frames, all orders: ``(orders, n_q, n_q)`` and ``(orders, n_q)``.
    mask_products, mask_amplitudes
        The same of the weights.
    n
        Frames.
    weight
        ``(n_q, P)``, what all frames share.
    patterns
        See `FrameMasks`.
    centred
        Whether ring means were subtracted.
    covariance
        Subtract what all frames share.
    noise
        Photon self-term per frame, as it is in the sums: not yet divided by pairs of bins.
    min_pairs
        Angles D with less than this part of pairs of bins have no estimate, nor have those with nothing in
        other frames to compare with (``bb* < 2 M``, covariance only); such pairs of rings are NaN.
    tolerance
        Of the iteration, relative to the largest value.

    Raises
    ------
    DataError
        If the bias of centring is to be undone, and none of the frames whose masks are kept was used.
    """
    n_q, n_phi = weight.shape
    kinds, counts = np.unique(patterns, axis=0, return_counts=True)
    if centred and not len(kinds):
        raise DataError("no frame whose mask is kept was used: run C2UDF with center='none', or more frames")
    weights = kinds * weight.astype(np.float64)
    spectra = scipy.fft.rfft(weights, axis=2)
    out = np.full((n_phi // 2 + 1, n_q, n_q), np.nan)
    for i in range(n_q):
        to = slice(0, i + 1)
        s = _angles(_without(products[:, i, to].real, centred), n_phi).T
        m = _angles(mask_products[:, i, to], n_phi).T
        a, b = _without(amplitudes, centred), mask_amplitudes
        shared, all_pairs = (_angles((x[:, i : i + 1] * x[:, to].conj()).real, n_phi).T for x in (a, b))
        good = (m >= min_pairs * n).all(axis=1)
        if covariance:
            good &= (all_pairs >= 1.999 * m).all(axis=1)
        js = np.flatnonzero(good)
        if not len(js):
            continue
        m, estimate = m[js] / n, s[js] / m[js]
        if covariance:
            estimate = (estimate - shared[js] / all_pairs[js]) / (1 - n * m / all_pairs[js])
        if noise is not None:  # noise h is in S and in aa*: (h/M - h/bb*) / (1 - M/bb*) = h/M
            estimate = estimate - n_phi * scipy.fft.irfft(noise.of_ring(i, n_q)[js], n_phi, axis=1) / m
        if centred:
            masks = [
                Pattern(
                    share, w[i], w[js], scipy.fft.irfft((f[i].conj() * f[js]).real, n_phi, axis=1) / n_phi
                )
                for share, w, f in zip(counts / counts.sum(), weights, spectra, strict=True)
            ]
            estimate = uncentred(estimate * m, m, masks, tolerance)
        found = scipy.fft.rfft(estimate, axis=1).real / n_phi
        out[:, i, js] = out[:, js, i] = found.T
    return out


def _angles(products: Array, n_phi: int) -> Floats:
    """Return the transform of real products along the first axis, a function of D symmetrised."""
    values: Floats = n_phi * scipy.fft.irfft(products, n_phi, axis=0)
    return values


def _without(orders: Array, zero: bool) -> Array:
    """Return sums by order, without order 0 where ring means were subtracted."""
    if not zero:
        return orders
    left = orders.copy()
    left[0] = 0
    return left
