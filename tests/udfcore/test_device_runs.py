"""Runs on a device: what crosses, what is computed where, what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFError
from framefold.testing import device
from framefold.udfcore.namespace import is_device
from framefold.udfs import MaxUDF, SumUDF

DATA = np.random.default_rng(0).integers(0, 100, (4, 6, 5, 7)).astype("uint16")


class Mixed(ff.UDF):
    """One buffer on the device, one on the host, aux data on the host, as LiberTEM's UDFs have them."""

    def get_backends(self):
        return (self.BACKEND_NUMPY, self.BACKEND_CUPY)

    def get_result_buffers(self):
        return {
            "there": self.buffer("sig", dtype="float64", where="device", reduce="sum"),
            "here": self.buffer("nav", dtype="float64"),
            "where": self.buffer("single", dtype="object", reduce="last"),
        }

    def process_tile(self, tile):
        assert is_device(self.results.there) == is_device(tile) == (self.xp is not np)
        assert not is_device(self.results.here)
        self.results.there += tile.sum(axis=0)
        weighted = tile.sum(axis=(1, 2)) * self.xp.asarray(self.params.weights)
        self.results.here[:] = self.forbuf(weighted, self.results.here)
        self.results.where[0] = self.meta.array_backend


class AllThere(ff.UDF):
    engine = ff.EngineOptions(device=True)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "row": self.buffer("nav", 2, dtype="float32"),
            "peak": self.buffer("single", dtype="float64"),
        }

    def process_frame(self, frame):
        r = self.results
        assert {is_device(a) for a in (frame, r.total, r.row, r.peak)} == {self.xp is not np}
        r.total += frame * self.params.w
        r.row[0], r.row[1] = frame.min(), frame.sum()
        r.peak = self.xp.maximum(r.peak, frame.max())

    def merge(self, dest, src):
        assert isinstance(src.peak, np.ndarray)
        dest.row[:] = src.row
        dest.peak[:] = np.maximum(dest.peak, src.peak)


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


@pytest.fixture
def ds(ctx):
    return ctx.load(DATA, sig_shape=(5, 7))


def test_buffers_live_where_they_were_declared(ctx, ds, device_xp):
    weights = np.arange(24.0).reshape(4, 6)
    result = ctx.run_udf(ds, Mixed(weights=Mixed.aux_data(weights, "nav", dtype="float64")), backends="cupy")
    np.testing.assert_allclose(result["there"].data, DATA.sum(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(result["here"].data, DATA.sum(axis=(2, 3)) * weights, rtol=1e-6)
    assert result["where"].data[0] == "cupy"


def test_engine_option_puts_everything_on_the_device(ctx, ds, device_xp):
    w = np.random.default_rng(1).random((5, 7)).astype("float32")
    roi = np.random.default_rng(2).random((4, 6)) > 0.4
    for options in ({}, {"partition_frames": 5}, {"roi": roi}):
        udf = AllThere(w=AllThere.aux_data(w, "sig"))
        result = ctx.run_udf(ds, udf, backends="cupy", **options)
        frames = DATA[options.get("roi", np.ones((4, 6), bool))].astype("float64")
        np.testing.assert_allclose(result["total"].data, (frames * w).sum(axis=0), rtol=1e-6)
        assert result["peak"].data[0] == frames.max()
        np.testing.assert_allclose(result["row"].raw_data[:, 1], frames.sum(axis=(1, 2)))


def test_numpy_and_cupy_in_one_pass(ctx, ds, device_xp):
    class HostOnly(SumUDF):
        def get_backends(self):
            return self.BACKEND_NUMPY

        def process_tile(self, tile):
            assert isinstance(tile, np.ndarray)
            super().process_tile(tile)

    class There(SumUDF):
        def process_tile(self, tile):
            assert is_device(tile)
            super().process_tile(tile)

    a, b, m = ctx.run_udf(ds, [HostOnly(), There(), MaxUDF()], backends=("cupy", "numpy"))
    np.testing.assert_array_equal(a["intensity"].data, DATA.sum(axis=(0, 1)))
    np.testing.assert_array_equal(b["intensity"].data, DATA.sum(axis=(0, 1)))
    np.testing.assert_array_equal(m["maximum"].data, DATA.max(axis=(0, 1)))
    with pytest.raises(UDFError, match="takes the backends numpy, the run allows cupy: no overlap"):
        ctx.run_udf(ds, HostOnly(), backends="cupy")


def test_numpy_stays_the_choice_unless_cupy_is_asked_for_first(ctx, ds, device_xp):
    for backends, want in ((None, "numpy"), (("numpy", "cupy"), "numpy"), (("cupy", "numpy"), "cupy")):
        udf = Mixed(weights=Mixed.aux_data(np.ones((4, 6)), "nav"))
        assert ctx.run_udf(ds, udf, backends=backends)["where"].data[0] == want


@pytest.fixture
def stand_in():
    from framefold.udfcore.namespace import standing_in

    with standing_in(device):
        device.traffic.reset()
        yield device


def test_a_tile_crosses_once_in_the_dtype_of_the_data(ctx, ds, stand_in):
    ctx.run_udf(ds, [SumUDF(), MaxUDF()], backends="cupy", partition_frames=6)
    traffic = stand_in.traffic
    assert traffic.bytes_to_device == DATA.nbytes
    assert traffic.to_device == 4  # partitions of one tile
    assert traffic.syncs == 0
    traffic.reset()
    ctx.run_udf(ds, AllThere(w=1.0), backends="cupy")  # float32, made from uint16 on the device
    assert traffic.bytes_to_device == DATA.nbytes


def test_corrected_tiles_cross_corrected(ctx, ds, stand_in):
    result = ctx.run_udf(
        ds, AllThere(w=1.0), backends="cupy", corrections=ff.Corrections(dark=np.full((5, 7), 3.0))
    )
    np.testing.assert_allclose(result["total"].data, DATA.sum(axis=(0, 1)) - 24 * 3.0)
    assert stand_in.traffic.bytes_to_device == 2 * DATA.nbytes


def test_a_full_device_says_what_to_do(ctx, ds, stand_in):
    with stand_in.traffic.limited(500), pytest.raises(MemoryError, match="Out of memory") as caught:
        ctx.run_udf(ds, SumUDF(), backends="cupy")
    assert 'or run on the host: backends="numpy"' in "".join(caught.value.__notes__)


def test_threads_share_the_device(stand_in):
    with ff.Context(executor="threads") as ctx:
        found = ctx.run_udf(ctx.load(DATA, sig_shape=(5, 7)), SumUDF(), backends="cupy", partition_frames=4)
    np.testing.assert_array_equal(found["intensity"].data, DATA.sum(axis=(0, 1)))


def test_without_a_device_says_what_is_missing(ctx, ds, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UDFError, match=r"the UDF takes only cupy.*CUDA device and CuPy.*framefold\[cuda\]"):
        ctx.run_udf(ds, SumUDF(), backends="cupy")
    assert ctx.run_udf(ds, SumUDF(), backends=("cupy", "numpy"))["intensity"].data.sum() == DATA.sum()
