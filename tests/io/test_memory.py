"""Arrays in memory as sources."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import sparse

from framefold.errors import DataError
from framefold.io.registry import open_source
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig


def data(shape=(3, 4, 5, 6), dtype="uint16"):
    return np.random.default_rng(0).integers(0, 99, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "float32", "complex64"])
@pytest.mark.parametrize("sig_dims", [1, 2, 3])
def test_numpy(dtype, sig_dims):
    arr = data(dtype=dtype)
    check_source(open_source(arr, sig_dims=sig_dims), arr)


def test_numpy_is_not_copied():
    arr = data()
    source = open_source(arr)
    tile = source.read(TileSlice(2, 5, full_sig((5, 6))))
    assert np.shares_memory(tile, arr)
    assert source.is_view
    assert arr.flags.writeable, "the array of the user stays as it was"


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[:, 1:3], np.s_[..., ::-1]])
def test_views_of_numpy(view):
    arr = data()[view]
    check_source(open_source(arr), arr)


@pytest.mark.parametrize("part", [np.s_[:], np.s_[1:], np.s_[1], np.s_[2:3, 1:]])
@pytest.mark.parametrize("offset", [0, 96, 5000])
@pytest.mark.parametrize("dtype", ["<u2", ">f4"])
def test_memory_maps_travel_by_path(tmp_path, part, offset, dtype):
    arr = data((3, 40, 5, 6), dtype)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(offset) + arr.tobytes())
    mapped = np.memmap(path, dtype, "r", offset, arr.shape)[part]
    source = open_source(mapped)
    check_source(source, arr[part].astype(np.dtype(dtype).newbyteorder("=")))
    assert len(pickle.dumps(source)) < 2000


def test_private_and_strided_maps_are_arrays(tmp_path):
    arr = data()
    arr.tofile(tmp_path / "a.bin")
    private = np.memmap(tmp_path / "a.bin", arr.dtype, "c", 0, arr.shape)
    private[0] = 7
    check_source(open_source(private), np.asarray(private))
    check_source(open_source(private[:, ::2]), np.asarray(private)[:, ::2])
    np.save(tmp_path / "a.npy", arr)
    check_source(open_source(np.load(tmp_path / "a.npy", mmap_mode="r")), arr)


def test_sig_shape_says_how_many_axes():
    assert open_source(data(), sig_shape=(4, 5, 6)).shape.sig.dims == 3
    with pytest.raises(DataError, match=r"frames have the shape \(5, 6\), sig_shape=\(6, 6\)"):
        open_source(data(), sig_shape=(6, 6))
    with pytest.raises(DataError, match="contradicts"):
        open_source(data(), sig_shape=(5, 6), sig_dims=1)


@pytest.mark.parametrize(
    ("arr", "options", "message"),
    [
        (np.zeros(5), {}, "give sig_dims="),
        (np.zeros((0, 3, 3)), {}, "holds no frame"),
        (np.array([[["a"]]]), {}, "frames are bool, integer"),
        (np.zeros((2, 3, 3)), {"sig_dim": 2}, "no option 'sig_dim'. Did you mean 'sig_dims'"),
        (np.zeros((2, 3, 3)), {"dtype": "uint8"}, "get_preferred_input_dtype"),
        (np.zeros((2, 3, 3)), {"key": "a"}, "single array"),
        (np.zeros((2, 3, 3)), {"format": "npy"}, "applies to files"),
        (17, {}, "cannot load a int"),
    ],
)
def test_refused(arr, options, message):
    with pytest.raises(DataError, match=message):
        open_source(arr, **options)


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix])
def test_scipy(make):
    arr = data((6, 20)) * (np.random.default_rng(1).random((6, 20)) < 0.2).astype("uint16")
    check_source(open_source(make(arr)), arr)
    check_source(open_source(make(arr), sig_shape=(4, 5)), arr)


@pytest.mark.parametrize("kind", ["coo", "gcxs", "dok"])
def test_pydata(kind):
    arr = data() * (np.random.default_rng(1).random((3, 4, 5, 6)) < 0.2).astype("uint16")
    source = open_source(sparse.COO.from_numpy(arr).asformat(kind))
    check_source(source, arr)
    assert isinstance(source.read(TileSlice(0, 2, full_sig((5, 6)))), sparse.COO)


def test_sparse_refused():
    with pytest.raises(DataError, match="fill value 0"):
        open_source(sparse.COO.from_numpy(np.ones((2, 3, 3)), fill_value=1))
    with pytest.raises(DataError, match=r"20 columns cannot have frames of shape \(4, 4\)"):
        open_source(scipy.sparse.csr_matrix(np.ones((3, 20))), sig_shape=(4, 4))


def test_dask():
    da = pytest.importorskip("dask.array")
    arr = data()
    source = open_source(da.from_array(arr, chunks=(1, 2, 5, 3)))
    assert source.natural_chunks == (2, 5, 3)
    check_source(source, arr)
    check_source(open_source(da.from_array(arr, chunks=(2, 3, 2, 4)), sig_dims=1), arr)


def test_a_source_is_returned_as_it_is():
    source = open_source(data())
    assert open_source(source) is source
    with pytest.raises(DataError, match="no option"):
        open_source(source, sig_dims=2)
