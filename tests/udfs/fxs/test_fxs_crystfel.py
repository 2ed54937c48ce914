"""CrystFEL geometry against places worked out by hand, and against a flat detector."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.fxs import Geometry, PixelModel, PolarGrid, build_operator

TWO = """; two panels below each other in the data
photon_energy = 9000 eV
clen = 80 mm
coffset = 0.005
res = 10000
rigid_group_q0 = a,b

a/min_fs = 0
a/max_fs = 3
a/min_ss = 0
a/max_ss = 2
a/corner_x = 10
a/corner_y = -5.5
a/fs = +1.0x +0.0y
a/ss = y

b/min_fs = 0
b/max_fs = 3
b/min_ss = 3
b/max_ss = 5
b/corner_x = -20.0
b/corner_y = 7.0
b/fs = -y
b/ss = +0.8x - 0.6z
b/coffset = 0.010   ; this panel lies further back

badcorner/min_fs = 2
badcorner/max_fs = 3
badcorner/min_ss = 3
badcorner/max_ss = 3
badcorner/panel = b
badplace/min_x = 10.0
badplace/max_x = 11.0
badplace/min_y = -6.0
badplace/max_y = -4.0
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.geom"
        path.write_text(text)
        return path

    return write


def test_places_are_those_worked_out_by_hand(write):
    geo = Geometry.from_geom(write(TWO))
    assert geo.shape == (6, 4)
    assert geo.wavelength == pytest.approx(12.39841984e-10 / 9, rel=1e-9, abs=0)
    # a: ss 1, fs 2: x = 10 + 2.5, y = -5.5 + 1.5; clen 0.080 + 0.005
    np.testing.assert_allclose(geo.pixel_map[:, 1, 2], [12.5e-4, -4e-4, 0.085])
    # b: ss 4 (its second row), fs 3: x = -20 + 0.8 1.5, y = 7 - 3.5, z = 0.09 - 0.6 1.5 pixels
    np.testing.assert_allclose(geo.pixel_map[:, 4, 3], [-18.8e-4, 3.5e-4, 0.09 - 0.9e-4])
    t, e1, e2 = (a.reshape(3, 6, 4) for a in geo.frames_of_pixels())
    np.testing.assert_allclose(t[:, 1, 2], [-4e-4, 12.5e-4, 0.085])
    np.testing.assert_allclose(e1[:, 2, 0], [1e-4, 0, 0], err_msg="the last row of a, next to b in the data")
    np.testing.assert_allclose(e2[:, 3, 1], [-1e-4, 0, 0], atol=1e-20)
    np.testing.assert_allclose(e1[:, 3, 1], [0, 0.8e-4, -0.6e-4], atol=1e-20)


def test_bad_regions_do_not_count(write):
    geo = Geometry.from_geom(write(TWO), shape=(6, 5))
    expected = np.zeros((6, 5), bool)
    expected[3, 2:4] = True  # by place in the data
    expected[:2, 0] = True  # x = 10.5, y = -5 and -4
    expected[:, 4] = True  # no panel there
    np.testing.assert_array_equal(geo.absent, expected)
    np.testing.assert_array_equal(PixelModel().good(geo).reshape(6, 5), ~expected)


def test_panels_cut_from_a_flat_detector_are_the_flat_detector(write):
    """Four panels, stored in another order, in a stack with room to spare."""
    flat = Geometry(distance=0.1, pixel_size=1e-4, photon_energy=6000, centre=(19.5, 21.0), shape=(40, 40))
    lines = ["photon_energy = 6 keV", "clen = 0.1", "res = 10000", "dim0 = %", "dim2 = ss", "dim3 = fs"]
    data = np.random.default_rng(0).poisson(9, (40, 40))
    stack = np.zeros((4, 21, 20), int)
    for n, (i, k) in enumerate([(20, 0), (0, 20), (20, 20), (0, 0)]):
        stack[n, :20] = data[i : i + 20, k : k + 20]
        values = {"dim1": n, "min_fs": 0, "max_fs": 19, "min_ss": 0, "max_ss": 19, "corner_x": k - 21.0,
                  "corner_y": i - 19.5, "fs": "x", "ss": "y"}  # fmt: skip
        lines += [f"p{n}/{key} = {value}" for key, value in values.items()]
    geo = Geometry.from_geom(write("\n".join(lines)), shape=(4, 21, 20))
    grid = PolarGrid(5, 16, 0.0, 0.04)
    a, b = build_operator(flat, grid), build_operator(geo, grid)
    # solid angle of a map is about its mean distance, the same here
    np.testing.assert_allclose(b.apply(stack[None]), a.apply(data[None]), rtol=1e-5)
    np.testing.assert_allclose(b.coverage, a.coverage, rtol=1e-6)


def agipd(rng, modules=16, tiles=8, rows=64, columns=128):
    """A file as of 16 modules of 8 tiles, turned and tilted a little, and where some pixels of it are."""
    lines = ["; AGIPD-like", "adu_per_eV = 0.0001", "clen = 0.2", "photon_energy = 9300", "res = 5000", "dim0 = %",
             "dim2 = ss", "dim3 = fs", "data = /entry_1/data_1/data", "rigid_group_q0 = p0a0,p0a1",
             "rigid_group_collection_quadrants = q0", "group_all = q0", "mask_edge_pixels = 1"]  # fmt: skip
    places = np.zeros((3, modules, tiles, rows, 3))
    s, f = np.arange(rows)[:, None, None] + 0.5, np.array([0, 17, columns - 1])[:, None] + 0.5
    for m in range(modules):
        angle = np.pi / 2 * (m // 4) + rng.normal(0, 0.01)
        fs, ss = (np.array([np.cos(a), np.sin(a), rng.normal(0, 0.003)]) for a in (angle, angle + np.pi / 2))
        for t in range(tiles):
            x, y, z = *rng.uniform(-600, 600, 2), rng.normal(0, 1e-3)
            values = {"dim1": m, "min_fs": 0, "max_fs": columns - 1, "min_ss": rows * t, "max_ss": rows * t + rows - 1,
                      "fs": f"{fs[0]:+.9f}x {fs[1]:+.9f}y {fs[2]:+.9f}z", "corner_x": f"{x:.6f}",
                      "ss": f"{ss[0]:+.9f}x {ss[1]:+.9f}y {ss[2]:+.9f}z", "corner_y": f"{y:.6f}",
                      "coffset": f"{z:.9f}"}  # fmt: skip
            lines += [f"p{m}a{t}/{key} = {value}" for key, value in values.items()]
            places[:, m, t] = np.moveaxis(
                (np.array([x, y, 0]) + f * fs + s * ss) / 5000 + [0, 0, 0.2 + z], 2, 0
            )
    lines += ["badregion/panel = p3a2", "badregion/min_fs = 5", "badregion/max_fs = 9", "badregion/min_ss = 130",
              "badregion/max_ss = 131"]  # fmt: skip
    return "\n".join(lines), places.reshape(3, modules, tiles * rows, 3)


def test_a_detector_of_128_tiles_in_a_stack_of_modules(write):
    text, places = agipd(np.random.default_rng(2))
    geo = Geometry.from_geom(write(text))
    assert geo.shape == (16, 512, 128)
    assert geo.photon_energy == pytest.approx(9300)  # eV where there is no unit
    np.testing.assert_allclose(geo.pixel_map[..., [0, 17, 127]], places, atol=2e-9)
    expected = np.zeros((16, 8, 64, 128), bool)
    expected[:, :, [0, -1]] = expected[..., [0, -1]] = True  # the edges of tiles
    expected = expected.reshape(geo.shape)
    expected[3, 130:132, 5:10] = True
    np.testing.assert_array_equal(geo.absent, expected)


def test_panels_are_read_backwards_and_shifted(write):
    """Panels of 256 x 256 in one tall frame as of a JUNGFRAU, the detector moved as a whole."""
    lines = ["photon_energy = 9.5 keV", "clen = 92.21 mm", "res = 13333.3", "detector_shift_x = 1.5 mm",
             "detector_shift_y = -0.0002"]  # fmt: skip
    for n in range(4):
        values = {"min_fs": 0, "max_fs": 255, "min_ss": 256 * n, "max_ss": 256 * n + 255, "fs": "-x", "ss": "-y",
                  "corner_x": 100 + 258 * n, "corner_y": 40.5}  # fmt: skip
        lines += [f"p{n}/{key} = {value}" for key, value in values.items()]
    geo = Geometry.from_geom(write("\n".join(lines)))
    assert geo.shape == (1024, 256)
    x = (100 + 258 * 2 - 7.5) / 13333.3 + 1.5e-3
    y = (40.5 - 3.5) / 13333.3 - 2e-4
    np.testing.assert_allclose(geo.pixel_map[:, 512 + 3, 7], [x, y, 0.09221], rtol=1e-12)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("photon_energy = 9000 eV", "photon_energy = /LCLS/energy", r"in data files \(/LCLS/energy\)"),
        ("photon_energy = 9000 eV", "", "has no photon_energy: pass photon_energy="),
        ("photon_energy = 9000 eV", "wavelength = 1.3", "needs a unit of m, A"),
        ("photon_energy = 9000 eV", "photon_energy = ", "photon_energy is '', not a number"),
        ("photon_energy = 9000 eV", "photon_energy = 0 eV", "photon_energy = '0 eV' must be above 0"),
        ("res = 10000", "res = 0", "a/res is 0.0, needed are pixels per m"),
        ("res = 10000", "res = nan", "a/res is 'nan', not a number"),
        ("clen = 80 mm", "clen = /LCLS/detector", "pass clen= in m"),
        ("clen = 80 mm", "clen = 80 cm", "the unit is m or mm"),
        ("res = 10000", "", "a has no res"),
        (
            "res = 10000",
            "res = 10000\ndetector_shift_x = /run/x",
            r"detector_shift_x is in data files \(/run/x\)",
        ),
        ("res = 10000", "res = 10000\ndetector_shift_y = 3 cm", "the unit is m or mm"),
        ("a/ss = y", "a/ss = 1.0w", r"a/ss = '1.0w' is not of the form"),
        ("b/min_ss = 3", "b/min_ss = 2", "panel b overlaps another"),
        ("b/max_ss = 5", "b/max_ss = x", "b/max_ss is 'x', not a number"),
        ("b/max_ss = 5", "b/max_ss = 5000000000000", "no detector has so many pixels, the file is damaged"),
    ],
)
def test_what_is_missing_is_explained(write, old, new, message):
    assert old in TWO
    with pytest.raises(DataError, match=message):
        Geometry.from_geom(write(TWO.replace(old, new, 1)))


def test_values_of_data_files_are_given(write):
    text = TWO.replace("9000 eV", "/LCLS/energy").replace("80 mm", "/LCLS/detector")
    geo = Geometry.from_geom(write(text), clen=0.2, photon_energy=7000)
    assert geo.photon_energy == pytest.approx(7000)
    assert geo.pixel_map[2, 0, 0] == pytest.approx(0.205)


def test_masks_in_other_files_are_not_forgotten(write):
    with pytest.warns(UserWarning, match="names masks in other files"):
        Geometry.from_geom(write("mask = /entry/mask\n" + TWO))


def test_files_that_are_none_are_refused(write, tmp_path):
    with pytest.raises(DataError, match="has no panel"):
        Geometry.from_geom(write("clen = 1\n"))
    with pytest.raises(DataError, match="cannot read the geometry file"):
        Geometry.from_geom(tmp_path / "none.geom")
