"""Known loss: results equal numpy on exactly the data that arrived, for every policy and kind of UDF."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import framefold as ff
from framefold.errors import DataError, StreamError
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfs import StdDevUDF, SumUDF

SIG = (8, 6)
SECTORS, PIECES = 3, 2
DATA = np.random.default_rng(3).integers(0, 1000, (35, *SIG)).astype("uint16")


class Everything(ff.UDF):
    """Every kind of buffer that a piece can be added to."""

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="int64", reduce="sum"),
            "mean": self.buffer("sig", dtype="float64", reduce="mean"),
            "top": self.buffer("sig", dtype="int64", reduce="max"),
            "per_frame": self.buffer("nav", dtype="int64", reduce="sum"),
        }

    def process_tile(self, tile):
        r = self.results
        r.total += tile.sum(axis=0, dtype="int64")
        r.mean += tile.sum(axis=0)
        np.maximum(r.top, tile.max(axis=0), out=r.top)
        r.per_frame += tile.sum(axis=(1, 2), dtype="int64")


class Average(ff.UDF):
    """A mean that the engine divides."""

    def get_result_buffers(self):
        return {"mean": self.buffer("sig", dtype="float64", reduce="mean")}

    def process_tile(self, tile):
        self.results.mean += tile.sum(axis=0)


class Counting(ff.UDF):
    """Counts frames for all pixels together: a frame that arrived in part must not be counted."""

    def get_result_buffers(self):
        return {
            "n": self.buffer("single", dtype="int64", reduce="sum"),
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
        }

    def process_tile(self, tile):
        if self.meta.sig_slice.origin == (0, 0):
            self.results.n += len(tile)
        self.results.total += tile.sum(axis=0)


class Whole(ff.UDF):
    """Needs whole frames."""

    def get_result_buffers(self):
        return {
            "top": self.buffer("nav", dtype="float32"),
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
        }

    def process_frame(self, frame):
        self.results.top[:] = frame.max()
        self.results.total += frame


class Gaps(ff.UDF):
    """Sums what `meta.missing` says."""

    def __init__(self, framed):
        super().__init__(framed=framed)

    def get_method(self):
        return self.UDF_METHOD.FRAME if self.params.framed else self.UDF_METHOD.TILE

    def get_result_buffers(self):
        return {
            "lost": self.buffer("sig", dtype="int64", reduce="sum"),
            "sum": self.buffer("sig", reduce="sum"),
        }

    def process_tile(self, tile):
        lost = self.meta.missing
        if lost is not None:
            assert lost.shape == tile.shape
            self.results.lost += lost.sum(axis=0)
        self.results.sum += tile.sum(axis=0)

    def process_frame(self, frame):
        lost = self.meta.missing
        if lost is not None:
            assert lost.shape == frame.shape
            self.results.lost += lost
        self.results.sum += frame


def arrived(seed, p=0.15):
    rng = np.random.default_rng(seed)
    valid = rng.random((len(DATA), SECTORS * PIECES)) >= p
    valid[4] = False  # a frame of which nothing came
    return valid


def pixels(valid):
    """Flags per piece -> flags per pixel, by the geometry written out: sectors along x, pieces along y."""
    out = np.zeros((len(valid), *SIG), dtype=bool)
    for s in range(SECTORS):
        for p in range(PIECES):
            out[:, p * 4 : (p + 1) * 4, s * 2 : (s + 1) * 2] = valid[:, s * PIECES + p, None, None]
    return out


def source(valid, block=4, **options):
    made = MemoryLiveSource(
        DATA, sectors=SECTORS, pieces=PIECES, block_frames=block, valid=valid, nav_shape=(5, 7)
    )
    return made.with_options(**options)


@pytest.fixture(params=["inline", "threads"])
def ctx(request):
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:
        yield ctx


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), p=st.floats(0, 0.9), block=st.integers(1, 40), roi=st.booleans())
def test_skip_equals_numpy_on_what_arrived(seed, p, block, roi):
    valid = arrived(seed, p)
    keep = np.random.default_rng(seed).random(35) < 0.6 if roi else np.ones(35, dtype=bool)
    here = pixels(valid) & keep[:, None, None]
    complete = valid.all(axis=1) & keep
    with ff.Context(executor="threads", workers=2) as ctx:
        every, counting, whole, std = ctx.run_udf(
            ctx.load(source(valid, block)), [Everything(), Counting(), Whole(), StdDevUDF()],
            roi=keep.reshape(5, 7) if roi else None,
        )  # fmt: skip
    np.testing.assert_array_equal(every["total"].data, np.where(here, DATA, 0).sum(axis=0, dtype="int64"))
    count = here.sum(axis=0)
    np.testing.assert_array_equal(every.coverage, count)
    np.testing.assert_array_equal(std["num_frames"].data, [count.max(initial=0)])
    seen = count > 0
    np.testing.assert_allclose(
        every["mean"].data[seen], (np.where(here, DATA, 0).sum(axis=0)[seen] / count[seen]), rtol=1e-12
    )
    np.testing.assert_array_equal(every["total"].valid_mask, seen if seen.any() else np.ones(SIG, bool))
    spread = np.array([np.var(DATA[here[:, y, x], y, x]) if seen[y, x] else 0 for y, x in np.ndindex(SIG)])
    np.testing.assert_allclose(std["var"].data[seen], spread.reshape(SIG)[seen], rtol=1e-9, atol=1e-9)
    per_frame = np.where(here, DATA, 0).sum(axis=(1, 2), dtype="int64")
    np.testing.assert_array_equal(every["per_frame"].raw_data, per_frame[keep])
    for res in (counting, whole):
        np.testing.assert_array_equal(res["total"].data, DATA[complete].sum(axis=0))
        np.testing.assert_array_equal(res.coverage, np.full(SIG, complete.sum()))
        np.testing.assert_array_equal(res.damage.reshape(-1), complete)
    assert counting["n"].data[0] == complete.sum()
    np.testing.assert_array_equal(whole["top"].data.reshape(-1)[complete], DATA[complete].max(axis=(1, 2)))
    np.testing.assert_array_equal(whole["top"].valid_mask.reshape(-1), complete)
    status = every.report["status"]
    assert status["complete"] == complete.sum()
    assert status["lost"] == (keep & ~valid.any(axis=1)).sum()
    assert sum(status.values()) == keep.sum()
    assert sum(s["valid"] for s in every.report["sectors"]) == valid.sum()
    assert sum(s["lost"] for s in every.report["sectors"]) == (~valid).sum()


def test_the_largest_of_what_arrived(ctx):
    valid = arrived(1)
    res = ctx.run_udf(ctx.load(source(valid)), Everything())
    truth = np.where(pixels(valid), DATA.astype("int64"), -1).max(axis=0)
    np.testing.assert_array_equal(res["top"].data, truth)


@pytest.mark.parametrize("udf", [Everything, Whole, SumUDF], ids=lambda c: c.__name__)
def test_drop_frame_equals_offline_with_roi_of_complete_frames(ctx, udf):
    valid = arrived(2)
    res = ctx.run_udf(ctx.load(source(valid, missing="drop-frame")), udf())
    complete = valid.all(axis=1).reshape(5, 7)
    np.testing.assert_array_equal(res.damage, complete)
    offline = ctx.run_udf(ctx.load(DATA.reshape(5, 7, *SIG)), udf(), roi=res.damage)
    for name in res:
        got, want = res[name].data, offline[name].data
        if res[name].kind == "nav":
            got, want = got[complete], want[complete]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("framed", [False, True])
def test_fill_says_which_pixels_are_made_up(ctx, framed):
    valid = arrived(3)
    ds = ctx.load(source(valid, missing="fill", fill_value=7))
    res, other = ctx.run_udf(ds, [Gaps(framed), Everything()])
    here = pixels(valid)
    filled = np.where(here, DATA, 7)
    np.testing.assert_array_equal(res["lost"].data, (~here).sum(axis=0))
    np.testing.assert_array_equal(res["sum"].data, filled.sum(axis=0))
    np.testing.assert_array_equal(other["per_frame"].data.reshape(-1), filled.sum(axis=(1, 2)))
    assert res.damage.all()
    assert res.report["status"]["partial"] == (~valid.all(axis=1)).sum()


def test_fill_with_a_value_that_the_dtype_lacks(ctx):
    with pytest.raises(DataError, match="fill_value=nan does not exist in uint16"):
        ctx.run_udf(ctx.load(source(arrived(0), missing="fill", fill_value=float("nan"))), SumUDF())


def test_error_names_frame_sector_and_piece(ctx):
    valid = np.ones((35, 6), dtype=bool)
    valid[9, 3] = False
    with pytest.raises(
        StreamError, match=r"frame 9: piece 1 of sector 1 \(memory://array#1\) did not arrive"
    ):
        ctx.run_udf(ctx.load(source(valid, missing="error")), SumUDF())


def test_error_outside_the_roi_does_not_matter(ctx):
    valid = np.ones((35, 6), dtype=bool)
    valid[9, 3] = False
    keep = np.ones((5, 7), dtype=bool)
    keep.reshape(-1)[9] = False
    res = ctx.run_udf(ctx.load(source(valid, missing="error")), SumUDF(), roi=keep)
    np.testing.assert_array_equal(res["intensity"].data, np.delete(DATA, 9, axis=0).sum(axis=0))


def test_corrections_and_transforms_see_no_lost_pixel(ctx):
    valid = arrived(5)
    bad = np.zeros(SIG, dtype=bool)
    bad[3, 1] = bad[4, 2] = True  # at the borders of pieces: their neighbours are in others
    given = ff.Corrections(dark=np.full(SIG, 3.0), excluded_pixels=bad)
    for corrections, pre in (
        (given, ()),
        (None, (ff.Bin(2),)),
        (given, (ff.Crop((slice(1, 7), slice(1, 5))),)),
    ):
        res = ctx.run_udf(ctx.load(source(valid)), Whole(), corrections=corrections, pre=pre)
        again = ctx.run_udf(ctx.load(source(valid)), Average(), corrections=corrections, pre=pre)
        offline = ctx.run_udf(
            ctx.load(DATA.reshape(5, 7, *SIG)), Whole(), corrections=corrections, pre=pre,
            roi=valid.all(axis=1).reshape(5, 7),
        )  # fmt: skip
        np.testing.assert_allclose(res["total"].data, offline["total"].data, rtol=1e-6)
        np.testing.assert_allclose(again["mean"].data * again.coverage, offline["total"].data, rtol=1e-5)
