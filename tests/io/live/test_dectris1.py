"""DECTRIS stream V1: all encodings, headers of all details."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.io.live.protocols.dectris1_messages import Dectris1Parser, parse_parts
from framefold.io.live.protocols.series import SeriesEnd, SeriesImage, SeriesStart
from framefold.io.live.replay.dectris1 import Dectris1Encoder
from framefold.udfcore.live import AcquisitionStart

zmq = pytest.importorskip("zmq", reason="pyzmq is not installed")
pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(Path(__file__).parent / "wire.py", "live_wire")


def header(data, **meta):
    return AcquisitionStart(len(data), data.shape[1:], data.dtype, None, (), 0, meta)


def counted(n, dtype="uint16", shape=(6, 50)):
    return np.random.default_rng(n).integers(0, 200, (n, *shape)).astype(dtype)


def series(data, compression="bslz4", number=1, **meta):
    encoder = Dectris1Encoder(compression, number)
    first = encoder.begin(header(data, **meta))
    return [*first, *(encoder.frame(i, f) for i, f in enumerate(data)), *encoder.end()]


def receive(messages, **options):
    with wire.zmq_server(zmq.PUSH, messages) as port:
        stream = open_url(f"dectris1://127.0.0.1:{port}", **options).open()
        try:
            stream.prepare()
            start = stream.wait_start(wire.WAIT)
            stack, valid, _, end = wire.drain(stream, start)
            wire.accounts_hold(stream.stats(), valid)
            return start, stack, valid, end, stream.stats()[0]
        finally:
            stream.close()


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_all_encodings_arrive(compression, dtype):
    data = counted(9, dtype)
    start, stack, valid, end, _ = receive(series(data, compression))
    np.testing.assert_array_equal(stack, data)
    assert valid.all()
    assert (start.n_frames, start.dtype, end.reason) == (9, data.dtype, "n_frames")


@pytest.mark.parametrize("shape", [(7, 9), (64, 100)])  # 63 pixels are no multiple of 8; more than one block
def test_an_empty_header_of_compressed_data_is_made_up(shape):
    data = counted(3, shape=shape)
    messages = series(data)
    for message in messages[1:-1]:
        message[2] = bytes(12) + message[2][12:]
    np.testing.assert_array_equal(receive(messages)[1], data)


def test_lz4_with_a_header_of_sizes_is_told_from_a_block_alone():
    lz4 = pytest.importorskip("lz4.block", reason="lz4 is not installed")
    data = counted(2)
    messages = series(data, "lz4")
    for message, frame in zip(messages[1:-1], data, strict=True):
        raw = frame.tobytes()
        body = lz4.compress(raw, store_size=False)
        message[2] = (
            len(raw).to_bytes(8, "big") + len(raw).to_bytes(4, "big") + len(body).to_bytes(4, "big") + body
        )
    np.testing.assert_array_equal(receive(messages)[1], data)


def test_big_endian_images():
    data = counted(2, "uint32")
    messages = series(data, "none")
    for message, frame in zip(messages[1:-1], data, strict=True):
        message[1] = message[1].replace(b'"<"', b'">"')
        message[2] = frame.astype(">u4").tobytes()
    np.testing.assert_array_equal(receive(messages)[1], data)


def test_all_details_bring_a_mask():
    mask = np.zeros((6, 50), bool)
    mask[1, 7] = True
    start, *_ = receive(series(counted(2), pixel_mask=mask))
    np.testing.assert_array_equal(start.meta["pixel_mask"], mask)


def test_headers_in_one_message_in_two_and_without_a_configuration():
    data = counted(4)
    whole = series(data)
    head, config = whole[0]
    bare = json.dumps({"htype": "dheader-1.0", "series": 1, "header_detail": "none"}).encode()
    for first, frames in (([whole[0]], 4), ([[head], [config]], 4), ([[bare]], None), ([[head]], None)):
        start, stack, _, end, _ = receive([*first, *whole[1:]])
        np.testing.assert_array_equal(stack, data)
        assert start.n_frames == frames
        assert end.reason == ("n_frames" if frames else "end-message")


def test_several_triggers_multiply():
    head = {"htype": "dheader-1.0", "series": 7, "header_detail": "basic"}
    start = parse_parts([memoryview(json.dumps(x).encode()) for x in (head, {"nimages": 5, "ntrigger": 3})])
    assert (start.series, start.n_images) == (7, 15)


def test_gaps_are_lost():
    data = counted(30)
    messages = series(data)
    keep = [i for i in range(30) if i % 7]
    _, stack, valid, _, stats = receive([messages[0], *(messages[1 + i] for i in keep), messages[-1]])
    assert np.flatnonzero(valid[:, 0]).tolist() == keep
    np.testing.assert_array_equal(stack[keep], data[keep])
    assert stats.lost == 5


def parts(*values):
    return [memoryview(v if isinstance(v, bytes) else json.dumps(v).encode()) for v in values]


IMAGE = {"htype": "dimage-1.0", "series": 1, "frame": 0, "hash": ""}
ABOUT = {"htype": "dimage_d-1.0", "shape": [2, 2], "type": "uint16", "encoding": "<", "size": 8}


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (parts(b"nonsense"), "no JSON"),
        (parts(b"[" * 100_000), "no JSON"),
        (parts(b'{"a": ' * 100_000), "no JSON"),
        (parts([1]), "no object"),
        (parts({"htype": "dheader-2.0"}), "'dheader-2.0'; dheader-1.0"),
        (
            parts({"htype": "dheader-1.0", "series": -1, "header_detail": "none"}),
            "series of a dheader-1.0 message",
        ),
        (parts(b" " * (2**20 + 1)), "at most 1048576"),
        (parts(IMAGE), "of 1 parts, four belong to it"),
        (parts(IMAGE, {**ABOUT, "encoding": "zip"}, b""), "encoding 'zip'"),
        (parts(IMAGE, {**ABOUT, "encoding": "bs32-lz4<"}, b""), "element sizes differ"),
        (parts(IMAGE, {**ABOUT, "type": "object"}, b""), "dtype 'object' is not allowed"),
        (parts(IMAGE, {**ABOUT, "shape": [2**31, 2**31]}, b""), "at most 1073741824 are allowed"),
        (parts(IMAGE, {**ABOUT, "shape": [2.5, 1]}, b""), "sizes are integers"),
        (parts(IMAGE, ABOUT, bytes(70_000)), "70000 bytes for an image of 8"),
        (parts({**IMAGE, "frame": 1e99}, ABOUT, bytes(8)), "no natural number"),
    ],
)
def test_messages_that_are_not_what_they_should_be(message, match):
    with pytest.raises(StreamError, match=match):
        Dectris1Parser().parse(message)


SEEDS = series(counted(1, shape=(3, 5)), "bslz4", pixel_mask=np.ones((3, 5)))


@given(st.data())
def test_mutated_messages_parse_or_raise_a_stream_error(seed):
    message = [bytearray(p) for p in seed.draw(st.sampled_from(SEEDS))]
    for _ in range(seed.draw(st.integers(1, 5))):
        part = seed.draw(st.integers(0, len(message) - 1))
        at = seed.draw(st.integers(0, max(0, len(message[part]) - 1)))
        kind = seed.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
        if kind == "flip" and message[part]:
            message[part][at] = seed.draw(st.integers(0, 255))
        elif kind == "cut":
            del message[part][at : at + seed.draw(st.integers(1, 9))]
        elif kind == "insert":
            message[part][at:at] = seed.draw(st.binary(max_size=9))
        elif len(message) > 1:
            del message[part]
    try:
        for got in Dectris1Parser().parse([memoryview(bytes(p)) for p in message]):
            assert isinstance(got, SeriesStart | SeriesImage | SeriesEnd)
            for array in got.arrays.values() if isinstance(got, SeriesImage) else ():
                if array.nbytes < 2**20:
                    array.decode()
    except StreamError:
        pass
