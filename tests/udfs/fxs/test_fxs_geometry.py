"""Geometry and regridding against pyFAI 2026.9 (numbers computed there) and closed forms."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.fxs import Geometry, PixelModel, PolarGrid, build_operator
from framefold.udfs.fxs.regrid_kernels import regrid_reference

PONI = """# Nota: C-Order, 1 refers to the Y axis, 2 to the X axis
poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 0.000172, "pixel2": 0.00015, "orientation": 3, "max_shape": [400, 380]}
Distance: 0.21
Poni1: 0.0312
Poni2: 0.0287
Rot1: 0.11
Rot2: -0.07
Rot3: 0.4
Wavelength: 1.7e-10
"""
# pixel: q (1/Angstrom), chi (float32 there), solid angle, polarisation (f = 0.9)
PYFAI = {
    (0, 0): (0.29516551087725945, -2.292118875544977, 0.9421427088557821, 0.9971824288368225),
    (3, 377): (0.9278715872990914, -0.7075440857943174, 0.9443468010506898, 0.9646549820899963),
    (180, 190): (0.47797234057222565, 0.162223149399208, 0.9999986618882756, 0.9845694899559021),
    (399, 0): (0.9087437960440072, 1.2737698702688294, 0.9287759565756804, 0.9924328327178955),
    (250, 311): (0.8583272996998854, 0.1709950841501135, 0.9843505831409439, 0.9508422017097473),
}
# integrate2d, no splitting, solid angle and polarisation 0.9 corrected, rings 0.3 .. 0.8 in steps of 0.1, azimuth
# 0, 45, 90 and 315 degrees (22.5 on both sides)
INTEGRATED = [
    [93.13052864, 109.69765589, 70.04381376, 93.80760791],
    [108.32474532, 120.04296353, 88.17656468, 108.90236888],
    [100.35361876, 88.89053306, 140.37742924, 113.54546975],
    [93.90077304, 100.13798604, 110.5797694, 104.97144409],
    [106.24251447, 125.50059173, 66.7539258, 97.23571129],
]


@pytest.fixture
def poni(tmp_path):
    path = tmp_path / "run.poni"
    path.write_text(PONI)
    return path


def test_angles_and_weights_of_a_rotated_detector_are_those_of_pyfai(poni):
    geo = Geometry.from_poni(poni)
    maps = geo.q(), geo.chi(), geo.solid_angle(), geo.polarisation(0.9)
    for pixel, expected in PYFAI.items():
        got = [m[pixel] for m in maps]
        assert got[0] == pytest.approx(expected[0], rel=1e-14)
        assert got[1] == pytest.approx(expected[1], abs=2e-5)  # pyFAI keeps chi in float32
        assert got[2:] == pytest.approx(expected[2:], abs=5e-8)


def test_regridding_with_corrections_is_that_of_pyfai(poni):
    i, k = np.mgrid[:400, :380]
    image = (100 + 50 * np.sin(i * 0.05) * np.cos(k * 0.03)).astype("f4")
    op = build_operator(
        Geometry.from_poni(poni), PolarGrid(6, 8, 0.2, 0.8), PixelModel(polarisation=0.9), splitting="none",
        min_coverage=1e-4,
    )  # fmt: skip
    got = op.apply(image[None])[0][1:, [0, 1, 2, 7]]
    np.testing.assert_allclose(got, INTEGRATED, rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (("Wavelength: 1.7e-10\n", ""), "has no Wavelength.*add a line"),
        (("Distance: 0.21", "Distance: far"), "Distance is 'far', not a number"),
        (('"pixel1": 0.000172, ', ""), "does not state pixel1"),
        ((', "max_shape": [400, 380]', ""), r"does not state the shape.*shape=\(rows, columns\)"),
        (('"pixel1": 0.000172', '"pixel1": []'), r"Pixel1 is '\[\]', not a number"),
        (("Distance: 0.21", "Distance: inf"), "Distance is 'inf', not a number"),
        (("[400, 380]", "[400]"), r"states the shape \[400\]: pass shape="),
        (("[400, 380]", "[400, 1e300]"), r"states a detector of 400 x 1\d+ pixels: pass shape="),
        (('"orientation": 3', '"orientation": 2'), "orientation 2 is not supported"),
    ],
)
def test_a_broken_poni_file_is_explained(poni, change, message):
    poni.write_text(PONI.replace(*change))
    with pytest.raises(DataError, match=message):
        Geometry.from_poni(poni)


def test_version_1_needs_the_shape(tmp_path):
    old = tmp_path / "old.poni"
    old.write_text("PixelSize1: 1e-4\nPixelSize2: 2e-4\nDistance: 0.1\nPoni1: 0.001\nPoni2: 0.002\n"
                   "Rot1: 0\nRot2: 0\nRot3: 0\nWavelength: 1e-10\n")  # fmt: skip
    geo = Geometry.from_poni(old, shape=(20, 30))
    assert geo.shape == (20, 30)
    assert geo.centre == pytest.approx((10, 10))
    with pytest.raises(DataError, match="pass shape="):
        Geometry.from_poni(old)


def flat(**kw):
    given = {
        "distance": 0.1,
        "pixel_size": 1e-4,
        "wavelength": 2e-10,
        "centre": (32.2, 31.1),
        "shape": (64, 60),
    }
    return Geometry(**(given | kw))


def test_a_map_of_pixels_is_the_flat_detector_and_may_have_panels():
    geo = flat(rotation=(0.005, -0.004, -0.3))
    t = geo.frames_of_pixels()[0].reshape(3, 64, 60)
    xyz = t[[1, 0, 2]]
    mapped = Geometry.from_pixel_map(xyz, photon_energy=geo.photon_energy)
    np.testing.assert_allclose(mapped.q(), geo.q(), rtol=1e-12)
    panels = Geometry.from_pixel_map(xyz.reshape(3, 2, 32, 60), wavelength=2e-10)
    assert panels.shape == (2, 32, 60)
    grid = PolarGrid(8, 16, 0.02, 0.08)
    frame = np.random.default_rng(0).random((1, 64, 60)).astype("f4")
    a = build_operator(geo, grid, PixelModel(solid_angle=False)).apply(frame)
    b = build_operator(panels, grid, PixelModel(solid_angle=False)).apply(frame.reshape(1, 2, 32, 60))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_solid_angle_of_a_map_is_that_of_the_flat_detector():
    geo = flat()
    xyz = geo.frames_of_pixels()[0].reshape(3, 64, 60)[[1, 0, 2]]
    mapped = Geometry.from_pixel_map(xyz, wavelength=2e-10)
    np.testing.assert_allclose(mapped.solid_angle(), geo.solid_angle(), rtol=1e-12)


@pytest.mark.parametrize(
    "kw, message",
    [
        ({"wavelength": 0.0}, "no wavelength: give wavelength= in m or photon_energy= in eV"),
        ({"wavelength": 1.5}, "not that of X-rays"),
        ({"distance": 0.0}, "distance 0.0 is not positive"),
        ({"pixel_size": None}, "pixel_size None is not positive"),
        ({"shape": (3, 4, 5)}, "several panels need pixel_map="),
    ],
)
def test_a_wrong_geometry_is_refused(kw, message):
    with pytest.raises(DataError, match=message):
        flat(**kw)


def test_every_photon_is_in_a_bin_when_nothing_is_masked():
    """Coverage-weighted sums over all bins are the counts of the pixels inside the range."""
    geo = flat()
    grid = PolarGrid(12, 32, 0.0, 0.08)
    op = build_operator(geo, grid, PixelModel(solid_angle=False, polarisation=None), min_coverage=0.0)
    frame = np.random.default_rng(1).poisson(3, (64, 60)).astype("u2")
    area = np.asarray(op.matrix.multiply(op.matrix > 0).sum(axis=0)).reshape(-1)
    pixels = np.add.reduceat(np.ones(op.matrix.nnz), op.matrix.indptr[:-1])
    assert pixels.min() >= 1
    # a ratio of sums: the weights of a bin add up to one photon per nominal pixel
    np.testing.assert_allclose(np.asarray(op.matrix.sum(axis=1)).reshape(-1), 1, rtol=1e-5)
    inside = geo.q() < 0.075
    assert (area.reshape(geo.shape)[inside] > 0).all()
    ones = op.apply(np.ones((1, 64, 60), "f4"))
    np.testing.assert_allclose(ones, 1, rtol=1e-5)
    assert op.apply(frame[None]).mean() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "u2", "i4", "u8", "f2", "f4", "f8"])
def test_the_kernel_is_the_sparse_matrix_for_all_kinds_of_numbers(dtype):
    rng = np.random.default_rng(2)
    geo = flat(shape=(35, 53), centre=(17.7, 20.1))  # not a multiple of 16 pixels
    mask = rng.random((35, 53)) < 0.1
    op = build_operator(geo, PolarGrid(9, 14, 0.01, 0.04), PixelModel(mask=mask, dark=0.5, gain=1.5))
    frames = rng.integers(0, 2 if dtype == "bool" else 120, (21, 35, 53)).astype(
        dtype
    )  # not a multiple of 16
    expected = regrid_reference(op.matrix, frames.reshape(21, -1), -op.offset)
    got = op.apply(frames).reshape(21, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_gain_dark_and_photons_are_undone():
    """Counts made from a uniform intensity with any response regrid to that intensity."""
    rng = np.random.default_rng(3)
    geo = flat()
    gain, dark = rng.uniform(0.5, 2, geo.shape), rng.uniform(0, 30, geo.shape)
    model = PixelModel(dark=dark, gain=gain, adu_per_photon=7.0)
    frame = 4.0 * model.response(geo).reshape(geo.shape) + dark
    got = build_operator(geo, PolarGrid(10, 20, 0.01, 0.07), model).apply(frame[None])
    np.testing.assert_allclose(got, 4.0, rtol=2e-5)


def test_pixels_that_are_not_finite_are_left_out_of_their_bins():
    geo = flat()
    op = build_operator(
        geo, PolarGrid(5, 8, 0.01, 0.07), PixelModel(dark=2.0, solid_angle=False, polarisation=None)
    )
    frames = np.full((2, *geo.shape), 5.0, "f4")
    frames[0, 20, 20:24] = np.nan
    np.testing.assert_allclose(op.apply(frames), 3.0, rtol=1e-5)
    frames[0, :, :32] = np.inf
    polar = op.apply(frames)
    assert np.isnan(polar[0, :, 4]).all(), "the left half is lost"
    np.testing.assert_allclose(polar[0, :, 0], 3.0, rtol=1e-5)


def test_splitting_beats_the_nearest_bin():
    """Variance over mean of an outer bin with Poisson counts; the ratio measured for 1024^2 is 0.78."""
    geo = flat(shape=(256, 256), centre=(128.3, 127.6))
    grid = PolarGrid(40, 96, 0.02, 0.19)
    variance = []
    for splitting in ("subpixel", "none"):
        op = build_operator(geo, grid, PixelModel(polarisation=None, solid_angle=False), splitting=splitting)
        outer = op.matrix[20 * 96 : 24 * 96]
        variance.append(
            float(outer.power(2).sum() / (4 * 96))
        )  # variance of the bin for one photon per pixel
    assert variance[0] < variance[1]


def test_what_does_not_fit_is_refused():
    geo = flat()
    with pytest.raises(DataError, match="q_max=9 lies beyond the detector"):
        build_operator(geo, PolarGrid(5, 8, 0.0, 9.0))
    with pytest.raises(DataError, match=r"mask has shape \(3, 3\), the geometry \(64, 60\)"):
        build_operator(geo, PolarGrid(5, 8, 0.0, 0.05), PixelModel(mask=np.zeros((3, 3))))
    with pytest.raises(DataError, match="no pixel is good"):
        build_operator(geo, PolarGrid(5, 8, 0.0, 0.05), PixelModel(mask=np.ones((64, 60))))
    with pytest.raises(DataError, match="n_phi=7 is odd: take 8"):
        PolarGrid(5, 7, 0.0, 0.05)
    mask = np.zeros((64, 60), bool)
    mask[:36] = True
    with pytest.warns(UserWarning, match="% of the polar bins are covered"):
        build_operator(geo, PolarGrid(5, 8, 0.0, 0.05), PixelModel(mask=mask))
