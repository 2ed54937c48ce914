"""Emulators of detectors that are connected to: by name, with the options that make sense for them."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, StreamError
from framefold.io.live.replay.make import emulated
from framefold.io.memory import ArraySource
from framefold.testing.emulator import DetectorEmulator
from framefold.udfs import SumUDF

DATA = np.random.default_rng(1).integers(0, 4000, (24, 12, 16)).astype("uint16")


def require(protocol):
    library = {"merlin": "socket", "pva": "p4p"}.get(protocol, "zmq")
    pytest.importorskip(library, reason=f"{library} is not installed")


@pytest.mark.parametrize(
    ("protocol", "own"),
    [
        ("merlin", {"exposure": 0.002, "garbage": 100}),
        ("dectris", {"compression": "lz4"}),
        ("dectris1", {"compression": "none"}),
        ("karabo", {"pulses": 6}),
        ("pva", {"compression": "lz4"}),
        ("pva", {"start_id": 2**31 - 20}),
    ],
)
def test_by_name(protocol, own):
    require(protocol)
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
    assert {"merlin", "dectris", "dectris1", "karabo", "pva"} <= set(emulated())


@pytest.mark.parametrize(
    ("protocol", "options", "match"),
    [
        ("merlin", {"pre_roll": 3, "wrap_at": 9}, "merlin: wrap_at, pre_roll cannot be emulated"),
        ("dectris", {"garbage": 3}, "garbage cannot be emulated"),
        ("dectris1", {"dead_sectors": (1,)}, "dead_sectors cannot be emulated"),
        ("pva", {"corrupt": 0.1}, "pva: corrupt cannot be emulated"),
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


def received(protocol, faults, **own):
    """Return result, the frames that the emulator calls missing, and what the report says of the sector."""
    require(protocol)
    with (
        DetectorEmulator(protocol, DATA, seed=3, **own, **faults) as detector,
        ff.Context(executor="inline") as ctx,
    ):
        live = ctx.load(detector.url, nav_shape=(24,), idle_timeout=1.0, deadline=30.0)
        result = ctx.run_udf(live, SumUDF(), on_ready=lambda info: detector.start())
        missing = detector.report()["acquisitions"][0]["missing"]
    return result, missing


@pytest.mark.parametrize("protocol", ["merlin", "dectris1", "karabo", "pva"])
def test_faults_of_messages_leave_what_was_sent_whole(protocol):
    faults = {"loss": 0.1, "dup": 0.3, "reorder": 2, "burst_loss": (0.05, 2)}
    result, missing = received(protocol, faults)
    there = np.asarray(result.damage).ravel()
    assert 0 < len(missing) < 20
    # ids and trains are counted from the first that arrives
    sent = np.setdiff1d(np.arange(24), missing)
    assert result.report["sectors"][0]["duplicate"] > 0
    if protocol in ("merlin", "dectris1"):
        np.testing.assert_array_equal(np.flatnonzero(there), sent)
    assert there.sum() <= len(sent)
    first = 0 if protocol in ("merlin", "dectris1") else int(sent[0])
    taken = DATA[np.flatnonzero(there) + first]
    np.testing.assert_array_equal(result["intensity"].data.squeeze(), taken.sum(axis=0, dtype="uint64"))


def test_a_part_that_is_cut_costs_its_frame():
    result, missing = received("dectris1", {"truncate": 0.2}, compression="none")
    assert missing
    stats = result.report["sectors"][0]
    assert (stats["corrupt"], stats["lost"]) == (len(missing), len(missing))
    there = np.setdiff1d(np.arange(24), missing)
    np.testing.assert_array_equal(result["intensity"].data, DATA[there].sum(axis=0, dtype="uint64"))


def test_a_cut_connection_ends_the_acquisition_with_what_came_before():
    result, missing = received("merlin", {"truncate": 0.2})
    first = missing[0]
    assert missing == list(range(first, 24))
    assert result.report["end_reason"] == "end-message"
    assert f"closed the connection within frame {first + 1}" in result.report["end_text"]
    np.testing.assert_array_equal(result["intensity"].data, DATA[:first].sum(axis=0, dtype="uint64"))


@pytest.mark.parametrize("protocol", ["merlin", "dectris", "dectris1", "karabo"])
def test_a_damaged_message_is_an_error_that_keeps_what_came_before(protocol):
    with pytest.raises(StreamError) as caught:
        received(protocol, {"corrupt": 0.2})
    before = np.flatnonzero(np.asarray(caught.value.partial.damage))
    assert before.tolist() == list(range(len(before)))
    got = caught.value.partial.buffers[0]["intensity"].data.squeeze()
    np.testing.assert_array_equal(got, DATA[: len(before)].sum(axis=0, dtype="uint64"))


def test_modules_that_are_absent_are_missed_by_name():
    require("karabo")
    modules = DATA.reshape(24, 3, 4, 16)
    with (
        DetectorEmulator("karabo", ArraySource(modules, sig_dims=3), dead_sectors=(1,)) as detector,
        ff.Context(executor="inline") as ctx,
    ):
        live = ctx.load(detector.url, nav_shape=(24,), modules=3, start_timeout=1.0)
        with pytest.raises(StreamError, match=r"none with 3 sources.*EMULATED/DET/0CH0.*EMULATED/DET/2CH0"):
            ctx.run_udf(live, SumUDF(), on_ready=lambda info: detector.start())
