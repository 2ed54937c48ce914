"""DECTRIS stream V2: genuine messages, encodings of another library, series that come in any state."""

import importlib.util
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import framefold as ff
from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.io.live.cbor import MAX_ITEMS, Tagged, parse_cbor
from framefold.io.live.encoded import checked_dtype, checked_shape
from framefold.io.live.protocols.dectris_messages import parse_message, pixel_mask, plain_fields
from framefold.io.live.protocols.series import SeriesEnd, SeriesImage, SeriesStart
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.udfcore.live import AcquisitionStart

zmq = pytest.importorskip("zmq", reason="pyzmq is not installed")


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(Path(__file__).parent / "wire.py", "live_wire")


def view(data):
    return memoryview(bytes(data))


def header(data, n=None, **meta):
    return AcquisitionStart(len(data) if n is None else n, data.shape[1:], data.dtype, None, (), 0, meta)


def counted(n, dtype="uint16", shape=(6, 50)):
    return np.random.default_rng(n).integers(0, 200, (n, *shape)).astype(dtype)


def series(data, n=None, compression="bslz4", number=1, **meta):
    """All messages of a series: start, images, end."""
    encoder = DectrisEncoder(compression, number)
    first = encoder.begin(header(data, n, **meta))
    return [*first, *(encoder.frame(i, f) for i, f in enumerate(data)), *encoder.end()]


def receive(messages, url="dectris://127.0.0.1:{port}", **options):
    with wire.zmq_server(zmq.PUSH, messages) as port:
        stream = open_url(url.format(port=port), **options).open()
        try:
            stream.prepare()
            start = stream.wait_start(wire.WAIT)
            stack, valid, _, end = wire.drain(stream, start)
            wire.accounts_hold(stream.stats(), valid)
            return start, stack, valid, end, stream.stats()[0]
        finally:
            stream.close()


def test_genuine_messages_of_a_16m_detector(data_dir):
    read = [
        view((data_dir / "dectris_stream2" / f"{n}.cbor").read_bytes()) for n in ("start", "image", "end")
    ]
    start, image, end = map(parse_message, read)
    assert isinstance(start, SeriesStart)
    assert (start.series, start.n_images, start.shape, start.channels) == (
        15614,
        1,
        (4362, 4148),
        ("threshold_1",),
    )
    fields = plain_fields(start)
    assert fields["detector_description"] == "Dectris EIGER2 Si 16M"
    assert fields["incident_energy"] == 13500.299829398293
    assert pixel_mask(start, "threshold_1") is None  # left out in this capture
    assert isinstance(image, SeriesImage)
    array = image.arrays["threshold_1"]
    assert (array.shape, array.dtype, array.codec, image.number) == ((4362, 4148), np.uint16, "bslz4", 0)
    assert end == SeriesEnd(15614)
    # the other decoder of such data
    bitshuffle = pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    blob = np.frombuffer(array.data, np.uint8)
    block = int.from_bytes(bytes(array.data[8:12]), "big") // 2
    wanted = bitshuffle.decompress_lz4(blob[12:], array.shape, array.dtype, block)
    np.testing.assert_array_equal(array.decode(), wanted)


def test_genuine_messages_through_the_socket(data_dir):
    read = [[(data_dir / "dectris_stream2" / f"{n}.cbor").read_bytes()] for n in ("start", "image", "end")]
    start, stack, valid, end, _ = receive(read)
    assert (start.sig_shape, start.dtype, start.n_frames) == ((4362, 4148), np.uint16, 1)
    assert start.meta["energy"] == pytest.approx(13500.3 * 1.602176634e-19, rel=1e-6, abs=0)
    assert start.meta["pixel_size"] == (75e-6, 75e-6)
    assert valid.all()
    assert end.reason == "n_frames"
    # 4362 x 4148 pixels are 8 x 4 modules of 512 x 1028 with gaps of 38 and 12 pixels between them
    gaps = [(stack[0] == 65535).all(axis=axis).sum() for axis in (1, 0)]
    assert gaps == [7 * 38, 3 * 12]


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_all_encodings_arrive(compression, dtype):
    pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    data = counted(12, dtype)
    start, stack, valid, end, stats = receive(series(data, compression=compression))
    np.testing.assert_array_equal(stack, data)
    assert valid.all()
    assert (start.n_frames, end.reason, stats.received) == (12, "n_frames", 12)


def test_big_endian_and_float_arrays():
    data = counted(1, "uint16")[0]
    for tag, dtype in ((65, ">u2"), (73, ">i2"), (77, "<i2"), (81, ">f4"), (84, "<f2"), (86, "<f8")):
        array = cbor2.CBORTag(40, [list(data.shape), cbor2.CBORTag(tag, data.astype(dtype).tobytes())])
        message = cbor2.dumps({"type": "image", "series_id": 1, "image_id": 0, "data": {"a": array}})
        got = parse_message(view(message)).arrays["a"].decode()
        np.testing.assert_array_equal(got, data)
        assert got.dtype.isnative
        assert got.dtype == np.dtype(dtype).newbyteorder("=")


def test_big_endian_compressed_arrays():
    bitshuffle = pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    data = counted(1, "uint16")[0]
    body = bitshuffle.compress_lz4(data.astype(">u2").view("u2").ravel(), 4096).tobytes()
    blob = data.nbytes.to_bytes(8, "big") + (8192).to_bytes(4, "big") + body
    array = cbor2.CBORTag(40, [list(data.shape), cbor2.CBORTag(65, cbor2.CBORTag(56500, ["bslz4", 2, blob]))])
    message = cbor2.dumps({"type": "image", "series_id": 1, "image_id": 0, "data": {"a": array}})
    np.testing.assert_array_equal(parse_message(view(message)).arrays["a"].decode(), data)


def test_the_mask_is_offered():
    mask = np.zeros((6, 50), np.uint32)
    mask[2, 3] = 4
    start, *_ = receive(series(counted(2), pixel_mask=mask))
    np.testing.assert_array_equal(start.meta["pixel_mask"], mask != 0)


def two_channels(data, names=("low", "high")):
    head = {
        "type": "start",
        "series_id": 3,
        "number_of_images": len(data),
        "image_size_x": 4,
        "image_size_y": 3,
    }
    yield [cbor2.dumps({**head, "image_dtype": "uint16", "channels": list(names)})]
    for i, frame in enumerate(data):
        arrays = {
            name: cbor2.CBORTag(40, [[3, 4], cbor2.CBORTag(69, (frame + k).astype("<u2").tobytes())])
            for k, name in enumerate(names)
        }
        yield [cbor2.dumps({"type": "image", "series_id": 3, "image_id": i, "data": arrays})]


def test_channels():
    data = counted(3, shape=(3, 4))
    messages = list(two_channels(data))
    np.testing.assert_array_equal(receive(messages)[1], data)
    np.testing.assert_array_equal(receive(messages, channel="high")[1], data + 1)
    both = receive(messages, "dectris://127.0.0.1:{port}?channel=all")
    assert both[0].sig_shape == (2, 3, 4)
    np.testing.assert_array_equal(both[1], np.stack([data, data + 1], axis=1))
    with pytest.raises(StreamError, match="no channel 'middle' in series 3; there are low, high"):
        receive(messages, channel="middle")


def test_gaps_foreign_series_and_an_early_end():
    data = counted(20)
    start, *images, end = series(data)
    other = series(data, number=9)[1]
    keep = [i for i in range(15) if i not in (3, 8)]
    _, stack, valid, ended, stats = receive([start, other, *(images[i] for i in keep), end])
    assert np.flatnonzero(valid[:, 0]).tolist() == keep
    np.testing.assert_array_equal(stack[keep], data[keep])
    assert (ended.reason, ended.last_frame) == ("end-message", 14)
    assert (stats.foreign, stats.lost) == (1, 2)


def test_the_end_message_is_lost_and_another_series_begins():
    pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    one, two = counted(5), counted(7)
    messages = [*series(one, 9)[:-1], *series(two, number=2)]
    with wire.zmq_server(zmq.PUSH, messages) as port:
        stream = open_url(f"dectris://127.0.0.1:{port}").open()
        stream.prepare()
        stack, _, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
        assert end.reason == "restart"
        np.testing.assert_array_equal(stack, one)
        stack, _, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
        assert end.reason == "n_frames"
        np.testing.assert_array_equal(stack, two)
        stream.close()


class Sums(ff.UDF):
    """Sum of each frame, and of each pixel."""

    engine = ff.EngineOptions(partial_frames=True)

    def get_result_buffers(self):
        return {
            "frame": self.buffer("nav", dtype="int64", reduce="sum"),
            "pixel": self.buffer("sig", dtype="int64", reduce="sum"),
        }

    def process_tile(self, tile):
        self.results.frame += tile.sum(axis=(1, 2)).astype("int64")
        self.results.pixel += tile.sum(axis=0).astype("int64")


@pytest.mark.parametrize("missing", ["skip", "drop-frame", "fill", "error"])
def test_images_that_cannot_be_decoded_are_corrupt_and_lost(missing):
    pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    data = counted(10)
    messages = series(data)
    broken = bytearray(messages[4][0])
    at = broken.index(data[0].nbytes.to_bytes(8, "big"))
    broken[at + 7] ^= 8  # of the size that the compressed data states
    messages[4] = [bytes(broken)]
    good = np.arange(10) != 3
    with wire.zmq_server(zmq.PUSH, messages) as port, ff.Context(executor="inline") as ctx:
        live = ctx.load(f"dectris://127.0.0.1:{port}", nav_shape=(10,), missing=missing, fill_value=7)
        if missing == "error":
            with pytest.raises(StreamError, match="frame 3: piece 0 .* did not arrive"):
                ctx.run_udf(live, Sums())
            return
        result = ctx.run_udf(live, Sums())
    truth = data.astype("int64")
    truth[3] = 7 if missing == "fill" else 0
    np.testing.assert_array_equal(result["pixel"].data, truth.sum(axis=0))
    np.testing.assert_array_equal(result["frame"].data, truth.sum(axis=(1, 2)))
    np.testing.assert_array_equal(result["frame"].valid_mask, good | (missing == "fill"))
    (stats,) = result.report["sectors"]
    assert [stats[k] for k in ("received", "valid", "corrupt", "lost")] == [10, 9, 1, 1]


def test_the_stream_v1_is_recognised():
    with pytest.raises(StreamError, match="2 parts. Is this the stream V1.*dectris1://"):
        receive([[b"{}", b""]])


def test_nobody_sends():
    stream = open_url("dectris://127.0.0.1:1").open()
    stream.prepare()
    with pytest.raises(StreamError, match="no acquisition began in 0.1 s. Received 0 images"):
        stream.wait_start(0.1)
    stream.close()


# -- bytes ---------------------------------------------------------------------------------------------

CBOR = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=6,
)


def plain(value):
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(CBOR)
def test_the_reader_agrees_with_another_library(value):
    assert plain(parse_cbor(view(cbor2.dumps(value)))) == value


def test_parts_of_unknown_length_and_tags():
    assert plain(parse_cbor(view(bytes.fromhex("9f0102ff")))) == [1, 2]
    assert plain(parse_cbor(view(bytes.fromhex("bf616101ff")))) == {"a": 1}
    assert plain(parse_cbor(view(bytes.fromhex("5f41014102ff")))) == b"\x01\x02"
    assert parse_cbor(view(bytes.fromhex("7f61616162ff"))) == "ab"
    assert parse_cbor(view(bytes.fromhex("d8234161"))) == Tagged(35, b"a")  # no regular expression is made


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "damaged CBOR near byte 0"),
        (b"\xff", "begins with a break"),
        (b"\x82\x01", "2 items stated"),
        (b"\x01\x02", "1 bytes follow"),
        (b"\x1c", "head 28"),
        (b"\x5b" + b"\xff" * 8, "a string of 18446744073709551615 bytes"),
        (b"\x9b" + b"\xff" * 8, "items stated"),
        (b"\x81" * 40 + b"\x01", "nested deeper than 16"),
        (b"\xa1\x80\x01", "neither text nor integers"),
        (b"\xbf\x01\xff", "a key that has no value"),
        (b"\x5f\x61\x61\xff", "parts of another kind"),
        (b"\x62\xff\xff", "damaged CBOR near"),
        (b"\xc1\xff", "a break at byte 2"),
        (b"\x9a" + (MAX_ITEMS + 5).to_bytes(4, "big") + b"\0" * (MAX_ITEMS + 5), "items stated"),
    ],
)
def test_damaged_cbor_is_said(data, match):
    with pytest.raises(StreamError, match=match):
        parse_cbor(view(data))


def image(shape=(2, 2), typed=None, **fields):
    typed = cbor2.CBORTag(69, bytes(8)) if typed is None else typed
    body = {
        "type": "image",
        "series_id": 1,
        "image_id": 0,
        "data": {"a": cbor2.CBORTag(40, [list(shape), typed])},
    }
    return cbor2.dumps({**body, **fields})


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (cbor2.dumps([1]), "is a map with a type"),
        (cbor2.dumps({"type": "series"}), "'series': start, image and end are known"),
        (image(data={}), "without data"),
        (image(data={"a": b""}), "no array"),
        (image(series_id=-1), "series_id of a image message is -1"),
        (image(image_id="x"), "image_id .* no natural number"),
        (image(shape=(2**40, 2**40)), "at most 1073741824 are allowed"),
        (image(shape=(0, 4)), "1 at least"),
        (image(shape=(True, 4)), "sizes are integers"),
        (image(typed=cbor2.CBORTag(87, bytes(64))), "no array of numbers"),
        (image(typed=cbor2.CBORTag(69, "text")), "has no bytes"),
        (image(typed=cbor2.CBORTag(69, bytes(100_000))), "100000 bytes for an array of 8"),
        (image(typed=cbor2.CBORTag(69, cbor2.CBORTag(56500, ["zip", 2, b""]))), "'zip' is not one of"),
        (image(typed=cbor2.CBORTag(69, cbor2.CBORTag(56500, ["lz4", 4, b""]))), "elements of 4 bytes"),
        (
            cbor2.dumps({"type": "start", "series_id": 1, "image_dtype": "object"}),
            "dtype 'object' is not allowed",
        ),
        (cbor2.dumps({"type": "start", "series_id": 1, "image_size_x": 4}), "is no shape"),
    ],
)
def test_messages_that_are_not_what_they_should_be(message, match):
    with pytest.raises(StreamError, match=match):
        parse_message(view(message))


@pytest.mark.parametrize("name", ["O", "object", "V8", "U4", "datetime64", "float128", ["u2"], None, 3])
def test_only_numbers_come_from_a_wire(name):
    with pytest.raises(StreamError, match="is not allowed"):
        checked_dtype(name)


def test_shapes_are_multiplied_without_wrapping_round():
    with pytest.raises(StreamError, match=f"has {2**64 * 2} bytes"):
        checked_shape([2**32, 2**32], np.dtype("u2"))


SEEDS = [m[0] for m in series(counted(1, "uint16", (2, 9)), compression="none", pixel_mask=np.ones((2, 9)))]


def mutated(data, seed):
    data = bytearray(data)
    for _ in range(seed.draw(st.integers(1, 5))):
        at = seed.draw(st.integers(0, max(0, len(data) - 1)))
        kind = seed.draw(st.sampled_from(["flip", "cut", "splice", "insert"]))
        if kind == "flip" and data:
            data[at] = seed.draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : at + seed.draw(st.integers(1, 30))]
        elif kind == "insert":
            data[at:at] = seed.draw(st.binary(max_size=9))
        else:
            data[at:at] = data[: seed.draw(st.integers(0, 40))]
    return view(data)


@given(st.data())
def test_mutated_messages_parse_or_raise_a_stream_error(seed):
    message = mutated(seed.draw(st.sampled_from(SEEDS)), seed)
    try:
        got = parse_message(message)
        if isinstance(got, SeriesImage):
            for array in got.arrays.values():
                assert len(array.data) <= len(message)
                if array.nbytes < 2**20:
                    array.decode()
        elif isinstance(got, SeriesStart):
            plain_fields(got)
            pixel_mask(got, "threshold_1")
    except StreamError:
        pass


@given(st.data())
def test_mutated_genuine_messages_parse_or_raise_a_stream_error(data_dir, seed):
    name = seed.draw(st.sampled_from(["start", "end", "image"]))
    raw = (data_dir / "dectris_stream2" / f"{name}.cbor").read_bytes()
    head, tail = raw[:957], raw[957:]
    try:
        got = parse_message(memoryview(bytes(mutated(head, seed)) + tail))
        if isinstance(got, SeriesImage):
            for array in got.arrays.values():
                if array.nbytes < 2**26:
                    array.decode()
    except StreamError:
        pass
