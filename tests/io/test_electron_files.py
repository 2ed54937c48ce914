"""Block files and MRC: built field by field, and the real ones."""

import struct

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.mrc import raster_shape
from framefold.io.registry import open_source
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig


def data(shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


# --- blo -------------------------------------------------------------------------------------


def write_blo(path, frames, offset=4112, cut=0):
    ny, nx, n, _ = frames.shape
    head = b"IMGBLO" + struct.pack(
        "<HIIIHHHHHddIHId", 258, 4096, offset, 0, n, 0, nx, ny, 2500, 12.8, 6.4, 200_000, 6226, 2000, 42339.65
    )
    body = b"".join(
        b"\xaa\x55" + struct.pack("<I", i) + f.tobytes() for i, f in enumerate(frames.reshape(-1, n, n))
    )
    raw = head.ljust(offset, b"\0") + body
    path.write_bytes(raw[: len(raw) - cut])
    return path


def test_blo(tmp_path):
    arr = data((3, 2, 9, 9))
    source = open_source(write_blo(tmp_path / "a.blo", arr))
    check_source(source, arr)
    assert source.is_view
    meta = source.metadata
    assert [(a.name, a.scale, a.units) for a in meta.axes[:2]] == [("y", 6.4, "nm"), ("x", 12.8, "nm")]
    assert meta.wavelength == pytest.approx(2.508e-12, rel=1e-3, abs=0)


def test_blo_truncated(tmp_path):
    arr = data((3, 2, 9, 9))
    path = write_blo(tmp_path / "a.blo", arr, cut=90)
    with pytest.warns(UserWarning, match="6 frames need .* 4 whole frames"):
        check_source(open_source(path), arr)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="the header ends at byte 60"):
        open_source(path)


def test_real_blo(data_dir):
    source = open_source(data_dir / "test1.blo")
    assert tuple(source.shape) == (3, 2, 144, 144)
    raw = np.fromfile(data_dir / "test1.blo", "u1")[4112:].reshape(6, 6 + 144 * 144)
    assert raw[:, :2].tolist() == [[0xAA, 0x55]] * 6 or raw[:, :2].tolist() == [[0x55, 0xAA]] * 6
    check_source(source, raw[:, 6:].reshape(6, 144, 144))


# --- mrc -------------------------------------------------------------------------------------


def write_mrc(path, frames, mode, order="<", extended=0, cell=None, mz=None):
    nz, ny, nx = frames.shape
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, nx, ny, nz, mode)
    struct.pack_into(order + "3i", head, 28, nx, ny, mz or nz)
    struct.pack_into(order + "3f", head, 40, *(cell or (nx, ny, nz)))
    struct.pack_into(order + "3f", head, 76, 0, float(frames.real.max()), 0)
    struct.pack_into(order + "i", head, 92, extended)
    head[208:216] = b"MAP " + (b"DD\0\0" if order == "<" else b"\x11\x11\0\0")
    path.write_bytes(
        bytes(head) + b"e" * extended + frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    )
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (4, "c8"), (6, "u2"), (12, "f2")]
)
def test_mrc(tmp_path, order, mode, dtype):
    arr = data((5, 6, 7), dtype)
    source = open_source(write_mrc(tmp_path / "a.mrc", arr, mode, order, extended=32))
    check_source(source, arr)
    assert source.metadata.axes == ()


def test_mrc_unsigned_bytes(tmp_path):
    arr = data((5, 6, 7)) + np.uint8(100)
    check_source(open_source(write_mrc(tmp_path / "a.mrc", arr, 0)), arr)


def test_mrc_pixel_size(tmp_path):
    source = open_source(write_mrc(tmp_path / "a.mrc", data((5, 6, 7), "i2"), 1, cell=(14.0, 3.0, 5.0)))
    assert [(a.scale, a.units) for a in source.metadata.axes] == [(0.5, "angstrom"), (2.0, "angstrom")]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (12, 101, "mode 101 is not supported.*two pixels"),
        (12, 7, "mode 7 is not supported"),
        (0, -1, "header states the stack"),
        (8, 2**31 - 1, "header states 2147483647 frames, the file holds 5"),
        (92, -4, "extended header of -4 bytes"),
        (92, 2**30, "no whole frame"),
    ],
)
def test_mrc_damaged(tmp_path, at, value, message):
    path = write_mrc(tmp_path / "a.mrc", data((5, 6, 7), "u2"), 6)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<i", raw, at, value)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        open_source(path, strict=True)


def test_scan_coordinates(tmp_path):
    arr = data((6, 4, 5), "u2")
    path = write_mrc(tmp_path / "a_movie.mrc", arr, 6)
    csv = tmp_path / "a_scan_coordinates.csv"
    csv.write_text("".join(f"{i // 3 * 2},{i % 3}\n" for i in range(6)))
    (tmp_path / "a_info.txt").write_text("Camera Model   = DESim\n")
    source = open_source(path)
    check_source(source, arr)
    assert tuple(source.shape.nav) == (2, 3)
    assert source.metadata.raw["info"] == {"Camera Model": "DESim"}
    csv.write_text("0,0\n0,1\n")
    with pytest.raises(DataError, match="has 2 points, .* has 6 frames"):
        open_source(path)
    csv.write_text("0,0\nzero,1\n")
    with pytest.raises(DataError, match="line 2: 'zero,1' is not x,y"):
        open_source(path)
    other = tmp_path / "points.txt"
    other.write_text("".join(f"{i},{7 * i % 5}\n" for i in range(6)))
    assert tuple(open_source(path, scan_coordinates=str(other)).shape.nav) == (6,)


@pytest.mark.parametrize(
    ("points", "shape"),
    [
        ([(y, x) for y in (0, 3, 6) for x in (5, 6)], (3, 2)),
        ([(x, y) for y in (0, 3, 6) for x in (5, 6)], (3, 2)),
        (2 * [(y, x) for y in (0, 3) for x in (5, 6)], (2, 2, 2)),
        ([(0, 0), (0, 1), (1, 1), (1, 0)], None),  # serpentine
        ([(0, 0), (0, 1), (1, 0)], None),
        ([(0, 0)], None),
        ([(0, 0)] * 4, None),
    ],
)
def test_raster_shape(points, shape):
    assert raster_shape(np.array(points)) == shape


def test_real_mrc(data_dir):
    source = open_source(data_dir / "Custom_movie.mrc")
    # 3 x 5 points, scanned twice
    assert tuple(source.shape) == (2, 3, 5, 16, 16)
    check_source(source, np.fromfile(data_dir / "Custom_movie.mrc", "<u2", offset=1024).reshape(30, 16, 16))
    assert source.metadata.raw["info"]["Scan - Points"] == "30"
    assert source.read(TileSlice(0, 30, full_sig((16, 16)))).max() > 0
