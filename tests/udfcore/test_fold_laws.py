"""Any partitioning, tiling, ROI, offset, kind of source and executor gives what numpy gives."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF


class Tiles(UDF):
    """Exact sums per pixel and per frame, a frame counter, and the coordinates seen."""

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="wide", reduce="sum"),
            "per_frame": self.buffer("nav", dtype="wide"),
            "where": self.buffer("nav", extra_shape=(2,), dtype="int64"),
        }

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0)
        self.results.per_frame += tile.reshape(len(tile), -1).sum(axis=1).astype(self.results.per_frame.dtype)
        self.results.where = self.meta.coordinates


class Frames(UDF):
    def get_result_buffers(self):
        return {
            "maximum": self.buffer("nav", dtype="float64"),
            "n": self.buffer("single", dtype="int64"),
            "aux": self.buffer("nav", dtype="float64"),
        }

    def process_frame(self, frame):
        self.results.maximum[:] = frame.max()
        self.results.n += 1
        self.results.aux = self.params.weight

    def merge(self, dest, src):
        dest.maximum = src.maximum
        dest.aux = src.aux
        dest.n += src.n


class Partitions(UDF):
    def get_result_buffers(self):
        return {"minimum": self.buffer("nav", dtype="float32"), "part": self.buffer("nav", dtype="int64")}

    def process_partition(self, partition):
        assert self.meta.partition_shape[0] >= len(partition)
        self.results.minimum[:] = partition.min(axis=(1, 2))
        self.results.part[:] = self.meta.slice.shape[0]


@st.composite
def cases(draw):
    nav = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=2)))
    n = nav[0] * nav[1]
    sig = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    return {
        "nav": nav,
        "sig": sig,
        "roi": draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=n, max_size=n))),
        "offset": draw(st.sampled_from([0, 0, 3, -2, 100])),
        "valid": draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=n, max_size=n))),
        "decode": draw(st.booleans()),
        "chunk": (draw(st.integers(1, 3)), draw(st.integers(1, sig[0])), sig[1]),
        "frames": draw(st.integers(1, n)),
        "tile": draw(st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, sig[0])))),
        "threads": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases())
def test_any_cut_equals_numpy(array_source, case):
    nav, sig = case["nav"], case["sig"]
    n = nav[0] * nav[1]
    rng = np.random.default_rng(case["seed"])
    data = rng.integers(0, 60000, (*nav, *sig)).astype("uint16")
    weight = rng.random(n)
    valid = None if case["valid"] is None else np.array(case["valid"])
    roi = None if case["roi"] is None else np.array(case["roi"]).reshape(nav)
    source = array_source(
        data, decode=case["decode"], chunk=case["chunk"] if case["decode"] else (1, *sig), valid=valid
    )
    ds = Dataset(source, sync_offset=case["offset"])
    executor = LocalExecutor(2) if case["threads"] else InlineExecutor()
    options = RunOptions(roi=roi, partition_frames=case["frames"])
    tiles = Tiles()
    frames = Frames(weight=UDF.aux_data(weight, "nav", dtype="float64"))
    if case["tile"] is not None:  # a forced tile shape cuts frames, so only tile UDFs may run
        options = RunOptions(roi=roi, partition_frames=case["frames"], tile_shape=(*case["tile"], sig[1]))
        udfs = [tiles]
    else:
        udfs = [tiles, frames, Partitions()]
    results = to_end(Run(executor, ds, udfs, options)).buffers

    index = np.arange(n) + case["offset"]
    there = (index >= 0) & (index < n)
    if valid is not None:
        there[there] &= valid[index[there]]
    seen = there if roi is None else there & roi.reshape(-1)
    flat = data.reshape(n, *sig)
    picked = flat[index[seen]]
    assert np.array_equal(results[0]["total"].data, picked.sum(axis=0, dtype="uint64"))
    assert np.array_equal(results[0]["per_frame"].valid_mask.reshape(-1), seen)
    per_frame = results[0]["per_frame"].data.reshape(-1)
    assert np.array_equal(per_frame[seen], picked.sum(axis=(1, 2), dtype="uint64"))
    assert not per_frame[~seen].any()
    where = results[0]["where"].data.reshape(n, 2)[seen]
    assert np.array_equal(where, np.stack(np.unravel_index(np.flatnonzero(seen), nav), axis=1))
    assert np.array_equal(results[0].damage.reshape(-1), seen)
    if len(udfs) == 3:
        maximum = results[1]["maximum"].data.reshape(-1)
        assert np.array_equal(maximum[seen], picked.max(axis=(1, 2)).astype(float))
        assert np.array_equal(results[1]["aux"].data.reshape(-1)[seen], weight[seen])
        assert results[1]["n"].data[0] == seen.sum()
        minimum = results[2]["minimum"].data.reshape(-1)
        assert np.array_equal(minimum[seen], picked.min(axis=(1, 2)).astype("float32"))
        if roi is not None:
            assert np.isnan(maximum[~roi.reshape(-1)]).all()


def test_rows_of_nav_buffers_have_the_documented_shapes(dataset):
    shapes = {}

    class Shapes(UDF):
        def get_result_buffers(self):
            return {
                "plain": self.buffer("nav"), "extra": self.buffer("nav", extra_shape=(2, 3)),
                "none": self.buffer("nav", extra_shape=(0,)), "sig": self.buffer("sig", extra_shape=(2,), reduce="sum"),
                "one": self.buffer("single", reduce="sum"), "later": self.buffer("nav", use="result_only"),
            }  # fmt: skip

        def process_frame(self, frame):
            shapes.update({k: None if v is None else v.shape for k, v in self.results.items()})

        def get_results(self):
            return {"later": np.zeros(6, "float32")}

    to_end(Run(InlineExecutor(), dataset(np.zeros((2, 3, 4, 5), "float32")), [Shapes()], RunOptions()))
    assert shapes == {
        "plain": (1,), "extra": (2, 3), "none": (0,), "sig": (4, 5, 2), "one": (1,), "later": None,
    }  # fmt: skip


def test_sig_views_of_tiles_are_contiguous_and_written_back(dataset):
    data = np.arange(4 * 6 * 5 * 3, dtype="uint16").reshape(4, 6, 5, 3)

    class Contiguous(UDF):
        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

        def process_tile(self, tile):
            assert self.results.total.flags.c_contiguous
            assert self.results.total.shape == tile.shape[1:] == tuple(self.meta.sig_slice.shape)
            self.results.total += tile.sum(axis=0)

    for tile_shape in ((2, 2, 2, 2), (1, 5, 1, 3), (4, 6, 5, 1)):
        ds = dataset(data, sig_dims=3)
        run = Run(InlineExecutor(), ds, [Contiguous()], RunOptions(tile_shape=tile_shape, partition_frames=3))
        assert np.array_equal(to_end(run).buffers[0]["total"].data, data.sum(axis=0))


@pytest.mark.parametrize("kind", ["sum", "max", "min", "mean", "last"])
def test_buffers_that_merge_themselves(dataset, kind):
    data = np.random.default_rng(1).normal(size=(12, 3, 4))

    class Reduced(UDF):
        def get_preferred_input_dtype(self):
            return np.float64

        def get_result_buffers(self):
            return {"r": self.buffer("sig", dtype="float64", reduce=kind)}

        def process_frame(self, frame):
            r = self.results.r
            if kind in ("sum", "mean"):
                r += frame
            elif kind == "last":
                r[:] = frame
            else:
                getattr(np, f"{kind}imum")(r, frame, out=r)

    want = data[-1] if kind == "last" else getattr(data, kind)(axis=0)
    for executor in (InlineExecutor(), LocalExecutor(2)):
        run = Run(executor, dataset(data), [Reduced()], RunOptions(partition_frames=5))
        np.testing.assert_allclose(to_end(run).buffers[0]["r"].data, want, rtol=1e-14)


def test_large_buffers_travel_as_deltas_and_count_their_frames(dataset):
    data = np.ones((40, 8, 8), "float32")

    class Large(UDF):
        def get_result_buffers(self):
            return {
                "big": self.buffer("sig", dtype="float64", reduce="sum", large=True),
                "n": self.buffer("single", dtype="int64", reduce="sum"),
            }

        def process_tile(self, tile):
            self.results.big += tile.sum(axis=0)
            self.results.n += len(tile)

    for executor in (InlineExecutor(), LocalExecutor(2)):
        run = Run(executor, dataset(data), [Large()], RunOptions(partition_frames=4))
        lag = []
        for _ in run.partials():
            frozen = run.merger.freeze()[0]
            lag.append((frozen.frames["n"], frozen.frames["big"], float(frozen.arrays["big"][0, 0])))
        assert lag[-1] == (40, 40, 40.0)
        assert any(small > big for small, big, _ in lag), "small buffers run ahead of large ones"
        assert all(big == value for _, big, value in lag)
        assert run.snapshot(final=True).buffers[0]["big"].data[0, 0] == 40


def test_snapshots_between_two_deltas_share_a_large_buffer(dataset):
    """Copying 100 MB ten times a second took a fifth of the time; what changed is copied, and is not written to."""

    class Both(UDF):
        def get_result_buffers(self):
            return {"big": self.buffer("sig", dtype="float64", reduce="sum", large=True),
                    "small": self.buffer("sig", dtype="float64", reduce="sum")}  # fmt: skip

        def process_tile(self, tile):
            self.results.big += tile.sum(axis=0)
            self.results.small += tile.sum(axis=0)

    run = Run(InlineExecutor(), dataset(np.ones((8, 4, 4), "f4")), [Both()], RunOptions(partition_frames=2))
    seen = []
    for _ in run.partials():
        first, second = (run.merger.freeze()[0].arrays for _ in range(2))
        assert first["big"] is second["big"]
        assert first["small"] is not second["small"]
        assert not first["big"].flags.writeable
        seen.append((first["big"], first["big"].copy()))
    for shared, then in seen:
        np.testing.assert_array_equal(shared, then)
    assert (seen[0][0].min(), seen[-1][0].min()) == (0, 8), "deltas come last"


def test_merge_scope_any_joins_on_the_worker_by_the_udfs_own_merge(dataset):
    data = np.random.default_rng(3).normal(size=(60, 3, 4))

    class Welford(UDF):
        """Count and mean, joined by a formula of its own, and a nav buffer beside."""

        engine = EngineOptions(merge_scope="any")

        def get_preferred_input_dtype(self):
            return np.float64

        def get_result_buffers(self):
            return {
                "n": self.buffer("single", dtype="int64"),
                "mean": self.buffer("sig", dtype="float64"),
                "first": self.buffer("nav", dtype="float64"),
            }

        def process_frame(self, frame):
            self.results.n += 1
            self.results.mean += (frame - self.results.mean) / self.results.n
            self.results.first[:] = frame[0, 0]

        def merge(self, dest, src):
            n = dest.n + src.n
            dest.mean += (src.mean - dest.mean) * src.n / n
            dest.n = n
            dest.first = src.first

    for executor in (InlineExecutor(), LocalExecutor(3)):
        run = Run(executor, dataset(data), [Welford()], RunOptions(partition_frames=7))
        deltas = []
        stream = executor.run
        executor.run = lambda job, stream=stream, deltas=deltas: _seen(stream(job), deltas)
        result = to_end(run).buffers[0]
        np.testing.assert_allclose(result["mean"].data, data.mean(axis=0), rtol=1e-12)
        assert result["n"].data[0] == 60
        assert np.array_equal(result["first"].data, data[:, 0, 0])
        assert sum("mean" in p.arrays[0] for p in deltas) <= 3, "one partial per worker, not per partition"


def _seen(stream, into):
    for partial in stream:
        into.append(partial)
        yield partial


@pytest.mark.parametrize("rows", [1, 13, 64, 100])
def test_compressed_chunks_that_cut_frames_are_read_in_their_own_rows(dataset, rows):
    data = np.random.default_rng(0).integers(0, 9, (40, 200, 256)).astype("uint16")
    ds = dataset(data, decode=True, chunk=(5, rows, 64))
    udfs = [Tiles()]
    run = Run(InlineExecutor(), ds, udfs, RunOptions())
    assert len(run.plan.read_parts) > 1
    assert all(p[0].start % rows == 0 for p in run.plan.read_parts), "no chunk is decoded twice"
    np.testing.assert_array_equal(to_end(run).buffers[0]["total"].data, data.sum(axis=0))


def test_before_shipping_completes_large_buffers_wherever_they_leave(dataset):
    data = np.ones((40, 8, 8), "float32")

    class Batched(UDF):
        """Gathers frames over partitions, seven at a time."""

        def get_result_buffers(self):
            return {"big": self.buffer("single", dtype="int64", reduce="sum", large=True)}

        def get_worker_data(self):
            return {"waiting": []}

        def process_frame(self, frame):
            waiting = self.worker_data.waiting
            waiting.append(frame)
            if len(waiting) == 7:
                self.before_shipping()

        def before_shipping(self):
            self.results.big += len(self.worker_data.waiting)
            self.worker_data.waiting.clear()

    for options in (RunOptions(partition_frames=4), RunOptions(partition_frames=4, deterministic=True)):
        for executor in (InlineExecutor(), LocalExecutor(2)):
            run = Run(executor, dataset(data), [Batched()], options)
            assert to_end(run).buffers[0]["big"].data[0] == 40


@pytest.mark.parametrize("view", [True, False])
def test_tiles_hold_a_multiple_of_the_rows_that_a_udf_takes_together(dataset, view):
    data = np.ones((150, 64, 64), "float32")

    class Blocks(UDF):
        engine = EngineOptions(whole_frames=True)

        def get_tiling_preferences(self):
            return {"depth": 10, "total_size": 2**16, "multiple": 48}

        def get_result_buffers(self):
            return {"tiles": self.buffer("nav", dtype="int64")}

        def process_tile(self, tile):
            self.results.tiles[...] = len(tile)

    ds = dataset(data)
    ds.source.is_view = view
    run = Run(InlineExecutor(), ds, [Blocks()], RunOptions())
    tiles = to_end(run).buffers[0]["tiles"].data
    assert (tiles[:144] % 48 == 0).all()
    assert (tiles[144:] == 6).all()
