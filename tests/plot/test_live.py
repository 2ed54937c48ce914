"""Live plots: when they draw, what they show, and that they never hold up or end a run."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest

from framefold.context import Context
from framefold.errors import FramefoldError, UDFError, UDFRunCancelled
from framefold.io.live.memory import MemoryLiveSource
from framefold.plot.live import LiveFigure, make_viewers
from framefold.udfcore.udf import UDF
from framefold.udfs.sum import SumUDF


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def steps(dataset, data, udf, snapshots):
    return snapshots(dataset(data), udf)


def visible(view):
    """As with a window."""
    assert view.figure is not None
    view._seen = True
    return view


def feed(viewers, steps):
    for step in steps[1:]:
        viewers.update(step)
    viewers.close(steps[-1])


def test_true_draws_everything_and_ends_with_the_final_state(steps, udf, data):
    viewers = make_viewers(True, None, steps[0], [udf])
    feed(viewers, steps)
    (view,) = viewers.viewers
    ax = next(a for a in view.figure.axes if a.get_title() == "image")
    assert np.array_equal(ax.images[0].get_array(), data.sum((0, 1)))
    assert view.figure.get_suptitle() == "30 frames"


def test_the_figure_is_the_current_one_of_pyplot(steps, udf):
    import matplotlib.pyplot as plt

    viewers = make_viewers(["image"], None, steps[0], [udf])
    feed(viewers, steps)
    assert plt.gcf() is viewers.viewers[0].figure


def test_a_figure_that_nobody_sees_is_drawn_when_it_is_asked_for(steps, udf):
    view = LiveFigure(["image"], clock=Clock(), cpu_clock=Clock())
    view.begin(steps[0], [udf])
    view.update(steps[1])
    assert view.draws == 1  # made while the run goes on
    view.update(steps[2])
    view.update(steps[3])
    assert view.draws == 1
    assert view.figure.get_suptitle() == "70 % of 30 frames"
    assert view.draws == 2
    view.close(steps[-1])
    assert view.draws == 3


def test_frames_that_came_in_part_are_told_in_the_title(data):
    """One piece of each of three frames is missing: they are in the sum, and in no count of whole frames."""
    frames = data.reshape(-1, *data.shape[-2:])
    valid = np.ones((len(frames), 2), dtype=bool)
    valid[[3, 8, 20], 1] = False
    source = MemoryLiveSource(frames, sectors=1, pieces=2, valid=valid, block_frames=8)
    view = LiveFigure(["intensity"])
    with Context(executor="inline") as ctx:
        ctx.run_udf(ctx.load(source, nav_shape=(30,)), SumUDF(), plots=view)
    assert view.figure.get_suptitle() == "27 of 30 frames, 3 more in part"


def test_progress_in_the_title(steps, udf):
    view = LiveFigure(["image"], title="scan.mib", clock=Clock(), cpu_clock=Clock())
    view.begin(steps[0], [udf])
    assert view.figure.get_suptitle() == "scan.mib   0 % of 30 frames"
    view._next = 0
    view.update(steps[2])  # two partitions of 7 frames
    assert view.figure.get_suptitle() == "scan.mib   47 % of 30 frames"


def test_progress_counts_the_frames_of_the_roi(dataset, data, udf, snapshots):
    roi = np.zeros((6, 5), bool)
    roi[:2] = True
    steps = snapshots(dataset(data), udf, roi=roi)
    view = LiveFigure(["image"], clock=Clock(), cpu_clock=Clock())
    view.begin(steps[0], [udf])
    assert view.figure.get_suptitle().strip() == "0 % of 10 frames"


def test_at_most_ten_pictures_per_second(steps, udf):
    clock = Clock()
    view = LiveFigure(["image"], clock=clock, cpu_clock=Clock())
    view.begin(steps[0], [udf])
    visible(view)
    for i in range(1, 201):
        clock.now = i / 100
        view.update(steps[1])
    assert 15 <= view.draws <= 21


def test_drawing_takes_at_most_a_twentieth_of_the_time(steps, udf):
    clock, cpu = Clock(), Clock()
    view = LiveFigure(["image"], clock=clock, cpu_clock=lambda: cpu.now)
    view.begin(steps[0], [udf])
    visible(view)

    def slow(figure, final):
        cpu.now += 0.05  # 50 ms of CPU each

    view._show = slow
    for i in range(1000):
        clock.now = i / 100
        view.update(steps[1])
    assert view.draws <= 12  # 10 s at one a second
    assert cpu.now <= 0.05 * 10 + 0.11


def test_an_error_in_a_picture_is_shown_once_and_the_others_go_on(steps, udf, capsys):
    calls = []

    def broken(values):
        calls.append(1)
        if len(calls) > 2:
            raise ZeroDivisionError("no such picture")
        return values

    clock = Clock()
    view = LiveFigure([("scan", broken), "image"], clock=clock, cpu_clock=Clock())
    viewers = make_viewers(view, None, steps[0], [udf])
    visible(view)
    for step in steps[1:]:
        clock.now += 1
        viewers.update(step)
    viewers.close(steps[-1])
    assert capsys.readouterr().err.count("ZeroDivisionError: no such picture") == 1
    assert view.draws > 3


def test_own_objects_get_every_snapshot_once(steps, udf):
    seen = []
    plot = types.SimpleNamespace(update=seen.append)
    feed(make_viewers([plot], None, steps[0], [udf]), steps)
    assert seen == steps[1:]
    assert seen[-1].final


def test_a_broken_own_object_is_switched_off(steps, udf, capsys):
    def update(snapshot):
        raise OSError("disk full")

    feed(make_viewers(types.SimpleNamespace(update=update), None, steps[0], [udf]), steps)
    assert capsys.readouterr().err.count("OSError: disk full") == 1


def test_names_and_objects_together(steps, udf):
    seen = []
    viewers = make_viewers([types.SimpleNamespace(update=seen.append), "image"], None, steps[0], [udf])
    assert len(viewers.viewers) == 2


def test_plot_class_replaces_the_figure(steps, udf):
    class Mine:
        def __init__(self, plots):
            self.plots, self.seen = plots, []

        def begin(self, first, udfs):
            self.first = first

        def update(self, snapshot):
            self.seen.append(snapshot)

    made = []
    viewers = make_viewers(["image"], lambda plots: made.append(Mine(plots)) or made[0], steps[0], [udf])
    feed(viewers, steps)
    assert made[0].plots == ["image"]
    assert made[0].first is steps[0]
    assert made[0].seen == steps[1:]


def test_unknown_names_are_refused_before_the_run(steps, udf):
    with pytest.raises(UDFError, match=r"no result 'imgae'.*Did you mean 'image'"):
        make_viewers(["imgae"], None, steps[0], [udf])


def test_nothing_to_draw(dataset, data, snapshots):
    class Words(UDF):
        def get_result_buffers(self):
            return {"words": self.buffer("nav", dtype=object)}

        def process_frame(self, frame):
            self.results.words[...] = "x"

    udf = Words()
    steps = snapshots(dataset(data), udf)
    with pytest.raises(UDFError, match=r"none of the results \(words\) is 1-D or 2-D"):
        make_viewers(True, None, steps[0], [udf])


def test_get_results_that_needs_data_waits_for_it(dataset, data, snapshots):
    class Shy(UDF):
        def get_result_buffers(self):
            return {
                "n": self.buffer("single", dtype="int64", reduce="sum", use="private"),
                "line": self.buffer("single", (3,), use="result_only"),
            }

        def process_frame(self, frame):
            self.results.n += 1

        def get_results(self):
            if not self.results.n[0]:
                raise RuntimeError("no data")
            return {"line": np.full(3, self.results.n[0], dtype="float32")}

    udf = Shy()
    steps = snapshots(dataset(data), udf)
    viewers = make_viewers(True, None, steps[0], [udf])
    assert viewers.viewers[0].figure is None
    feed(viewers, steps)
    assert viewers.viewers[0].figure.axes[0].lines[0].get_ydata().tolist() == [30, 30, 30]


def test_a_file_grows_with_the_run(steps, udf, tmp_path):
    path = tmp_path / "new" / "view.png"
    view = LiveFigure(["image", "scan"], path=path)
    view.begin(steps[0], [udf])
    assert not path.exists()  # nothing to see yet: the run need not wait
    view.update(steps[1])
    first = path.read_bytes()
    view.close(steps[-1])
    assert first[:4] == path.read_bytes()[:4] == b"\x89PNG"
    assert first != path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["view.png"]


def test_threads_get_a_figure_without_a_window(steps, udf):
    import matplotlib.pyplot as plt

    views = []
    thread = threading.Thread(target=lambda: views.append(make_viewers(True, None, steps[0], [udf])))
    thread.start()
    thread.join()
    assert views[0].viewers[0].figure is not None
    assert plt.get_fignums() == []


def test_what_a_stopped_run_returns_is_drawn(steps, udf, data):
    view = LiveFigure(["image"], title="scan", clock=Clock(), cpu_clock=Clock())
    view.begin(steps[0], [udf])
    error = UDFRunCancelled("stopped")
    error.partial = steps[2]
    make_viewers(view, None, steps[0], [udf]).fail(error)
    assert view.figure.get_suptitle() == "scan   stopped after 14 of 30 frames"
    ax = next(a for a in view.figure.axes if a.get_title() == "image")
    assert np.array_equal(ax.images[0].get_array(), data.reshape(30, 8, 7)[:14].sum(0))


def test_a_run_from_which_nothing_comes_has_an_empty_picture(steps, udf, tmp_path):
    clock, path = Clock(), tmp_path / "view.png"
    view = LiveFigure(["image"], path=path, clock=clock, cpu_clock=Clock())
    view.begin(steps[0], [udf])
    view.idle()
    assert not path.exists()
    clock.now = 1.0
    view.idle()
    assert path.exists()
    assert view.draws == 1
    view.idle()
    assert view.draws == 1


def test_windows_answer_while_nothing_new_comes(steps, udf):
    clock = Clock()
    view = LiveFigure(["image"], clock=clock, cpu_clock=Clock())
    viewers = make_viewers(view, None, steps[0], [udf])
    flushed = []
    view.figure.canvas.required_interactive_framework = "test"
    view.figure.canvas.flush_events = lambda: flushed.append(clock.now)
    for i in range(100):
        clock.now = 1 + i / 100
        viewers.idle()
    assert 15 <= len(flushed) <= 21  # twenty times a second


def test_a_window_that_was_destroyed_is_left_alone(steps, udf, capsys):
    view = LiveFigure(["image"], clock=Clock(1.0), cpu_clock=Clock())
    viewers = make_viewers(view, None, steps[0], [udf])
    view.figure.canvas.required_interactive_framework = "test"

    def gone():
        raise RuntimeError("the window was destroyed")

    view.figure.canvas.flush_events = gone
    viewers.idle()
    viewers.idle()
    assert capsys.readouterr().err.count("RuntimeError: the window was destroyed") == 1


def test_a_picture_that_nobody_could_write_is_refused_before_the_run(steps, udf, tmp_path):
    view = LiveFigure(["image"], path=tmp_path / "view.xyz")
    with pytest.raises(FramefoldError, match=r"no picture has the ending '\.xyz'. Known are \.png, \.pdf"):
        view.begin(steps[0], [udf])
