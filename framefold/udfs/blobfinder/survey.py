"""One look at a spread of frames: their mean, their maximum, and their mean autocorrelation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d

Array = npt.NDArray[Any]
#: share of pixels that hold nothing but the pedestal
_DARK = 0.05


class SurveyUDF(UDF):
    """Sum, maximum and summed power spectrum of the square roots of frames.

    The power spectrum does not see where a pattern is: descan blurs a mean frame, but not its
    autocorrelation.

    Results: ``total`` and ``maximum`` of kind sig, ``power`` (single): of frames padded to 1.5 times their
    size, so that distances up to half a frame do not wrap around; ``count``.
    """

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare sums that merge themselves."""
        check_real_2d(self)
        rows, columns = padded_shape(tuple(self.meta.dataset_shape.sig))
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "maximum": self.buffer("sig", dtype="float32", reduce="max"),
            "power": self.buffer("single", (rows, columns // 2 + 1), "float64", reduce="sum"),
            "count": self.buffer("single", dtype="int64", reduce="sum"),
        }

    def process_frame(self, frame: Array) -> None:
        """Add a frame."""
        import scipy.fft  # 30 ms that `import framefold` need not pay

        frame = np.nan_to_num(frame, nan=0.0, posinf=0.0, neginf=0.0)
        r = self.results
        r.total += frame
        frame = np.where(isolated(frame), 0, frame)
        np.maximum(r.maximum, frame, out=r.maximum)
        # a pedestal would hide what square roots do to counts
        root = np.sqrt(np.maximum(frame - np.quantile(frame, _DARK), 0)).astype(np.float32)
        root -= root.mean()
        shape = padded_shape(frame.shape)
        r.power += np.abs(scipy.fft.rfft2(root, s=shape, workers=1)) ** 2
        r.count += 1


def isolated(image: Array) -> npt.NDArray[np.bool_]:
    """Return the pixels that no disk explains: above thrice all their neighbours, or empty amid many counts.

    Two such pixels side by side are not found.
    """
    from scipy.ndimage import maximum_filter, minimum_filter  # 60 ms

    image = image - min(0.0, float(np.quantile(image, _DARK)))  # below zero is what was subtracted
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    high = maximum_filter(image, footprint=ring, mode="nearest")
    low = minimum_filter(image, footprint=ring, mode="nearest")
    return np.asarray((image > 3.0 * high + 10.0) | ((image < 0.2 * low) & (low > 50.0)))


def padded_shape(sig: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of transforms for frames of shape `sig`."""
    import scipy.fft

    rows, columns = (scipy.fft.next_fast_len(math.ceil(1.5 * n), real=True) for n in sig)
    return rows, columns + columns % 2


def autocorrelation(power: Array, sig: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the autocorrelation for distances below half a frame, the origin in the middle.

    ``(2 ny + 1, 2 nx + 1)``, per pair of pixels, so that long distances count as much as short ones. The
    origin, where the noise of counts correlates with itself, is replaced by the mean of its neighbours.
    """
    import scipy.fft

    shape = padded_shape(sig)
    full = scipy.fft.fftshift(scipy.fft.irfft2(power, s=shape, workers=1))
    cy, cx = shape[0] // 2, shape[1] // 2
    ny, nx = sig[0] // 2 - 1, sig[1] // 2 - 1
    out = full[cy - ny : cy + ny + 1, cx - nx : cx + nx + 1]
    pairs_y = sig[0] - np.abs(np.arange(-ny, ny + 1))
    pairs_x = sig[1] - np.abs(np.arange(-nx, nx + 1))
    out = out / (pairs_y[:, None] * pairs_x)
    out[ny, nx] = 0.25 * (out[ny - 1, nx] + out[ny + 1, nx] + out[ny, nx - 1] + out[ny, nx + 1])
    return np.asarray(out)


def spread_of(nav: tuple[int, ...], most: int, roi: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """Return a mask of at most `most` frames spread over a scan, or over the marked part of it."""
    mask = np.zeros(math.prod(nav), bool)
    candidates = np.flatnonzero(np.ones(mask.size, bool) if roi is None else roi.reshape(-1))
    # the golden ratio visits all rows and columns, where equal steps might fall into one column
    n = min(most, len(candidates))
    if n == len(candidates):
        mask[candidates] = True
    else:
        at = np.unique((np.arange(n) * 0.6180339887498949 % 1.0 * len(candidates)).astype(np.int64))
        mask[candidates[at]] = True
    return mask.reshape(nav)
