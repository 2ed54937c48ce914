"""Pictures of results: what is drawn, with which values, axes and colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from framefold.errors import UDFError
from framefold.plot.artists import artist_for
from framefold.plot.panels import Panel, field_of, panels_of
from framefold.plot.picture import draw, figure_of, save_figure
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF


@pytest.fixture
def result(dataset, data, udf, snapshots):
    axes = (
        Axis("y", 1e-9, 0, "m"),
        Axis("x", 2e-9, 0, "m"),
        Axis("ky", 1e9, -4e9, "1/m"),
        Axis("kx", 1e9, 0, "1/m"),
    )
    return snapshots(dataset(data, axes), udf)[-1].buffers[0]


def axes_of(figure):
    """Axes by title, without colour bars and legends."""
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def test_all_lines_and_images_are_drawn_by_default(result):
    panels = panels_of(True, [result], [])
    assert [(p.title, p.spec.kind) for p in panels] == [
        ("image", "image"), ("scan", "image"), ("pair 0", "image"), ("pair 1", "image"), ("wave", "hue-phase"),
        ("curve", "line"),
    ]  # fmt: skip


def test_an_image_shows_values_on_calibrated_axes(result, data):
    ax = Figure().add_subplot()
    draw(ax, result["image"])
    (image,) = ax.images
    assert np.array_equal(image.get_array(), data.sum(axis=(0, 1)))
    assert image.get_extent() == pytest.approx([-0.5, 6.5, 3.5, -4.5])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("kx (1/nm)", "ky (1/nm)")
    assert ax.get_title() == "image"


def test_navigation_axes_are_those_of_the_scan(result):
    ax = Figure().add_subplot()
    draw(ax, result["scan"])
    assert ax.images[0].get_extent() == pytest.approx([-1, 9, 5.5, -0.5])
    assert ax.get_xlabel() == "x (nm)"


def test_frames_outside_the_roi_are_masked(dataset, data, udf, snapshots):
    roi = np.zeros((6, 5), bool)
    roi[1:3, 2:] = True
    result = snapshots(dataset(data), udf, roi=roi)[-1].buffers[0]
    ax = Figure().add_subplot()
    draw(ax, result["scan"])
    assert np.array_equal(np.ma.getmaskarray(ax.images[0].get_array()), ~roi)


def test_two_results_as_one_vector_picture(result, data):
    z_up = PlotSpec("hue-phase", ("scan", "scan"))
    ax = Figure().add_subplot()
    draw(ax, result, z_up)
    rgb = ax.images[0].get_array()
    assert rgb.shape == (6, 5, 3)
    ax = Figure().add_subplot()
    draw(ax, result, PlotSpec("vectors", ("scan", "scan")))
    assert np.allclose(ax.images[0].get_array(), np.hypot(data.sum((2, 3)), data.sum((2, 3))), rtol=1e-6)


class Swirl(UDF):
    """Vectors that point to where the frame is, seen from the middle of the scan."""

    def get_result_buffers(self):
        return {"vy": self.buffer("nav"), "vx": self.buffer("nav")}

    def process_frame(self, frame):
        (y, x), (ny, nx) = self.meta.coordinates[0], self.meta.dataset_shape.nav
        self.results.vy[...], self.results.vx[...] = y - (ny - 1) / 2, x - (nx - 1) / 2


def test_directions_on_the_screen(dataset, snapshots):
    """Of a field that points outwards: downwards in the lower rows, as rows run downwards; same in the wheel."""
    result = snapshots(dataset(np.zeros((33, 33, 2, 2), "float32")), Swirl())[-1].buffers[0]
    figure = Figure()
    ax = figure.add_subplot()
    draw(ax, result, PlotSpec("vectors", ("vy", "vx")))
    (quiver,) = [c for c in ax.collections if hasattr(c, "U")]
    # angles="xy": U and V are differences of data coordinates, so V grows downwards like the rows
    scale = quiver.U.max() / (quiver.X - 16).max()
    assert np.allclose(quiver.U, scale * (quiver.X - 16))
    assert np.allclose(quiver.V, scale * (quiver.Y - 16))
    assert quiver.angles == "xy"
    assert ax.yaxis_inverted()
    ax = figure.add_subplot()
    draw(ax, result, PlotSpec("hue-phase", ("vy", "vx")))
    picture = ax.images[0].get_array()
    (legend,) = ax.child_axes
    disk = legend.images[0].get_array()
    # the middle of an edge is 16 of about 22 px out
    assert np.allclose(picture[0, 16], disk[9, 32, :3], atol=0.05)
    assert np.allclose(picture[32, 16], disk[54, 32, :3], atol=0.05)
    assert np.allclose(picture[16, 32], disk[32, 54, :3], atol=0.05)


@pytest.mark.parametrize("scale", ["linear", "log", "sqrt"])
def test_scales(result, scale, tmp_path):
    figure = Figure(layout="constrained")
    draw(figure.add_subplot(), result, PlotSpec("image", ("image",), scale=scale, units="counts"))
    figure.savefig(tmp_path / "x.png")


def test_a_log_picture_of_zeros_and_negative_numbers(dataset, udf, snapshots, tmp_path):
    data = np.zeros((2, 2, 8, 8), "float32")
    data[..., 3, 3] = 5
    data[..., 4, 4] = -5
    result = snapshots(dataset(data), udf)[-1].buffers[0]
    figure = Figure()
    ax = figure.add_subplot()
    draw(ax, result, PlotSpec("image", ("image",), scale="log"))
    figure.savefig(tmp_path / "x.png")
    assert not np.ma.getmaskarray(ax.images[0].get_array()).any()


@pytest.mark.parametrize("scale", ["linear", "log", "sqrt"])
def test_limits_follow_data_that_leave_the_old_ones(dataset, udf, snapshots, scale):
    """Up and down again, past the limits of the step before, with a colour bar that watches."""
    steps = [
        snapshots(dataset(np.full((1, 1, 8, 8), v) * np.linspace(1, 2, 64).reshape(8, 8)), udf)[-1]
        for v in (1, 100, 1)
    ]
    spec = PlotSpec("image", ("image",), scale=scale)
    artist = artist_for(Figure().add_subplot(), spec, Panel(0, spec).fields(steps[0].buffers))
    for step, v in zip(steps, (1, 100, 1), strict=True):
        artist.update(Panel(0, spec).fields(step.buffers))
        assert artist._image.get_clim() == pytest.approx((v, 2 * v), rel=0.01)


def test_symmetric_limits(result):
    ax = Figure().add_subplot()
    draw(ax, result, PlotSpec("image", ("scan",), symmetric=True))
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert ax.images[0].get_cmap().name == "RdBu_r"


def test_numbers_become_a_table(result):
    ax = Figure().add_subplot()
    draw(ax, result, PlotSpec("table", ("count", "curve"), units="e"))
    assert ax.texts[0].get_text().splitlines() == ["count  30 e", "curve  0, 30, 60, 90, 120 e"]


def test_lines(result):
    ax = Figure().add_subplot()
    draw(ax, result["curve"])
    assert np.array_equal(ax.lines[0].get_ydata(), 30 * np.arange(5))


def test_complex_lines_show_both_parts(dataset, snapshots):
    class Wave(UDF):
        def get_result_buffers(self):
            return {"w": self.buffer("single", (3,), dtype="complex128", reduce="sum")}

        def process_frame(self, frame):
            self.results.w += [1, 1j, 2 + 2j]

    result = snapshots(dataset(np.zeros((2, 1, 2, 2), "float32")), Wave())[-1].buffers[0]
    ax = Figure().add_subplot()
    draw(ax, result["w"])
    assert [line.get_label() for line in ax.lines] == ["Re w", "Im w"]
    assert ax.lines[1].get_ydata().tolist() == [0, 2, 4]


def test_a_scan_of_one_row_is_a_line(dataset, udf, snapshots):
    result = snapshots(dataset(np.ones((1, 9, 4, 4), "float32")), udf)[-1].buffers[0]
    panel = next(p for p in panels_of(True, [result], []) if p.title == "scan")
    assert panel.spec.kind == "line"
    assert panel.fields([result])[0].axes[0].name == "x"


def test_pairs_of_a_line_scan_are_two_lines(dataset, udf, snapshots):
    result = snapshots(dataset(np.ones((9, 4, 4), "float32")), udf)[-1].buffers[0]
    (panel,) = [p for p in panels_of(True, [result], []) if p.spec.results == ("pair",)]
    ax = Figure().add_subplot()
    draw(ax, result, panel.spec)
    assert [line.get_label() for line in ax.lines] == ["pair 0", "pair 1"]


def test_functions_of_results(result, data):
    (panel,) = panels_of([("pair", lambda a: a[..., 0] - a[..., 1])], [result], [])
    (field,) = panel.fields([result])
    assert np.allclose(field.values, data[:, :, 0, 0] - data[:, :, 0, 1])
    assert [a.name for a in field.axes] == ["y", "x"]
    (panel,) = panels_of([("image", np.ravel)], [result], [])
    assert panel.title == "ravel(image)"
    assert panel.fields([result])[0].values.shape == (56,)


def test_several_udfs(result):
    assert [p.udf for p in panels_of([["image"], ["scan", "pair"]], [result, result], [])] == [0, 1, 1, 1]
    assert [p.udf for p in panels_of(["image", "scan"], [result, result], [])] == [0, 0]
    assert [p.udf for p in panels_of(True, [result, result], [])] == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    "plots, text",
    [
        (["imag"], "no result 'imag'; there are: image, scan.*Did you mean 'image'"),
        ([["image"]], "1 lists for 2 UDFs"),
        ([3], "cannot draw 3"),
        (["words"], "is not a line or an image"),
        ([PlotSpec("vectors", ("image",))], "takes 2 results"),
        ([PlotSpec("pie", ("image",))], "PlotSpec kind 'pie' is not one of 'image'"),
    ],
)
def test_wrong_wishes_are_refused(result, plots, text):
    with pytest.raises(UDFError, match=text):
        panels_of(plots, [result, result], [])


def test_recommended_pictures(result):
    class Wise(UDF):
        def get_plots(self):
            return [PlotSpec("line", ("curve",), title="a curve")]

    (panel,) = panels_of(True, [result], [Wise()])
    assert panel.title == "a curve"

    class Wrong(UDF):
        def get_plots(self):
            return ["curve"]

    with pytest.raises(UDFError, match=r"Wrong\.get_plots returned 'curve', expected PlotSpec"):
        panels_of(True, [result], [Wrong()])


def test_a_profile_per_frame_is_drawn_as_its_mean(dataset, data, udf, snapshots):
    roi = np.zeros((6, 5), bool)
    roi[2, 1:4] = True
    result = snapshots(dataset(data), udf, roi=roi)[-1].buffers[0]
    ax = Figure().add_subplot()
    draw(ax, result, PlotSpec("line", ("many",)))
    assert np.allclose(ax.lines[0].get_ydata(), np.arange(9))


def test_recommended_images_with_channels(result):
    class Wise(UDF):
        def get_plots(self):
            return [PlotSpec("image", ("pair",), title="pair"), PlotSpec("image", ("many",))]

    assert [p.title for p in panels_of(True, [result], [Wise()])] == ["pair 0", "pair 1", "many 0"]


def test_a_picture_among_the_results_of_a_run_is_whole_and_has_the_axes_that_were_recommended(
    dataset, data, snapshots
):
    class Map(UDF):
        def get_result_buffers(self):
            return {"map": self.buffer("single", (4, 7), reduce="sum")}

        def process_frame(self, frame):
            self.results.map[...] = np.arange(28).reshape(4, 7)

        def get_plots(self):
            return [PlotSpec("image", ("map",), axes=(Axis("D", 90, 0, "degrees"), Axis("q", 0.1, 1, "1/Å")))]

    result = snapshots(dataset(data), Map())[-1].buffers[0]
    (panel,) = panels_of(True, [result], [Map()])
    assert panel.title == "map"
    ax = figure_of([result], udfs=[Map()]).axes[0]
    assert ax.images[0].get_array().shape == (4, 7)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("q (1/Å)", "D (degrees)")
    np.testing.assert_allclose(ax.images[0].get_extent(), (0.95, 1.65, 315, -45))


def test_a_logarithmic_line_waits_for_its_first_positive_value(result):
    ax = Figure().add_subplot()
    spec = PlotSpec("line", ("curve",), scale="log")
    (field,) = Panel(0, spec).fields([result])
    artist = artist_for(ax, spec, [replace(field, values=np.zeros(len(field.values)))])
    assert ax.get_yscale() == "linear"
    artist.update([replace(field, values=np.ones(len(field.values)))])
    assert ax.get_yscale() == "log"


def test_titles_name_the_udf_where_there_are_several(result, udf):
    assert panels_of(["image"], [result], [udf])[0].title == "image"
    titles = [
        p.title
        for p in panels_of([["image"], [PlotSpec("image", ("scan",), title="Mine")]], [result] * 2, [udf] * 2)
    ]
    assert titles == ["Everything: image", "Mine"]


def test_recommended_titles_name_the_udf_where_there_are_several(result):
    class Wise:
        def get_plots(self):
            return (PlotSpec("image", ("scan",), title="field"),)

    assert [p.title for p in panels_of(True, [result], [Wise()])] == ["field"]
    assert [p.title for p in panels_of(True, [result] * 2, [Wise()] * 2)] == ["Wise: field"] * 2


def test_draw_needs_a_choice(result):
    with pytest.raises(UDFError, match="needs a PlotSpec to choose among the results image, scan"):
        draw(Figure().add_subplot(), result)


def test_channels_of_an_extra_axis(result):
    found = [field_of(result["many"], (i,)).values for i in range(9)]
    assert [f[0, 0] for f in found] == list(range(9))
    assert len(panels_of(["many"], [result], [])) == 9


@pytest.mark.parametrize("suffix, head", [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_saved_pictures(result, tmp_path, suffix, head):
    path = tmp_path / f"all{suffix}"
    save_figure(result, path)
    assert path.read_bytes().startswith(head)
    assert set(axes_of(figure_of([result], title="x"))) == {
        "image",
        "scan",
        "pair 0",
        "pair 1",
        "wave",
        "curve",
    }
