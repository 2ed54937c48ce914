"""LiberTEM's `StdDevUDF`: variance of every pixel over the frames, by joining groups of frames."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.buffers import reshaped_view
from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl, MergeView

Array = npt.NDArray[Any]


@numba.njit(nogil=True, cache=True)
def merge(
    dest_n: int, dest_sum: Array, dest_varsum: Array,
    src_n: int, src_sum: Array, src_varsum: Array, src_mean: Array,
) -> int:  # fmt: skip
    """Join two groups of frames, in place into the first; return the number of frames.

    With means m of n frames and sums of squared deviations S::

        S = S1 + S2 + |m2 - m1|^2 n1 n2 / (n1 + n2)

    Parameters
    ----------
    dest_n, src_n
        Frames in each group.
    dest_sum, dest_varsum, src_sum, src_varsum
        Sum and sum of squared deviations, flat.
    src_mean
        ``src_sum / src_n``.
    """
    if src_n == 0:
        return dest_n
    if dest_n == 0:
        dest_sum[:] = src_sum
        dest_varsum[:] = src_varsum
        return src_n
    weight = dest_n * src_n / (dest_n + src_n)
    for i in range(dest_sum.size):
        dest_varsum[i] += src_varsum[i] + np.abs(src_mean[i] - dest_sum[i] / dest_n) ** 2 * weight
        dest_sum[i] += src_sum[i]
    return dest_n + src_n


@numba.njit(nogil=True, cache=True)
def process_tile(tile: Array, n_0: int, sum_inout: Array, varsum_inout: Array) -> int:
    """Join the frames of a tile to `n_0` frames, in place; return the number of frames.

    Parameters
    ----------
    tile
        ``(frames, pixels)``.
    n_0
        Frames inside, at least 1.
    sum_inout, varsum_inout
        Sum and sum of squared deviations, ``(pixels,)``.
    """
    frames, pixels = tile.shape
    total = np.zeros(pixels, dtype=sum_inout.dtype)
    for f in range(frames):
        for i in range(pixels):
            total[i] += tile[f, i]
    mean = total / frames
    varsum = np.zeros(pixels, dtype=varsum_inout.dtype)
    for f in range(frames):
        for i in range(pixels):
            varsum[i] += np.abs(tile[f, i] - mean[i]) ** 2
    return merge(n_0, sum_inout, varsum_inout, frames, total, varsum, mean)


class StdDevUDF(UDF):
    """Sum, mean, variance and standard deviation of every pixel over the frames.

    Buffers: ``num_frames``, ``sum``, ``varsum`` (sum of squared deviations), ``mean``, ``var``, ``std``.

    Parameters
    ----------
    dtype
        Precision, float64 by default.
    use_numba
        Use compiled loops; else array arithmetic.
    """

    def __init__(self, dtype: npt.DTypeLike | None = None, use_numba: bool = True) -> None:
        super().__init__(dtype=dtype, use_numba=use_numba)

    def get_backends(self) -> tuple[str, ...]:
        """Dense backends: deviations from a mean are not sparse."""
        return tuple(b for b in self.BACKEND_ALL if b not in self.SPARSE_BACKENDS)

    @property
    def _base(self) -> np.dtype[Any]:
        return np.dtype(np.float64 if self.params.dtype is None else self.params.dtype)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare the buffers."""
        real, wide = self._base, np.result_type(self.meta.input_dtype, self._base)
        return {
            "varsum": self.buffer("sig", dtype=real, where="device"),
            "num_frames": self.buffer("single", dtype="int64"),
            "sum": self.buffer("sig", dtype=wide, where="device"),
            "var": self.buffer("sig", dtype=real, use="result_only"),
            "std": self.buffer("sig", dtype=real, use="result_only"),
            "mean": self.buffer("sig", dtype=wide, use="result_only"),
        }

    def get_task_data(self) -> dict[str, Any]:
        """Keep the number of frames per part of the signal."""
        return {"counts": {}}

    def process_tile(self, tile: Any) -> None:
        """Join the frames of a tile."""
        part = self.meta.tiling_scheme_idx
        counts = self.task_data.counts
        total, varsum = (reshaped_view(b, (-1,)) for b in (self.results.sum, self.results.varsum))
        flat = np.asarray(tile, dtype=np.result_type(tile.dtype, self._base)).reshape((tile.shape[0], -1))
        n = counts.get(part, 0)
        if n and self.params.use_numba:
            counts[part] = process_tile(flat, n, total, varsum)
            return
        add = flat.sum(axis=0)
        mean = add / len(flat)
        off = np.abs(flat - mean)
        counts[part] = self._join(n, total, varsum, len(flat), add, (off * off).sum(axis=0), mean)

    def _join(self, *groups: Any) -> int:
        if self.params.use_numba:
            return int(merge(*groups))
        return _merge_arrays(*groups)

    def postprocess(self) -> None:
        """All parts of the signal have seen the same frames: keep their number."""
        numbers = set(self.task_data.counts.values())
        assert len(numbers) <= 1, numbers
        self.results.num_frames[:] = numbers.pop() if numbers else 0

    def merge(self, dest: MergeView, src: MergeView) -> None:
        """Join a partition."""
        n = int(src.num_frames[0])
        if not n:
            return
        d_sum, d_var, s_sum, s_var = (
            reshaped_view(b, (-1,)) for b in (dest.sum, dest.varsum, src.sum, src.varsum)
        )
        dest.num_frames[:] = self._join(int(dest.num_frames[0]), d_sum, d_var, n, s_sum, s_var, s_sum / n)

    def get_results(self) -> dict[str, Array]:
        """Divide by the number of frames."""
        n = self.results.num_frames[0]
        with np.errstate(divide="ignore", invalid="ignore"):  # no frame yet
            var = self.results.varsum / n
            return {"var": var, "std": np.sqrt(var), "mean": self.results.sum / n}


def _merge_arrays(n1: int, sum1: Array, var1: Array, n2: int, sum2: Array, var2: Array, mean2: Array) -> int:
    """Do what `merge` does, in numpy."""
    if n2 and n1:
        var1 += var2 + np.abs(mean2 - sum1 / n1) ** 2 * (n1 * n2 / (n1 + n2))
        sum1 += sum2
    elif n2:
        sum1[:], var1[:] = sum2, var2
    return n1 + n2


def consolidate_result(udf_result: Any) -> dict[str, Any]:
    """Return the results as arrays, ``num_frames`` as a number."""
    arrays = {k: udf_result[k].data for k in ("varsum", "sum", "var", "std", "mean")}
    return {"num_frames": udf_result["num_frames"].data[0], **arrays}


def run_stddev(
    ctx: Any, dataset: Any, roi: Any = None, progress: bool = False, use_numba: bool = True
) -> Any:
    """Run `StdDevUDF` and return its results as arrays."""
    udf = StdDevUDF(use_numba=use_numba)
    return consolidate_result(ctx.run_udf(dataset=dataset, udf=udf, roi=roi, progress=progress))
