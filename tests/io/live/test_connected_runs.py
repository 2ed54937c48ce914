"""Runs on detectors that wait for us equal runs on the same frames in memory, whatever is asked of them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import framefold as ff
from framefold.errors import StreamError
from framefold.io.live.replay.connected import ConnectedEmulator
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.io.live.replay.dectris1 import Dectris1Encoder
from framefold.io.live.replay.fates import Impairments
from framefold.io.live.replay.karabo import KaraboEncoder
from framefold.io.live.replay.merlin import MerlinEncoder
from framefold.io.live.replay.options import EmulatorOptions
from framefold.udfs import SumUDF


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(Path(__file__).parent / "wire.py", "live_wire")
NAV = (8, 9)
DATA = np.random.default_rng(1).integers(0, 4000, (72, 12, 16)).astype("uint16")
DARK = np.random.default_rng(2).integers(0, 50, (12, 16)).astype("float64")
ROIS = {
    "all": None,
    "half": np.s_[4:],
    "columns": np.s_[:, ::2],
    "none": np.zeros(NAV, bool),
}


class Frames(ff.UDF):
    """Per frame: needs whole frames; per pixel: an integer sum."""

    def get_result_buffers(self):
        return {
            "brightest": self.buffer("nav", dtype="int64"),
            "total": self.buffer("sig", dtype="int64", reduce="sum"),
        }

    def process_frame(self, frame):
        self.results.brightest[:] = int(frame.argmax())
        self.results.total += frame.astype("int64")


def emulator(protocol, data=DATA, options=None):
    if protocol in ("dectris", "dectris1"):
        pytest.importorskip("bitshuffle", reason="bitshuffle is not installed")
    if protocol != "merlin":
        pytest.importorskip("zmq", reason="pyzmq is not installed")
    kind = {"merlin": MerlinEncoder, "dectris": DectrisEncoder, "dectris1": Dectris1Encoder}.get(protocol)
    if kind is not None:
        return ConnectedEmulator(protocol, kind(), data, options)
    # three modules, and trains of four pulses
    return ConnectedEmulator(
        protocol, KaraboEncoder(4), data.reshape(len(data), 3, 4, 16), options, query="pattern=pull"
    )


def run(protocol, udfs, executor="inline", offset=0, roi=None, data=DATA, **kwargs):
    detector = emulator(protocol, data)
    try:
        with ff.Context(executor=executor) as ctx:
            live = ctx.load(detector.url, nav_shape=NAV, sync_offset=offset)
            chosen = live.roi[roi] if isinstance(roi, slice | tuple) else roi
            return ctx.run_udf(live, udfs, roi=chosen, on_ready=detector.start, **kwargs)
    finally:
        detector.stop()


def offline(udfs, data=DATA, offset=0, roi=None, **kwargs):
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(data, sig_dims=data.ndim - 1, nav_shape=NAV, sync_offset=offset)
        chosen = ds.roi[roi] if isinstance(roi, slice | tuple) else roi
        return ctx.run_udf(ds, udfs, roi=chosen, **kwargs)


@pytest.mark.parametrize("roi", ROIS.values(), ids=list(ROIS))
@pytest.mark.parametrize("protocol", ["merlin", "dectris", "dectris1", "karabo"])
def test_live_equals_offline(protocol, roi):
    data = DATA.reshape(72, 3, 4, 16) if protocol == "karabo" else DATA
    dark = DARK.reshape(data.shape[1:])
    for kwargs in ({}, {"corrections": ff.Corrections(dark=dark)}):
        got = run(protocol, [SumUDF(), Frames()], roi=roi, **kwargs)
        want = offline([SumUDF(), Frames()], data=data, roi=roi, **kwargs)
        for one, other in zip(got, want, strict=True):
            for name in other:
                np.testing.assert_array_equal(one[name].raw_data, other[name].raw_data)


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("offset", [5, -3])
def test_a_scan_that_begins_later_or_earlier(offset, executor):
    got = run("merlin", Frames(), executor, offset=offset)
    index = np.arange(72) + offset
    inside = (index >= 0) & (index < 72)
    wanted = np.zeros(72, "int64")
    wanted[inside] = DATA.reshape(72, -1).argmax(axis=1)[index[inside]]
    np.testing.assert_array_equal(got["brightest"].data.ravel()[inside], wanted[inside])
    np.testing.assert_array_equal(got["total"].data, DATA[index[inside]].sum(axis=0, dtype="int64"))


def test_five_cases_that_a_peer_gets_wrong():
    """16 x 16 scan of 64 x 64, frame i = i mod 200: the sums of one pixel, worked out by hand."""
    values = (np.arange(256) % 200).astype("uint16")
    data = np.broadcast_to(values[:, None, None], (256, 64, 64)).copy()

    def total(roi=None, **kwargs):
        detector = ConnectedEmulator("merlin", MerlinEncoder(), data, nav_shape=(16, 16))
        try:
            with ff.Context(executor="inline") as ctx:
                live = ctx.load(detector.url)  # the scan shape comes from the header
                chosen = None
                if roi is not None:
                    chosen = np.zeros((16, 16), bool)
                    chosen[roi] = True
                return ctx.run_udf(live, SumUDF(), roi=chosen, on_ready=detector.start, **kwargs)[
                    "intensity"
                ].data[5, 5]
        finally:
            detector.stop()

    assert total() == 21440
    assert total(corrections=ff.Corrections(dark=np.ones((64, 64)))) == 21184
    for key, want in ((np.s_[8:], 13312), (np.s_[:, ::2], 10656), (np.s_[:8], 8128)):
        assert total(key) == want


@pytest.mark.parametrize("protocol", ["merlin", "dectris"])
def test_known_loss(protocol):
    detector = emulator(protocol, options=EmulatorOptions(seed=4, impairments=Impairments(loss=0.2)))
    try:
        with ff.Context(executor="threads", workers=2) as ctx:
            live = ctx.load(detector.url, nav_shape=NAV, idle_timeout=2.0)
            result = ctx.run_udf(live, [SumUDF(), Frames()], on_ready=detector.start)
    finally:
        detector.stop()
    there = np.ones(72, bool)
    there[detector.report()["acquisitions"][0]["missing"]] = False
    assert 0 < there.sum() < 72
    np.testing.assert_array_equal(result[0]["intensity"].data, DATA[there].sum(axis=0, dtype="uint64"))
    np.testing.assert_array_equal(result[1]["total"].data, DATA[there].sum(axis=0, dtype="int64"))
    np.testing.assert_array_equal(np.asarray(result[0].damage).ravel(), there)
    assert (result[0].coverage == there.sum()).all()


def test_acquisitions_one_after_the_other():
    detector = emulator("merlin", options=EmulatorOptions(repeat=3, garbage=500))
    try:
        with ff.Context(executor="inline") as ctx:
            live = ctx.load(detector.url, nav_shape=NAV)
            detector.start()
            results = [r["intensity"].data.copy() for r in ctx.acquisitions(live, SumUDF(), n=3)]
    finally:
        detector.stop()
    for got in results:
        np.testing.assert_array_equal(got, DATA.sum(axis=0, dtype="uint64"))


def test_nobody_sends_is_an_error_that_names_the_address():
    detector = emulator("merlin")
    try:
        with ff.Context(executor="inline") as ctx:
            live = ctx.load(detector.url, nav_shape=NAV, start_timeout=0.2)
            with pytest.raises(
                StreamError, match=r"merlin://127\.0\.0\.1:\d+: no acquisition began in 0.2 s"
            ):
                ctx.run_udf(live, SumUDF())
    finally:
        detector.stop()
