"""The browser view as a plot of a run: served, ended, kept, refused; with nothing left behind."""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

import framefold as ff
from framefold.errors import FramefoldError, UDFError, UDFRunCancelled
from framefold.io.save import load_results
from framefold.web.view import BrowserView

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


@pytest.fixture
def view():
    with BrowserView(keep=True, quiet=True) as found:
        yield found


def get(url, **headers):
    """Status, headers and body."""
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers, exc.read()


def handshake(url, origin, cookie=""):
    """Status of an attempt to open the websocket of a page; 101 is success."""
    parts = urllib.parse.urlsplit(url)
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "bokeh, x", "Origin": origin,
    }  # fmt: skip
    if cookie:
        headers["Cookie"] = cookie
    link.request("GET", "/ws", headers=headers)
    with link.getresponse() as answer:
        status = answer.status
    link.close()
    return status


def test_the_page_is_served_while_the_run_goes_on(ctx, data, capsys):
    seen = []

    class Look:
        def update(self, snapshot):
            if not seen:
                url = capsys.readouterr().err.split("live view at ")[1].split()[0]
                seen.append(get(url)[0])

    view = BrowserView()
    res = ctx.run_udf(data, ff.udfs.SumUDF(), plots=[view, Look()])
    assert seen == [200]
    assert view.url is None  # it ends with the run
    assert np.array_equal(res["intensity"].data, data.sum((0, 1)))


def test_by_name(ctx, data, capsys):
    ctx.run_udf(data, ff.udfs.SumUDF(), plots="browser")
    assert "framefold: live view at http://127.0.0.1:" in capsys.readouterr().err


def test_kept_until_stopped(ctx, data, view):
    ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
    url = view.url
    assert get(url)[0] == 200
    ctx.run_udf(data, ff.udfs.SumSigUDF(), plots=view)  # the same page follows the next run
    assert view.url == url
    assert view.hub.progress().state == "complete"
    view.stop()
    with pytest.raises(urllib.error.URLError):
        get(url)
    view.stop()  # harmless


def test_wait_ends_when_another_thread_stops_the_view(ctx, data, view):
    ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
    thread = threading.Thread(target=view.wait)
    thread.start()
    view.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_wrong_names_are_refused_before_anything_is_served(ctx, data, view):
    udf = ff.udfs.SumUDF()
    with pytest.raises(UDFError, match="no result 'intensitee'.*Did you mean 'intensity'"):
        ctx.run_udf(data, udf, plots=BrowserView(["intensitee"], quiet=True))
    ctx.run_udf(data, udf)  # the UDF object is free again


def test_an_error_in_the_run_is_said_on_the_page(ctx, data, view):
    class Broken(ff.udfs.SumUDF):
        def process_tile(self, tile):
            raise ZeroDivisionError("bad frame")

    with pytest.raises(ZeroDivisionError, match="bad frame"):
        ctx.run_udf(data, Broken(), plots=view)
    progress = view.hub.progress()
    assert progress.state == "failed"
    assert "ZeroDivisionError: bad frame" in progress.message


def test_a_stop_from_the_page_gives_the_partial_result(ctx, data, view):
    steps = ctx.run_udf_iter(data, ff.udfs.SumUDF(), plots=view, partition_frames=4)
    next(steps)
    view.hub.control.stop()
    with pytest.raises(UDFRunCancelled) as caught:
        list(steps)
    assert 0 < caught.value.partial.n_frames < 24
    assert view.hub.progress().state == "stopped"
    assert view.stopped


def test_a_loop_that_is_left_early_ends_the_server(ctx, data):
    view = BrowserView(quiet=True)
    with ctx.run_udf_iter(data, ff.udfs.SumUDF(), plots=view, partition_frames=4) as steps:
        next(steps)
        assert view.url is not None
    assert view.url is None


def test_parameters_change_for_the_frames_that_follow(ctx, data, view):
    udf = ff.udfs.VirtualDetectorUDF("disk", cy=4, cx=3, r=0.5)
    with ctx.run_udf_iter(data, udf, plots=view, partition_frames=6) as steps:
        next(steps)
        view.hub.control.change(0, {"cx": 5})
        *_, last = steps
    assert "earlier frames keep the older ones" in view.hub.progress().message
    image = last["intensity"].data
    assert np.array_equal(image[0], data[0, :, 4, 3])  # the first partition
    assert np.array_equal(image[1:], data[1:, :, 4, 5])


def test_snapshots_can_be_downloaded(ctx, data, view, tmp_path):
    pytest.importorskip("matplotlib")
    udfs = [ff.udfs.SumUDF(), ff.udfs.SumSigUDF()]
    ctx.run_udf(data, udfs, plots=view)
    (page,) = make_pages(view)
    paths = downloads(page)
    status, headers, body = get(urllib.parse.urljoin(view.url, paths["Save HDF5"]))
    assert status == 200
    assert 'filename="snapshot.h5"' in headers["Content-Disposition"]
    file = tmp_path / "snapshot.h5"
    file.write_bytes(body)
    loaded = load_results(file)
    assert np.array_equal(loaded["sum_intensity"].data, data.sum((0, 1)))
    assert np.array_equal(loaded["sumsig_intensity"].data, data.sum((2, 3)))
    status, headers, body = get(urllib.parse.urljoin(view.url, paths["Save PNG"]))
    assert status == 200
    assert body.startswith(b"\x89PNG")
    wrong = paths["Save HDF5"].replace("/save/", "/save/x")
    assert get(urllib.parse.urljoin(view.url, wrong))[0] == 403


def make_pages(view):
    """Open a page as a browser would, without drawing it."""
    assert get(view.url)[0] == 200
    return list(view._pages)


def downloads(page):
    from bokeh.models import Button

    found = {}
    for button in page._doc.select({"type": Button}):
        for callback in button.js_event_callbacks.get("button_click", []):
            if hasattr(callback, "args") and "path" in callback.args:
                found[button.label] = callback.args["path"]
    return found


def test_foreign_pages_are_refused(ctx, data, view):
    ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
    origin = view.url.rstrip("/")
    assert handshake(view.url, origin) == 101
    assert handshake(view.url, "http://evil.example") == 403
    assert get(view.url, Host="evil.example")[0] == 403


def test_a_token_is_asked_for(ctx, data):
    with BrowserView(token="0123456789abcdef", keep=True, quiet=True) as view:
        ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
        assert view.url.endswith("/?token=0123456789abcdef")
        bare = view.url.split("?")[0]
        status, _, body = get(bare)
        assert status == 403
        assert b"open the URL that framefold printed" in body
        assert get(bare + "?token=0123456789abcdeX")[0] == 403
        status, headers, _ = get(view.url)
        assert status == 200
        cookie = headers["Set-Cookie"].split(";")[0]
        assert "HttpOnly" in headers["Set-Cookie"]
        assert "SameSite=Strict" in headers["Set-Cookie"]
        assert get(bare, Cookie=cookie)[0] == 200
        origin = bare.rstrip("/")
        assert handshake(bare, origin) == 403
        assert handshake(bare, origin, cookie) == 101


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_of_pictures_is_above_zero(fps):
    with pytest.raises(UDFError, match="pictures per second, above 0"):
        BrowserView(fps=fps)


def test_an_address_in_use_is_named(ctx, data, view):
    ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
    port = urllib.parse.urlsplit(view.url).port
    with pytest.raises(
        FramefoldError, match=rf"cannot listen on 127.0.0.1:{port}: .*Port 0 takes a free one"
    ):
        ctx.run_udf(data, ff.udfs.SumUDF(), plots=BrowserView(port=port, quiet=True))


def test_a_notebook_embeds_the_page(ctx, data, view):
    assert "not serving" in view._repr_html_()
    ctx.run_udf(data, ff.udfs.SumUDF(), plots=view)
    assert f"<iframe src='{view.url}'" in view._repr_html_()


def test_a_frame_to_drag_over_is_sampled_when_no_result_shows_one(ctx, data, view):
    ctx.run_udf(data, ff.udfs.VirtualDetectorUDF("disk", cy=4, cx=3, r=2), plots=view)
    # 16 of 24 frames, evenly: their mean is the pattern plus a constant
    flat = data.reshape(24, 10, 8)[np.linspace(0, 23, 16).astype(int)]
    assert view.hub.pattern.values == pytest.approx(flat.mean(0))


def test_results_that_need_data_are_drawn_when_there_are_some(ctx, data, view):
    class Late(ff.UDF):
        def get_result_buffers(self):
            return {"total": self.buffer("sig", dtype="float64", reduce="sum")}

        def process_frame(self, frame):
            self.results.total[...] += frame

        def get_results(self):
            if not self.results.total.any():
                raise ZeroDivisionError("no data yet")
            return {"total": self.results.total}

    ctx.run_udf(data, Late(), plots=view)
    assert [p.title for p in view.hub.panels] == ["total"]


def test_one_page_for_all_acquisitions(ctx, data, capsys):
    from framefold.io.live.memory import MemoryLiveSource

    live = ctx.load(MemoryLiveSource(data.reshape(24, 10, 8), sectors=2, repeats=3), nav_shape=(4, 6))
    passes = ctx.acquisitions(live, ff.udfs.SumUDF(), n=3, plots="browser")
    first = next(passes)
    url = capsys.readouterr().err.split("live view at ")[1].split()[0]
    assert get(url)[0] == 200  # between two acquisitions
    rest = list(passes)
    assert len(rest) == 2
    for res in (first, *rest):
        assert np.array_equal(res["intensity"].data, data.sum((0, 1)))
    assert "live view at" not in capsys.readouterr().err  # no other page
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_live_runs_tell_their_sectors(ctx, data, view):
    from framefold.io.live.memory import MemoryLiveSource
    from framefold.web.status import progress_html, sectors_html

    valid = np.ones((24, 2), bool)
    valid[5, 1] = False
    source = MemoryLiveSource(data.reshape(24, 10, 8), sectors=2, valid=valid)
    ctx.run_udf(ctx.load(source, nav_shape=(4, 6)), ff.udfs.SumUDF(), plots=view)
    report = view.hub.snapshot.buffers[0].report
    text = progress_html(view.hub.progress(), report)
    assert "24 of 24 frames (100 %)" in text
    assert "23 complete, 1 partial" in text
    assert "end: n_frames" in text
    assert sectors_html(report["sectors"]).count("#fdecea") == 1  # the row of the sector that lost a packet


def test_what_a_stopped_run_returns_is_shown(ctx, data, view):
    steps = ctx.run_udf_iter(data, ff.udfs.SumUDF(), plots=view, partition_frames=4)
    next(steps)
    steps.cancel()
    with pytest.raises(UDFRunCancelled) as caught:
        list(steps)
    assert view.hub.snapshot is caught.value.partial


class Average(ff.IterativeUDF):
    """The mean frame by gradient descent: half of the way in each iteration."""

    def resolve(self, info):
        return info.sample.shape[1:]

    def get_loop_state(self):
        return {"x": np.zeros(self.setup)}

    def get_pass_buffers(self):
        return {"g": self.summed(self.setup, "float64"), "n": self.summed((), "int64")}

    def process_tile(self, tile):
        self.results.g[...] += (tile - self.loop.x).sum(axis=0)
        self.results.n[...] += len(tile)

    def step(self, phase, results):
        self.loop.x += 0.5 * results.g / results.n

    def publish(self):
        return {"mean": self.loop.x}


def test_iterations_are_followed(ctx, data, view):
    ctx.iterate(data, Average(), n=4, plots=view, publish_every=0).to_end()
    progress = view.hub.progress()
    assert progress.state == "complete"
    assert view.hub.panels[0].title == "mean"
    shown = view.hub.snapshot.buffers[0]["mean"].data
    assert shown == pytest.approx(data.reshape(24, 10, 8).mean(0) * (1 - 0.5**4))


def test_iterations_that_are_left_end_the_server(ctx, data, capsys):
    with ctx.iterate(data, Average(), n=4, plots="browser", publish_every=0) as states:
        next(iter(states))
        url = capsys.readouterr().err.split("live view at ")[1].split()[0]
        assert get(url)[0] == 200
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_iterations_are_stopped_from_the_page(ctx, data, view):
    states = ctx.iterate(data, Average(), n=100, plots=view, publish_every=0)
    next(states)
    assert not view.hub.control.changeable
    view.hub.control.stop()
    *_, last = states
    assert last.iteration < 5
    assert view.hub.progress().state == "complete"


def test_a_tab_that_is_closed_is_nothing_to_warn_of(monkeypatch):
    log, told = logging.getLogger("bokeh.server.views.ws"), []
    listener = logging.Handler()
    listener.emit = lambda record: told.append(record.getMessage())
    # distributed, where it was imported, keeps warnings of bokeh to itself
    monkeypatch.setattr(log, "handlers", [listener])
    monkeypatch.setattr(log, "propagate", False)
    with ff.Context(executor="inline") as ctx, BrowserView(keep=True, quiet=True) as view:
        ctx.run_udf(np.ones((2, 2, 4, 4)), ff.udfs.SumUDF(), plots=view)
        level = log.level
        log.setLevel(logging.WARNING)
        log.warning("Failed sending message as connection was closed")
        log.warning("something else")
        log.setLevel(level)
    assert told == ["something else"]
