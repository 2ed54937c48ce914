"""Flat frame ranges as hyperslabs, and the h5py path."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.hdf5 import FORMAT, from_h5py, open_hdf5
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice, full_sig


@pytest.mark.parametrize(
    "shape, nav_dims",
    [((7, 6, 5), 1), ((3, 4, 6, 5), 2), ((2, 3, 2, 6, 5), 3), ((6, 5), 0), ((12, 5), 1), ((3, 4), 2)],
)
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_tiles_equal_slices_of_the_array(tmp_path, shape, nav_dims, direct, chunked) -> None:
    truth = np.random.default_rng(1).integers(0, 999, shape).astype("u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=truth, chunks=tuple(min(2, n) for n in shape) if chunked else None)
    source = open_hdf5(tmp_path / "a.h5", "d", nav_dims=nav_dims, direct=direct)
    assert isinstance(source, Source)
    sig = shape[nav_dims:]
    flat = truth.reshape(-1, *sig)
    assert source.shape.nav.size == len(flat)
    for start in range(len(flat)):
        for stop in range(start, len(flat) + 1):
            tile = TileSlice(start, stop, full_sig(sig))
            assert np.array_equal(source.read(tile), flat[start:stop])
    if sig:
        part = tuple(slice(n // 3, n // 3 + 2) for n in sig)
        out = np.empty((len(flat), *(2 for _ in sig)), "u2")
        got = source.read(TileSlice(0, len(flat), part), out)
        assert (got is out) != source.is_view
        assert np.array_equal(got, flat[(slice(None), *part)])


def test_transpose_and_nav_dims_override(tmp_path) -> None:
    truth = np.random.default_rng(2).normal(size=(6, 5, 3, 4)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = truth
    source = open_hdf5(tmp_path / "a.h5", transpose=(3, 2, 0, 1))
    assert source.shape == (4, 3, 6, 5)
    expected = truth.transpose(3, 2, 0, 1).reshape(12, 6, 5)
    assert np.array_equal(source.read(TileSlice(2, 9, (slice(1, 6), slice(0, 4)))), expected[2:9, 1:6, :4])
    assert "transposed" in source.stats().reason
    with pytest.raises(DataError, match=r"transpose=\(0, 1, 2\) must name each axis .* 0 .. 3"):
        open_hdf5(tmp_path / "a.h5", transpose=(0, 1, 2))
    with pytest.raises(DataError, match="nav_dims=5 does not fit"):
        open_hdf5(tmp_path / "a.h5", nav_dims=5)


def test_bool_and_complex_data(tmp_path) -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "b": rng.random((4, 3, 3)) > 0.5,
        "c": rng.normal(size=(4, 3, 3)) + 1j * rng.normal(size=(4, 3, 3)),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for name, array in arrays.items():
        source = open_hdf5(tmp_path / "a.h5", name)
        assert source.dtype == array.dtype
        assert np.array_equal(source.read(TileSlice(0, 4, full_sig((3, 3)))), array)


def test_big_endian_arrives_native(tmp_path) -> None:
    truth = np.arange(4 * 3 * 3).reshape(4, 3, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("mapped", data=truth, dtype=">u2")
        file.create_dataset(
            "chunked", data=truth, dtype=">u2", chunks=(1, 3, 3), compression="gzip", shuffle=True
        )
    for key in ("mapped", "chunked"):
        source = open_hdf5(tmp_path / "a.h5", key)
        got = source.read(TileSlice(1, 4, full_sig((3, 3))))
        assert got.dtype == np.dtype("u2")
        assert got.dtype.isnative
        assert not source.is_view
        assert np.array_equal(got, truth[1:])


def test_from_h5py(tmp_path) -> None:
    truth = np.arange(24, dtype="i4").reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/d"] = truth
        source = from_h5py(file["group/d"])
        assert np.array_equal(source.read(TileSlice(0, 2, full_sig((3, 4)))), truth)
    with (
        h5py.File("memory.h5", "w", driver="core", backing_store=False) as file,
        pytest.raises(DataError, match="lies in memory"),
    ):
        from_h5py(file.create_dataset("d", data=truth))


def test_requests_that_do_not_fit_are_refused(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=np.zeros((4, 3, 3), "u1"), chunks=(1, 3, 3))
        file.create_dataset("empty", shape=(0, 3, 3), dtype="u1")
    source = open_hdf5(tmp_path / "a.h5", "d")
    with pytest.raises(DataError, match=r"has frames 0..3, asked for 2..4"):
        source.read(TileSlice(2, 5, full_sig((3, 3))))
    with pytest.raises(DataError, match=r"has frames of shape \(3, 3\), asked for the part"):
        source.read(TileSlice(0, 1, (slice(0, 4), slice(0, 3))))
    with pytest.raises(DataError, match="out must be C-contiguous"):
        source.read(TileSlice(0, 2, full_sig((3, 3))), np.empty((2, 3, 3), "u2"))
    with pytest.raises(DataError, match=r"shape \(0, 3, 3\)"):
        open_hdf5(tmp_path / "a.h5", "empty")


def test_sniff(tmp_path) -> None:
    for name, block in (("plain.h5", 0), ("block.mat", 1024)):
        with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
            file["d"] = np.zeros(3)
        assert FORMAT.sniff(str(tmp_path / name), (tmp_path / name).read_bytes()[:8192]) is None
    for content in (b"", b"\x89HDF", b"MQ1," + bytes(5000)):
        (tmp_path / "other").write_bytes(content)
        assert FORMAT.sniff(str(tmp_path / "other"), content) == "no HDF5 signature"


def test_files_that_are_not_hdf5_or_truncated(tmp_path) -> None:
    (tmp_path / "a.h5").write_bytes(b"not HDF5 at all")
    with pytest.raises(DataError, match="cannot be opened as HDF5"):
        open_hdf5(tmp_path / "a.h5")
    with pytest.raises(DataError, match="no such file"):
        open_hdf5(tmp_path / "gone.h5")
    with pytest.raises(DataError, match="is a directory"):
        open_hdf5(tmp_path)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["d"] = np.zeros((4, 30, 30))
    (tmp_path / "b.h5").write_bytes((tmp_path / "b.h5").read_bytes()[:9000])
    with pytest.raises(DataError, match=r"is truncated.*Copy the file again"):
        open_hdf5(tmp_path / "b.h5")


def test_unknown_filter_names_its_number(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 4, 4))
        plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((2, 4, 4))
        h5py.h5d.create(file.id, b"d", h5py.h5t.STD_U16LE, space, plist)
    with pytest.raises(DataError, match=r"dataset /d: filter 305 .*pip install 'framefold\[formats\]'"):
        open_hdf5(tmp_path / "a.h5")


def test_corrupt_chunk_through_h5py_names_the_frame(tmp_path) -> None:
    data = np.random.default_rng(1).integers(0, 9, (6, 30, 30)).astype("u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        d = file.create_dataset("d", data=data, chunks=(2, 30, 30), compression="gzip")
        info = d.id.get_chunk_info_by_coord((4, 0, 0))
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = bytes(info.size)
    (tmp_path / "a.h5").write_bytes(content)
    source = open_hdf5(tmp_path / "a.h5", direct=False)
    with pytest.raises(
        DataError, match=r"/d: frame 4 \(chunk at \(4, 0, 0\)\) cannot be read.*filters: 1 \(deflate\)"
    ):
        source.read(TileSlice(1, 6, full_sig((30, 30))))
    assert np.array_equal(source.read(TileSlice(0, 4, full_sig((30, 30)))), data[:4])


@pytest.mark.parametrize("mark", [b"HEAP", b"TREE", b"SNOD"])
def test_damaged_structure_names_the_file(tmp_path, mark) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=np.zeros((4, 5, 5)), chunks=(1, 5, 5))
    content = (tmp_path / "a.h5").read_bytes()
    assert mark in content
    (tmp_path / "a.h5").write_bytes(content.replace(mark, b"\0\0\0\0"))
    with pytest.raises(DataError, match=r"a.h5"):
        open_hdf5(tmp_path / "a.h5").read(TileSlice(0, 4, full_sig((5, 5))))
