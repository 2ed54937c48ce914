"""TIFF stacks, EDF and CBF images, written by the libraries that define them; MarCCD images by hand."""

import struct

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.registry import detect, open_source
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig

tifffile = pytest.importorskip("tifffile")
fabio = pytest.importorskip("fabio")


def data(shape=(5, 6, 8), dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# --- TIFF ------------------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"imagej": True},
        {"compression": "zlib"},
        {"rowsperstrip": 2, "compression": "zlib"},
    ],
)
def test_tiff(tmp_path, byteorder, dtype, options):
    if "imagej" in options and byteorder == "<":
        pytest.skip("ImageJ files are big-endian")
    arr = data(dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", arr, byteorder=byteorder, photometric="minisblack", **options)
    source = open_source(tmp_path / "a.tif")
    check_source(source, arr, reads=6)
    assert source.stats().path == ("tifffile" if "compression" in options else "mmap")


def test_tiff_4d(tmp_path):
    arr = data((2, 3, 6, 8))
    tifffile.imwrite(
        tmp_path / "a.tif", arr, photometric="minisblack", compression="zlib", metadata={"axes": "TZYX"}
    )
    source = open_source(tmp_path / "a.tif")
    assert tuple(source.shape) == (2, 3, 6, 8)
    check_source(source, arr, reads=6)


def test_tiff_pages_one_by_one(tmp_path):
    arr = data()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for frame in arr:
            tif.write(frame, contiguous=False)
    check_source(open_source(tmp_path / "a.tif"), arr, reads=4)
    check_source(open_source(tmp_path / "a.tif", series=2), arr[2:3], reads=4)


def test_single_image(tmp_path):
    arr = data((6, 8))
    tifffile.imwrite(tmp_path / "a.tif", arr)
    source = open_source(tmp_path / "a.tif")
    assert tuple(source.shape.nav) == (1,)
    check_source(source, arr)


def test_tiff_resolution(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", data(), resolution=(20000, 10000), resolutionunit="CENTIMETER")
    y, x = open_source(tmp_path / "a.tif").metadata.axes[-2:]
    assert (y.units, x.units) == ("m", "m")
    assert (y.scale, x.scale) == pytest.approx((1e-6, 0.5e-6))


def test_tiff_damaged(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data())
    with pytest.raises(DataError, match="has 1 series of pages, series=3"):
        open_source(path, series=3)
    path.write_bytes(b"II*\0\xff\xff\xff\xff")
    with pytest.raises(DataError, match="cannot read as TIFF|has 0 series"):
        open_source(path)


# --- fabio -----------------------------------------------------------------------------------


def test_edf_stack(tmp_path):
    arr = data((3, 6, 8))
    edf = fabio.edfimage.EdfImage(data=arr[0], header={"exposure_time": "0.25"})
    for frame in arr[1:]:
        edf.append_frame(data=frame)
    edf.write(str(tmp_path / "a.edf"))
    edf.close()
    source = open_source(tmp_path / "a.edf")
    check_source(source, arr, reads=6)
    assert source.metadata.dwell_time == 0.25


def test_cbf_series(tmp_path):
    arr = data((4, 6, 8), "int32")
    for i, frame in enumerate(arr):
        fabio.cbfimage.CbfImage(data=frame).write(str(tmp_path / f"img_{i:05d}.cbf"))
    assert detect(str(tmp_path / "img_00000.cbf")).name == "fabio"
    check_source(open_source(tmp_path), arr, reads=6)
    check_source(open_source(str(tmp_path / "img_*.cbf")), arr, reads=2)


def test_cbf_damaged(tmp_path):
    path = tmp_path / "a.cbf"
    fabio.cbfimage.CbfImage(data=data((6, 8), "int32")).write(str(path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="a.cbf"):
        open_source(path)


# --- MarCCD ----------------------------------------------------------------------------------


def write_marccd(path, image):
    """Write a TIFF with one strip behind 4096 bytes, which hold a MarCCD header from 1024 on (Rayonix)."""
    h, w = image.shape
    tags = [
        (256, 3, w), (257, 3, h), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 4096), (277, 3, 1),
        (278, 4, h), (279, 4, 2 * h * w),
    ]  # fmt: skip
    head = bytearray(4096)
    struct.pack_into("<2sHIH", head, 0, b"II", 42, 8, len(tags))
    for i, (tag, kind, value) in enumerate(tags):
        struct.pack_into("<HHII", head, 10 + 12 * i, tag, kind, 1, value)
    struct.pack_into("<I16sIII", head, 1024, 2, b"MMX", 1, 1, 1234)
    struct.pack_into("<III", head, 1024 + 80, w, h, 2)
    path.write_bytes(bytes(head) + image.astype("<u2").tobytes())


@pytest.mark.parametrize(
    ("name", "fmt"), [("a.mccd", "fabio"), ("a.0001", "fabio"), ("a_0001.tif", "tiff"), ("a.img", "fabio")]
)
def test_marccd(tmp_path, name, fmt):
    image = data((12, 16))
    write_marccd(tmp_path / name, image)
    assert detect(str(tmp_path / name)).name == fmt
    source = open_source(tmp_path / name)
    check_source(source, image.reshape(1, 12, 16))
    np.testing.assert_array_equal(source.read(TileSlice(0, 1, full_sig((12, 16))))[0], image)
