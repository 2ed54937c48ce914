"""Raw and npy files, and what all memory-mapped sources share."""

import os
import pickle

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.registry import open_source
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig


def data(shape=(12, 6, 8), dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", ">f4", "<f8", ">i4"])
@pytest.mark.parametrize(("offset", "header", "footer"), [(0, 0, 0), (16, 8, 24), (3, 4, 1)])
def test_raw(tmp_path, dtype, offset, header, footer):
    arr = data(dtype=dtype)
    path = tmp_path / "scan.raw"
    frames = b"".join(b"h" * header + f.tobytes() + b"f" * footer for f in arr)
    path.write_bytes(b"x" * offset + frames)
    source = open_source(
        path, sig_shape=(6, 8), dtype=dtype, offset=offset, frame_header=header, frame_footer=footer
    )
    check_source(source, arr.astype(np.dtype(dtype).newbyteorder("=")))
    aligned = offset % 8 == 0
    assert source.is_view == (np.dtype(dtype).isnative and (aligned or dtype == "uint8"))
    assert bool(source.stats().reason) != source.is_view


def test_raw_misfit_suggests_frames(tmp_path):
    path = tmp_path / "scan.raw"
    data((7, 64, 64)).tofile(path)
    with pytest.raises(DataError, match=r"6.89231 frames of \(65, 64\).*Frames that fit: \(64, 64\)"):
        open_source(path, sig_shape=(65, 64), dtype="uint16")
    with pytest.raises(DataError, match=r"Frames that fit: \(64, 64\)"):
        open_source(path, sig_shape=(640, 640), dtype="uint16", nav_shape=(7,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "raw"}, "needs sig_shape= and dtype="),
        ({"sig_shape": (6, 8), "dtype": "uint17"}, "is not a dtype"),
        ({"sig_shape": (6, 8), "dtype": "object"}, "frames are bool"),
        ({"sig_shape": (0, 8), "dtype": "u1"}, "header states sig_shape"),
        ({"sig_shape": (6, 8), "dtype": "u2", "offset": -1}, "offset=-1"),
        ({"sig_shape": (6, 8), "dtype": "u2", "ofset": 1}, "Did you mean 'offset'"),
        ({"sig_shape": (6, 8), "dtype": "u2", "key": "a"}, "single array"),
    ],
)
def test_raw_refused(tmp_path, options, message):
    path = tmp_path / "scan.raw"
    data().tofile(path)
    with pytest.raises(DataError, match=message):
        open_source(path, **options)


def test_truncated_frame_is_invalid(tmp_path):
    path = tmp_path / "scan.raw"
    arr = data()
    path.write_bytes(arr.tobytes()[:-1])
    with pytest.warns(UserWarning, match="12 frames need 1152 bytes, it has 1151; 11 whole frames are used"):
        source = open_source(path, sig_shape=(6, 8), dtype="uint16", nav_shape=(3, 4))
    assert source.valid.tolist() == [True] * 11 + [False]
    check_source(source, arr)
    with pytest.raises(DataError, match="asked for 11..11"):
        source.read(TileSlice(11, 12, full_sig((6, 8))))
    with pytest.raises(DataError, match="strict=True"):
        open_source(path, sig_shape=(6, 8), dtype="uint16", nav_shape=(3, 4), strict=True)


def test_shrinking_file_is_an_error_not_a_crash(tmp_path):
    path = tmp_path / "scan.raw"
    # larger than a page, so that touching what is gone would be a bus error
    arr = data((4, 64, 64))
    arr.tofile(path)
    source = open_source(path, sig_shape=(64, 64), dtype="uint16")
    source.read(TileSlice(3, 4, full_sig((64, 64))))
    os.truncate(path, 2 * 8192)
    np.testing.assert_array_equal(source.read(TileSlice(0, 2, full_sig((64, 64)))), arr[:2])
    with pytest.raises(
        DataError, match=r"scan.raw: frame 3 ends at byte 32768, the file has 16384 bytes: it shrank"
    ):
        source.read(TileSlice(2, 4, full_sig((64, 64))))
    worker = pickle.loads(pickle.dumps(source))
    with pytest.raises(DataError, match="it shrank"):
        worker.read(TileSlice(2, 4, full_sig((64, 64))))
    path.unlink()
    with pytest.raises(DataError, match="cannot open"):
        pickle.loads(pickle.dumps(source)).read(TileSlice(0, 1, full_sig((64, 64))))


def test_pickle_holds_no_data(tmp_path):
    path = tmp_path / "scan.raw"
    data((50, 64, 64)).tofile(path)
    source = open_source(path, sig_shape=(64, 64), dtype="uint16")
    source.read(TileSlice(0, 50, full_sig((64, 64))))
    assert len(pickle.dumps(source)) < 2000


def test_wrong_out(tmp_path):
    path = tmp_path / "scan.raw"
    data(dtype=">u2").tofile(path)
    source = open_source(path, sig_shape=(6, 8), dtype=">u2")
    with pytest.raises(
        DataError, match=r"out must be C-contiguous, shape \(2, 6, 8\), uint16; got \(2, 6, 7\)"
    ):
        source.read(TileSlice(0, 2, full_sig((6, 8))), np.empty((2, 6, 7), "uint16"))
    with pytest.raises(DataError, match="asked for the part"):
        source.read(TileSlice(0, 2, (slice(0, 7), slice(0, 8))))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "complex64"])
def test_npy(tmp_path, order, dtype):
    arr = data((3, 4, 6, 8), dtype)
    np.save(tmp_path / "a.npy", np.asarray(arr, order=order))
    source = open_source(tmp_path / "a.npy")
    check_source(source, arr.astype(np.dtype(dtype).newbyteorder("=")))
    assert tuple(source.shape.nav) == (3, 4)
    assert open_source(tmp_path / "a.npy", sig_dims=1).shape.sig.dims == 1


def test_npy_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="frames are bool"):
        open_source(path)
    np.save(path, np.zeros((4, 6, 8)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.warns(UserWarning, match="3 whole frames"):
        check_source(open_source(path), np.zeros((4, 6, 8)))
    path.write_bytes(whole[:50])
    with pytest.raises(DataError, match="npy header is damaged"):
        open_source(path)
    path.write_bytes(whole.replace(b"(4, 6, 8)", b"(4,60000)"))
    with pytest.raises(DataError, match="no whole frame"):
        open_source(path)
