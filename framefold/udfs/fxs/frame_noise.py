"""The photon self-term of frames whose masks differ: of some frames, each with its own mask and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from framefold.udfs.fxs.frame_masks import slots_of
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.measured import joint
from framefold.udfs.fxs.pixels import PixelModel
from framefold.udfs.fxs.regrid import PolarOperator
from framefold.udfs.fxs.selfterm import SelfTerm, self_term

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class FrameNoise:
    """Adds the self-terms of the frames whose masks are kept.

    The bins of a frame are sums over the pixels that it has, divided by the response of these; its self-term
    follows from that operator and from its own counts, whose mean is their variance. So the mean over frames
    is unbiased, as long as masks do not depend on counts. In a difference ``(f_i - f_j) / sqrt 2`` both
    frames count half, on the bins that both have.

    That of a fixed mask comes from a mean frame. ``H = sum_pix h_pix V_pix`` is linear in the variance, with
    ``h_pix = 1/P sum_p E[(q, p), pix] E[(q', p + k), pix]`` (see `self_term`), so both have the same
    expectation, where all masks are equal, too. They differ by the noise of the frames that they take,
    ``var H = sum_pix h_pix^2 var(n_pix) / frames``: on a ring with N photons per frame that is about
    ``H / sqrt(N frames)``, and more where frames differ by more than their photons do. Only 32 frames are
    taken, because each needs the product of the operator with its own transpose.

    Parameters
    ----------
    operator
        From frames to polar frames.
    model, geometry
        What counts mean.
    centred
        Whether ring means are subtracted.
    n_frames
        Of the dataset.
    """

    def __init__(
        self, operator: PolarOperator, model: PixelModel, geometry: Geometry, *, centred: bool, n_frames: int
    ) -> None:
        self.operator, self.model, self.geometry, self.centred = operator, model, geometry, centred
        self.key = sharing_rings(operator)
        self._slots = slots_of(n_frames)

    def add(
        self,
        frames: Array,
        gone: Sequence[npt.NDArray[np.bool_] | None],
        items: Sequence[tuple[int, int]],
        valid: npt.NDArray[np.bool_],
        factors: Floats,
        ids: Array,
        spectra: Floats,
        taken: Ints,
    ) -> None:
        """Add frames, or differences of frames.

        Parameters
        ----------
        frames
            ``(n, pixels)``, raw counts.
        gone
            Of each frame: pixels that are left out, flat; None: none.
        items, valid, factors, ids
            See `Correlator.add` and `MaskFold.add`.
        spectra, taken
            ``(pairs of rings, P/2 + 1)`` and ``(1,)``: what is added to.
        """
        for item in items:
            if int(ids[item[0]]) not in self._slots:
                continue
            weight = self.operator.weight * joint(valid, item)
            members = [k for k in item if k >= 0]
            for k in members:
                term = self._of(frames[k], gone[k], weight, float(factors[k]))
                at = np.searchsorted(self.key, term.first * len(weight) + term.second)
                spectra[at] += term.spectra / len(members)
            taken += 1

    def _of(self, frame: Array, gone: Array | None, weight: Array, factor: float) -> SelfTerm:
        op = self.operator
        matrix = op.matrix
        there = np.isfinite(frame) if gone is None else ~gone & np.isfinite(frame)
        counts = np.where(there, frame, 0).astype(np.float64)
        if not there.all():
            left = 1 - op.response_share @ (~there).astype(np.float64)
            again = np.divide(1.0, left, out=np.zeros_like(left), where=left > 0.5)
            matrix = scipy.sparse.diags(again) @ matrix @ scipy.sparse.diags(there.astype(np.float64))
        variance = self.model.variance(self.geometry, factor**2 * counts, factor**2, clip=False)
        return self_term(matrix.tocsr(), weight, variance, centred=self.centred)


def sharing_rings(operator: PolarOperator) -> Ints:
    """Return ``q * n_q + q'`` of the pairs of rings that share pixels, ascending."""
    n_q, n_phi = operator.grid.shape
    bins = np.arange(n_q * n_phi)
    rings = scipy.sparse.csr_matrix((np.ones(len(bins)), (bins // n_phi, bins)), shape=(n_q, len(bins)))
    reach = rings @ abs(operator.matrix)
    pairs = (reach @ reach.T).tocoo()
    return np.unique(pairs.row.astype(np.int64) * n_q + pairs.col)


def mean_noise(key: Ints, n_q: int, spectra: Floats, taken: int) -> SelfTerm | None:
    """Return the mean self-term per frame, None where no frame was taken."""
    if not taken:
        return None
    first, second = np.divmod(key, n_q)
    return SelfTerm(first, second, spectra / taken)
