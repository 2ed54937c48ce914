"""Merlin over TCP: real stacks of all kinds, and everything that can go wrong with a connection."""

import importlib.util
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.io.live.protocols.merlin import MerlinFeed
from framefold.io.live.protocols.merlin_kernels import copy_big_endian, copy_big_endian_reference
from framefold.io.live.protocols.merlin_messages import (
    PREFIX,
    find_message,
    frame_count,
    frame_number,
    is_text,
    message_size,
    parse_frame,
    parse_text,
    scan_shape,
    unwrap,
)
from framefold.io.live.sequential import SequentialStream
from framefold.io.live.tcp import Closed
from framefold.io.registry import open_source
from framefold.udfcore.live import AcquisitionEnd, LiveOptions
from framefold.udfcore.tile import TileSlice, full_sig

HERE = Path(__file__).parent
TEXT = b"HDR,\t\r\nFrames in Acquisition (Number):\t%d\r\nScanX:\t3\r\nScanY:\t2\r\nEnd\t".ljust(300)


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(HERE / "wire.py", "live_wire")
mib = load(HERE.parent / "test_mib.py", "live_mib_writer")


def message(payload):
    return b"MPX,%010d," % (len(payload) + 1) + payload


def frames_of(data, pixel="U16", depth=12, first=1):
    """Encode frames as the detector does, one message each."""
    h, w = data.shape[1:]
    return [
        message(
            mib.header((first + i) % 10**6, h, w, pixel, depth)
            + f.astype(f">u{int(pixel[1:]) // 8}").tobytes()
        )
        for i, f in enumerate(data)
    ]


def counted(n, dtype="uint16", h=8, w=64):
    return np.random.default_rng(n).integers(0, 200, (n, h, w)).astype(dtype)


def receive(port, layout="pieces", **options):
    """Run one acquisition; return its start and what `drain` gives, and the accounts."""
    nav = options.pop("nav_shape", None)
    stream = open_url(f"merlin://127.0.0.1:{port}", nav_shape=nav, start_timeout=30, **options).open()
    try:
        stream.prepare(layout)
        start = stream.wait_start(wire.WAIT)
        stack, valid, spans, end = wire.drain(stream, start)
        wire.accounts_hold(stream.stats(), valid)
        return start, stack, valid, spans, end, stream.stats()[0]
    finally:
        stream.close()


REAL = [
    "001_4x2_6bit",
    "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y",
    "Quad_9_Frame_CounterDepth_12_Rows_256",
    "Quad_9_Frame_CounterDepth_1_Rows_256RAW",
    "Single_9_Frame_CounterDepth_1_Rows_256RAW",
    "Single_9_Frame_CounterDepth_24_Rows_256",
]


@pytest.mark.parametrize("layout", ["pieces", "frames"])
@pytest.mark.parametrize("name", REAL)
def test_real_stacks_arrive_as_they_are_read_from_files(data_dir, name, layout):
    source = open_source(data_dir / f"{name}.mib")
    n = int(np.prod(source.shape.nav))
    wanted = source.read(TileSlice(0, n, full_sig(tuple(source.shape.sig))))
    raw = (data_dir / f"{name}.mib").read_bytes()
    stride = len(raw) // n
    text = (data_dir / f"{name}.hdr").read_bytes()
    data = message(text) + b"".join(message(raw[i * stride : (i + 1) * stride]) for i in range(n))
    with wire.tcp_server(wire.sending(data)) as port:
        start, stack, valid, _, end, stats = receive(port, layout)
    assert (start.n_frames, start.first_id, end.reason, end.last_frame) == (n, 1, "n_frames", n - 1)
    assert start.dtype == source.dtype
    np.testing.assert_array_equal(stack, wanted.reshape(stack.shape))
    assert valid.all()
    assert (stats.received, stats.lost, stats.bytes) == (n, 0, stack.nbytes)


@pytest.mark.parametrize(("pixel", "depth"), [("U08", 6), ("U16", 12), ("U32", 24), ("U64", 48)])
@pytest.mark.parametrize("width", [64, 5])  # 5: rows are not made of 64-bit words
def test_byte_order_is_swapped_whatever_the_width(pixel, depth, width):
    itemsize = int(pixel[1:]) // 8
    data = np.random.default_rng(1).integers(0, 2 ** (8 * itemsize - 1), (4, 3, width)).astype(f"u{itemsize}")
    with wire.tcp_server(wire.sending(message(TEXT % 4) + b"".join(frames_of(data, pixel, depth)))) as port:
        start, stack, *_ = receive(port)
    assert start.nav_shape == (2, 3)
    np.testing.assert_array_equal(stack, data)


def test_the_kernel_does_what_its_reference_does():
    data = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)
    for itemsize in (1, 2, 4, 8):
        got, wanted = (np.empty((3, 2, 8), f"u{itemsize}") for _ in range(2))
        copy_big_endian(data, 7, 300, itemsize, got)
        copy_big_endian_reference(data, 7, 300, itemsize, wanted)
        np.testing.assert_array_equal(got, wanted)


def test_garbage_and_frames_without_a_header_are_skipped():
    data = counted(5)
    rest = b"".join(frames_of(counted(7), first=94))  # of an acquisition that began before we connected
    junk = b"\0MPX,MPX,12345MPX,0000000000,HDR,MPX,9999999999,MQ1," * 40
    with wire.tcp_server(wire.sending(junk + rest + message(TEXT % 5) + b"".join(frames_of(data)))) as port:
        _, stack, valid, _, end, _ = receive(port)
    np.testing.assert_array_equal(stack, data)
    assert valid.all()
    assert end.reason == "n_frames"


def test_too_much_garbage_is_an_error(monkeypatch):
    monkeypatch.setattr("framefold.io.live.protocols.merlin.MAX_GARBAGE", 1000)
    with wire.tcp_server(wire.sending(b"x" * 5000)) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}").open()
        stream.prepare()
        with pytest.raises(StreamError, match=r"bytes came without the beginning of a message \(MPX,\)"):
            stream.wait_start(wire.WAIT)
        stream.close()


def test_gaps_are_lost_frames_and_nothing_else():
    data = counted(40)
    keep = [i for i in range(40) if i not in (0, 7, 8, 9, 30)]
    parts = frames_of(data)
    with wire.tcp_server(wire.sending(message(TEXT % 40) + b"".join(parts[i] for i in keep))) as port:
        _, stack, valid, _, end, stats = receive(port)
    assert np.flatnonzero(valid[:, 0]).tolist() == keep
    np.testing.assert_array_equal(stack[keep], data[keep])
    assert (end.reason, end.last_frame, stats.lost) == ("n_frames", 39, 5)


def test_a_long_gap_takes_few_blocks():
    parts = frames_of(counted(2)[:1]) + frames_of(counted(2)[1:], first=5001)
    with wire.tcp_server(wire.sending(message(TEXT % 5001) + b"".join(parts))) as port:
        _, _, valid, spans, _, stats = receive(port)
    assert np.flatnonzero(valid[:, 0]).tolist() == [0, 5000]
    assert stats.lost == 4999
    assert len(spans) < 10


def test_repeated_and_surplus_frames_are_counted_and_left_out():
    data = counted(12)
    parts = frames_of(data)
    order = [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 10, 11]
    with wire.tcp_server(wire.sending(message(TEXT % 11) + b"".join(parts[i] for i in order))) as port:
        _, stack, valid, _, end, stats = receive(port, block_time=0.004)
    np.testing.assert_array_equal(stack, data[:11])
    assert valid.all()
    assert end.reason == "n_frames"
    # frame 2 comes again when its block is closed, frame 1 while it is open
    assert (stats.duplicate, stats.late) == (1, 1)


def test_frames_out_of_order_are_counted_once():
    data = counted(20)
    parts = frames_of(data)
    order = [0, 1, 6, 9, 2, 3, 4, 5, 6, 7, 8, 9, *range(10, 20)]  # all in the first block
    with wire.tcp_server(wire.sending(message(TEXT % 20) + b"".join(parts[i] for i in order))) as port:
        _, stack, valid, _, end, stats = receive(port)
    np.testing.assert_array_equal(stack, data)
    assert valid.all()
    assert (end.reason, stats.duplicate, stats.valid) == ("n_frames", 2, 20)


@pytest.mark.parametrize("cut", [1, 14, 25, 26, 40, 600])
def test_a_connection_cut_mid_frame_loses_that_frame(cut):
    data = counted(20)
    parts = frames_of(data)
    with wire.tcp_server(wire.sending(message(TEXT % 20) + b"".join(parts[:13]) + parts[13][:cut])) as port:
        _, stack, valid, _, end, stats = receive(port)
    known = cut > 25  # before that the number of the frame is not there
    assert end.reason == "end-message"
    assert ("within frame 14" in end.text) == known
    assert end.last_frame == (13 if known else 12)
    np.testing.assert_array_equal(stack[:13], data[:13])
    assert stats.lost == (1 if known else 0)
    assert valid[:13].all()
    assert not valid[13:].any()


class Dribble:
    """A connection that delivers what it has in pieces of given sizes, over and over."""

    def __init__(self, data, sizes):
        self.data, self.sizes, self.at, self.calls = data, sizes, 0, 0
        self.connected = False

    def connect(self, timeout=0.0):
        if self.at:  # there is only one
            raise StreamError("nobody there")
        self.connected = True

    def read_into(self, space, timeout, at_least=1):
        n = min(len(space), self.sizes[self.calls % len(self.sizes)], len(self.data) - self.at)
        self.calls += 1
        if n == 0:
            self.connected = False
            raise Closed
        space[:n] = self.data[self.at : self.at + n]
        self.at += n
        return n

    def close(self):
        self.connected = False


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.booleans()), min_size=1, max_size=6),
    st.lists(st.sampled_from([1, 15, 40, 900, 1423, 1424, 5000, 20_000]), min_size=1, max_size=4),
    st.sampled_from([4, 1000]),
)
def test_frames_keep_their_place_however_the_bytes_come(runs, sizes, slot_frames):
    """Runs of frames with gaps or repetitions between them; at the end another acquisition."""
    data = counted(64)
    order, at = [], 0
    for n, jump, back in runs:
        order += range(at, at + n)
        at = max(0, at + n + (-jump if back else jump))
    wire_bytes = message(TEXT % 10**6)
    wire_bytes += b"".join(frames_of(data[i : i + 1], first=i + 1)[0] for i in order)
    wire_bytes += message(TEXT % 3) + b"".join(frames_of(data[:3]))
    feed = MerlinFeed("here", 1)
    feed._connection = Dribble(wire_bytes, sizes)
    size = 8 * 64 * 2
    stream = SequentialStream(feed, LiveOptions(ring_bytes=4 * slot_frames * size, idle_timeout=1e9))
    stream.prepare()
    stack, valid, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
    assert (end.reason, end.last_frame) == ("restart", max(order))
    assert np.flatnonzero(valid[:, 0]).tolist() == sorted(set(order))
    np.testing.assert_array_equal(stack[valid[:, 0]], data[sorted(set(order))])
    wire.accounts_hold(stream.stats(), valid)
    assert stream.stats()[0].received == len(order)
    stack, valid, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
    assert (end.reason, valid.all()) == ("n_frames", True)
    np.testing.assert_array_equal(stack, data[:3])
    stream.close()


def test_six_digits_wrap():
    assert unwrap(999_999, 999_998) == 999_999
    assert unwrap(0, 999_999) == 1_000_000
    assert unwrap(5, 3_999_990) == 4_000_005
    assert unwrap(999_990, 4_000_005) == 3_999_990


def test_frames_beyond_the_sixth_digit_keep_their_place(monkeypatch):
    data = counted(24, h=2)
    messages = frames_of(data, first=1)
    parts = [*messages[:4], *frames_of(data[4:], first=400_000), *frames_of(data[:3], first=800_001)]
    parts += frames_of(data[3:9], first=999_998)
    with wire.tcp_server(wire.sending(message(TEXT % 1_100_000) + b"".join(parts))) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}").open()
        stream.prepare()
        stream.wait_start(wire.WAIT)
        seen = []
        while not isinstance(got := stream.next_block(wire.WAIT), AcquisitionEnd):
            seen += [got.first_frame + int(i) for i in np.flatnonzero(got.valid[0][:, 0])]
            stream.release(got)
        stream.close()
    assert seen == [*range(4), *range(399_999, 400_019), *range(800_000, 800_003), *range(999_997, 1_000_003)]
    assert (got.reason, got.last_frame) == ("end-message", 1_000_002)


def test_a_header_of_another_acquisition_restarts():
    one, two = counted(9), counted(4)
    data = message(TEXT % 20) + b"".join(frames_of(one)) + message(TEXT % 4) + b"".join(frames_of(two))
    with wire.tcp_server(wire.sending(data)) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}").open()
        stream.prepare()
        stack, _, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
        assert (end.reason, end.last_frame) == ("restart", 8)
        np.testing.assert_array_equal(stack, one)
        wire.accounts_hold(stream.stats())
        stack, _, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
        assert end.reason == "n_frames"
        np.testing.assert_array_equal(stack, two)
        assert stream.stats()[0].received == 4
        stream.close()


def test_the_next_acquisition_is_found_behind_frames_nobody_wanted_and_after_a_new_connection():
    one, two = counted(30), counted(6)
    first = message(TEXT % 30) + b"".join(frames_of(one)) + message(TEXT % 6) + b"".join(frames_of(two))
    second = message(TEXT % 6) + b"".join(frames_of(two))
    with wire.tcp_server(wire.sending(first), wire.sending(second)) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}", nav_shape=(2, 3)).open()
        stream.prepare()
        for wanted in (one[:6], two, two):
            stack, _, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
            np.testing.assert_array_equal(stack, wanted)
            assert (end.reason, end.last_frame) == ("n_frames", 5)
        stream.close()


def test_silence_ends_the_acquisition():
    done = threading.Event()
    data = counted(5)
    with wire.tcp_server(wire.sending(message(TEXT % 9) + b"".join(frames_of(data)), until=done)) as port:
        _, stack, _, _, end, _ = receive(port, idle_timeout=0.2)
        done.set()
    assert (end.reason, end.last_frame) == ("idle", 4)
    np.testing.assert_array_equal(stack, data)


def test_fewer_frames_announced_than_the_scan_has_end_the_run_without_waiting():
    done = threading.Event()
    data = counted(5)
    with wire.tcp_server(wire.sending(message(TEXT % 5) + b"".join(frames_of(data)), until=done)) as port:
        _, stack, _, _, end, _ = receive(port, nav_shape=(3, 3), idle_timeout=1000, deadline=0.05)
        done.set()
    assert (end.reason, end.last_frame, len(stack)) == ("n_frames", 4, 5)
    assert "announced 5 frames" in end.text


def test_stop_delivers_what_arrived():
    done = threading.Event()
    data = counted(8)  # two blocks at the frame time of the header
    with wire.tcp_server(wire.sending(message(TEXT % 100) + b"".join(frames_of(data)), until=done)) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}", block_time=0.004).open()
        stream.prepare()
        start = stream.wait_start(wire.WAIT)
        first = stream.next_block(wire.WAIT)
        assert first.frames >= 1
        stream.stop()
        ends = []
        while not ends or not isinstance(ends[-1], AcquisitionEnd):
            ends.append(stream.next_block(wire.WAIT))
        assert ends[-1].reason == "stopped"
        assert start.n_frames == 100
        stream.close()
        stream.close()
        done.set()


def test_a_full_memory_stops_reading_and_loses_nothing():
    n, size = 400, 8 * 64 * 2
    data = counted(n)
    with wire.tcp_server(wire.sending(message(TEXT % n) + b"".join(frames_of(data)))) as port:
        # four blocks of at most eight frames: the reader must wait for every one to be given back
        source = open_url(f"merlin://127.0.0.1:{port}", ring_bytes=4 * 8 * size, block_time=1e-6)
        stream = source.open()
        stream.prepare()
        start = stream.wait_start(wire.WAIT)
        held = [stream.next_block(wire.WAIT) for _ in range(4)]
        assert stream.next_block(0.01) is None
        for block in held:
            got = wire.decoded(block, start).data[0][0]
            np.testing.assert_array_equal(got, data[block.first_frame : block.first_frame + block.frames])
            stream.release(block)
        seen = sum(b.frames for b in held)
        while not isinstance(got := stream.next_block(wire.WAIT), AcquisitionEnd):
            np.testing.assert_array_equal(
                wire.decoded(got, start).data[0][0], data[got.first_frame : got.first_frame + got.frames]
            )
            seen += got.frames
            stream.release(got)
        assert seen == n
        assert stream.stats()[0].valid == n
        assert start.dtype == np.uint16
        stream.close()


def test_stop_ends_a_wait_for_memory():
    n, size = 100, 8 * 64 * 2
    with wire.tcp_server(wire.sending(message(TEXT % n) + b"".join(frames_of(counted(n))))) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}", ring_bytes=4 * size, block_time=1e-6).open()
        stream.prepare()
        stream.wait_start(wire.WAIT)
        blocks = [stream.next_block(wire.WAIT) for _ in range(4)]  # never given back
        stream.stop()
        end = stream.next_block(wire.WAIT)
        assert (end.reason, end.last_frame) == ("stopped", blocks[-1].first_frame)
        wire.accounts_hold(stream.stats())
        stream.close()


def test_nobody_there_names_the_address():
    stream = open_url("merlin://127.0.0.1:1").open()
    with pytest.raises(StreamError, match=r"cannot connect to 127\.0\.0\.1:1: .*is this the right port"):
        stream.prepare()
    stream.close()


def test_no_header_names_what_was_heard():
    done = threading.Event()
    strays = b"".join(frames_of(counted(3)))
    with wire.tcp_server(wire.sending(b"hello" + strays, until=done)) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}").open()
        stream.prepare()
        for _ in range(300):  # until they have arrived
            with pytest.raises(StreamError, match="no acquisition began in 0.1 s. Connected; ") as error:
                stream.wait_start(0.1)
            if "received 3 frames of an acquisition without its header" in str(error.value):
                break
        else:
            pytest.fail(str(error.value))
        done.set()
        stream.close()


def test_a_frame_of_another_kind_ends_with_the_reason_after_what_was_right():
    data = counted(10)
    bad = frames_of(counted(1, "uint8"), "U08", 6, first=11)
    with wire.tcp_server(wire.sending(message(TEXT % 20) + b"".join([*frames_of(data), *bad]))) as port:
        _, stack, _, _, end, _ = receive(port)
    np.testing.assert_array_equal(stack, data)
    assert end.reason == "error"
    assert "frame 11 has other headers than the first" in end.text


def test_sources_travel_as_their_url():
    source = open_url("merlin://somewhere?idle_timeout=7", nav_shape=(3, 4))
    again = pickle.loads(pickle.dumps(source))
    assert (again.url, again.options, again.nav_shape) == (source.url, source.options, (3, 4))
    assert again.make_feed().endpoint == "merlin://somewhere:6342"
    assert again.known() is None


@pytest.mark.parametrize(
    ("fields", "count", "scan"),
    [
        ({"Frames in Acquisition (Number)": "8", "ScanX": "4", "ScanY": "2"}, 8, (2, 4)),
        # frames per trigger is 1 on some scans of 4 x 2: nothing follows from it
        ({"Frames in Acquisition (Number)": "8", "Frames per Trigger (Number)": "4"}, 8, None),
        ({"Frames in Acquisition (Number)": "0"}, None, None),
        ({"Frames in Acquisition (Number)": "-3", "ScanX": "1e9", "ScanY": "٣"}, None, None),
        ({}, None, None),
    ],
)
def test_what_the_text_header_tells(fields, count, scan):
    assert frame_count(fields) == count
    assert scan_shape(fields) == scan


@given(st.data())
def test_broken_streams_end_and_never_raise_anything_else(data):
    good = bytearray(message(TEXT % 6) + b"".join(frames_of(counted(6, h=1))))
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        at = data.draw(st.integers(0, len(good) - 1))
        if kind == "flip":
            good[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del good[at : at + data.draw(st.integers(1, 700))]
        elif kind == "insert":
            good[at:at] = data.draw(st.binary(min_size=1, max_size=50))
        else:
            good[at:at] = good[at : at + 600]
        if not good:
            good = bytearray(b"M")
    with wire.tcp_server(wire.sending(bytes(good))) as port:
        stream = open_url(f"merlin://127.0.0.1:{port}", idle_timeout=0.05, deadline=0.05).open()
        stream.prepare()
        try:
            start = stream.wait_start(0.2)
        except StreamError:
            pass
        else:
            _, valid, _, end = wire.drain(stream, start)
            wire.accounts_hold(stream.stats(), valid)
            assert end.reason in ("n_frames", "end-message", "idle", "error", "restart")
        finally:
            stream.close()


@given(st.data())
def test_mutated_real_messages_parse_or_raise_a_stream_error(data_dir, data):
    name = data.draw(st.sampled_from(REAL))
    raw = (data_dir / f"{name}.mib").read_bytes()[:2000]
    text = (data_dir / f"{name}.hdr").read_bytes()
    seed = bytearray(data.draw(st.sampled_from([message(raw), message(text)])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(seed), 500) - 1))
        if data.draw(st.booleans()):
            seed[at] = data.draw(st.integers(0, 255))
        else:
            del seed[at : at + data.draw(st.integers(1, 20))]
    broken = memoryview(bytes(seed))
    try:
        find_message(broken)
        frame_number(broken)
        size = message_size(broken)
        if size is not None and is_text(broken):
            fields = parse_text(broken[:size])
            frame_count(fields)
            scan_shape(fields)
        elif size is not None:
            frame = parse_frame(broken, size)
            assert frame is None or frame.header.stride == size - PREFIX
    except StreamError:
        pass
