"""Sectors over several connections, each read by a thread of its own, folded on receipt or from blocks."""

import threading

import numpy as np
import pytest

import framefold as ff
from framefold.errors import StreamError
from framefold.io.live import Over, SequentialSource
from framefold.io.live.sequential import SequentialStream
from framefold.udfcore import live_receipt
from framefold.udfcore.live import AcquisitionStart, LiveOptions, PieceGrid, SectorSpec

SECTORS, FRAMES, SIG = 4, 150, (6, 8)
WIDTH = SIG[1] // SECTORS


class Reader:
    """Delivers a sector of an array, runs of frames at a time; frames that were lost are left out."""

    def __init__(self, sector, data, valid, seed, breaks, gate):
        self.sector, self.data, self.valid, self.at = sector, data, valid, 0
        self.rng, self.breaks, self.gate = np.random.default_rng(seed), breaks, gate

    def receive(self, assembly, timeout):
        self.gate.wait(30)
        if self.breaks:
            raise StreamError("the wire of sector 2 was cut")
        while self.at < len(self.data) and not self.valid[self.at]:
            self.at += 1
        if self.at == len(self.data):
            return Over("end-message")
        rows = assembly.ahead(self.sector, self.at, timeout)
        if rows is None:
            return None
        lost = np.flatnonzero(~self.valid[self.at : self.at + len(rows)])
        n = int(self.rng.integers(1, 1 + (lost[0] if len(lost) else len(rows))))
        rows[:n] = self.data[self.at : self.at + n]
        assembly.filled(self.sector, self.at, n)
        self.at += n
        return None


class ManyConnections:
    endpoint = "here"

    def __init__(self, data, valid, seed, breaks, gate):
        self.begun = False
        self.readers = [
            Reader(s, data[..., s * WIDTH : (s + 1) * WIDTH], valid[:, s], (seed, s), breaks and s == 2, gate)
            for s in range(SECTORS)
        ]

    def connect(self):
        pass

    def begin(self, timeout, *, wanted):
        if self.begun or not wanted:
            return None
        self.begun = True
        grid = PieceGrid((SIG[0], WIDTH), ((0, 0),))
        sectors = tuple(
            SectorSpec(s, (slice(0, SIG[0]), slice(s * WIDTH, (s + 1) * WIDTH)), grid, f"wire {s}")
            for s in range(SECTORS)
        )
        return AcquisitionStart(FRAMES, SIG, np.dtype("uint16"), None, sectors, 0)

    def heard(self):
        return ""

    def close(self):
        pass


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).integers(0, 1000, (FRAMES, *SIG)).astype("uint16")


@pytest.fixture
def ctx():
    with ff.Context(executor="threads", workers=2) as context:
        yield context


def load(ctx, data, valid, *, seen=None, seed=0, breaks=False, sync_offset=0, n=FRAMES):
    """Return the detector; with `seen` nothing is sent before the run can fold on receipt."""
    gate = threading.Event() if seen is None else seen.gate
    if seen is None:
        gate.set()
    options = LiveOptions(n_frames=FRAMES, deadline=60.0)
    source = SequentialSource(
        "wires://here", options, None, 0, lambda: ManyConnections(data, valid, seed, breaks, gate)
    )
    return ctx.load(source, nav_shape=(n,), sync_offset=sync_offset)


def flags(loss, seed=0):
    return np.random.default_rng(seed).random((FRAMES, SECTORS)) >= loss


def summed(data, valid):
    """The sum of what arrived, per pixel, and how many frames that is."""
    weights = np.repeat(valid, WIDTH, axis=1)[:, None, :]
    return (data * weights).sum(axis=0, dtype=np.uint64), np.broadcast_to(weights.sum(axis=0), SIG)


class Seen:
    """Whether pieces were folded by the threads that received them."""

    def __init__(self, monkeypatch):
        self.folds, self.gate = 0, threading.Event()
        plain, attach = live_receipt.FoldOnReceipt.fold, SequentialStream.fold_on_receipt

        def fold(receipt, *args):
            self.folds += 1
            plain(receipt, *args)

        def fold_on_receipt(stream, receipt):
            attach(stream, receipt)
            self.gate.set()

        monkeypatch.setattr(live_receipt.FoldOnReceipt, "fold", fold)
        monkeypatch.setattr(SequentialStream, "fold_on_receipt", fold_on_receipt)


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("way", ["on receipt", "too dear", "with another UDF"])
def test_the_sum_of_what_arrived(ctx, data, monkeypatch, loss, way):
    seen = Seen(monkeypatch)
    if way == "too dear":  # found out on the way: blocks of both kinds in one run
        monkeypatch.setattr(live_receipt, "MOST_OF_RECEIVING", -1.0)
        monkeypatch.setattr(live_receipt, "TRIED", 2)
    valid = flags(loss)
    udfs = [ff.udfs.SumUDF()] + ([ff.udfs.SumSigUDF()] if way == "with another UDF" else [])
    if len(udfs) > 1:  # of which one has a value per frame: nothing is folded on receipt
        seen.gate.set()
    res, *more = ctx.run_udf(load(ctx, data, valid, seen=seen), udfs)
    total, count = summed(data, valid)
    np.testing.assert_array_equal(res["intensity"].data, total)
    np.testing.assert_array_equal(res.coverage, count)
    assert (seen.folds > 0) == (way != "with another UDF")
    status = res.report["status"]
    assert status["complete"] == valid.all(axis=1).sum()
    assert status["lost"] == (~valid).all(axis=1).sum()
    for s, account in enumerate(res.report["sectors"]):
        assert account["valid"] == valid[:, s].sum()
        assert account["lost"] == (~valid[:, s]).sum()
    for other in more:
        whole = valid.all(axis=1)
        np.testing.assert_array_equal(
            other["intensity"].data[whole], data.sum(axis=(1, 2), dtype=np.uint64)[whole]
        )


@pytest.mark.parametrize("offset", [-3, 0, 5])
def test_rows_are_those_of_the_region_and_the_offset(ctx, data, monkeypatch, offset):
    seen, valid = Seen(monkeypatch), flags(0.1, 1)
    n = FRAMES - 10
    roi = np.random.default_rng(2).random(n) < 0.6
    dark = np.random.default_rng(3).random(SIG).astype("float32")
    live = load(ctx, data, valid, seen=seen, sync_offset=offset, n=n)
    res = ctx.run_udf(live, ff.udfs.SumUDF(), roi=roi, corrections=ff.Corrections(dark=dark))
    frames = np.flatnonzero(roi) + offset
    frames = frames[frames >= 0]
    total, count = summed(data[frames], valid[frames])
    np.testing.assert_array_equal(res.coverage, count)
    np.testing.assert_allclose(res["intensity"].data, total - count * dark, rtol=1e-6)
    assert seen.folds


def test_extremes_and_means_are_folded_on_receipt_too(ctx, data, monkeypatch):
    seen, valid = Seen(monkeypatch), flags(0.0)
    largest, mean = ctx.run_udf(load(ctx, data, valid, seen=seen), [ff.udfs.MaxUDF(), ff.udfs.MeanUDF()])
    np.testing.assert_array_equal(next(iter(largest.values())).data, data.max(axis=0))
    np.testing.assert_allclose(next(iter(mean.values())).data, data.mean(axis=0), rtol=1e-6)
    assert seen.folds


def test_every_snapshot_counts_what_is_in_it(ctx, data, monkeypatch):
    """Pieces of a constant stream: the sum is the count, in the middle of it too."""
    ones = np.ones_like(data)
    live = load(ctx, ones, flags(0.1), seen=Seen(monkeypatch))
    for snapshot in ctx.run_udf_iter(live, ff.udfs.SumUDF(), publish_interval=0.001):
        np.testing.assert_array_equal(snapshot["intensity"].data, snapshot.buffers[0].coverage)


class Breaks(ff.UDF):
    engine = ff.EngineOptions(partial_frames=True, gil="free")

    def get_result_buffers(self):
        return {"s": self.buffer("sig", dtype="float64", reduce="sum")}

    def process_tile(self, tile):
        if self.meta.frame_ids[0] > 20:
            raise ValueError("no more than that")


def test_an_error_names_the_udf(ctx, data, monkeypatch):
    with pytest.raises(ValueError, match="no more than that") as caught:
        ctx.run_udf(load(ctx, data, flags(0.0), seen=Seen(monkeypatch)), Breaks())
    assert "Breaks.process_tile" in "".join(caught.value.__notes__)


def test_an_error_of_one_reader_ends_the_run(ctx, data):
    with pytest.raises(StreamError, match="the wire of sector 2 was cut"):
        ctx.run_udf(load(ctx, data, flags(0.0), breaks=True), ff.udfs.SumUDF())


def test_executors_of_one_thread_fold_there(data, monkeypatch):
    seen = Seen(monkeypatch)
    with ff.Context(executor="inline") as ctx:
        res = ctx.run_udf(load(ctx, data, flags(0.0)), ff.udfs.SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, data.sum(axis=0, dtype=np.uint64))
    assert not seen.folds
