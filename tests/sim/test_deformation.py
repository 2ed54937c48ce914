"""Deformation fields against linear algebra and finite differences."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.sim import deformation as df

SMALL = st.floats(-0.2, 0.2)


@given(SMALL, SMALL, SMALL, st.floats(-1, 1))
def test_strain_and_rotation_are_the_polar_decomposition(xx, yy, xy, theta):
    field = df.uniform((1,), xx, yy, xy, theta)
    R, U = scipy.linalg.polar(field.F[0])
    np.testing.assert_allclose(field.eps[0], U - np.eye(2), atol=1e-12)
    np.testing.assert_allclose(df.rotation(field.theta[0]), R, atol=1e-12)
    np.testing.assert_allclose((field.eps_xx[0], field.eps_yy[0], field.eps_xy[0]), (xx, yy, xy), atol=1e-12)
    assert field.theta[0] == pytest.approx(theta, abs=1e-12)
    # diffraction vectors and lattice planes stay dual: (T g) . (F r) = g . r
    np.testing.assert_allclose(field.reciprocal[0].T @ field.F[0], np.eye(2), atol=1e-12)


def test_positive_rotation_goes_from_x_to_y():
    np.testing.assert_allclose(df.rotation(math.pi / 2) @ [1, 0], [0, 1], atol=1e-12)


def test_step_and_wedge():
    step = df.step((3, 4), eps_xx=0.02)
    np.testing.assert_allclose(step.eps_xx, np.tile([0, 0, 0.02, 0.02], (3, 1)), atol=1e-12)
    wedge = df.wedge((3, 5), eps_yy=0.04, theta=0.1)
    np.testing.assert_allclose(wedge.eps_yy, np.tile([0, 0.01, 0.02, 0.03, 0.04], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(wedge.theta[0], [0, 0.025, 0.05, 0.075, 0.1], atol=1e-12)


def test_smooth_random_has_the_amplitude_and_is_smooth():
    field = df.smooth_random((40, 40), amplitude=0.005, length=4, seed=3)
    assert field.eps_xx.std() == pytest.approx(0.005, rel=1e-6)
    assert field.theta.std() == pytest.approx(0.005, rel=1e-6)
    # Gaussian-filtered white noise: <(f(x+1) - f(x))^2> = 2 var (1 - exp(-1 / (4 sigma^2)))
    jump = np.diff(field.eps_xx, axis=1).std()
    assert jump == pytest.approx(0.005 * math.sqrt(2 * (1 - math.exp(-1 / 64))), rel=0.2)
    assert not np.array_equal(field.F, df.smooth_random((40, 40), 0.005, 4, seed=4).F)


def test_dislocation_is_the_gradient_of_the_displacement():
    b, nu, h = 1.5, 0.3, 1e-5

    def displacement(y, x):
        r2 = x * x + y * y
        ux = np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2)
        uy = -((1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2) + (x * x - y * y) / (4 * (1 - nu) * r2))
        return b / (2 * np.pi) * np.stack([ux, uy])

    y, x = np.mgrid[:20, :21] - np.array([9.3, 10.2])[:, None, None]
    far = (np.hypot(x, y) > 2.1) & ~((x < 0) & (abs(y) < 0.5))  # off the core and off the cut of arctan2
    by_x = (displacement(y, x + h) - displacement(y, x - h)) / (2 * h)
    by_y = (displacement(y + h, x) - displacement(y - h, x)) / (2 * h)
    expected = np.moveaxis(np.stack([by_x, by_y], 1), (0, 1), (-2, -1)) + np.eye(2)
    field = df.dislocation((20, 21), burgers=b, poisson_ratio=nu, centre=(9.3, 10.2))
    np.testing.assert_allclose(field.F[far], expected[far], atol=1e-8)


def test_dislocation_closure_failure_is_the_burgers_vector():
    field = df.dislocation((401, 401), burgers=2.0)
    beta = field.F - np.eye(2)
    side = np.arange(100, 300)
    around = (
        beta[100, side].mean(0)[:, 0] * 200
        + beta[side, 300].mean(0)[:, 1] * 200
        - beta[300, side + 1].mean(0)[:, 0] * 200
        - beta[side + 1, 100].mean(0)[:, 1] * 200
    )
    np.testing.assert_allclose(around, [2.0, 0.0], atol=2e-3)


def test_dislocation_on_a_scan_position_is_finite():
    assert np.all(np.isfinite(df.dislocation((9, 9)).F))


@pytest.mark.parametrize(
    ("F", "text"),
    [(np.ones((3, 2)), "shape"), (np.diag([1.0, -1.0])[None], "inside out")],
)
def test_refusals(F, text):
    with pytest.raises(DataError, match=text):
        df.Deformation(F)
