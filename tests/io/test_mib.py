"""Merlin files: synthetic ones against their own encoder, real ones against facts known from elsewhere."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.io.decode import DEPTHS, decode_r64, stored_bits, unpack_reference
from framefold.io.mib_header import parse_header, scan_shape
from framefold.io.registry import formats, open_source
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig


def header(number, height, width, pixel, depth, chips=1, layout="1x1", size=384):
    text = (
        f"MQ1,{number:06d},{size:05d},{chips:02d},{width:04d},{height:04d},{pixel},{layout:>6s},01,"
        f"2024-07-02 13:46:44.035393,0.001000,0,0,0,1.2E+1,5.11E+2,3RX,023,511,MQ1A,2024-07-02T11:46:44Z,1000000ns,{depth},"
    )
    return text.encode().ljust(size, b"\0")


def pack(frames, depth):
    """Store the rows of one chip as it sends them: pixel k of a word at its bits k, k + 1, ..."""
    bits = min(stored_bits(depth), 16)
    px = frames.reshape(len(frames), -1, 64 // bits).astype(object)
    words = sum(px[..., k] << (bits * k) for k in range(64 // bits))
    return [w.astype(np.uint64).astype(">u8").tobytes() for w in words]


def as_quad(frames):
    """Put the rows of the four chips side by side: 4 | 3 | 2 | 1, those of 3 and 4 turned."""
    h, w = frames.shape[1] // 2, frames.shape[2] // 2
    one, two = frames[:, :h, :w], frames[:, :h, w:]
    three, four = (frames[:, h:, s][:, ::-1, ::-1] for s in (slice(0, w), slice(w, None)))
    return np.concatenate([four, three, two, one], axis=2)


def write_mib(path, frames, pixel="U16", depth=12, quad=False, first=1):
    n, h, w = frames.shape
    if pixel != "R64":
        body = [f.astype(f">u{int(pixel[1:]) // 8}").tobytes() for f in frames]
        heads = [header(first + i, h, w, pixel, depth) for i in range(n)]
    elif depth == 24:
        body = [a + b for a, b in zip(pack(frames >> 12, 12), pack(frames & 0xFFF, 12), strict=True)]
        heads = [header(first + i, h, 2 * w, pixel, 24) for i in range(n)]
    elif quad:
        body = pack(as_quad(frames), depth)
        heads = [header(first + i, h // 2, 2 * w, pixel, depth, 4, "2x2", 768) for i in range(n)]
    else:
        body = pack(frames, depth)
        heads = [header(first + i, h, w, pixel, depth) for i in range(n)]
    path.write_bytes(b"".join(a + b for a, b in zip(heads, body, strict=True)))
    return path


def data(shape, depth):
    return np.random.default_rng(0).integers(0, 2**depth, shape).astype(DEPTHS[depth])


@pytest.mark.parametrize(("pixel", "depth"), [("U08", 6), ("U16", 12), ("U32", 24)])
def test_processed(tmp_path, pixel, depth):
    arr = data((7, 24, 64), depth)
    source = open_source(write_mib(tmp_path / "a.mib", arr, pixel, depth))
    check_source(source, arr)
    assert source.is_view == (pixel == "U08")
    assert source.metadata.dwell_time == 0.001


@pytest.mark.parametrize(
    ("depth", "quad"), [(1, False), (6, False), (12, False), (24, False), (1, True), (6, True), (12, True)]
)
def test_raw_modes(tmp_path, depth, quad):
    arr = data((5, 24, 128), depth)
    path = write_mib(tmp_path / "a.mib", arr, "R64", depth, quad)
    source = open_source(path)
    assert tuple(source.shape) == (5, 24, 128)
    check_source(source, arr)
    stored = np.frombuffer(path.read_bytes(), "u1").reshape(5, -1)[:, 768 if quad else 384 :]
    np.testing.assert_array_equal(unpack_reference(np.ascontiguousarray(stored), depth, 24, 128, quad), arr)


@given(st.data())
def test_kernel_equals_reference(data):
    depth = data.draw(st.sampled_from([1, 6, 12, 24]))
    quad = depth != 24 and data.draw(st.booleans())
    height, width = 2 * data.draw(st.integers(1, 4)), 128 * data.draw(st.integers(1, 2))
    raw = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        0, 256, (2, height * width * stored_bits(depth) // 8), dtype=np.uint8
    )
    y0 = data.draw(st.integers(0, height - 1))
    y1 = data.draw(st.integers(y0 + 1, height))
    if depth == 24:  # of 16 stored bits the lower 12 are used
        raw &= np.tile(np.array([0x0F, 0xFF], np.uint8), raw.shape[1] // 2)
    out = np.empty((2, y1 - y0, width), DEPTHS[depth])
    gap = 3
    flat = np.pad(raw, [(0, 0), (gap, 0)]).reshape(-1)
    decode_r64(flat, gap, raw.shape[1] + gap, depth, height, quad, y0, out)
    truth = unpack_reference(raw, depth, height, width, quad)
    np.testing.assert_array_equal(out, truth[:, y0:y1])


# --- scan shape ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hdr", "frames", "shape"),
    [
        ({"ScanX": "4", "ScanY": "2"}, 8, (2, 4)),
        ({"ScanX": "4", "ScanY": "2", "Frames per Trigger (Number)": "8"}, 9, (2, 4)),
        ({"Frames per Trigger (Number)": "4"}, 8, (2, 4)),
        ({"Frames per Trigger (Number)": "1"}, 8, None),
        ({"Frames per Trigger (Number)": "8"}, 8, None),
        ({"Frames per Trigger (Number)": "3"}, 8, None),
        ({"ScanX": "0", "ScanY": "x"}, 8, None),
        ({}, 8, None),
    ],
)
def test_scan_shape(hdr, frames, shape):
    assert scan_shape(hdr, frames) == shape


def write_hdr(path, **fields):
    path.write_text("HDR,\t\n" + "".join(f"{k}:\t{v}\n" for k, v in fields.items()) + "End\t")
    return path


def test_hdr_gives_the_scan(tmp_path):
    arr = data((8, 4, 64), 12)
    mib = write_mib(tmp_path / "a.mib", arr)
    hdr = write_hdr(tmp_path / "a.hdr", ScanX=4, ScanY=2, Gain="SLGM")
    for path in (mib, hdr):
        source = open_source(path)
        assert tuple(source.shape.nav) == (2, 4)
        assert source.metadata.raw["hdr"]["Gain"] == "SLGM"
        check_source(source, arr, reads=3)
    write_hdr(hdr, ScanX=5, ScanY=2)
    source = open_source(mib)
    assert (tuple(source.shape.nav), source.metadata.nav_shape) == ((8,), (2, 5))


def test_hdr_finds_a_series(tmp_path):
    arr = data((6, 4, 64), 12)
    hdr = write_hdr(tmp_path / "a.hdr", Gain="SLGM")
    with pytest.raises(DataError, match="beside it holds the frames"):
        open_source(hdr)
    for i in range(3):
        write_mib(tmp_path / f"a{i}.mib", arr[2 * i : 2 * i + 2], first=1 + 2 * i)
    check_source(open_source(hdr), arr)


# --- bad input -------------------------------------------------------------------------------


def test_truncated(tmp_path):
    arr = data((4, 24, 64), 12)
    path = write_mib(tmp_path / "a.mib", arr)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(
        UserWarning, match="truncated: 4 frames need 13824 bytes, it has 13819; 3 whole frames"
    ):
        source = open_source(path)
    check_source(source, arr)
    with pytest.raises(DataError, match="strict=True"):
        open_source(path, strict=True)


def test_lost_frame_is_reported_once(tmp_path):
    arr = data((6, 4, 64), 12)
    whole = write_mib(tmp_path / "a.mib", arr).read_bytes()
    stride = len(whole) // 6
    path = tmp_path / "b.mib"
    path.write_bytes(whole[: 2 * stride] + whole[3 * stride :])
    source = open_source(path)
    with pytest.warns(
        UserWarning, match="frame . has the number 00000., expected .: frames were lost"
    ) as caught:
        check_source(source, np.delete(arr, 2, axis=0))
    assert len(caught) == 2, "once here, once after pickling"
    strict = open_source(path, strict=True)
    with pytest.raises(DataError, match="strict=True"):
        strict.read(TileSlice(0, 5, full_sig((4, 64))))


def test_more_than_a_million_frames_keep_their_numbers(tmp_path):
    arr = data((4, 2, 64), 12)
    check_source(open_source(write_mib(tmp_path / "a.mib", arr, first=999_998)), arr)


def test_frames_of_varying_size(tmp_path):
    one = write_mib(tmp_path / "a.mib", data((4, 24, 64), 12)).read_bytes()
    other = write_mib(tmp_path / "b.mib", data((4, 48, 32), 12)).read_bytes()
    path = tmp_path / "c.mib"
    path.write_bytes(one + other)
    with pytest.raises(DataError, match="frame 4 has other headers than the first"):
        open_source(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"U16", b"U12", "pixel type 'U12' is not one of"),
        (b"U16", b"R64", "not made of 64-bit words"),
        (b",0066,", b",0000,", "it is damaged"),
        (b",00384,", b",99999,", "it is damaged"),
        (b",00384,", b",0x384,", "damaged Merlin frame header"),
        (b",01,0066", b",xx,0066", "damaged Merlin frame header"),
        (b",12,\0", b",13,\0", "raw frames of 13 bits"),
        (b",01,0066", b",02,0066", "raw frames of 2 chips"),
    ],
)
def test_damaged_header(old, new, message):
    good = header(1, 24, 66, "U16", 12)
    assert old in good
    bad = good.replace(old, new)
    if "raw frames" in message:
        bad = bad.replace(b"U16", b"R64")
    with pytest.raises(DataError, match=message):
        parse_header(bad, "a.mib")


def test_opening_does_not_visit_every_frame(tmp_path):
    path = tmp_path / "a.mib"
    stride = 384 + 2 * 64 * 2
    with open(path, "wb") as file:
        for i in (0, 1_000_000, 1_999_999):
            file.seek(i * stride)
            file.write(header(i + 1, 2, 64, "U16", 12) + bytes(256))
    formats()  # imports the readers
    began = time.perf_counter()
    assert open_source(path).shape.nav.size == 2_000_000
    assert time.perf_counter() - began < 10  # reading 2 million headers takes much longer


# --- real files ------------------------------------------------------------------------------

# sums by another reader (LiberTEM 0.16)
REAL = [
    ("001_4x2_6bit", (8, 256, 256), "uint8", 3623664),
    ("Quad_9_Frame_CounterDepth_12_Rows_256", (9, 512, 512), "uint16", 7229086),
    ("Single_9_Frame_CounterDepth_24_Rows_256", (9, 256, 256), "uint32", 258156),
    ("Quad_9_Frame_CounterDepth_1_Rows_256RAW", (9, 512, 512), "uint8", 92621),
    ("Single_9_Frame_CounterDepth_1_Rows_256RAW", (9, 256, 256), "uint8", 21605),
]


@pytest.mark.parametrize(("name", "shape", "dtype", "total"), REAL)
def test_real_files(data_dir, name, shape, dtype, total):
    source = open_source(data_dir / f"{name}.hdr")
    assert (tuple(source.shape), source.dtype) == (shape, np.dtype(dtype))
    frames = source.read(TileSlice(0, shape[0], full_sig(shape[1:])))
    assert frames.sum(dtype="int64") == total
    if "RAW" in name:
        raw = np.fromfile(data_dir / f"{name}.mib", "u1").reshape(9, -1)[:, 768 if "Quad" in name else 384 :]
        np.testing.assert_array_equal(
            frames, unpack_reference(np.ascontiguousarray(raw), 1, *shape[1:], "Quad" in name)
        )


def test_hot_pixel_and_orientation(data_dir):
    source = open_source(data_dir / "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.hdr")
    assert tuple(source.shape) == (2, 4, 128, 256)
    total = source.read(TileSlice(0, 8, full_sig((128, 256)))).sum(axis=0)
    assert np.unravel_index(total.argmax(), total.shape) == (39, 52)
