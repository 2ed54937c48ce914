"""What LiberTEM's UDFs rely on and framefold's own interface does otherwise; truth by numpy."""

import asyncio
import re

import numpy as np
import pytest

from framefold.errors import UDFError


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 100, size=(6, 5, 4, 8)).astype("float32")


@pytest.fixture
def dataset(ctx, data):
    return ctx.load("memory", data=data, num_partitions=3, tileshape=(4, 3, 5), sig_dims=2)


def make(**methods):
    from libertem.udf import UDF

    return type("Made", (UDF,), methods)()


def test_results_are_dicts_of_buffers(ctx, dataset, data):
    from libertem.common.buffers import BufferWrapper
    from libertem.udf.sum import SumUDF
    from libertem.udf.sumsigudf import SumSigUDF

    total, per_frame = ctx.run_udf(dataset, [SumUDF(), SumSigUDF()])
    assert isinstance(total, dict) and isinstance(total["intensity"], BufferWrapper)
    np.testing.assert_allclose(total["intensity"], data.sum(axis=(0, 1)))
    np.testing.assert_allclose(per_frame["intensity"].data, data.sum(axis=(2, 3)))


def test_partitions_are_equal_and_merged_in_order(ctx, dataset):
    from libertem.udf.sum import SumUDF

    sizes = [int(r.damage.data.sum()) for r in ctx.run_udf_iter(dataset, SumUDF())]
    assert sizes == [10, 20, 30]


def test_tiles_follow_the_forced_shape_and_are_contiguous(ctx, dataset):
    seen = set()

    def process_tile(self, tile):
        seen.add(tile.shape)
        assert tile.flags.c_contiguous
        assert self.meta.tiling_scheme[self.meta.tiling_scheme_idx] == self.meta.sig_slice

    ctx.run_udf(dataset, make(get_result_buffers=lambda self: {}, process_tile=process_tile))
    assert seen == {(d, y, x) for d in (4, 2) for y in (3, 1) for x in (5, 3)}


def test_a_frame_udf_refuses_cut_frames(ctx, dataset):
    from libertem.common.exceptions import UDFException

    udf = make(get_result_buffers=lambda self: {}, process_frame=lambda self, frame: None)
    with pytest.raises(UDFException, match="needs whole frames"):
        ctx.run_udf(dataset, udf)


def test_one_dtype_for_all_udfs(ctx, data):
    from libertem.udf import UDF
    from libertem.udf.raw import PickUDF
    from libertem.udf.sum import SumUDF

    dataset = ctx.load("memory", data=data.astype("uint16"), num_partitions=1)
    pick, total = PickUDF(), SumUDF()
    ctx.run_udf(dataset, [pick, total])
    assert pick.meta.input_dtype == np.float32
    ctx.run_udf(dataset, pick)
    assert pick.meta.input_dtype == np.uint16
    assert np.result_type(UDF.USE_NATIVE_DTYPE, np.uint16) == np.uint16


def test_items_are_buffers_and_discouraged(ctx, dataset):
    from libertem.warnings import UseDiscouragedWarning

    def postprocess(self):
        with pytest.warns(UseDiscouragedWarning, match="discouraged"):
            assert self.results["s"].raw_data.shape == (10,)
        assert self.results.get_buffer("s").kind == "nav"
        assert self.results.get("t") is None

    def merge(self, dest, src):
        with pytest.warns(UseDiscouragedWarning, match="discouraged"):
            dest["s"][:] = src["s"]

    ctx.run_udf(
        dataset,
        make(
            get_result_buffers=lambda self: {"s": self.buffer("nav")},
            process_tile=lambda self, tile: None, postprocess=postprocess, merge=merge,
        ),
    )  # fmt: skip


def test_get_buffer_has_the_shape_of_the_dataset_in_get_results(ctx, dataset, data):
    def process_tile(self, tile):
        self.results.s += tile.sum(axis=(1, 2))

    def get_results(self):
        whole = self.results.get_buffer("s").data
        assert whole.shape == (6, 5)
        return {"y": np.nansum(whole, axis=1)}

    udf = make(
        get_result_buffers=lambda self: {
            "s": self.buffer("nav", use="private"),
            "y": self.buffer("single", (6,), use="result_only"),
        },
        process_tile=process_tile, get_results=get_results,
    )  # fmt: skip
    roi = np.zeros((6, 5), bool)
    roi[1:4, 2] = True
    result = ctx.run_udf(dataset, udf, roi=roi)
    assert set(result) == {"y"}
    np.testing.assert_allclose(result["y"], np.where(roi, data.sum(axis=(2, 3)), 0).sum(axis=1), rtol=1e-6)


def test_a_missing_get_results_in_libertems_words(ctx, dataset):
    udf = make(
        get_result_buffers=lambda self: {"y": self.buffer("single", use="result_only")},
        process_tile=lambda self, tile: None,
    )
    with pytest.raises(UDFError, match=re.escape("set use='result_only' buffer 'y'; please implement")):
        ctx.run_udf(dataset, udf)


@pytest.mark.parametrize(
    "roi",
    [
        (3, 2),
        [((3, 2), True)],
        [[[3, 2], True]],
        (((3, 2), True),),
    ],
)
def test_forms_of_a_roi(ctx, dataset, data, roi):
    from libertem.udf.raw import PickUDF

    np.testing.assert_array_equal(
        ctx.run_udf(dataset, PickUDF(), roi=roi)["intensity"].data, data[3, 2][None]
    )


def test_a_roi_of_false_entries_switches_off(ctx, dataset, data):
    from libertem.udf.sum import SumUDF

    got = ctx.run_udf(dataset, SumUDF(), roi=[((3, 2), False)])["intensity"].data
    np.testing.assert_allclose(got, data.sum(axis=(0, 1)) - data[3, 2])


def test_too_many_partitions_warn(ctx, data):
    from libertem.udf.sum import SumUDF

    dataset = ctx.load("memory", data=data[:1, :2], num_partitions=7)
    with pytest.warns(RuntimeWarning, match=r"2 frames, fewer than num_partitions=7"):
        assert len(list(ctx.run_udf_iter(dataset, SumUDF()))) == 2


def test_parameters_change_from_the_next_partition_on(ctx, dataset):
    def process_tile(self, tile):
        self.results.k[:] = self.params.k

    def init(self, k):
        type(self).__mro__[1].__init__(self, k=k)

    udf = make(__init__=lambda self, k=0: init(self, k), get_result_buffers=lambda self: {"k": self.buffer("nav")},
               process_tile=process_tile)  # fmt: skip
    results = ctx.run_udf_iter(dataset, udf)
    for i, _ in enumerate(results):
        results.update_parameters_experimental([{"k": i + 1}])
        last = _
    np.testing.assert_array_equal(last.buffers[0]["k"].raw_data, np.repeat([0, 1, 2], 10))


def test_asynchronous_twins(ctx, dataset, data):
    from libertem.udf.sum import SumUDF

    async def main():
        done = await ctx.run_udf(dataset, SumUDF(), sync=False)
        n = 0
        async for _ in ctx.run_udf_iter(dataset, SumUDF(), sync=False):
            n += 1
        stopped = ctx.run_udf_iter(dataset, SumUDF(), sync=False)
        with pytest.raises(KeyError, match="stop"):
            async for _ in stopped:
                await stopped.athrow(KeyError("stop"))
        await stopped.aclose()
        return done, n

    done, n = asyncio.run(main())
    np.testing.assert_allclose(done["intensity"], data.sum(axis=(0, 1)))
    assert n == 3


def test_cancelling_from_inside(ctx, dataset):
    from libertem.common.executor import JobCancelledError
    from libertem.udf import UDFRunCancelled

    def process_tile(self, tile):
        if self.meta.slice.origin[0] >= 10:
            raise JobCancelledError

    udf = make(get_result_buffers=lambda self: {}, process_tile=process_tile)
    with pytest.raises(UDFRunCancelled, match=r"^UDF run cancelled after 1 partitions$"):
        ctx.run_udf(dataset, udf)


def test_partitions_and_tiles_of_a_dataset(ctx, dataset, data):
    found = np.zeros((30, 4, 8), "float32")
    for partition in dataset.get_partitions():
        for tile in partition.get_tiles():
            found[tile.tile_slice.get()] = tile.data
    np.testing.assert_array_equal(found.reshape(data.shape), data)


@pytest.mark.parametrize("offset", [-7, 0, 4])
def test_sync_offset_moves_the_frames(ctx, data, offset):
    from libertem.udf.sumsigudf import SumSigUDF

    dataset = ctx.load("memory", data=data, num_partitions=3, sync_offset=offset)
    expected = np.zeros(30)
    sums = data.sum(axis=(2, 3)).reshape(-1)
    expected[max(0, -offset) : 30 - max(0, offset)] = sums[max(0, offset) : 30 + min(0, offset)]
    np.testing.assert_allclose(ctx.run_udf(dataset, SumSigUDF())["intensity"].raw_data, expected, rtol=1e-6)


def test_corrections_under_libertems_name(ctx, data):
    import sparse
    from libertem.io.corrections import CorrectionSet
    from libertem.io.corrections.detector import correct
    from libertem.udf.raw import PickUDF

    rng = np.random.default_rng(3)
    dark, gain = rng.random((4, 8)), rng.random((4, 8)) + 1
    bad = sparse.COO(np.array([[0, 2], [0, 5]]), True, shape=(4, 8))
    dataset = ctx.load("memory", data=data, num_partitions=2)
    got = ctx.run_udf(dataset, PickUDF(), corrections=CorrectionSet(dark, gain, bad))["intensity"].data
    expected = (data.reshape((-1, 4, 8)) - dark) * gain
    expected[:, 0, 0] = expected[:, [0, 1, 1], [1, 0, 1]].mean(axis=1)
    around = [(y, x) for y in (1, 2, 3) for x in (4, 5, 6) if (y, x) != (2, 5)]
    expected[:, 2, 5] = expected[:, [y for y, _ in around], [x for _, x in around]].mean(axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(
        correct(data.reshape((-1, 4, 8)), dark, gain, excluded_pixels=bad.coords), expected, rtol=1e-5
    )


def test_threads_give_the_same(ctx, dataset, data):
    from libertem.api import Context
    from libertem.udf.com import CoMUDF
    from libertem.udf.stddev import StdDevUDF

    with Context.make_with("threads", cpus=2) as threads:
        for udf in (CoMUDF(), StdDevUDF()):
            a, b = ctx.run_udf(dataset, udf), threads.run_udf(dataset, udf)
            for name in a:
                np.testing.assert_allclose(a[name].data, b[name].data, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(b["std"].data, data.std(axis=(0, 1)), rtol=1e-6)
