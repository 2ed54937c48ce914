"""Runs on live streams: the ways they begin and end, and what users see meanwhile."""

import os
import signal
import threading

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, StreamError, UDFRunCancelled
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.udfs import SumUDF

DATA = np.random.default_rng(3).integers(0, 1000, (35, 8, 6)).astype("uint16")
TOTAL = DATA.sum(axis=0, dtype="uint64")


class Pixels(ff.UDF):
    engine = ff.EngineOptions(partial_frames=True)

    def get_result_buffers(self):
        return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0)


class Breaks(ff.UDF):
    def get_result_buffers(self):
        return {"x": self.buffer("nav")}

    def process_frame(self, frame):
        if self.meta.frame_ids[0] == 13:
            raise ZeroDivisionError("at thirteen")


class Mirror(ff.UDF):
    """Tells a thread outside which frames were folded."""

    engine = ff.EngineOptions(effects=True)

    def __init__(self, hear):
        super().__init__(hear=hear)

    def get_result_buffers(self):
        return {"n": self.buffer("single", dtype="int64", reduce="sum")}

    def process_frame(self, frame):
        self.results.n += 1
        self.params.hear(int(self.meta.frame_ids[0]))


class Opened(MemoryLiveSource):
    """Remembers its streams."""

    streams = []

    def open(self, sectors=None):
        stream = super().open(sectors)
        self.streams.append(stream)
        return stream


@pytest.fixture(params=["inline", "threads"])
def ctx(request):
    with ff.Context(executor=request.param, **({"workers": 2} if request.param == "threads" else {})) as ctx:
        yield ctx


def live(cls=MemoryLiveSource, **kwargs):
    options = {k: kwargs.pop(k) for k in ("missing", "start_timeout", "n_frames", "history") if k in kwargs}
    return cls(**{"array": DATA, "sectors": 3, "pieces": 2, "block_frames": 4, **kwargs}).with_options(
        **options
    )


def test_the_same_sum_as_from_a_file(ctx):
    ds = ctx.load(live(), nav_shape=(5, 7))
    res = ctx.run_udf(ds, SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, TOTAL)
    assert res.damage.all()
    assert (res.coverage == 35).all()
    assert res.report["end_reason"] == "n_frames"
    assert [s["valid"] for s in res.report["sectors"]] == [70, 70, 70]
    lines = str(res.report).splitlines()
    assert "35 complete, 0 partial, 0 lost, 0 unseen of 35; first id 0" in lines[2]
    assert lines[-1].endswith("memory://array#2")


def test_five_cases_that_a_peer_gets_wrong(ctx):
    """16 x 16 scan of 64 x 64, frame i = i mod 200: the sums of one pixel, worked out by hand."""
    values = (np.arange(256) % 200).astype("uint16")
    data = np.broadcast_to(values[:, None, None], (256, 64, 64)).copy()

    def total(roi=None, **kwargs):
        ds = ctx.load(MemoryLiveSource(data, sectors=4, pieces=2), nav_shape=(16, 16))
        return ctx.run_udf(ds, Pixels(), roi=None if roi is None else ds.roi[roi], **kwargs)["total"].data[
            5, 5
        ]

    assert total() == 21440
    assert total(corrections=ff.Corrections(dark=np.ones((64, 64)))) == 21184
    for key, want in ((np.s_[8:], 13312), (np.s_[:, ::2], 10656), (np.s_[:8], 8128)):
        assert total(key) == want


@pytest.mark.parametrize("known", [True, False], ids=["known", "announced"])
def test_on_ready_runs_once_in_its_own_thread_when_all_listens(ctx, known):
    told, heard = [], threading.Event()

    def ready(info):
        told.append((info, threading.current_thread()))
        heard.set()

    res = ctx.run_udf(ctx.load(live(known_before=known), nav_shape=(5, 7)), SumUDF(), on_ready=ready)
    np.testing.assert_array_equal(res["intensity"].data, TOTAL)
    assert heard.wait(30)
    [(info, thread)] = told
    assert thread is not threading.main_thread()
    assert info.url == "memory://array"
    assert (info.start is None) is not known
    if known:
        assert info.endpoints == ("memory://array#0", "memory://array#1", "memory://array#2")


@pytest.mark.parametrize("known", [True, False], ids=["known", "announced"])
def test_an_error_in_on_ready_ends_the_run(ctx, known):
    def ready(info):
        raise OSError("the scan engine is off")

    source = live(Opened, known_before=known, fps=0.001, repeats=1 if known else 0, start_timeout=30)
    with pytest.raises(OSError, match="the scan engine is off") as caught:
        ctx.run_udf(ctx.load(source, nav_shape=(5, 7)), SumUDF(), on_ready=ready)
    assert "in on_ready" in "".join(caught.value.__notes__)
    assert ctx.run_udf(ctx.load(live()), SumUDF())["intensity"].data.sum() == TOTAL.sum()


def test_an_error_of_a_udf_names_udf_and_frame_and_frees_the_ring(ctx):
    udf = Breaks()
    with pytest.raises(ZeroDivisionError, match="at thirteen") as caught:
        ctx.run_udf(ctx.load(live(Opened), nav_shape=(5, 7)), udf)
    assert "in Breaks.process_frame, frame (1, 6) [flat 13]" in "".join(caught.value.__notes__)
    assert not [t for t in threading.enumerate() if t.name == "framefold-pump"]
    with pytest.raises(ZeroDivisionError):
        ctx.run_udf(ctx.load(live(), nav_shape=(5, 7)), udf)  # the object is free again


def test_every_block_goes_back_to_the_ring(ctx):
    ctx.run_udf(ctx.load(live(Opened, slots=2)), [SumUDF(), Pixels()])
    assert Opened.streams[-1].held == 0


@pytest.mark.parametrize("where", ["on_ready", "udf"])
def test_stop_returns_what_has_arrived(ctx, where):
    frames = []

    def hear(frame):
        frames.append(frame)
        if where == "udf" and len(frames) == 10:
            ctx.stop()

    ready = (lambda info: ctx.stop()) if where == "on_ready" else None
    source = live(repeats=None, fps=1000, n_frames=10**6, start_timeout=30)
    res = ctx.run_udf(ctx.load(source), Mirror(hear), on_ready=ready)
    assert res.report["end_reason"] == "stopped"
    n = int(res["n"].data[0])
    assert res.report["status"]["complete"] == n == res.damage.sum()
    assert n >= (10 if where == "udf" else 0)


@pytest.fixture
def sigint():
    """Ctrl-C as in a terminal; programs started in the background are told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_returns_what_has_arrived(ctx, sigint):
    frames = []

    def hear(frame):
        frames.append(frame)
        if len(frames) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    source = live(repeats=None, fps=500, n_frames=10_000)
    res = ctx.run_udf(ctx.load(source), Mirror(hear))
    assert res.report["end_reason"] == "stopped"
    assert 10_000 > res["n"].data[0] == res.damage.sum() >= 5


def test_a_dead_sector_is_named(ctx):
    source = live(dead=(1,), start_timeout=0.05)
    with pytest.raises(StreamError, match=r"nothing came from sector 1 \(memory://array#1\) within 0.05 s"):
        ctx.run_udf(ctx.load(source), SumUDF())


@pytest.mark.parametrize("stated", [10, 100, -1], ids=["too few", "too many", "nothing"])
def test_an_announcement_that_lies_about_the_number_of_frames(ctx, stated):
    ds = ctx.load(live(stated_frames=stated), nav_shape=(5, 7))
    np.testing.assert_array_equal(ctx.run_udf(ds, SumUDF())["intensity"].data, TOTAL)


def test_a_scan_larger_than_the_acquisition_leaves_the_tail_unseen(ctx):
    res = ctx.run_udf(ctx.load(live(stop_after=20), nav_shape=(5, 7)), SumUDF())
    assert res.report["end_reason"] == "idle"
    np.testing.assert_array_equal(res["intensity"].data, DATA[:20].sum(axis=0))
    np.testing.assert_array_equal(res.damage.reshape(-1), np.arange(35) < 20)
    assert res.report["status"]["unseen"] == 15


def test_a_scan_smaller_than_the_acquisition_ends_with_its_last_frame(ctx):
    res = ctx.run_udf(ctx.load(live(), nav_shape=(3, 3)), SumUDF())
    np.testing.assert_array_equal(res["intensity"].data, DATA[:9].sum(axis=0))
    assert res.report["end_reason"] == "n_frames"


def test_map_and_iteration_take_live_streams(ctx):
    ds = ctx.load(live(), nav_shape=(5, 7))
    np.testing.assert_array_equal(ctx.map(ds, np.sum).data.reshape(-1), DATA.sum(axis=(1, 2)))
    np.testing.assert_array_equal(ctx.map(np.max).data.reshape(-1), DATA.max(axis=(1, 2)))
    *_, last = ctx.run_udf_iter(ctx.load(live(), nav_shape=(5, 7)), SumUDF())
    np.testing.assert_array_equal(last["intensity"].data, TOTAL)


def test_a_slow_loop_body_delays_no_frame():
    """The last frame is folded while the body of the loop still holds the first snapshot."""
    folded = threading.Event()

    def hear(frame):
        if frame == 34:
            folded.set()

    with ff.Context(executor="threads", workers=1) as ctx:
        steps = ctx.run_udf_iter(ctx.load(live(slots=2)), Mirror(hear), publish_interval=0.001)
        first = next(steps)
        assert folded.wait(30)
        assert first["n"].data[0] <= 35
        last = [first, *steps][-1]
    assert last["n"].data[0] == 35


def test_a_run_given_up_early_closes_everything(ctx):
    steps = ctx.run_udf_iter(ctx.load(live(repeats=None, fps=2000, n_frames=10**6)), SumUDF())
    next(steps)
    steps.close()
    assert not [t for t in threading.enumerate() if t.name == "framefold-pump"]
    with pytest.raises(UDFRunCancelled):
        steps = ctx.run_udf_iter(ctx.load(live(repeats=None, fps=2000, n_frames=10**6)), SumUDF())
        next(steps)
        steps.cancel()
        for _ in steps:
            pass


def test_parameters_change_while_frames_arrive(ctx):
    changed = threading.Event()

    class Scaled(ff.UDF):
        engine = ff.EngineOptions(effects=True)

        def __init__(self, by):
            super().__init__(by=by)

        def get_result_buffers(self):
            return {"x": self.buffer("nav")}

        def process_frame(self, frame):
            # each lane waits in its first block from frame 8 on; the blocks after those are not handed out yet
            assert self.meta.frame_ids[0] < 8 or changed.wait(30)
            self.results.x[:] = self.params.by

    steps = ctx.run_udf_iter(ctx.load(live(), nav_shape=(5, 7)), Scaled(1.0), publish_interval=0.001)
    next(steps)
    steps.update_parameters([{"by": 2.0}])
    changed.set()
    *_, last = steps
    x = last["x"].data.reshape(-1)
    assert set(x[:16]) <= {1.0, 2.0}
    assert 1.0 in x[:8]
    assert (x[16:] == 2).all()


def test_what_is_not_known_before_says_so(ctx):
    ds = ctx.load(live(known_before=False))
    with pytest.raises(StreamError, match="are not known before the acquisition begins"):
        print(ds.shape)
    with pytest.raises(DataError, match="is live: record it"):
        ctx.export(ctx.load(live()), "x.h5")
    res = ctx.run_udf(ds, SumUDF(), roi=np.arange(35) % 2 == 0)
    np.testing.assert_array_equal(res["intensity"].data, DATA[::2].sum(axis=0))


def test_a_roi_of_the_wrong_shape_is_refused_and_nothing_stays_open(ctx):
    with pytest.raises(DataError, match=r"roi has shape \(3,\), the navigation shape"):
        ctx.run_udf(ctx.load(live()), SumUDF(), roi=np.ones(3, dtype=bool))


def test_plots_follow_a_live_run(ctx):
    class Plot:
        def __init__(self):
            self.seen = []

        def update(self, snapshot):
            self.seen.append(int(snapshot["n"].data[0]))

    plot = Plot()
    ctx.run_udf(ctx.load(live()), Mirror(lambda frame: None), plots=plot, publish_interval=0.001)
    assert plot.seen[-1] == 35
    assert plot.seen == sorted(plot.seen)


class Numbers(ff.UDF):
    """What each frame is called."""

    def get_result_buffers(self):
        return {
            "id": self.buffer("nav", dtype="int64"),
            "sum": self.buffer("nav", dtype="int64", reduce="sum"),
        }

    def process_tile(self, tile):
        self.results.id[:] = self.meta.frame_ids
        assert (self.meta.coordinates[:, 0] == self.meta.frame_ids).all()
        self.results.sum += tile.sum(axis=(1, 2), dtype="int64")


@pytest.mark.parametrize("sent", [7, 40, 200])
def test_without_an_end_the_last_frames_are_kept(ctx, sent):
    source = live(repeats=None, stop_after=sent, history=24, block_frames=5)
    numbers, total = ctx.run_udf(ctx.load(source), [Numbers(), SumUDF()])
    kept = np.arange(max(0, sent - 24), sent)
    np.testing.assert_array_equal(numbers["id"].frame_ids, kept)
    np.testing.assert_array_equal(numbers["id"].data, kept)
    np.testing.assert_array_equal(numbers["sum"].data, DATA[kept % 35].sum(axis=(1, 2)))
    assert numbers["id"].valid_mask.all()
    assert numbers.damage.shape == (len(kept),)
    np.testing.assert_array_equal(total["intensity"].data, DATA[np.arange(sent) % 35].sum(axis=0))
    assert (total.coverage == sent).all()
    assert numbers.report["status"] == {"unseen": 0, "complete": sent, "partial": 0, "lost": 0}


def test_without_an_end_there_is_no_region_of_interest(ctx):
    with pytest.raises(DataError, match="a region of interest needs a scan shape"):
        ctx.run_udf(ctx.load(live(repeats=None, history=24)), SumUDF(), roi=np.ones(24, dtype=bool))


def test_acquisitions_one_after_the_other(ctx):
    armed = threading.Semaphore(0)
    ds = ctx.load(live(repeats=3, start_timeout=30), nav_shape=(5, 7))
    found = list(ctx.acquisitions(ds, SumUDF(), n=3, on_ready=lambda info: armed.release()))
    assert len(found) == 3
    for res in found:
        np.testing.assert_array_equal(res["intensity"].data, TOTAL)
        assert res.report["end_reason"] == "n_frames"
    assert all(armed.acquire(timeout=30) for _ in range(3))


def test_acquisitions_end_when_no_other_begins(ctx):
    ds = ctx.load(live(repeats=2, start_timeout=0.05), nav_shape=(5, 7))
    assert len(list(ctx.acquisitions(ds, [SumUDF()]))) == 2


def test_stop_ends_acquisitions(ctx):
    ds = ctx.load(live(repeats=100, start_timeout=30), nav_shape=(5, 7))
    n = 0
    for n, res in enumerate(ctx.acquisitions(ds, SumUDF()), start=1):
        np.testing.assert_array_equal(res["intensity"].data, TOTAL)
        if n == 2:
            ctx.stop()
    assert n == 2


def test_acquisitions_need_a_live_source(ctx):
    with pytest.raises(ff.errors.UDFError, match="acquisitions needs a live source"):
        ctx.acquisitions(DATA, SumUDF())


def test_without_an_end_a_slow_lane_does_not_bring_old_frames_back():
    """Block 35 (frames 175..179) is merged after all others: 175 gives way to 199, the rest has its place."""
    import itertools

    release, count = threading.Event(), itertools.count(1)

    class Slow(Numbers):
        engine = ff.EngineOptions(effects=True)

        def process_tile(self, tile):
            super().process_tile(tile)
            if 177 in self.meta.frame_ids:
                assert release.wait(30)
            elif next(count) == 39 * 6:  # every piece of all other blocks
                release.set()

    with ff.Context(executor="threads", workers=2) as ctx:
        source = live(repeats=None, stop_after=200, history=24, block_frames=5)
        res = ctx.run_udf(ctx.load(source), Slow())
    np.testing.assert_array_equal(res["id"].data, np.arange(176, 200))
    np.testing.assert_array_equal(res["id"].frame_ids, np.arange(176, 200))
    np.testing.assert_array_equal(res["sum"].data, DATA[np.arange(176, 200) % 35].sum(axis=(1, 2)))
    assert res.damage.all()


def test_a_run_that_nobody_follows_is_closed(ctx):
    import gc

    steps = ctx.run_udf_iter(ctx.load(live(repeats=None, fps=1, n_frames=10**6)), SumUDF())
    assert [t for t in threading.enumerate() if t.name == "framefold-pump"]
    del steps
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name == "framefold-pump"]


@pytest.mark.parametrize("known", [True, False], ids=["known", "announced"])
def test_a_stream_that_cannot_be_opened_says_why(ctx, known, monkeypatch):
    def refuse(self, *args):
        raise StreamError("port 2001 is taken")

    def closed(self):
        raise StreamError("the stream is not open")

    monkeypatch.setattr(MemoryStream, "prepare", refuse)
    monkeypatch.setattr(MemoryStream, "stats", closed)
    with pytest.raises(StreamError, match="port 2001 is taken"):
        ctx.run_udf(ctx.load(live(known_before=known)), SumUDF())
