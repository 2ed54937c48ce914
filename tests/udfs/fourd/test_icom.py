"""Integrated centre of mass against closed forms and a weak-phase simulation."""

import numpy as np
import pytest

from framefold.errors import DataError, UDFError
from framefold.sim.phase_scan import phase_scan
from framefold.testing.check_udf import check_udf
from framefold.udfs.com_fields import apply_correction
from framefold.udfs.fourd.icom import ICoMUDF
from framefold.udfs.fourd.integrate import integrate_field
from framefold.udfs.fourd.rotation import curl_share, least_curl


def test_periodic_field_is_integrated_exactly():
    step = (0.3, 0.2)
    y, x = np.indices((18, 20)) * np.reshape(step, (2, 1, 1))
    a, b = 2 * np.pi * 2 / (18 * 0.3), 2 * np.pi * 3 / (20 * 0.2)
    phase = np.cos(a * y + b * x)
    c_y, c_x = (-k * np.sin(a * y + b * x) / (2 * np.pi) for k in (a, b))
    np.testing.assert_allclose(integrate_field(c_y, c_x, step, "periodic"), phase, atol=1e-12)


def test_mirror_needs_no_periodic_field():
    # cosines of the cell-centred grid are the eigenfunctions of a mirrored scan: exact to rounding
    n = 24
    y, x = np.indices((n, n)) + 0.5
    a, b = np.pi * 3 / n, np.pi * 2 / n
    phase = np.cos(a * y) * np.cos(b * x)
    c_y = -a * np.sin(a * y) * np.cos(b * x) / (2 * np.pi)
    c_x = -b * np.cos(a * y) * np.sin(b * x) / (2 * np.pi)
    np.testing.assert_allclose(integrate_field(c_y, c_x), phase, atol=1e-12)


def test_highpass_suppresses_by_the_formula():
    n = 32
    y = np.indices((n, n))[0]
    q = 2 / n
    c_y = -q * np.sin(2 * np.pi * q * y)
    found = integrate_field(c_y, np.zeros((n, n)), boundary="periodic", highpass=10.0)
    np.testing.assert_allclose(found, np.cos(2 * np.pi * q * y) * q**2 / (q**2 + 0.01), atol=1e-12)


def test_missing_values_count_as_the_mean():
    y = np.indices((16, 16))[0]
    c = np.sin(2 * np.pi * y / 16)
    c[3, 4] = np.nan
    found = integrate_field(c, np.zeros((16, 16)), boundary="periodic")
    assert np.isfinite(found).all()
    with pytest.raises(DataError, match="no finite value"):
        integrate_field(np.full((4, 4), np.nan), np.zeros((4, 4)))
    with pytest.raises(DataError, match="two components"):
        integrate_field(np.zeros(4), np.zeros(4))
    with pytest.raises(DataError, match="'mirror' or 'periodic'"):
        integrate_field(c, c, boundary="zero")


def smooth(n=32, top=4, seed=3, strength=1e-3):
    rng = np.random.default_rng(seed)
    y, x = np.indices((n, n))
    phase = np.zeros((n, n))
    for _ in range(8):
        a, b = rng.integers(-top, top + 1, 2)
        phase += rng.normal() * np.cos(2 * np.pi * (a * y + b * x) / n + rng.uniform(0, 6))
    return strength * (phase - phase.mean()) / np.abs(phase).max()


@pytest.mark.parametrize("rotation", [0, 90])
def test_simulated_scan(run_on, rotation):
    scan = phase_scan(smooth(), 0.3e-10, scan_rotation=rotation)
    o = scan.optics
    udf = ICoMUDF(
        scan_rotation=rotation, voltage=80e3, semiangle=o.semiangle, radius=o.radius, scan_step=o.scan_step,
        boundary="periodic",
    )  # fmt: skip
    result = run_on(scan.frames, udf, frames=50, tile=(7, 9, 32))
    # exact for a phase object, also beyond weak phases: the mean momentum is |P|^2 correlated with the gradient
    assert np.abs(result["phase"].data - scan.seen).max() < 1e-9 * np.abs(scan.seen).max()
    assert result["curl"].data[0] < 0.1  # central differences see some


def test_units_without_optics(run_on):
    data = np.zeros((8, 8, 16, 16))
    y = np.arange(8)
    for i in range(8):  # one period of a cosine: c = -a sin(a (y + 1/2)) in pixels per step
        c = -np.pi / 4 * np.sin(np.pi / 4 * (y[i] + 0.5))
        data[i, :, 8, 8], data[i, :, 7, 8] = 1 + c, -c
    phase = run_on(data, ICoMUDF())["phase"].data
    np.testing.assert_allclose(phase, np.repeat(np.cos(np.pi / 4 * (y + 0.5))[:, None], 8, 1), atol=1e-12)


def test_any_cut():
    check_udf(ICoMUDF(), shape=(5, 4, 6, 7), dtype="uint16", n=12, rtol=1e-9)
    check_udf(ICoMUDF(scan_rotation="auto", highpass=3), shape=(5, 4, 6, 7), dtype="uint16", n=12, rtol=1e-9)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0.0, 37.25, 90.0, -120.5, 179.0])
def test_rotation_is_found_exactly(angle, flip):
    # a periodic gradient field differentiated by central differences stays one inside
    y, x = np.mgrid[-16:16, -16:16] / 5
    potential = np.exp(-(x**2) - 0.5 * y**2 - 0.3 * x * y)
    fy, fx = np.gradient(potential)
    given = apply_correction(fy, fx, angle, flip, forward=False)
    found = least_curl(*given)
    assert found.flip_y == flip
    assert (found.scan_rotation - angle + 180) % 360 - 180 == pytest.approx(0, abs=0.02)
    assert found.curl < 1e-4 < found.other_curl
    away = least_curl(*given, phase_positive=False)
    assert abs(away.scan_rotation - found.scan_rotation) == pytest.approx(180)


def test_least_curl_is_the_minimum_over_all_angles():
    rng = np.random.default_rng(0)
    fy, fx = rng.normal(size=(2, 9, 11))
    found = least_curl(fy, fx, valid=np.ones((9, 11)))
    shares = [
        curl_share(*apply_correction(fy, fx, a, flip))
        for a in np.arange(0, 180, 0.5)
        for flip in (False, True)
    ]
    assert found.curl <= min(shares) + 1e-12
    assert found.curl == pytest.approx(min(shares), abs=1e-4)
    at = apply_correction(fy, fx, found.scan_rotation, found.flip_y)
    assert curl_share(*at) == pytest.approx(found.curl)


def test_auto_rotation_in_the_udf(run_on):
    n = 24
    y, x = np.mgrid[-12:12, -12:12] / 4
    fy, fx = np.gradient(20 * np.exp(-(x**2) - 0.6 * y**2))
    gy, gx = apply_correction(fy, fx, 28.0, True, forward=False)
    data = np.zeros((n, n, 16, 16))
    data[..., 8, 8] = 10
    data[..., 9, 8], data[..., 7, 8] = 10 + 5 * gy, 10 - 5 * gy
    data[..., 8, 9], data[..., 8, 7] = 10 + 5 * gx, 10 - 5 * gx
    result = run_on(data, ICoMUDF(scan_rotation="auto"))
    assert result["scan_rotation"].data[0] == pytest.approx(28, abs=0.2)
    assert result["flip_y"].data[0]
    assert result["phase"].data[12, 12] == result["phase"].data.max()


def test_vacuum_has_no_rotation(run_on):
    result = run_on(np.ones((4, 4, 8, 8)), ICoMUDF(scan_rotation="auto"))
    assert result["scan_rotation"].data[0] == 0
    assert np.isnan(result["curl"].data[0])
    np.testing.assert_allclose(result["phase"].data, 0, atol=1e-12)
    with pytest.raises(DataError, match="does not vary"):
        least_curl(np.ones((4, 4)), np.ones((4, 4)))
    with pytest.raises(DataError, match="at least 2 x 2"):
        least_curl(np.ones(4), np.ones(4))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"r": 1, "ri": 2}, "inner radius 2"),
        ({"scan_rotation": "fit"}, "not a number of degrees or 'auto'"),
        ({"voltage": 80e3}, "needs semiangle, radius, scan_step too"),
        ({"boundary": "none"}, "'mirror' or 'periodic'"),
        ({"voltage": 80e3, "semiangle": 20.0, "radius": 8, "scan_step": 1e-10}, "in rad"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UDFError, match=message):
        ICoMUDF(**arguments)


def test_wrong_scan(run_on):
    with pytest.raises(UDFError, match="2-D scan, the navigation shape is"):
        run_on(np.ones((5, 8, 8)), ICoMUDF())
