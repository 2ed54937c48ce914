"""Polar frames as input of any UDF, and the three ways of regridding."""

import pickle

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.udfs import SumUDF
from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid, PolarRegrid, build_operator

GEO = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(32.2, 31.1), shape=(64, 60))
GRID = PolarGrid(6, 24, 0.01, 0.09)
PLAIN = PixelModel(polarisation=None, solid_angle=False)


def run(frames, udf, pre):
    with ff.Context(executor="inline") as ctx:
        return ctx.run_udf(ctx.load(frames, sig_dims=2), udf, pre=pre)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).poisson(5, (20, 64, 60)).astype("uint16")


@pytest.mark.parametrize("splitting", ["subpixel", "none"])
def test_the_sum_of_polar_frames_is_the_polar_frame_of_the_sum(frames, splitting):
    """By hand: the mean of all pixels that a bin shares, weighted by area, from 15 x 15 points per pixel."""
    mask = np.zeros((64, 60), bool)
    mask[20:30, 35:] = True
    res = run(frames, SumUDF(), [PolarRegrid(GEO, GRID, PixelModel(mask, polarisation=None), splitting)])
    s = 1 if splitting == "none" else 15
    fine = Geometry(
        distance=0.1,
        pixel_size=1e-4 / s,
        wavelength=2e-10,
        centre=(32.2 * s, 31.1 * s),
        shape=(64 * s, 60 * s),
    )
    ring = np.floor((fine.q() - 0.01) / GRID.q_step).astype(int)
    at = np.floor(fine.chi() / (2 * np.pi) * 24 + 0.5).astype(int) % 24

    def total(image):
        inside = (ring >= 0) & (ring < 6)
        grown = np.kron(np.where(mask, 0, image), np.ones((s, s)))
        return np.bincount((ring * 24 + at)[inside], grown[inside], 6 * 24)

    expected = total(frames.sum(axis=0)) / np.maximum(total(GEO.solid_angle()), 1e-9)
    known = np.isfinite(res["intensity"].data)
    assert known.mean() > 0.6
    np.testing.assert_allclose(
        res["intensity"].data[known], expected.reshape(6, 24)[known], rtol=1e-5 if s == 1 else 0.05
    )


@pytest.mark.filterwarnings("ignore:only .* of the polar bins:UserWarning")
@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (0.2, -0.1, 0.3)])
def test_bilinear_is_interpolation_at_the_place_of_the_bin(frames, rotation):
    """Places by search: the q and chi of the geometry, interpolated there, are those of the bin."""
    from framefold.udfs.fxs.bilinear import bin_places

    geo = Geometry(distance=0.02, pixel_size=1e-4, wavelength=2e-10, centre=(30.2, 31.1), rotation=rotation,
                   shape=(64, 60))  # fmt: skip
    q = geo.q()
    grid = PolarGrid(4, 16, float(np.quantile(q, 0.4)), float(np.quantile(q, 0.9)))
    op = build_operator(geo, grid, PLAIN, splitting="bilinear")
    place = np.stack(bin_places(geo, grid))
    good = (op.weight > 0).reshape(-1)
    assert good.sum() > 10
    t = [map_coordinates(x.reshape(64, 60), place, order=1) for x in geo.frames_of_pixels()[0]]
    angle = np.arctan2(np.hypot(t[0], t[1]), t[2])  # places are linear in pixels: exact
    found = 4 * np.pi * np.sin(angle / 2) / 2.0
    np.testing.assert_allclose(found[good], np.repeat(grid.q, 16)[good], rtol=1e-10)
    turn = np.angle(np.exp(1j * (np.arctan2(t[0], t[1]) - np.tile(grid.phi, 4))))
    np.testing.assert_allclose(turn[good], 0, atol=1e-10)
    expected = map_coordinates(frames[0].astype("f8"), place, order=1)
    np.testing.assert_allclose(op.apply(frames[:1])[0].reshape(-1)[good], expected[good], rtol=1e-5)


def test_bilinear_throws_photons_away():
    """Variance of an outer bin for one photon per pixel; a bin has about 1 / variance pixels."""
    grid = PolarGrid(5, 8, 0.01, 0.09)
    variance = {}
    for splitting in ("subpixel", "bilinear"):
        op = build_operator(GEO, grid, PLAIN, splitting=splitting)
        variance[splitting] = op.matrix.power(2).sum(axis=1)[4 * 8 + 2].item()
    assert variance["bilinear"] >= 0.25, "four pixels at most"
    assert variance["subpixel"] < 0.05


def test_correlations_of_regridded_frames_are_those_of_detector_frames(frames):
    direct = C2UDF(GEO, GRID, pixels=PLAIN, precision="float64")
    pre = PolarRegrid(GEO, GRID, PLAIN, fill=0.0)
    polar = C2UDF(None, GRID, mask=pre.empty, precision="float64")
    expected = direct.correlation(run(frames, direct, ())).c_m(self_term=False)
    got = polar.correlation(run(frames, polar, [pre])).c_m(self_term=False)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_a_transform_is_a_value(frames):
    a, b = PolarRegrid(GEO, GRID, PLAIN), PolarRegrid(GEO, GRID, PixelModel(None, polarisation=None))
    assert a == pickle.loads(pickle.dumps(a))
    assert hash(a) == hash(pickle.loads(pickle.dumps(a)))
    assert a != b
    assert a != PolarRegrid(GEO, GRID, PLAIN, "none")


def test_empty_bins_are_not_invented(frames):
    mask = np.zeros((64, 60), bool)
    mask[:, 40:] = True
    pre = PolarRegrid(GEO, GRID, PixelModel(mask))
    polar = run(frames, SumUDF(), [pre])["intensity"].data
    assert pre.empty[4, 0] and not pre.empty[4, 12]
    np.testing.assert_array_equal(np.isnan(polar), pre.empty)


def test_what_does_not_fit_is_refused(frames):
    with pytest.raises(UDFError, match=r"frames have shape \(64, 59\), the geometry \(64, 60\)"):
        run(frames[:, :, 1:], SumUDF(), [PolarRegrid(GEO, GRID)])
    with pytest.raises(UDFError, match="frames are complex"):
        run(frames.astype("c8"), SumUDF(), [PolarRegrid(GEO, GRID)])
    xyz = np.stack([*np.meshgrid(np.arange(8) * 1e-3, np.arange(6) * 1e-3), np.full((6, 8), 0.1)])
    with pytest.raises(DataError, match="needs a flat detector"):
        build_operator(
            Geometry(pixel_map=xyz, wavelength=2e-10), PolarGrid(2, 8, 0.01, 0.2), splitting="bilinear"
        )
    with pytest.raises(DataError, match="is not one of 'subpixel', 'none', 'bilinear'"):
        build_operator(GEO, GRID, splitting="spline")
