"""What the compatibility layer and copies made in mid-run rely on."""

import copy

import numpy as np
import pytest

from framefold.executor.drive import Run
from framefold.executor.follow import by_merge, to_end
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF


class FrameSums(UDF):
    def get_result_buffers(self):
        return {"s": self.buffer("nav", dtype="float64")}

    def process_tile(self, tile):
        self.results.s += tile.reshape((len(tile), -1)).sum(axis=1)


class Contiguous(FrameSums):
    def process_tile(self, tile):
        assert tile.flags.c_contiguous
        super().process_tile(tile)


class PartitionScheme(UDF):
    def get_result_buffers(self):
        return {"n": self.buffer("single", dtype="int64", reduce="sum")}

    def process_partition(self, partition):
        scheme, index = self.meta.tiling_scheme, self.meta.tiling_scheme_idx
        assert scheme[index] == self.meta.sig_slice == self.meta.slice.sig
        self.results.n += 1


class OldAttribute(FrameSums):
    def process_tile(self, tile):
        return tile.tile_slice


def test_a_copy_made_in_mid_run_is_a_udf_of_its_own(dataset):
    data = np.arange(6 * 4.0).reshape(6, 2, 2)
    udf = FrameSums()
    for _ in by_merge(Run(InlineExecutor(), dataset(data), [udf], RunOptions(partition_frames=2))):
        twin = copy.deepcopy(udf)
        got = to_end(Run(InlineExecutor(), dataset(data), [twin], RunOptions())).buffers[0]["s"].data
        np.testing.assert_array_equal(got, data.sum(axis=(1, 2)))


def test_tiles_are_contiguous_when_asked_for(dataset):
    data = np.arange(5 * 24.0).reshape(5, 4, 6)
    options = RunOptions(contiguous=True, tile_shape=(2, 3, 4))
    got = to_end(Run(InlineExecutor(), dataset(data), [Contiguous()], options)).buffers[0]["s"].data
    np.testing.assert_array_equal(got, data.sum(axis=(1, 2)))


def test_process_partition_sees_the_scheme_of_one_part(dataset):
    run = Run(
        InlineExecutor(), dataset(np.ones((6, 2, 3))), [PartitionScheme()], RunOptions(partition_frames=4)
    )
    assert int(to_end(run).buffers[0]["n"].data[0]) == 2


def test_borders_are_followed(dataset):
    run = Run(
        InlineExecutor(), dataset(np.ones((6, 2, 3))), [PartitionScheme()], RunOptions(borders=(0, 1, 2, 6))
    )
    assert int(to_end(run).buffers[0]["n"].data[0]) == 3


def test_an_attribute_that_tiles_once_had_names_its_successor(dataset):
    with pytest.raises(AttributeError, match=r"tile\.tile_slice was removed; use self\.meta\.slice"):
        to_end(Run(InlineExecutor(), dataset(np.ones((2, 2, 2), "float32")), [OldAttribute()], RunOptions()))


class BrokenResults(FrameSums):
    def get_results(self):
        return {"s": self.results.s.no_such_attribute}


class Undeclared(FrameSums):
    def get_results(self):
        return {"t": self.results.s}


class Everywhere(FrameSums):
    def get_results(self):
        full = np.zeros(self.meta.dataset_shape.nav.size)
        full[self.meta.roi.reshape(-1)] = self.results.s
        return {"s": full}


def test_an_attribute_error_in_get_results_arrives_as_such(dataset):
    snapshot = to_end(
        Run(InlineExecutor(), dataset(np.ones((2, 2, 2), "float32")), [BrokenResults()], RunOptions())
    )
    with pytest.raises(AttributeError, match="no_such_attribute"):
        _ = snapshot.buffers


def test_an_undeclared_result_is_a_key_error_too(dataset):
    snapshot = to_end(
        Run(InlineExecutor(), dataset(np.ones((2, 2, 2), "float32")), [Undeclared()], RunOptions())
    )
    with pytest.raises(KeyError, match="which get_result_buffers does not declare; declared: s"):
        _ = snapshot.buffers


def test_values_given_for_all_frames_stay_outside_the_roi(dataset):
    roi = np.array([True, False, True])
    run = Run(InlineExecutor(), dataset(np.ones((3, 2, 2), "float32")), [Everywhere()], RunOptions(roi=roi))
    result = to_end(run).buffers[0]["s"]
    np.testing.assert_array_equal(result.data, [4, 0, 4])
    np.testing.assert_array_equal(result.raw_data, [4, 4])
    np.testing.assert_array_equal(result.valid_mask, roi)


def test_sparse_frames_are_corrected_too(dataset):
    sparse = pytest.importorskip("sparse")
    data = np.eye(6, dtype="float32").reshape(3, 2, 6)
    ds = dataset(data)
    ds.source.backend, ds.source.is_view = "sparse.COO", False
    dense_read = ds.source.read
    ds.source.read = lambda tile, out=None: sparse.COO.from_numpy(dense_read(tile, None))
    options = RunOptions(corrections=Corrections(dark=0.25, gain=2.0))
    got = to_end(Run(InlineExecutor(), ds, [FrameSums()], options)).buffers[0]["s"].data
    np.testing.assert_allclose(got, (2 * (data - 0.25)).sum(axis=(1, 2)))


def test_sparse_frames_are_cut_into_tiles(dataset):
    sparse = pytest.importorskip("sparse")
    data = np.arange(5 * 24.0, dtype="float32").reshape(5, 4, 6)
    ds = dataset(data)
    ds.source.backend, ds.source.is_view = "sparse.COO", False
    dense_read = ds.source.read
    ds.source.read = lambda tile, out=None: sparse.COO.from_numpy(dense_read(tile, None))
    run = Run(InlineExecutor(), ds, [FrameSums()], RunOptions(tile_shape=(2, 3, 4)))
    np.testing.assert_allclose(to_end(run).buffers[0]["s"].data, data.sum(axis=(1, 2)))
