"""The truth in numpy, and the UDFs that every source, option and method is tried with."""

import itertools

import numpy as np
import pytest

from framefold.udfcore.udf import UDF

NAV = (5, 7)


def make_roi(kind, nav, seed=0):
    n = int(np.prod(nav))
    flat = np.zeros(n, dtype=bool)
    if kind == "none":
        return None
    if kind == "prefix":
        flat[: n // 3] = True
    elif kind == "suffix":
        flat[-(n // 3) :] = True
    elif kind == "strided":
        flat[::2] = True
    elif kind == "single":
        flat[n // 2] = True
    elif kind == "random":
        flat[:] = np.random.default_rng(seed).random(n) < 0.4
    return flat.reshape(nav)  # "empty" stays empty


def make_corrections(kind, sig, seed=1):
    """Return keyword arguments of `Corrections`."""
    rng = np.random.default_rng(seed)
    bad = np.zeros(sig, dtype=bool)
    bad[0, 0] = bad[1, 1] = bad[sig[0] - 1, sig[1] // 2] = True
    parts = {
        "dark": {"dark": rng.integers(0, 5, sig).astype("float32")},
        "gain": {"gain": (rng.random(sig) + 0.5).astype("float32")},
        "excluded": {"excluded_pixels": bad},
    }
    if kind == "none":
        return None
    if kind == "all":
        return {k: v for part in parts.values() for k, v in part.items()}
    return parts[kind]


def corrected(frames, kwargs):
    """Correct frames by a loop over excluded pixels: mean of the good ones among the 8 neighbours."""
    if kwargs is None:
        return frames
    out = (frames.astype("float64") - kwargs.get("dark", 0)) * kwargs.get("gain", 1)
    bad = kwargs.get("excluded_pixels")
    if bad is None:
        return out
    fixed = out.copy()
    height, width = bad.shape
    for y, x in zip(*np.nonzero(bad), strict=True):
        good = [
            (y + dy, x + dx)
            for dy, dx in itertools.product((-1, 0, 1), repeat=2)
            if 0 <= y + dy < height and 0 <= x + dx < width and not bad[y + dy, x + dx]
        ]
        fixed[:, y, x] = np.mean([out[:, a, b] for a, b in good], axis=0)
    return fixed


class _Base(UDF):
    def __init__(self, dtype):
        super().__init__(dtype=dtype)

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE if self.params.dtype == "native" else np.dtype(self.params.dtype)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="wide", reduce="sum"),
            "per_frame": self.buffer("nav", dtype="wide", reduce="sum"),
            "n": self.buffer("single", dtype="int64", reduce="sum"),
        }


class ByTile(_Base):
    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0, dtype=self.results.total.dtype)
        self.results.per_frame += tile.sum(axis=(1, 2), dtype=self.results.per_frame.dtype)
        if self.meta.sig_slice.origin == (0, 0):
            self.results.n += len(tile)


class ByFrame(_Base):
    def process_frame(self, frame):
        self.results.total += frame
        self.results.per_frame += frame.sum(dtype=self.results.per_frame.dtype)
        self.results.n += 1


class ByPartition(_Base):
    def process_partition(self, partition):
        self.results.total += partition.sum(axis=0, dtype=self.results.total.dtype)
        self.results.per_frame += partition.sum(axis=(1, 2), dtype=self.results.per_frame.dtype)
        self.results.n += len(partition)


METHODS = {"tile": ByTile, "frame": ByFrame, "partition": ByPartition}


@pytest.fixture
def conform():
    """Return a function that runs one combination on a dataset and compares with numpy."""

    def check(
        run_udf, dataset, frames, *, roi="none", corrections="none", dtype="native", method="tile", offset=0
    ):
        from framefold.udfcore.corrections import Corrections

        nav = tuple(dataset.shape.nav)
        n = dataset.shape.nav.size
        mask = make_roi(roi, nav)
        kwargs = make_corrections(corrections, tuple(dataset.shape.sig))
        index = np.arange(n) + offset
        seen = (index >= 0) & (index < len(frames))
        if mask is not None:
            seen &= mask.reshape(-1)
        truth = corrected(frames[index[seen]], kwargs)
        result = run_udf(
            dataset,
            METHODS[method](dtype),
            roi=mask,
            corrections=None if kwargs is None else Corrections(**kwargs),
        )
        exact = result["total"].dtype.kind in "iu"
        close = np.testing.assert_array_equal if exact else _close
        close(result["total"].data, truth.sum(axis=0, dtype="uint64" if exact else "float64"))
        close(
            result["per_frame"].data.reshape(-1)[seen],
            truth.sum(axis=(1, 2), dtype="uint64" if exact else "float64"),
        )
        assert result["n"].data[0] == seen.sum()
        np.testing.assert_array_equal(result.damage.reshape(-1), seen)
        np.testing.assert_array_equal(result["per_frame"].valid_mask.reshape(-1), seen)
        if kwargs is None and dtype == "native":
            assert exact

    return check


def _close(a, b):
    np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6 * max(1.0, float(np.abs(b).max(initial=0))))
