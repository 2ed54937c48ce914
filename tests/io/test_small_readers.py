"""EMPAD, StreamPix, TVIPS and FRMS6: files built field by field."""

import os
import struct

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.registry import detect, open_source
from framefold.testing.check_source import check_source


def data(shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# --- EMPAD -----------------------------------------------------------------------------------

XML = """<?xml version="1.0"?>
<root><raw_file filename="C:\\data\\scan_x3_y2.raw"/>{kind}
<scan_parameters mode="search"><scan_resolution_x>1</scan_resolution_x><scan_resolution_y>6</scan_resolution_y></scan_parameters>
<scan_parameters mode="acquire"><scan_resolution_x>3</scan_resolution_x><scan_resolution_y>2</scan_resolution_y></scan_parameters>
<iom_measurements><high_voltage>200</high_voltage></iom_measurements>
</root>"""


def write_empad(folder, frames, kind=""):
    (folder / "acquisition.xml").write_text(XML.format(kind=kind))
    # two rows of other information below each frame
    np.pad(frames, [(0, 0), (0, 2), (0, 0)], constant_values=-1).astype("<f4").tofile(
        folder / "scan_x3_y2.raw"
    )
    return folder / "acquisition.xml"


def test_empad(tmp_path):
    arr = data((6, 128, 128), "float32")
    xml = write_empad(tmp_path, arr)
    for path in (xml, tmp_path / "scan_x3_y2.raw"):
        source = open_source(path)
        assert tuple(source.shape.nav) == (2, 3)
        assert source.metadata.raw["high_voltage"] == "200"
        check_source(source, arr, reads=5)
    assert tuple(open_source(xml, mode="search").shape.nav) == (6, 1)


def test_empad_series(tmp_path):
    arr = data((6, 128, 128), "float32")
    xml = write_empad(tmp_path, arr, "<type>series</type><count>6</count>")
    assert tuple(open_source(xml).shape.nav) == (6,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scan_x3", "scan_x4", "not beside it"),
        ("</root>", "", "damaged XML"),
        ("<root>", "<!DOCTYPE x [<!ENTITY a 'b'>]><root>", "entities"),
        ('"acquire"', '"other"', "states no scan size"),
        (">3<", ">three<", "states no scan size"),
        (">3<", ">-3<", "header states the scan"),
        ('filename="C:\\data\\scan_x3_y2.raw"', "", "names no raw file"),
    ],
)
def test_empad_damaged(tmp_path, old, new, message):
    xml = write_empad(tmp_path, data((6, 128, 128), "float32"))
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        open_source(xml)


def test_empad_truncated(tmp_path):
    arr = data((6, 128, 128), "float32")
    xml = write_empad(tmp_path, arr)
    os.truncate(tmp_path / "scan_x3_y2.raw", 5 * 130 * 512 + 100)
    with pytest.warns(UserWarning, match="5 whole frames"):
        check_source(open_source(xml), arr, reads=3)


# --- StreamPix -------------------------------------------------------------------------------


def write_seq(path, frames, version=5, footer=40, compression=0):
    n, h, w = frames.shape
    size, bits = frames[0].nbytes, 8 * frames.dtype.itemsize
    head = struct.pack(
        "<I24sii512s", 0xFEED, "Norpix seq".encode("utf-16-le"), version, 1024, "note".encode("utf-16-le")
    )
    head += struct.pack("<9Id", w, h, bits, bits, size, 100, n, 0, size + footer, 250.0)
    head += bytes(20) + struct.pack("<iiiI", 0, 0, 0, compression)
    body = b"".join(f.tobytes() + b"t" * footer for f in frames)
    path.write_bytes(head.ljust(8192 if version >= 5 else 1024, b"\0") + body)
    return path


def write_mrc(path, frame):
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, *frame.shape[::-1], 1, 2)
    head[208:216] = b"MAP DD\0\0"
    path.write_bytes(bytes(head) + frame.astype("<f4").tobytes())


@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize(("dtype", "footer"), [("uint8", 0), ("uint16", 40), ("uint16", 7)])
def test_seq(tmp_path, version, dtype, footer):
    arr = data((5, 6, 8), dtype)
    source = open_source(write_seq(tmp_path / "a.seq", arr, version, footer))
    check_source(source, arr)
    assert source.metadata.dwell_time == 0.004
    assert source.metadata.raw["description"] == "note"


def test_seq_references(tmp_path):
    path = write_seq(tmp_path / "a.seq", data((5, 6, 8)))
    dark = data((6, 8), "float32")
    write_mrc(tmp_path / "a.seq.dark.mrc", dark)
    np.testing.assert_array_equal(open_source(path).metadata.dark, dark)
    assert open_source(path).metadata.gain is None
    write_mrc(tmp_path / "a.seq.gain.mrc", dark[:4])
    with pytest.raises(DataError, match=r"gain.mrc is \(4, 8\), the frames .* are \(6, 8\)"):
        open_source(path)


def test_seq_refused(tmp_path):
    arr = data((5, 6, 8))
    with pytest.raises(DataError, match="compression 1"):
        open_source(write_seq(tmp_path / "a.seq", arr, compression=1))
    with pytest.raises(DataError, match="the header is damaged"):
        open_source(write_seq(tmp_path / "b.seq", arr, footer=-2))
    path = write_seq(tmp_path / "c.seq", arr)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.warns(UserWarning, match="4 whole frames"):
        check_source(open_source(path), arr)


# --- TVIPS -----------------------------------------------------------------------------------


def write_tvips(path, frames, version=2, first=True, positions=None):
    _, h, w = frames.shape
    head = struct.pack("<13i", 256, version, w, h, 8 * frames.dtype.itemsize, 0, 0, 1, 1, 15500, 200, 0, 108)
    body = b""
    for i, frame in enumerate(frames):
        x, y = positions[i] if positions is not None else (0.0, 0.0)
        info = bytes(68) + struct.pack("<2f", x, y) + bytes(32) if version == 2 else bytes(12)
        body += info + frame.tobytes()
    path.write_bytes((head.ljust(256, b"\0") if first else b"") + body)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tvips_series(tmp_path, version, dtype):
    arr = data((9, 6, 8), dtype)
    for i in range(3):
        write_tvips(tmp_path / f"scan_{i:03d}.tvips", arr[3 * i : 3 * i + 3], version, first=i == 0)
    source = open_source(tmp_path / "scan_000.tvips")
    check_source(source, arr)
    check_source(open_source(tmp_path), arr, reads=2)
    assert source.metadata.pixel_size == pytest.approx((15.5e-6, 15.5e-6))
    assert source.metadata.wavelength == pytest.approx(2.508e-12, rel=1e-3, abs=0)
    (tmp_path / "scan_001.tvips").unlink()
    with pytest.raises(DataError, match="lacks number 1"):
        open_source(tmp_path / "scan_000.tvips")


def test_tvips_finds_the_scan(tmp_path):
    positions = [(0, 0)] * 3 + [(x, y) for y in range(2) for x in range(4)]
    arr = data((len(positions), 4, 5))
    write_tvips(tmp_path / "one.tvips", arr, positions=positions)
    source = open_source(tmp_path / "one.tvips")
    check_source(source, arr, reads=4)
    raw = source.metadata.raw
    assert (raw["scan_begins_at"], raw["scan_line"]) == (3, 4)


# --- FRMS6 -----------------------------------------------------------------------------------


def write_frms6(path, frames, state_count=True):
    n, h, w = frames.shape
    head = struct.pack("<HH3sB80sHH928sI", 1024, 64, b"", 6, b"", 2 * w, h // 2, b"", n if state_count else 0)
    # upper rows as they are, beside the lower ones turned by 180 degrees
    folded = np.concatenate([frames[:, : h // 2], frames[:, h // 2 :][:, ::-1, ::-1]], axis=2)
    path.write_bytes(
        head.ljust(1024, b"\0") + b"".join(bytes(64) + f.astype("<u2").tobytes() for f in folded)
    )


HDR = '[measurementInfo]\ndarkframes = 4\nstemimagesize = 2x3\nreadoutmode = "bin: 1, windowing: 1 x 8"\n'


def test_frms6(tmp_path):
    arr, dark = data((6, 8, 10)), data((4, 8, 10))
    write_frms6(tmp_path / "m_000.frms6", dark)
    write_frms6(tmp_path / "m_001.frms6", arr[:4], state_count=False)
    check_source(open_source(tmp_path / "m_001.frms6"), arr[:4])
    (tmp_path / "m.hdr").write_text(HDR)
    single = open_source(tmp_path / "m.hdr")
    assert tuple(single.shape.nav) == (4,)
    write_frms6(tmp_path / "m_002.frms6", arr[4:])
    for path in (tmp_path / "m.hdr", tmp_path / "m_000.frms6", tmp_path):
        source = open_source(path)
        assert tuple(source.shape) == (2, 3, 8, 10)
        check_source(source, arr, reads=5)
    np.testing.assert_allclose(source.metadata.dark, dark.mean(axis=0))
    assert source.metadata.raw["darkframes"] == "4"


def test_frms6_damaged(tmp_path):
    (tmp_path / "m.hdr").write_text(HDR)
    write_frms6(tmp_path / "m_000.frms6", data((2, 8, 10)))
    with pytest.raises(DataError, match="at least one more file"):
        open_source(tmp_path / "m.hdr")
    (tmp_path / "m.hdr").write_text(HDR.replace("darkframes =", "[measurementInfo"))
    with pytest.raises(DataError, match="can be read"):
        open_source(tmp_path / "m.hdr")
    (tmp_path / "m.hdr").unlink()
    raw = bytearray((tmp_path / "m_000.frms6").read_bytes())
    raw[88:90] = struct.pack("<H", 21)
    (tmp_path / "m_000.frms6").write_bytes(raw)
    with pytest.raises(DataError, match="two halves"):
        open_source(tmp_path / "m_000.frms6")


def test_names(tmp_path):
    write_seq(tmp_path / "a.bin", data((5, 6, 8)))
    assert detect(str(tmp_path / "a.bin")).name == "seq"
