"""Karabo bridge: modules as sectors, trains and pulses as frames, messages by another library."""

import importlib.util
import threading
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.io.live.protocols.karabo import _runs
from framefold.io.live.protocols.karabo_messages import choose_sources, parse_train
from framefold.io.live.replay.karabo import KaraboEncoder
from framefold.udfcore.live import AcquisitionStart

zmq = pytest.importorskip("zmq", reason="pyzmq is not installed")


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(Path(__file__).parent / "wire.py", "live_wire")


def counted(trains, pulses=4, modules=3, shape=(5, 6), dtype="uint16"):
    rng = np.random.default_rng(trains)
    return rng.integers(0, 999, (trains * pulses, modules, *shape)).astype(dtype)


def trains(data, pulses=4, first=1000, leave_out=()):
    """Messages of the trains; `leave_out` are (train, module) that do not arrive."""
    encoder = KaraboEncoder(pulses, first)
    encoder.begin(AcquisitionStart(None, data.shape[1:], data.dtype, None, ()))
    messages = [m for i, f in enumerate(data) if (m := encoder.frame(i, f))]
    for t, module in leave_out:
        del messages[t][module * 6 : module * 6 + 6]
    return messages


def receive(messages, layout="pieces", query="pattern=pull", kind=zmq.PUSH, **options):
    with wire.zmq_server(kind, messages) as port:
        stream = open_url(f"karabo://127.0.0.1:{port}?{query}", **options).open()
        try:
            stream.prepare(layout)
            start = stream.wait_start(wire.WAIT)
            stack, valid, _, end = wire.drain(stream, start)
            wire.accounts_hold(stream.stats(), valid)
            return start, stack, valid, end, stream.stats()
        finally:
            stream.close()


@pytest.mark.parametrize("layout", ["pieces", "frames"])
def test_modules_are_sectors_and_pulses_are_frames(layout):
    data = counted(9)
    start, stack, valid, end, stats = receive(trains(data), layout, n_frames=36)
    assert start.sig_shape == (3, 5, 6)
    assert [s.part[0] for s in start.sectors] == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert start.meta["first_train"] == 1000
    np.testing.assert_array_equal(stack, data)
    assert valid.all()
    assert end.reason == "n_frames"
    assert [s.received for s in stats] == [36, 36, 36]


def test_trains_may_be_longer_than_the_blocks_that_fit_into_memory():
    data = counted(2, pulses=100)
    _, stack, valid, _, stats = receive(trains(data, 100), ring_bytes=4 * 10 * data[0].nbytes, n_frames=200)
    assert valid.all()
    np.testing.assert_array_equal(stack, data)
    assert [s.late for s in stats] == [0, 0, 0]


@pytest.mark.parametrize("layout", ["pieces", "frames"])
def test_a_module_that_lacks_trains_loses_its_pieces_only(layout):
    data = counted(9)
    messages = trains(data, leave_out=[(2, 1), (7, 0), (7, 0)])
    _, stack, valid, _, stats = receive(messages, layout, nav_shape=(9, 4))
    wanted = np.ones((9, 4, 3), bool)
    wanted[2, :, 1] = False
    wanted[7, :, :2] = False
    np.testing.assert_array_equal(valid, wanted.reshape(36, 3))
    np.testing.assert_array_equal(stack[valid], data[valid])
    assert [s.lost for s in stats] == [4, 8, 0]


def test_trains_left_out_are_lost_or_not_counted():
    data = counted(6)
    messages = trains(data)
    some = [messages[i] for i in (0, 1, 4, 5)]
    _, stack, valid, _, _ = receive(some, n_frames=24)
    assert np.flatnonzero(valid.all(axis=1)).tolist() == [*range(8), *range(16, 24)]
    _, stack, valid, _, _ = receive(some, query="pattern=pull&trains=received", n_frames=16)
    assert valid.all()
    np.testing.assert_array_equal(stack, data.reshape(6, 4, 3, 5, 6)[[0, 1, 4, 5]].reshape(16, 3, 5, 6))


def pack(source, train, **arrays):
    """One source as the library of the facility packs it."""
    head = {"source": source, "content": "msgpack", "metadata": {"source": source, "timestamp.tid": train}}
    parts = [msgpack.packb(head, use_bin_type=True), msgpack.packb({"a": 1.5}, use_bin_type=True)]
    for path, array in arrays.items():
        about = {
            "source": source,
            "content": "array",
            "path": path.replace("_", "."),
            "dtype": str(array.dtype),
        }
        parts += [msgpack.packb({**about, "shape": array.shape}), array.tobytes()]
    return parts


def test_pulses_find_their_place_by_their_ids():
    first = np.arange(4 * 30, dtype="f4").reshape(4, 5, 6)
    ids = np.array([10, 12, 14, 16], "u8")
    second = first[:3] + 1000
    messages = [
        pack("A", 5, image_data=first, image_pulseId=ids),
        pack("A", 6, image_data=second, image_pulseId=np.array([16, 10, 11], "u8")),
    ]
    _, stack, valid, _, stats = receive(messages, n_frames=8)
    assert valid[:, 0].tolist() == [True, True, True, True, True, False, False, True]
    np.testing.assert_array_equal(stack[4:8:3, 0], [second[1], second[0]])
    assert (stats[0].foreign, stats[0].lost) == (1, 2)


def test_images_without_pulses_and_raw_planes():
    image = np.arange(30, dtype="u2").reshape(5, 6)
    messages = [pack("CAM", t, image_data=image + t) for t in range(3)]
    start, stack, *_ = receive(messages, n_frames=3)
    assert start.sig_shape == (5, 6)
    np.testing.assert_array_equal(stack, [image, image + 1, image + 2])
    raw = np.arange(2 * 2 * 30, dtype="u2").reshape(2, 2, 5, 6)
    for plane in (0, 1):
        _, stack, *_ = receive(
            [pack("AGIPD", 0, image_data=raw)], query=f"pattern=pull&plane={plane}", n_frames=2
        )
        np.testing.assert_array_equal(stack[:, 0], raw[:, plane])


def test_the_acquisition_begins_with_a_train_that_has_all_modules():
    data = counted(5)
    messages = trains(data, leave_out=[(0, 1), (1, 2)])
    start, stack, valid, *_ = receive(messages, query="pattern=pull&modules=3&source=EMULATED*", n_frames=12)
    assert start.meta["first_train"] == 1002
    np.testing.assert_array_equal(stack, data[8:])
    assert valid.all()


def test_a_bridge_that_answers_and_one_that_publishes():
    data = counted(5)
    messages = trains(data)
    context = zmq.Context()
    asked = []
    with context.socket(zmq.REP) as sock:
        sock.linger = 0
        sock.bind("tcp://127.0.0.1:*")
        port = sock.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]

        def serve():
            for parts in messages:
                if not sock.poll(30_000):
                    return
                asked.append(sock.recv())
                sock.send_multipart(parts)

        thread = threading.Thread(target=serve)
        thread.start()
        stream = open_url(f"karabo://127.0.0.1:{port}", n_frames=20).open()
        stream.prepare()
        stack, *_ = wire.drain(stream, stream.wait_start(wire.WAIT))
        stream.close()
        thread.join(wire.WAIT)
    context.term()
    np.testing.assert_array_equal(stack, data)
    assert asked == [b"next"] * 5


def test_what_is_there_is_named():
    with wire.zmq_server(zmq.PUSH, trains(counted(2))) as port:
        stream = open_url(f"karabo://127.0.0.1:{port}?pattern=pull&source=OTHER*").open()
        stream.prepare()
        for _ in range(300):
            with pytest.raises(StreamError, match="no acquisition began") as error:
                stream.wait_start(0.1)
            if (
                "none with a source like OTHER* that has 'image.data'; there are EMULATED/DET/0CH0:xtdf"
                in str(error.value)
            ):
                break
        else:
            pytest.fail(str(error.value))
        stream.close()


def test_sources_are_sorted_by_their_numbers():
    data = parse_train(
        [memoryview(p) for n in (10, 2, 1) for p in pack(f"D/{n}CH0", 1, image_data=np.zeros((1, 2, 2)))]
    )
    assert choose_sources(data, [], "image.data") == ["D/1CH0", "D/2CH0", "D/10CH0"]
    assert choose_sources(data, ["*/1*"], "image.data") == ["D/1CH0", "D/10CH0"]
    assert choose_sources(data, [], "other") == []


@given(st.lists(st.integers(-1, 6), max_size=12))
def test_runs_cover_every_image_once(places):
    runs = _runs(np.array(places, np.int64))
    again = [(p + k if p >= 0 else -1) for first, p, n in runs for k in range(n)]
    assert again == places
    assert [first for first, _, _ in runs] == np.cumsum([0, *(n for *_, n in runs)])[: len(runs)].tolist()


GOOD = pack("A", 5, image_data=np.zeros((1, 2, 2), "u2"))


def changed(at, **fields):
    return [*GOOD[:at], msgpack.packb({**msgpack.unpackb(GOOD[at]), **fields}), *GOOD[at + 1 :]]


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (GOOD[:1], "protocol 1.0, whose arrays .* can carry code, so it is refused"),
        (GOOD[:3], "of 3 parts: pairs"),
        ([b"\xc1", b""], "no msgpack"),
        ([b"\x91" * 2000, b""], "no msgpack"),
        ([msgpack.packb(3), b""], "no map"),
        ([b"\xdd\xff\xff\xff\xff", b""], "no msgpack"),
        ([bytes(2**20 + 1), b""], "at most 1048576"),
        (changed(0, source=3), "without the name of a source"),
        (changed(0, metadata={}), "train id None"),
        (changed(0, content="pickle"), "'pickle': msgpack, array and ImageData are known"),
        (changed(2, dtype="object"), "dtype 'object' is not allowed"),
        (changed(2, dtype="V8"), "dtype 'V8' is not allowed"),
        (changed(2, shape=[2**40, 2**40]), "at most 1073741824"),
        (GOOD[2:], "before the header of this source"),
    ],
)
def test_messages_that_are_not_what_they_should_be(message, match):
    with pytest.raises(StreamError, match=match):
        parse_train([memoryview(p) for p in message])


@given(st.data())
def test_mutated_messages_parse_or_raise_a_stream_error(seed):
    message = [bytearray(p) for p in GOOD]
    for _ in range(seed.draw(st.integers(1, 5))):
        part = seed.draw(st.sampled_from([0, 0, 2, 2, 1, 3]))
        at = seed.draw(st.integers(0, max(0, len(message[part]) - 1)))
        kind = seed.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip" and message[part]:
            message[part][at] = seed.draw(st.integers(0, 255))
        elif kind == "cut":
            del message[part][at : at + seed.draw(st.integers(1, 9))]
        else:
            message[part][at:at] = seed.draw(st.binary(max_size=9))
    try:
        for data in parse_train([memoryview(bytes(p)) for p in message]):
            for array in data.arrays.values():
                if array.nbytes < 2**20:
                    array.decode()
    except StreamError:
        pass
