"""The page in a real browser: what is on the canvas, what controls do, and that nothing complains."""

from __future__ import annotations

import io
import os
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFRunCancelled
from framefold.web.view import BrowserView

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("nothing_left")]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GREY = (140, 140, 140)


@pytest.fixture(scope="module")
def browser():
    program = os.environ.get("FRAMEFOLD_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as p:
        found = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Open a URL; at the end no page may have complained."""
    complaints, pages = [], []

    def make(url):
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(30_000)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(url)
        pages.append(page)
        return page

    make.complaints = complaints
    yield make
    for page in pages:
        page.close()
    assert complaints == []


@pytest.fixture
def pixels():
    """Frames of 8 x 6 whose sum has a different value in every pixel."""
    rng = np.random.default_rng(5)
    return (rng.permutation(48).reshape(8, 6) * 5).astype("uint16")


@pytest.fixture
def view():
    with BrowserView(keep=True, quiet=True) as found:
        yield found


GATE = threading.Event()  # opened by tests; not a parameter, since those are copied


class Held(ff.udfs.SumUDF):
    """A sum that waits before frame 8 until the test has looked."""

    def process_tile(self, tile):
        if self.meta.slice.origin[0] >= 8:
            assert GATE.wait(60)
        super().process_tile(tile)


@contextmanager
def halfway(view, frames, *udfs):
    """A run over 16 frames in a thread of its own, held in the middle; yields a list that gets its result."""
    found = []

    def run():
        with ff.Context(executor="inline") as ctx:
            try:
                found.append(
                    ctx.run_udf(
                        frames, [Held(), *udfs], plots=view, partition_frames=4, publish_interval=0.01
                    )
                )
            except UDFRunCancelled as exc:
                found.append(exc.partial)

    GATE.clear()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(3000):
            if not thread.is_alive() or (view.url is not None and view.hub.progress().done == 8):
                break
            threading.Event().wait(0.01)
        yield found
    finally:
        GATE.set()
        thread.join(60)
    assert not thread.is_alive()


# where the picture lies on the screen, and the colours at the middle of its pixels
_FRAME_JS = """() => {
  const find = (v) => {
    if (v.frame && v.canvas_view && v.el.offsetParent !== null) return v;
    for (const c of [...(v.child_views ?? []), ...(v._child_views?.values() ?? [])]) {
      const got = find(c); if (got) return got;
    }
    return null;
  };
  for (const root of Object.values(Bokeh.index)) {
    const plot = find(root);
    if (plot) {
      const box = plot.canvas_view.el.getBoundingClientRect(), f = plot.frame.bbox;
      return {x: box.x + f.left, y: box.y + f.top, width: f.width, height: f.height};
    }
  }
  return null;
}"""


def frame_of(page):
    """Rectangle of the visible picture on the page."""
    return page.wait_for_function(f"({_FRAME_JS})()").json_value()


def picture(page, shape):
    """Colours at the middles of the pixels of the picture, as shape (rows, columns, 3)."""
    from PIL import Image

    box = frame_of(page)
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    y = np.round(box["y"] + (np.arange(shape[0]) + 0.5) * box["height"] / shape[0]).astype(int)
    x = np.round(box["x"] + (np.arange(shape[1]) + 0.5) * box["width"] / shape[1]).astype(int)
    return shot[np.ix_(y, x)].astype(int)


def colours_of(values, low, high, name="viridis"):
    """Colours by the definition: 255 steps of the palette between the limits."""
    from framefold.web.palettes import colours

    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours(name)])
    part = np.clip((values - low) / (high - low), 0, 1)
    return table[np.floor(part * 254 + 0.5).astype(int)]


def until(page, condition):
    """Wait, while the browser goes on drawing, until a condition on this side holds."""
    for _ in range(600):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("the page did not come to the expected state within 30 s")


def close_to(found, wanted):
    # the browser's colours are exact; one level of the palette for rounding of the limits in float32
    return np.abs(found - wanted).max() <= 6


def test_the_picture_on_the_canvas_is_the_result(view, open_page, pixels):
    with ff.Context(executor="inline") as ctx:
        ctx.run_udf(np.broadcast_to(pixels, (4, 8, 6)), ff.udfs.SumUDF(), plots=view)
    page = open_page(view.url)
    total = 4.0 * pixels
    wanted = colours_of(total, *np.quantile(total, (0.001, 0.999)))
    until(page, lambda: close_to(picture(page, total.shape), wanted))
    page.get_by_text("4 of 4 frames (100 %)").wait_for()
    assert page.get_by_role("button", name="Stop").is_disabled()
    # the read-out below the mouse: exact value at row 2, column 4
    box = frame_of(page)
    page.mouse.move(box["x"] + 4.5 * box["width"] / 6, box["y"] + 2.5 * box["height"] / 8)
    page.get_by_text(f"[2, 4] ky = 2 px, kx = 4 px: intensity = {int(total[2, 4])}").wait_for()


def test_limits_scale_and_palette_follow_the_controls(view, open_page, pixels):
    with ff.Context(executor="inline") as ctx:
        ctx.run_udf(np.broadcast_to(pixels, (4, 8, 6)), ff.udfs.SumUDF(), plots=view)
    page = open_page(view.url)
    total = 4.0 * pixels
    page.get_by_label("limits").select_option("manual")
    entry = page.get_by_label("to", exact=True)
    until(page, lambda: entry.is_enabled() and entry.input_value() != "")
    for label, value in (("from", "100"), ("to", "500")):
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_label(label, exact=True).press("Enter")
    until(page, lambda: close_to(picture(page, total.shape), colours_of(total, 100, 500)))
    page.get_by_label("palette").select_option("gray")
    until(page, lambda: close_to(picture(page, total.shape), colours_of(total, 100, 500, "gray")))
    page.get_by_label("scale").select_option("sqrt")
    part = np.sqrt(np.clip((total - 100) / 400, 0, 1))
    until(page, lambda: close_to(picture(page, total.shape), colours_of(part, 0, 1, "gray")))


def test_a_picture_is_zoomed_and_saved(view, open_page, pixels):
    from PIL import Image

    with ff.Context(executor="inline") as ctx:
        ctx.run_udf(np.broadcast_to(pixels, (4, 8, 6)), ff.udfs.SumUDF(), plots=view)
    page = open_page(view.url)
    total = 4.0 * pixels
    wanted = colours_of(total, *np.quantile(total, (0.001, 0.999)))
    until(page, lambda: close_to(picture(page, total.shape), wanted))
    # the wheel over the corner of pixels (4, 3), (4, 4), (5, 3), (5, 4) leaves it there, and widens all pixels
    box = frame_of(page)
    corner = (box["x"] + 4 * box["width"] / 6, box["y"] + 5 * box["height"] / 8)
    page.mouse.move(*corner)

    def around(step):
        shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        x, y = (round(v) for v in corner)
        return shot[[[y - step] * 2, [y + step] * 2], [[x - step, x + step]] * 2]

    wide = round(1.05 * box["width"] / 6)  # in the next pixel but for the zoom

    def zoomed():
        page.mouse.wheel(0, -100)
        return close_to(around(wide), wanted[4:6, 3:5])

    until(page, zoomed)
    assert close_to(around(10), wanted[4:6, 3:5])
    with page.expect_download() as waiting:
        page.get_by_title("Save as picture.png").click()
    saved = np.asarray(Image.open(waiting.value.path()).convert("RGB")).astype(int)
    colours = {tuple(c) for c in saved[::3, ::3].reshape(-1, 3)}
    for colour in wanted[4:6, 3:5].reshape(-1, 3):
        assert any(close_to(np.array(c), colour) for c in colours)
    assert (255, 255, 255) in colours  # round about the axes


def test_a_run_is_watched_and_stopped(view, open_page, pixels):
    with halfway(view, np.broadcast_to(pixels, (4, 4, 8, 6)), ff.udfs.SumSigUDF()) as found:
        page = open_page(view.url)
        page.get_by_text("8 of 16 frames (50 %)").wait_for()
        page.get_by_text("SumSig: intensity").click()
        # the first two rows of the scan are there, the others are grey
        until(page, lambda: (picture(page, (4, 4))[2:] == GREY).all())
        assert not (picture(page, (4, 4))[:2] == GREY).all(axis=-1).any()
        page.get_by_role("button", name="Stop").click()
        until(page, lambda: view.stopped)
    assert found[0].n_frames < 16
    page.get_by_text("stopped", exact=True).wait_for()


def test_a_dragged_detector_changes_the_frames_that_follow(view, open_page):
    # a bright spot at (row 4, column 12), away from the disk at first
    frame = np.zeros((16, 16), dtype="uint16")
    frame[4, 12] = 7
    disk = ff.udfs.VirtualDetectorUDF("disk", cy=10, cx=5, r=2.5)
    with halfway(view, np.broadcast_to(frame, (4, 4, 16, 16)), disk) as found:
        page = open_page(view.url)
        page.get_by_text("detectors").click()
        values = view.hub.control.values[1]

        def arrived():
            return abs(values["cy"] - 4) < 0.5 and abs(values["cx"] - 12) < 0.5

        def drag():
            """Drag the disk from where it is; a page that is still laying itself out may miss it."""
            box = frame_of(page)
            for i, (row, column) in enumerate([(values["cy"], values["cx"]), (8, 8), (4, 12)]):
                x = box["x"] + (column + 0.5) * box["width"] / 16
                page.mouse.move(x, box["y"] + (row + 0.5) * box["height"] / 16, steps=4)
                if i == 0:
                    page.mouse.down()
            page.mouse.up()
            for _ in range(40):
                if arrived():
                    break
                page.wait_for_timeout(50)
            return arrived()

        until(page, drag)
        assert values["r"] == 2.5
        until(page, lambda: abs(float(page.get_by_label("cx").input_value()) - 12) < 0.5)
    image = found[0][1]["intensity"].data
    assert (image[:2] == 0).all()  # folded before
    assert (image[3] == 7).all()  # the last partition starts after the change


def test_a_page_outlives_its_server_with_its_picture(open_page, pixels, monkeypatch):
    """Without ``keep`` the server goes when the page shows the end; the picture stays."""
    # on a busy machine the browser may be slow to show it
    monkeypatch.setattr("framefold.web.page.SILENT_SECONDS", 30.0)
    monkeypatch.setattr("framefold.web.view.GOODBYE_SECONDS", 30.0)
    view = BrowserView(quiet=True)
    with halfway(view, np.broadcast_to(pixels, (16, 8, 6))):
        page = open_page(view.url)
        page.get_by_text("8 of 16 frames (50 %)").wait_for()
        GATE.set()
        page.get_by_text("16 of 16 frames (100 %)").wait_for()
    assert view.url is None
    page.get_by_text("Not connected any more").wait_for()
    total = 16.0 * pixels
    wanted = colours_of(total, *np.quantile(total, (0.001, 0.999)))
    assert close_to(picture(page, total.shape), wanted)
    page.close()
    # until it was closed it looked for its server in vain
    assert [c for c in open_page.complaints if "websocket" not in c.lower()] == []
    open_page.complaints.clear()
