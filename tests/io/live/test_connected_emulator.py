"""Emulators of detectors that are connected to: by name, with the options that make sense for them."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, StreamError
from framefold.io.live.replay.make import emulated
from framefold.testing.emulator import DetectorEmulator
from framefold.udfs import SumUDF

DATA = np.random.default_rng(1).integers(0, 4000, (24, 12, 16)).astype("uint16")


@pytest.mark.parametrize(
    ("protocol", "own"),
    [
        ("merlin", {"exposure": 0.002, "garbage": 100}),
        ("dectris", {"compression": "lz4"}),
        ("dectris1", {"compression": "none"}),
        ("karabo", {"pulses": 6}),
    ],
)
def test_by_name(protocol, own):
    if protocol != "merlin":
        pytest.importorskip("zmq", reason="pyzmq is not installed")
    if own.get("compression") == "lz4":
        pytest.importorskip("lz4", reason="lz4 is not installed")
    with DetectorEmulator(protocol, DATA, loops=2, **own) as detector, ff.Context(executor="inline") as ctx:
        live = ctx.load(detector.url, nav_shape=(6, 8))
        got = ctx.run_udf(live, SumUDF(), on_ready=lambda info: detector.start())["intensity"].data
        assert detector.wait(30)
        assert detector.frames == 48
        assert detector.report()["acquisitions"] == [{"missing": []}]
    np.testing.assert_array_equal(got.squeeze(), 2 * DATA.sum(axis=0, dtype="uint64"))


def test_all_are_in_the_table():
    assert {"merlin", "dectris", "dectris1", "karabo"} <= set(emulated())


@pytest.mark.parametrize(
    ("protocol", "options", "match"),
    [
        ("merlin", {"reorder": 3, "dup": 0.1}, "dup, reorder cannot be emulated"),
        ("dectris", {"garbage": 3}, "garbage cannot be emulated"),
        ("karabo", {"loss": 0.1}, "loss cannot be emulated"),
        ("dectris", {"compression": "zip"}, "'zip' is not one of none, lz4, bslz4"),
        ("karabo", {"pulses": 0}, "pulses=0 is below 1"),
        ("merlin", {"pulses": 3}, "no option 'pulses'"),
    ],
)
def test_what_makes_no_sense_is_refused(protocol, options, match):
    with pytest.raises(DataError, match=match):
        DetectorEmulator(protocol, DATA, **options)


def test_frames_that_the_protocol_cannot_carry_are_changed_aloud():
    with pytest.warns(UserWarning, match="values from -1 to 3998 are clipped to 0..65535"):
        DetectorEmulator("merlin", np.minimum(DATA, 3999).astype("float32") - 1).__exit__(None, None, None)
    with pytest.raises(StreamError, match="the DECTRIS stream V1 carries unsigned integers of 1, 2, 4 bytes"):
        DetectorEmulator("dectris1", DATA.astype("uint64"))


def test_the_rate_is_kept():
    with DetectorEmulator("merlin", DATA, rate=100) as detector, ff.Context(executor="inline") as ctx:
        live = ctx.load(detector.url, nav_shape=(4, 6))
        ctx.run_udf(live, SumUDF(), on_ready=lambda info: detector.start())
        assert detector.wait(30)
        assert detector.report()["seconds"] >= 23 / 100  # the last frame is due then
