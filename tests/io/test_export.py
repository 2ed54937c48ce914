"""Exported datasets read back bit by bit, with their metadata, and missing frames stay missing."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.io.export import blocks_of, export, open_sink
from framefold.io.hdf5 import open_hdf5
from framefold.io.registry import open_source
from framefold.udfcore.metadata import Axis, Metadata, electron_wavelength
from framefold.udfcore.shapes import Shape
from framefold.udfcore.tile import TileSlice, full_sig

pytest.importorskip("hdf5plugin")
SHAPE = Shape((4, 5, 16, 12), sig_dims=2)
DATA = np.random.default_rng(2).poisson(3, tuple(SHAPE)).astype("u2")
FLAT = DATA.reshape(20, 16, 12)
VOLTS = 200e3
METADATA = Metadata(
    axes=(Axis("y", 2.0, -1.0, "nm"), Axis("y", 2.5, 0.0, "nm"), Axis("ky", 0.1, -0.8, "mrad"), Axis("data")),
    energy=VOLTS * 1.602176634e-19,
    wavelength=electron_wavelength(VOLTS),
    camera_length=0.25,
    pixel_size=(1e-4, 2e-4),
    dwell_time=1e-3,
    mask=np.eye(16, 12, dtype=bool),
    positions=np.arange(40.0).reshape(20, 2),
)


def uneven():
    """Blocks of many lengths, out of order."""
    borders = [0, 3, 4, 11, 18, 20]
    spans = list(zip(borders[:-1], borders[1:], strict=True))
    return ((a, FLAT[a:b]) for a, b in reversed(spans))


@pytest.mark.parametrize("compression", ["bslz4", "gzip", "none"])
def test_hdf5_round_trip(tmp_path, compression) -> None:
    path = tmp_path / "a.h5"
    n = export(
        uneven(), path, SHAPE, "u2", metadata=METADATA, compression=compression, provenance={"from": "x"}
    )
    assert n == 20
    source = open_hdf5(path)
    assert source.shape == tuple(SHAPE)
    assert source.shape.nav_dims == 2
    assert source.natural_chunks == (1, 16, 12)
    assert source.stats().path == "direct"
    assert source.valid is None
    assert np.array_equal(source.read(TileSlice(0, 20, full_sig((16, 12)))), FLAT)
    m = source.metadata
    assert m.axes == METADATA.axes
    for name in ("energy", "wavelength", "camera_length", "dwell_time", "pixel_size"):
        assert getattr(m, name) == pytest.approx(getattr(METADATA, name))
    assert np.array_equal(m.mask, METADATA.mask)
    assert np.array_equal(m.positions, METADATA.positions)


def test_bslz4_is_what_detectors_write(tmp_path) -> None:
    export(uneven(), tmp_path / "a.nxs", SHAPE, "u2")
    with h5py.File(tmp_path / "a.nxs") as file:
        plist = file["entry/data/data"].id.get_create_plist()
        assert plist.get_nfilters() == 1
        assert plist.get_filter(0)[0] == 32008
        assert plist.get_filter(0)[2][4] == 2  # lz4


def test_npy(tmp_path) -> None:
    export(uneven(), tmp_path / "a.npy", SHAPE, "f4")
    back = np.load(tmp_path / "a.npy")
    assert back.dtype == np.float32
    assert np.array_equal(back, DATA)


def test_zarr(tmp_path) -> None:
    zarr = pytest.importorskip("zarr")
    export(uneven(), tmp_path / "a.zarr", SHAPE, "u2", metadata=METADATA)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    assert root["data"].chunks == (1, 5, 16, 12)
    assert np.array_equal(root["data"][...], DATA)
    assert root["data"].attrs["axes"][0] == {"name": "y", "scale": 2.0, "offset": -1.0, "units": "nm"}


def test_missing_frames_are_marked(tmp_path) -> None:
    export([(2, FLAT[2:5])], tmp_path / "a.h5", SHAPE, "u2")
    source = open_hdf5(tmp_path / "a.h5")
    assert np.flatnonzero(source.valid).tolist() == [2, 3, 4]
    assert "17 of 20 frames are missing" in source.stats().reason
    # and they stay missing in the next copy
    n = export(blocks_of(source), tmp_path / "b.h5", SHAPE, "u2")
    assert n == 3
    assert np.array_equal(open_hdf5(tmp_path / "b.h5").valid, source.valid)
    with pytest.raises(DataError, match=r"17 frames are missing, 0 is the first, and npy cannot mark them"):
        export(blocks_of(source), tmp_path / "b.npy", SHAPE, "u2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_missing_frames_are_marked_in_zarr(tmp_path) -> None:
    pytest.importorskip("zarr")
    export([(2, FLAT[2:5])], tmp_path / "a.zarr", SHAPE, "u2")
    source = open_source(tmp_path / "a.zarr")
    assert np.flatnonzero(source.valid).tolist() == [2, 3, 4]
    assert "17 of 20 frames are missing" in source.stats().reason
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.valid, source.valid)
    np.testing.assert_array_equal(again.read(TileSlice(2, 5, full_sig((16, 12)))), FLAT[2:5])


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@pytest.mark.parametrize("part", [False, True])
def test_a_scan_with_missing_frames_is_converted(tmp_path, suffix, part) -> None:
    if suffix == "zarr":
        pytest.importorskip("zarr")
    np.save(tmp_path / "a.npy", DATA)
    with ff.Context(executor="inline") as ctx:
        with pytest.warns(UserWarning, match="tail is marked invalid"):
            ds = ctx.load(tmp_path / "a.npy", nav_shape=(5, 5), sync_offset=-2)
        roi = np.arange(25).reshape(5, 5) % 3 != 0 if part else None
        want = np.zeros((25, 16, 12), "u2")
        want[2:22] = FLAT
        there = (np.arange(25) >= 2) & (np.arange(25) < 22)
        if part:
            want, there = want[roi.reshape(-1)], there[roi.reshape(-1)]
        ctx.export(ds, tmp_path / f"b.{suffix}", roi=roi)
        back = ctx.load(tmp_path / f"b.{suffix}")
        np.testing.assert_array_equal(back.valid, there)
        mapped = ctx.map(back, lambda frame: frame.astype("i8"))
        np.testing.assert_array_equal(mapped.raw_data[there], want[there])
        with pytest.raises(DataError, match=r"frames are missing in a.npy, which npy cannot say"):
            ctx.export(ds, tmp_path / "b.npy", roi=roi)


def test_blocks_follow_natural_chunks(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=FLAT, chunks=(3, 16, 12), compression="gzip")
    source = open_hdf5(tmp_path / "a.h5")
    blocks = list(blocks_of(source, block_bytes=7 * 16 * 12 * 2))
    assert [(a, len(f)) for a, f in blocks] == [(0, 6), (6, 6), (12, 6), (18, 2)]
    assert np.array_equal(np.concatenate([f for _, f in blocks]), FLAT)


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".zarr"])
def test_an_error_leaves_nothing(tmp_path, suffix) -> None:
    path = tmp_path / f"a{suffix}"

    def blocks():
        yield 0, FLAT[:2]
        raise RuntimeError("detector on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        export(blocks(), path, SHAPE, "u2")
    assert list(tmp_path.iterdir()) == []


def test_sink_checks_what_it_gets(tmp_path) -> None:
    sink = open_sink(tmp_path / "a.h5", SHAPE, "u2")
    with pytest.raises(DataError, match=r"holds 20 frames of shape \(16, 12\), got frames 19:21"):
        sink.write(19, FLAT[:2])
    with pytest.raises(DataError, match=r"of shape \(12, 16\)"):
        sink.write(0, FLAT[:2].transpose(0, 2, 1))
    with pytest.raises(DataError, match="holds uint16, got frames of float64"):
        sink.write(0, FLAT[:2].astype(float))
    sink.write(0, FLAT)
    assert list(tmp_path.glob("a.h5")) == []  # appears when it is complete
    sink.close()
    sink.close()
    assert (tmp_path / "a.h5").exists()
    with pytest.raises(DataError, match="is closed"):
        sink.write(0, FLAT)


def test_targets_that_do_not_fit(tmp_path) -> None:
    with pytest.raises(DataError, match=r"unknown ending '.hd5'. Did you mean '.hdf5'\?"):
        open_sink(tmp_path / "a.hd5", SHAPE, "u2")
    with pytest.raises(DataError, match="compression='zip' is none of"):
        open_sink(tmp_path / "a.h5", SHAPE, "u2", compression="zip")
    (tmp_path / "b.npy").write_bytes(b"old")
    with pytest.raises(DataError, match="exists"):
        open_sink(tmp_path / "b.npy", SHAPE, "u2")
    export(uneven(), tmp_path / "b.npy", SHAPE, "u2", overwrite=True)
    assert np.array_equal(np.load(tmp_path / "b.npy"), DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["b.npy"]
