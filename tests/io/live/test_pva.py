"""EPICS PV access: images of a server in this process, ids that wrap, codecs."""

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from framefold.errors import DataError, StreamError
from framefold.io.live import open_url
from framefold.io.live.protocols.pva_messages import Counter, parse_ndarray


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(Path(__file__).parent / "wire.py", "live_wire")


@contextlib.contextmanager
def served(first):
    """Serve a PV on loopback; yields its URL and a function that posts an image with an id."""
    nt = pytest.importorskip("p4p.nt", reason="p4p is not installed")
    from p4p.server import Server
    from p4p.server.thread import SharedPV

    def wrapped(image, number):
        value = nt.NTNDArray().wrap(image)
        value["uniqueId"] = number
        return value

    pv = SharedPV(initial=wrapped(first, 0))
    server = Server(providers=[{"TEST:Image": pv}], isolate=True)
    try:
        port = server.conf()["EPICS_PVAS_SERVER_PORT"]
        yield (
            f"pva://TEST:Image?server=127.0.0.1:{port}&connect_timeout=30",
            lambda image, number: pv.post(wrapped(image, number)),
        )
    finally:
        server.stop()


def counted(n, dtype="uint16"):
    return np.random.default_rng(n).integers(0, 200, (n, 4, 6)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_images_arrive_by_their_ids(dtype):
    data = counted(30, dtype)
    with served(data[0] + 1) as (url, post):
        stream = open_url(url, n_frames=29).open()
        stream.prepare()  # connected: the value of before is not an image of ours
        sent = [i for i in range(30) if i not in (4, 5, 20)]
        for i in sent:
            post(data[i], 100 + i)
        start = stream.wait_start(wire.WAIT)
        stack, valid, _, end = wire.drain(stream, start)
        wire.accounts_hold(stream.stats(), valid)
        stream.close()
    assert (start.sig_shape, start.dtype, start.first_id) == ((4, 6), np.dtype(dtype), 100)
    there = [i for i in sent if i < 29]
    assert np.flatnonzero(valid[:, 0]).tolist() == there
    np.testing.assert_array_equal(stack[there], data[there])
    assert end.reason == "n_frames"


def test_silence_ends_it_and_the_next_image_begins_anew():
    data = counted(6)
    with served(data[0]) as (url, post):
        stream = open_url(url, idle_timeout=1.0).open()
        stream.prepare()
        for begin in (7, 2**31 - 2):
            for i, image in enumerate(data):
                number = begin + i
                post(image, number - 2**32 if number >= 2**31 else number)  # the field is a signed number
            stack, valid, _, end = wire.drain(stream, stream.wait_start(wire.WAIT))
            np.testing.assert_array_equal(stack, data)
            assert valid.all()
            assert end.reason == "idle"
        stream.close()


def test_nobody_answers():
    pytest.importorskip("p4p", reason="p4p is not installed")
    stream = open_url("pva://NO:SUCH:PV?server=127.0.0.1:1&connect_timeout=0.2").open()
    with pytest.raises(StreamError, match="pva://NO:SUCH:PV did not answer in 0.2 s. The server 127.0.0.1:1"):
        stream.prepare()
    stream.close()


def test_the_url_needs_a_name():
    with pytest.raises(DataError, match="write it as pva://PVNAME"):
        open_url("pva://")


def test_ids_of_32_bits_wrap():
    counter = Counter()
    assert [counter.number(n) for n in (2**31 - 1, -(2**31), 1 - 2**31, 2**31 - 2)] == [0, 1, 2, -1]


def test_codecs():
    bitshuffle = pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    lz4 = pytest.importorskip("lz4.block", reason="lz4 is not installed")
    data = counted(1)[0]
    blobs = {
        "lz4": lz4.compress(data.tobytes(), store_size=False),
        "bslz4": bitshuffle.compress_lz4(data.ravel(), 4096).tobytes(),
    }
    with contextlib.suppress(ImportError):
        import numcodecs

        blobs["blosc"] = bytes(numcodecs.Blosc().encode(data.ravel()))
    for codec, blob in blobs.items():
        padded = np.frombuffer(blob + bytes(9), np.uint8)
        got = parse_ndarray(padded, [6, 4], codec, 6, len(blob)).decode()
        np.testing.assert_array_equal(got, data)
        assert got.dtype == np.uint16


FLAT = np.zeros(24, "u2")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ((None, [6, 4], "", None, 0), "without an array of numbers"),
        ((np.array([None]), [1], "", None, 0), "without an array of numbers"),
        ((FLAT, [6, 4], "jpeg", 5, 48), "codec 'jpeg': none, lz4, bslz4 and blosc are known"),
        ((FLAT, [6, 4], "lz4", 11, 48), "pixels of type 11"),
        ((FLAT, [6, 4], "lz4", None, 48), "pixels of type None"),
        ((FLAT, [0, 4], "", None, 0), "1 at least"),
        ((FLAT, [2**31, 2**31], "lz4", 6, 48), "at most 1073741824 are allowed"),
        ((FLAT, [6, 5], "", None, 0), "48 bytes arrived for an array of 60 bytes"),
        ((FLAT.view("u1"), [6, 4], "lz4", 6, 48), "lz4-block data"),
    ],
)
def test_arrays_that_are_not_what_they_should_be(fields, match):
    with pytest.raises(StreamError, match=match):
        parse_ndarray(*fields).decode()
