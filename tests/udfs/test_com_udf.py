"""`CoMUDF` and `DPCUDF` against numpy, and fields against closed forms."""

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfs.com import CoMUDF, guess_corrections
from framefold.udfs.com_fields import (
    apply_correction,
    center_shifts,
    coordinate_check,
    curl_2d,
    divergence,
    magnitude,
)
from framefold.udfs.dpc import DPCUDF

NAV, SIG = (5, 6), (11, 14)
RNG = np.random.default_rng(0)
Y, X = np.ogrid[:11, :14]
CUTS = [{}, {"frames": 7}, {"frames": 4, "tile": (3, 4, 14)}]


def scan(dtype="u2"):
    return RNG.integers(0, 100, (*NAV, *SIG)).astype(dtype)


def com_truth(data, mask, ref):
    v = data.astype("f8") * mask
    total = v.sum((-2, -1))
    y, x = (v * Y).sum((-2, -1)) / total, (v * X).sum((-2, -1)) / total
    return np.stack([y, x], -1), np.stack([y - ref[0], x - ref[1]], -1)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4", "f8"])
@pytest.mark.parametrize("cut", CUTS)
def test_whole_frames(run_on, dtype, cut):
    data = scan(dtype)
    result = run_on(data, CoMUDF(), **cut)
    com, shifts = com_truth(data, np.ones(SIG), (5, 7))
    np.testing.assert_allclose(result["raw_com"].data, com, rtol=1e-12)
    np.testing.assert_allclose(result["raw_shifts"].data, shifts, atol=1e-12, rtol=0)
    np.testing.assert_allclose(result["field"].data, shifts, atol=1e-12, rtol=0)
    for i, name in enumerate(("field_y", "field_x")):
        np.testing.assert_array_equal(result[name].data, result["field"].data[..., i])
    assert result["regression"].data.shape == (3, 2)
    assert not result["regression"].data.any()


@pytest.mark.parametrize("ri", [0, 2.2])
def test_disk_and_ring(run_on, ri):
    data = scan()
    r2 = (Y - 4.5) ** 2 + (X - 6.2) ** 2
    mask = (r2 <= 4.1**2) & ((r2 > ri**2) | (ri == 0))
    result = run_on(data, CoMUDF.with_params(cy=4.5, cx=6.2, r=4.1, ri=ri), frames=7)
    com, shifts = com_truth(data, mask, (4.5, 6.2))
    np.testing.assert_allclose(result["raw_com"].data, com, rtol=1e-12)
    np.testing.assert_allclose(result["raw_shifts"].data, shifts, atol=1e-12, rtol=0)


def test_known_shift(run_on):
    data = np.zeros((2, 2, 16, 16), "u2")
    for i, at in enumerate(np.ndindex(2, 2)):
        data[at][3 + i, 9 - i] = 7
    result = run_on(data, CoMUDF())
    np.testing.assert_array_equal(result["raw_com"].data, [[[3, 9], [4, 8]], [[5, 7], [6, 6]]])
    np.testing.assert_array_equal(result["raw_shifts"].data[0, 0], [-5, 1])


@pytest.mark.parametrize(
    ("rotation", "flip", "expected"),
    [
        (0, False, (2, 3)),
        (90, False, (3, -2)),  # y' = x, x' = -y
        (-90, False, (-3, 2)),
        (180, False, (-2, -3)),
        (0, True, (-2, 3)),
        (90, True, (3, 2)),  # flipped first: (-2, 3), then turned
    ],
)
def test_scan_rotation_and_flip(run_on, rotation, flip, expected):
    data = np.zeros((1, 1, 16, 16), "u1")
    data[0, 0, 10, 11] = 1
    result = run_on(data, CoMUDF(scan_rotation=rotation, flip_y=flip))
    np.testing.assert_array_equal(result["raw_shifts"].data[0, 0], [2, 3])
    np.testing.assert_allclose(result["field"].data[0, 0], expected, atol=1e-12)
    np.testing.assert_allclose(result["magnitude"].data[0, 0], np.sqrt(13))


def beam_at(y, x, sig=(32, 32)):
    """Return frames whose centre of mass is exactly (y, x): four pixels, bilinear weights."""
    data = np.zeros((*y.shape, *sig))
    for at in np.ndindex(y.shape):
        iy, ix = int(np.floor(y[at])), int(np.floor(x[at]))
        fy, fx = y[at] - iy, x[at] - ix
        data[at][iy : iy + 2, ix : ix + 2] = np.outer([1 - fy, fy], [1 - fx, fx])
    return data


def test_divergence_and_curl(run_on):
    sy, sx = np.mgrid[:6, :7].astype(float)
    data = beam_at(16 + 0.5 * sy + 0.2 * sx, 16 - 0.3 * sy + 0.7 * sx)
    result = run_on(data, CoMUDF(), frames=5)
    np.testing.assert_allclose(result["divergence"].data, 0.5 + 0.7, atol=1e-12)
    np.testing.assert_allclose(result["curl"].data, 0.2 + 0.3, atol=1e-12)


def test_regression(run_on):
    sy, sx = np.mgrid[:6, :7].astype(float)
    bump = np.where((sy == 3) & (sx == 3), 0.25, 0)
    y, x = 16 + 1.5 + 0.5 * sy + 0.2 * sx + bump, 16 - 2 - 0.3 * sy + 0.7 * sx
    data = beam_at(y, x)
    mean = run_on(data, CoMUDF(regression=0))
    np.testing.assert_allclose(mean["field"].data.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(mean["regression"].data[0], [(y - 16).mean(), (x - 16).mean()])
    given = [[1.5, -2], [0.5, -0.3], [0.2, 0.7]]
    known = run_on(data, CoMUDF(regression=given))
    np.testing.assert_allclose(known["field_y"].data, bump, atol=1e-12)
    np.testing.assert_allclose(known["field_x"].data, 0, atol=1e-12)
    np.testing.assert_array_equal(known["regression"].data, given)
    fitted = run_on(beam_at(y - bump, x), CoMUDF(regression=1))
    np.testing.assert_allclose(fitted["regression"].data, given, atol=1e-12)
    np.testing.assert_allclose(fitted["field"].data, 0, atol=1e-12)


def test_a_position_outside_the_roi_has_no_slopes_though_its_neighbours_have_values(run_on):
    roi = np.ones(NAV, bool)
    roi[2, 2] = False
    result = run_on(scan(), CoMUDF(), roi=roi, frames=4)
    expected = np.ones(NAV, bool)  # central differences read the neighbours, so those of (2, 2) lack one
    for y, x in ((2, 2), (1, 2), (3, 2), (2, 1), (2, 3)):
        expected[y, x] = False
    for key in ("divergence", "curl"):
        np.testing.assert_array_equal(np.isfinite(result[key].data), expected, err_msg=key)


def test_regression_uses_the_roi_only(run_on):
    sy, sx = np.mgrid[:6, :7].astype(float)
    y, x = 16 + 0.5 * sy, 16 + 0.2 * sx
    data = beam_at(y, x)
    data[5] = 0
    data[5, :, 0, 0] = 1
    roi = np.ones((6, 7), bool)
    roi[5] = False
    result = run_on(data, CoMUDF(regression=1), roi=roi, frames=4)
    np.testing.assert_allclose(result["regression"].data, [[0, 0], [0.5, 0], [0, 0.2]], atol=1e-12)
    assert np.isnan(result["field"].data[5]).all()
    assert not result["field"].valid_mask[5].any()
    # central differences need both neighbours
    assert np.isnan(result["divergence"].data[4]).all()
    np.testing.assert_allclose(result["divergence"].data[:4], 0, atol=1e-12)


def test_empty_frames(run_on):
    data = scan()
    data[1, 2] = 0
    result = run_on(data, CoMUDF(regression=0))
    assert np.isnan(result["raw_com"].data[1, 2]).all()
    assert not result["raw_shifts"].valid_mask[1, 2].any()
    assert result["raw_shifts"].valid_mask.sum() == 2 * (30 - 1)
    assert np.isfinite(result["regression"].data).all()
    as_reference = run_on(data, CoMUDF(zero="reference"))
    np.testing.assert_array_equal(as_reference["raw_shifts"].data[1, 2], 0)
    np.testing.assert_array_equal(as_reference["raw_com"].data[1, 2], [5, 7])
    assert as_reference["raw_shifts"].valid_mask.all()


@pytest.mark.parametrize("nav", [(7,), (2, 3, 4), (1, 1), (5, 1)])
def test_other_scans(run_on, nav):
    data = RNG.integers(0, 100, (*nav, *SIG), dtype=np.uint16)
    result = run_on(data, CoMUDF(), frames=2)
    com, _ = com_truth(data, np.ones(SIG), (5, 7))
    np.testing.assert_allclose(result["raw_com"].data, com, rtol=1e-12)
    assert result["curl"].data.shape == nav


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoMUDF(r=3, ri=4), "inner radius 4 must be below the outer radius 3"),
        (lambda: CoMUDF(regression=2), "not -1, 0, 1"),
        (lambda: CoMUDF(regression=np.zeros((2, 2))), r"shape \(2, 2\), expected \(3, 2\)"),
        (lambda: CoMUDF(zero="no"), "'nan' or 'reference'"),
        (lambda: DPCUDF(n=2), "3 segments"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UDFError, match=message):
        make()


def test_data_that_have_no_centre(run_on):
    with pytest.raises(UDFError, match="2-D frames"):
        run_on(np.ones((3, 4, 5)), CoMUDF(), sig_dims=1)
    with pytest.raises(UDFError, match="real frames, the data are complex64"):
        run_on(scan("c8"), CoMUDF())


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0, 37, 90, -120, 180])
def test_guess_finds_what_was_done(angle, flip):
    y, x = np.mgrid[-12:12, -12:12] / 5
    well = np.exp(-(x**2 + y**2))
    fy, fx = apply_correction(-y * well, -x * well, angle, flip, forward=False)
    guess = guess_corrections(fy + 3, fx - 2)
    assert guess.flip_y == flip
    assert (guess.scan_rotation - angle) % 360 == 0
    assert guess.cy == pytest.approx(3, abs=0.05)
    assert guess.cx == pytest.approx(-2, abs=0.05)


def test_coordinate_check_is_the_rms_curl():
    fy, fx = RNG.normal(size=(2, 9, 8))
    straight, flipped = coordinate_check(fy, fx)
    for angle in (0, 33, 271):
        for flip, found in ((False, straight), (True, flipped)):
            curl = curl_2d(*apply_correction(fy, fx, angle, flip))[:-1, :-1]
            assert found[angle] == pytest.approx(np.sqrt((curl**2).mean()))


def test_field_functions():
    fy, fx = RNG.normal(size=(2, 6, 7))
    np.testing.assert_allclose(divergence(fy, fx), np.gradient(fy, axis=0) + np.gradient(fx, axis=1))
    np.testing.assert_allclose(curl_2d(fy, fx), np.gradient(fy, axis=1) - np.gradient(fx, axis=0))
    np.testing.assert_allclose(magnitude(fy, fx), np.sqrt(fy**2 + fx**2))
    back = apply_correction(*apply_correction(fy, fx, 33, True), 33, True, forward=False)
    np.testing.assert_allclose(back, (fy, fx))
    y, x = center_shifts(np.array([2.0, 0.0]), np.array([6.0, 1.0]), np.array([8.0, 1.0]), 1.0, 2.0)
    np.testing.assert_array_equal(y, [2, 0])
    np.testing.assert_array_equal(x, [2, 0])


@pytest.mark.parametrize("cut", CUTS)
def test_dpc(run_on, cut):
    data = scan()
    result = run_on(data, DPCUDF(cy=5.2, cx=6.7, r=6), **cut)
    dy, dx = Y - 5.2, X - 6.7
    inside = dx**2 + dy**2 < 36
    parts = [
        inside & (np.abs(dy) < dx),
        inside & (np.abs(dx) < dy),
        inside & (np.abs(dy) < -dx),
        inside & (np.abs(dx) < -dy),
    ]
    sums = np.stack([data[..., p].sum(-1) for p in parts], -1).astype(float)
    np.testing.assert_array_equal(result["segments"].data, sums)
    total = sums.sum(-1)
    np.testing.assert_allclose(
        result["raw_shifts"].data[..., 0], (sums[..., 1] - sums[..., 3]) / total, atol=1e-12
    )
    np.testing.assert_allclose(
        result["raw_shifts"].data[..., 1], (sums[..., 0] - sums[..., 2]) / total, atol=1e-12
    )
    assert result["field"].valid_mask.all()
