"""Runs on live streams: the same answers as on files, whatever is lost, and every way they can end."""

import numpy as np
import pytest

import framefold as ff
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfs import SumUDF


class Pixels(ff.UDF):
    engine = ff.EngineOptions(partial_frames=True)

    def get_result_buffers(self):
        return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0)


@pytest.fixture(params=["inline", "threads"])
def ctx(request):
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:
        yield ctx


RNG = np.random.default_rng(3)
DATA = RNG.integers(0, 1000, (35, 8, 6)).astype("uint16")


def live(**kwargs):
    options = {
        k: kwargs.pop(k) for k in ("missing", "fill_value", "start_timeout", "n_frames") if k in kwargs
    }
    source = MemoryLiveSource(**{"array": DATA, "sectors": 3, "pieces": 2, "block_frames": 4, **kwargs})
    return source.with_options(**options)


def test_the_same_sum_as_from_a_file(ctx):
    ds = ctx.load(live(), nav_shape=(5, 7))
    res = ctx.run_udf(ds, SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, DATA.sum(axis=0, dtype="uint64"))
    assert res.damage.all()
    assert (res.coverage == 35).all()
    assert res.report["end_reason"] == "n_frames"
    assert [s["valid"] for s in res.report["sectors"]] == [70, 70, 70]
    assert "sector" in str(res.report)


def test_five_cases_that_a_peer_gets_wrong(ctx):
    """16 x 16 scan of 64 x 64, frame i = i mod 200: the sums of one pixel, worked out by hand."""
    values = (np.arange(256) % 200).astype("uint16")
    data = np.broadcast_to(values[:, None, None], (256, 64, 64)).copy()

    def total(roi=None, **kwargs):
        ds = ctx.load(MemoryLiveSource(data, sectors=4, pieces=2), nav_shape=(16, 16))
        return ctx.run_udf(ds, Pixels(), roi=None if roi is None else ds.roi[roi], **kwargs)["total"].data[
            5, 5
        ]

    assert total() == 21440
    assert total(corrections=ff.Corrections(dark=np.ones((64, 64)))) == 21184
    for key, want in ((np.s_[8:], 13312), (np.s_[:, ::2], 10656), (np.s_[:8], 8128)):
        assert total(key) == want
