"""What user code reads: meta, auxiliary data, task and worker data, results, backends."""

import numpy as np
import pytest
import scipy.sparse

from framefold.errors import UDFError
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.metadata import electron_wavelength, photon_wavelength
from framefold.udfcore.namespace import has_device
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF

DATA = np.random.default_rng(0).integers(0, 100, (4, 5, 6, 7)).astype("uint16")


def run(dataset, udf, **options):
    return to_end(Run(InlineExecutor(), dataset, [udf], RunOptions(**options))).buffers[0]


def test_meta_tells_where_a_frame_is(dataset):
    seen = []

    class Where(UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav")}

        def process_frame(self, frame):
            m = self.meta
            seen.append((m.slice.origin[0], tuple(m.coordinates[0]), m.frame_ids[0], m.partition_shape[0]))
            assert m.get_valid_nav_mask() is None
            assert m.input_dtype == np.float32
            assert m.dataset_dtype == np.uint16
            assert tuple(m.slice.shape) == (1, 6, 7)

    roi = np.zeros((4, 5), bool)
    roi[1, 3] = roi[2, 0] = roi[3, 4] = True
    udf = Where()
    run(dataset(DATA), udf, roi=roi, partition_frames=2)
    assert seen == [(0, (1, 3), 8, 2), (1, (2, 0), 10, 2), (2, (3, 4), 19, 1)]
    assert udf.meta.input_dtype == np.float32, "readable after the run"
    assert udf.meta.slice is None
    with pytest.raises(ValueError, match="only known on a worker"):
        _ = udf.meta.partition_shape


def test_valid_mask_grows_and_excludes_what_is_being_merged(dataset):
    masks = []

    class Mask(UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav")}

        def process_frame(self, frame):
            self.results.n[:] = 1

        def merge(self, dest, src):
            masks.append(int(self.meta.get_valid_nav_mask().sum()))
            assert self.meta.get_valid_nav_mask(full_nav=True).shape == (20,)
            dest.n = src.n

        def get_results(self):
            masks.append(int(self.meta.get_valid_nav_mask().sum()))
            return super().get_results()

    run(dataset(DATA), Mask(), partition_frames=8)
    assert masks == [0, 8, 16, 20]


def test_aux_data_of_each_kind_in_each_place(dataset):
    nav = np.arange(20.0)
    sig = np.arange(42.0).reshape(6, 7)
    roi = np.zeros((4, 5), bool)
    roi.flat[[2, 3, 11, 17]] = True
    picked = np.flatnonzero(roi)
    merged = []

    class Aux(UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav", dtype="float64"), "s": self.buffer("sig", reduce="sum")}

        def preprocess(self):
            expected = nav[picked]
            got = self.params.nav
            assert np.array_equal(
                got, expected[: len(got)] if self.meta.slice is None else expected[self.meta.slice.get()[0]]
            )

        def process_tile(self, tile):
            assert self.params.sig.shape == tile.shape[1:]
            assert np.array_equal(self.params.sig, sig[self.meta.sig_slice.get()])
            assert self.params.one[0] == 7
            self.results.n = self.params.nav
            self.results.s += self.params.sig

        def merge(self, dest, src):
            merged.append(self.params.nav.tolist())
            dest.n = src.n

        def get_results(self):
            assert np.array_equal(self.params.nav, nav[picked])
            assert np.array_equal(self.params.sig, sig)
            return super().get_results()

    udf = Aux(
        nav=UDF.aux_data(nav, "nav", dtype="float64"),
        sig=UDF.aux_data(sig, "sig"),
        one=UDF.aux_data([7], "single"),
    )
    result = run(dataset(DATA), udf, roi=roi, partition_frames=3)
    assert result["n"].raw_data.tolist() == [2, 3, 11, 17]
    assert merged == [[2, 3, 11], [17]], "the rows being merged, not the first ones"


def test_unsafe_aux_data_names_both_dtypes():
    with pytest.raises(UDFError, match="aux data of dtype float64 cannot be cast safely to int32"):
        UDF.aux_data([1.5], "single", dtype="int32")


def test_worker_data_is_made_once_and_task_data_per_partition(dataset):
    made = []

    class Data(UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav")}

        def get_worker_data(self):
            made.append("worker")
            return {"plan": 3}

        def get_task_data(self):
            made.append("task")
            return {"t": 4}

        def process_frame(self, frame):
            self.results.n[:] = self.worker_data.plan * self.task_data.t
            self.leftover = 1

        def preprocess(self):
            assert not hasattr(self, "leftover"), "attributes of the last partition are forgotten"

    result = run(dataset(DATA), Data(), partition_frames=10)
    assert (result["n"].data == 12).all()
    assert made == ["worker", "task", "task"]


@pytest.mark.parametrize(
    "preferred, source, corrections, want",
    [
        ("float32", "uint16", False, "float32"),
        ("float32", "int32", False, "float64"),
        ("float32", "complex64", False, "complex64"),
        (bool, "uint16", False, "uint16"),
        (bool, "uint16", True, "float32"),
        ("float64", "uint8", True, "float64"),
    ],
)
def test_input_dtype(dataset, preferred, source, corrections, want):
    from framefold.udfcore.corrections import Corrections

    class Typed(UDF):
        def get_result_buffers(self):
            return {"n": self.buffer("nav")}

        def get_preferred_input_dtype(self):
            return preferred

        def process_frame(self, frame):
            assert frame.dtype == want == self.meta.input_dtype

    options = {"corrections": Corrections(dark=np.ones((6, 7)))} if corrections else {}
    run(dataset(DATA.astype(source)), Typed(), **options)


def test_udfs_of_one_run_keep_their_own_input_dtype(dataset):
    class Native(UDF):
        def get_preferred_input_dtype(self):
            return self.USE_NATIVE_DTYPE

        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="wide", reduce="sum")}

        def process_tile(self, tile):
            self.results.total += tile.sum(axis=0)

    class Single(Native):
        def get_preferred_input_dtype(self):
            return np.float32

    def dtypes(policy):
        run_ = Run(InlineExecutor(), dataset(DATA), [Native(), Single()], RunOptions(dtype_policy=policy))
        return [r["total"].dtype for r in to_end(run_).buffers]

    assert dtypes("group") == [np.uint64, np.float64]
    assert dtypes("joint") == [np.float64, np.float64]


@pytest.mark.parametrize("backend", [UDF.BACKEND_SCIPY_CSR, UDF.BACKEND_SPARSE_COO, UDF.BACKEND_NUMPY])
def test_a_udf_gets_the_backend_it_asks_for(dataset, backend):
    class Sparse(UDF):
        def get_backends(self):
            return (backend,)

        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

        def process_tile(self, tile):
            assert self.meta.array_backend == backend
            if backend == UDF.BACKEND_SCIPY_CSR:
                assert scipy.sparse.issparse(tile)
                assert tile.shape == (tile.shape[0], self.meta.sig_slice.shape.size)
            self.results.total += self.forbuf(tile.sum(axis=0), self.results.total)

    result = run(dataset(DATA), Sparse())
    np.testing.assert_array_equal(result["total"].data, DATA.sum(axis=(0, 1)))
    with pytest.raises(UDFError, match="the run allows cupy: no overlap"):
        run(dataset(DATA), Sparse(), backends=("cupy",))


def test_device_only_udfs_say_that_they_need_a_device(dataset):
    class Device(UDF):
        def get_backends(self):
            return (self.BACKEND_CUPY,)

        def get_result_buffers(self):
            return {"n": self.buffer("nav", where="device")}

        def process_frame(self, frame):
            self.results.n[:] = 1

    if has_device():
        assert (run(dataset(DATA), Device())["n"].data == 1).all()
    else:
        with pytest.raises(UDFError, match="needs a CUDA device and CuPy"):
            run(dataset(DATA), Device())


def test_results_outside_the_roi(dataset):
    class Kinds(UDF):
        def get_result_buffers(self):
            kinds = {
                "f": "float32",
                "c": "complex64",
                "b": "bool",
                "i": "int32",
                "u": "U3",
                "t": "datetime64[s]",
                "o": object,
            }
            return {k: self.buffer("nav", dtype=d) for k, d in kinds.items()}

        def process_frame(self, frame):
            self.results.b[:] = True

    roi = np.zeros((4, 5), bool)
    roi[0, 0] = True
    result = run(dataset(DATA), Kinds(), roi=roi)
    outside = {k: result[k].data[3, 3] for k in result}
    assert np.isnan(outside["f"])
    assert np.isnan(outside["c"])
    assert not outside["b"]
    assert outside["i"] == 0
    assert outside["u"] == ""
    assert np.isnat(outside["t"])
    assert outside["o"] is None
    assert result["f"].masked_data.mask[3, 3]
    assert not result["f"].masked_data.mask[0, 0]
    assert result["f"].valid_slice_bounding == (slice(0, 1), slice(0, 1))
    assert result["f"].raw_data.shape == (1,)
    assert result.coverage.shape == (6, 7)
    assert (result.coverage == 1).all()


def test_unknown_result_names_the_nearest(dataset):
    class One(UDF):
        def get_result_buffers(self):
            return {"intensity": self.buffer("nav")}

        def process_frame(self, frame):
            self.results.intensity[:] = 1

    result = run(dataset(DATA), One())
    with pytest.raises(
        KeyError, match="no result 'intensty'; there are: intensity. Did you mean 'intensity'?"
    ):
        result["intensty"]
    with pytest.raises(ValueError, match="read-only"):
        result["intensity"].data[0, 0] = 1
    assert np.asarray(result["intensity"]).shape == (4, 5)


def test_wavelengths():
    # Kirkland, Advanced Computing in Electron Microscopy, table 2.2; CODATA for photons
    for voltage, picometre in ((60e3, 4.866), (100e3, 3.701), (200e3, 2.508), (300e3, 1.969)):
        assert abs(electron_wavelength(voltage) * 1e12 - picometre) < 6e-4
    assert abs(photon_wavelength(12398.419843 * 1.602176634e-19) * 1e10 - 1) < 1e-9
