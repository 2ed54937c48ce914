"""Radial profiles, virtual detectors, FEM, crystallinity and spectral peaks against numpy."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.crystallinity import CrystallinityUDF
from framefold.udfs.fem import FEMUDF
from framefold.udfs.radial_profile import RadialProfileUDF
from framefold.udfs.spectral_peaks import SpectralPeaksUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF

NAV, SIG = (4, 5), (16, 18)
RNG = np.random.default_rng(0)
Y, X = np.ogrid[:16, :18]
CUTS = [{}, {"frames": 7}, {"frames": 6, "tile": (4, 5, 18)}]
ROI = RNG.random(NAV) > 0.4


def scan(dtype="u2"):
    return RNG.integers(0, 200, (*NAV, *SIG)).astype(dtype)


def radius(cy, cx):
    return np.hypot(Y - cy, X - cx)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("cut", CUTS)
def test_radial_profile(run_on, dtype, cut):
    data = scan(dtype)
    result = run_on(data, RadialProfileUDF((7.3, 8.1), 5, 7.5), **cut)
    index = np.floor(radius(7.3, 8.1) / 1.5)
    for b in range(5):
        pixels = data[..., index == b].astype("f8")
        np.testing.assert_allclose(result["profile"].data[..., b], pixels.mean(-1), rtol=1e-12)
        np.testing.assert_allclose(result["variance"].data[..., b], pixels.var(-1), rtol=1e-9)
        assert result["counts"].data[b] == (index == b).sum()


def test_radial_profile_defaults_roi_mask(run_on):
    data = scan()
    mask = radius(8, 9) > 2
    result = run_on(data, RadialProfileUDF(mask=mask), roi=ROI, frames=3)
    assert result["profile"].data.shape == (*NAV, 8)  # to the lower edge, 15.5 - 8
    assert not result["profile"].valid_mask[..., :2].any()  # no pixel left there
    np.testing.assert_array_equal(result["profile"].valid_mask[..., 4], ROI)
    ring = np.floor(radius(8, 9) / (7.5 / 8)) == 4
    np.testing.assert_allclose(result["profile"].data[ROI][:, 4], data[ROI][:, ring].mean(-1))


@pytest.mark.parametrize("ellipse", [None, (1.2, 30)])
def test_split_pixels_keep_a_smooth_profile(run_on, ellipse):
    data = np.full((1, 2, *SIG), 3.0)
    result = run_on(data, RadialProfileUDF(n_bins=20, r_max=7.0, split=True, ellipse=ellipse))
    np.testing.assert_allclose(result["profile"].data, 3.0, rtol=1e-12)
    np.testing.assert_allclose(result["variance"].data, 0, atol=1e-12)
    np.testing.assert_allclose(result["counts"].data.sum(), np.pi * 49, rtol=5e-3)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "c8"])
@pytest.mark.parametrize("cut", CUTS)
def test_virtual_detectors(run_on, dtype, cut):
    data = scan(dtype)
    wide = {"u": "i8", "f": "f8", "c": "c16"}[data.dtype.kind]
    r = radius(8, 9)
    for udf, masks in (
        (VirtualDetectorUDF("disk", r=4), [r <= 4]),
        (VirtualDetectorUDF("ring", r=6, ri=3), [(r <= 6) & (r > 3)]),
        (VirtualDetectorUDF("annuli", radii=(0, 2, 5, 7)), [(r < 2), (r >= 2) & (r < 5), (r >= 5) & (r < 7)]),
        (VirtualDetectorUDF(), [r >= 0]),
        (
            VirtualDetectorUDF("rectangle", cy=4, cx=5.5, height=3, width=4),
            [(np.abs(np.indices(r.shape)[0] - 4) <= 1.5) & (np.abs(np.indices(r.shape)[1] - 5.5) <= 2)],
        ),
        (VirtualDetectorUDF("rectangle", cy=4, height=3), [np.abs(np.indices(r.shape)[0] - 4) <= 1.5]),
    ):
        got = run_on(data, udf, **cut)["intensity"]
        expected = np.stack([data[..., m].sum(-1, dtype=wide) for m in masks], -1)
        assert got.dtype == np.dtype(wide)
        np.testing.assert_allclose(got.data.reshape(expected.shape), expected, rtol=1e-12)
        assert got.data.shape == (NAV if len(masks) == 1 else (*NAV, len(masks)))


def test_segments_cover_the_ring_once(run_on):
    data = scan()
    parts = run_on(data, VirtualDetectorUDF("segments", cy=8.2, cx=8.9, r=7, ri=2, n=6, rotation=11))[
        "intensity"
    ]
    r = radius(8.2, 8.9)
    np.testing.assert_array_equal(parts.data.sum(-1), data[..., (r >= 2) & (r < 7)].sum(-1))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("cut", [{}, {"frames": 7, "roi": ROI}])
def test_fem(run_on, dtype, cut):
    data = scan(dtype)
    got = run_on(data, FEMUDF((8, 9), 3, 6), **cut)["intensity"]
    r = radius(8, 9)
    expected = data[..., (r <= 6) & (r > 3)].astype("f8").std(-1)
    roi = cut.get("roi", np.ones(NAV, bool))
    np.testing.assert_allclose(got.data[roi], expected[roi], rtol=1e-12)


@pytest.mark.parametrize("sig", [(16, 18), (15, 11)])
@pytest.mark.parametrize("direct", [(None, None), ((8, 9), 3)])
def test_crystallinity(run_on, sig, direct):
    data = RNG.integers(0, 9999, (*NAV, *sig), dtype=np.uint16)
    got = run_on(data, CrystallinityUDF(2, 5, *direct), frames=7)["intensity"]
    frames = data.astype("f8")
    if direct[0] is not None:
        y, x = np.ogrid[: sig[0], : sig[1]]
        frames = frames * (np.hypot(y - 8, x - 9) > 3)
    k = np.hypot(np.fft.fftfreq(sig[0], 1 / sig[0])[:, None], np.arange(sig[1] // 2 + 1))
    expected = (np.abs(np.fft.rfft2(frames)) * ((k <= 5) & (k > 2))).sum((-2, -1))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.data, expected, rtol=1e-5)


def test_spectral_peaks(run_on):
    y, x = np.mgrid[:32, :32]
    data = np.zeros((2, 3, 32, 32))
    waves = [((4, 6), 3.0), ((-7, 3), 2.0), ((9, 0), 1.0)]
    for (ky, kx), a in waves:
        data += a * np.cos(2 * np.pi * (ky * y + kx * x) / 32)
    data[1, 2] = 0
    data = data.astype("f4")
    result = run_on(data, SpectralPeaksUDF(n=4, rad_in=2, rad_out=12), frames=2)
    for at in np.ndindex(2, 3):
        found = result["peaks"].data[at]
        if at == (1, 2):
            assert result["count"].data[at] == 0
            assert np.isnan(found).all()
            continue
        np.testing.assert_array_equal(found[:3], [k for k, _ in waves])
        amplitude = result["amplitude"].data[at]
        # the Hann window leaves a quarter of the amplitude a * N / 2
        np.testing.assert_allclose(amplitude[:3], [a * 1024 / 8 for _, a in waves], rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RadialProfileUDF(n_bins=0), "at least one ring"),
        (lambda: RadialProfileUDF(r_max=-1), "must be positive"),
        (lambda: RadialProfileUDF(ellipse=(0, 3)), "axis ratio 0"),
        (lambda: VirtualDetectorUDF("square"), "not one of 'disk'"),
        (lambda: VirtualDetectorUDF("annuli"), "need radii"),
        (lambda: VirtualDetectorUDF("ring", r=3, ri=5), "inner radius 5"),
        (lambda: FEMUDF((1, 1), 4, 2), "inner radius 4"),
        (lambda: CrystallinityUDF(4, 2), "inner radius 4"),
        (lambda: CrystallinityUDF(2, 4, real_rad=3), "give both or none"),
        (lambda: SpectralPeaksUDF(n=0), "at least one peak"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UDFError, match=message):
        make()


def test_mask_of_another_shape(run_on):
    with pytest.raises(UDFError, match=r"mask has shape \(2, 2\), the frames have shape \(16, 18\)"):
        run_on(scan(), RadialProfileUDF(mask=np.ones((2, 2))))
