"""`check_udf` finds what is wrong with a UDF, and nothing where nothing is wrong."""

import numpy as np
import pytest

from framefold.errors import MissingMergeError, UDFError
from framefold.testing import check_udf
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs import StdDevUDF, SumUDF


class Sum(UDF):
    def get_result_buffers(self):
        return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0)


class TileMean(Sum):
    """Depends on the depth of tiles."""

    def process_tile(self, tile):
        self.results.total += tile.mean(axis=0)


class WritesInput(Sum):
    def process_tile(self, tile):
        tile += 1


class LastWins(Sum):
    """Its merge is not commutative."""

    def get_result_buffers(self):
        return {"total": self.buffer("sig", dtype="float64")}

    def merge(self, dest, src):
        dest.total = src.total


class Impure(Sum):
    def get_results(self):
        self.results.total[...] += 1
        return {"total": self.results.total}


class Forgets(Sum):
    def get_result_buffers(self):
        return {"total": self.buffer("sig")}


class Frames(UDF):
    def __init__(self, weight):
        super().__init__(weight=weight)

    def get_result_buffers(self):
        return {"w": self.buffer("nav", dtype="float64")}

    def process_frame(self, frame):
        self.results.w[:] = frame.sum(dtype="float64") * self.params.weight


def test_good_udfs_pass():
    check_udf(Sum(), n=30)
    check_udf(Frames(weight=UDF.aux_data(np.arange(12.0), "nav")), shape=(3, 4, 2, 5), n=20)
    check_udf(Sum(), data=np.random.default_rng(0).normal(size=(3, 2, 4, 4)), n=20)
    check_udf(Sum(), n=10, seed=5)


@pytest.mark.parametrize(
    "udf, text",
    [
        (TileMean(), r"TileMean: result 'total' depends on partitions, tiles or order: Case\("),
        (WritesInput(), "WritesInput writes to its input tile"),
        (LastWins(), r"LastWins: result 'total' depends on partitions, tiles or order"),
        (Impure(), "Impure.get_results is not pure: 'total' differs|a snapshot of 'total' changed"),
    ],
)
def test_bad_udfs_are_found_out(udf, text):
    with pytest.raises(AssertionError, match=text):
        check_udf(udf)


def test_a_missing_merge_is_said_at_once():
    with pytest.raises(MissingMergeError, match="Forgets: buffer 'total'"):
        check_udf(Forgets())


def test_aux_data_need_the_shape_they_belong_to():
    with pytest.raises(UDFError, match="the UDF has auxiliary data: pass shape="):
        check_udf(Frames(weight=UDF.aux_data(np.arange(12.0), "nav")))


class _PromisedTooMuch(UDF):
    """Counts frames once per part of the frame: joined from sectors it counts them several times."""

    engine = EngineOptions(partial_frames=True)

    def get_result_buffers(self):
        return {"n": self.buffer("single", dtype="int64", reduce="sum")}

    def process_tile(self, tile):
        if self.meta.tiling_scheme_idx in self.task_data.parts:
            return
        self.task_data.parts.add(self.meta.tiling_scheme_idx)

    def get_task_data(self):
        return {"parts": set()}

    def postprocess(self):
        self.results.n += self.meta.partition_shape[0] if self.task_data.parts else 0


def test_a_promise_of_partial_frames_is_tried_with_random_sectors():
    with pytest.raises(AssertionError, match="promises partial_frames, but result 'n' changes when sectors"):
        check_udf(_PromisedTooMuch())


@pytest.mark.parametrize("udf", [SumUDF(), StdDevUDF()], ids=["sum", "std"])
def test_promises_of_our_own_hold(udf):
    check_udf(udf, n=20)


class OnDevice(Sum):
    engine = EngineOptions(device=True)


class HalfOnDevice(OnDevice):
    """Multiplies by an array that stays on the host."""

    def process_tile(self, tile):
        self.results.total += (tile * np.ones(tile.shape[1:])).sum(axis=0)


class OtherOnDevice(OnDevice):
    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0) * (1 if self.xp is np else 2)


class DeviceOnly(OnDevice):
    def get_backends(self):
        return self.BACKEND_CUPY


def test_runs_on_the_stand_in_for_cupy():
    check_udf(OnDevice(), n=10, backend="cupy")
    check_udf(DeviceOnly(), n=5, backend="cupy")
    check_udf(StdDevUDF(), n=10, backend="cupy")
    with pytest.raises(TypeError, match="Unsupported type <class 'numpy.ndarray'>"):
        check_udf(HalfOnDevice(), n=5, backend="cupy")
    with pytest.raises(AssertionError, match="or on the backend"):
        check_udf(OtherOnDevice(), n=5, backend="cupy")
    with pytest.raises(
        AssertionError, match=r"takes the backends numpy, not 'cupy'.*EngineOptions\(device=True\)"
    ):
        check_udf(Sum(), backend="cupy")
    with pytest.raises(UDFError, match="backend='gpu' is not"):
        check_udf(Sum(), backend="gpu")
