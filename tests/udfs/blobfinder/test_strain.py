"""Definitions of strain against random matrices in numpy."""

import math

import numpy as np
import pytest
from scipy.linalg import polar

from framefold.errors import DataError
from framefold.udfs.blobfinder import strain as st

RNG = np.random.default_rng(0)


def yx(G):
    """Columns (x, y) -> vectors (y, x)."""
    return G[::-1, 0], G[::-1, 1]


def random_case():
    A0 = RNG.normal(size=(2, 2)) + 3 * np.eye(2)
    F = np.eye(2) + 0.1 * RNG.normal(size=(2, 2))
    G0, G = np.linalg.inv(A0).T, np.linalg.inv(F @ A0).T
    return 100 * G0, 100 * G, F


def strain(G, G0, **frame):
    return st.strain_of(*yx(G), np.zeros(3), np.stack(yx(G0)), st.Frame(**frame))


@pytest.mark.parametrize("_", range(10))
def test_deformation_gradient_of_the_real_lattice(_):
    G0, G, F = random_case()
    np.testing.assert_allclose(st.deformation_gradient(G, G0), F, atol=1e-12)


@pytest.mark.parametrize("_", range(10))
def test_polar_decomposition(_):
    G0, G, F = random_case()
    R, U = polar(F)
    got = strain(G, G0)
    np.testing.assert_allclose(
        [[got.eps_xx, got.eps_xy], [got.eps_xy, got.eps_yy]], U - np.eye(2), atol=1e-12
    )
    assert got.theta == pytest.approx(math.atan2(R[1, 0], R[0, 0]), abs=1e-12)


def test_small_strain():
    G0, G, F = random_case()
    got = strain(G, G0, definition="small")
    np.testing.assert_allclose(
        [got.eps_xx, got.eps_yy, got.eps_xy, got.theta],
        [F[0, 0] - 1, F[1, 1] - 1, (F[0, 1] + F[1, 0]) / 2, (F[1, 0] - F[0, 1]) / 2], atol=1e-12,
    )  # fmt: skip


def test_longer_crystal_is_positive_strain():
    G0 = 20 * np.eye(2)
    got = strain(np.diag([20 / 1.02, 20]), G0)
    np.testing.assert_allclose([got.eps_xx, got.eps_yy, got.eps_xy, got.theta], [0.02, 0, 0, 0], atol=1e-12)


def test_sense_of_rotation():
    """From +x towards +y: vectors along x turn down in a picture."""
    turned = st.rotation(0.1) @ (20 * np.eye(2))
    assert turned[1, 0] > 0
    assert strain(turned, 20 * np.eye(2)).theta == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize("angle", [30.0, -75.0])
def test_axes_by_angle(angle):
    G0, G, F = random_case()
    Q = st.rotation(math.radians(angle))
    _, U = polar(F)
    eps = Q.T @ (U - np.eye(2)) @ Q
    got = strain(G, G0, axes=angle)
    np.testing.assert_allclose(
        [got.eps_xx, got.eps_yy, got.eps_xy], [eps[0, 0], eps[1, 1], eps[0, 1]], atol=1e-12
    )


def test_axes_along_a():
    G0, G, _ = random_case()
    angle = math.degrees(math.atan2(G0[1, 0], G0[0, 0]))
    one, two = strain(G, G0, axes="a"), strain(G, G0, axes=angle)
    np.testing.assert_allclose([one.eps_xx, one.eps_xy], [two.eps_xx, two.eps_xy], atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("ellipse", [(0.0, 0.0), (0.03, 40.0)])
def test_detector_turned_flipped_and_stretched(flip, ellipse):
    """What the detector does to the pattern is undone: the strain is that of the scan's axes."""
    G0, G, _ = random_case()
    truth = strain(G, G0)
    S = st.rotation(math.radians(25)) @ np.diag([1, -1 if flip else 1])
    turn = st.rotation(math.radians(ellipse[1]))
    E = turn @ np.diag([1 + ellipse[0] / 2, 1 - ellipse[0] / 2]) @ turn.T
    seen = [E @ np.linalg.inv(S) @ v for v in (G, G0)]
    got = strain(*seen, scan_rotation=25.0, flip_y=flip, ellipse=ellipse)
    for name in ("eps_xx", "eps_yy", "eps_xy", "theta"):
        assert getattr(got, name) == pytest.approx(getattr(truth, name), abs=1e-12)


def test_scan_rotation_is_that_of_com():
    from framefold.udfs.com_fields import apply_correction

    y, x = apply_correction(np.array(3.0), np.array(5.0), 20.0, True)
    np.testing.assert_allclose(st.Frame(20.0, True).detector_to_scan() @ [5.0, 3.0], [x, y], atol=1e-12)


@pytest.mark.parametrize("axes", ["scan", 33.0])
def test_errors_are_the_scatter(axes):
    n = 40_000
    G0 = np.array([[20.0, 4.0], [1.0, 25.0]])
    C = np.array([[0.02, 0.008], [0.008, 0.01]]) * 0.1
    noise = RNG.multivariate_normal([0, 0], C, (n, 2))  # rows x, y of (a, b)
    G = G0 + noise
    got = st.strain_of(
        G[:, ::-1, 0], G[:, ::-1, 1], [C[0, 0], C[0, 1], C[1, 1]], np.stack(yx(G0)), st.Frame(axes=axes)
    )
    for name in ("xx", "yy", "xy"):
        assert float(getattr(got, f"sigma_{name}")) == pytest.approx(
            np.std(getattr(got, f"eps_{name}")), rel=0.02
        )
    assert float(got.sigma_theta) == pytest.approx(np.std(got.theta), rel=0.02)


@pytest.mark.parametrize(
    "options, message",
    [({"definition": "large"}, "biot"), ({"axes": "b"}, "scan"), ({"ellipse": (1.5, 0.0)}, "ellipse")],
)
def test_frame_options(options, message):
    with pytest.raises(DataError, match=message):
        st.Frame(**options)


def test_parallel_reference():
    with pytest.raises(DataError, match="parallel"):
        st.strain_of([1.0, 0], [0, 1.0], np.zeros(3), [[0, 20.0], [0, 10.0]], st.Frame())


def test_references():
    a = np.array([[0.0, 1], [0, 2], [0, 9], [5, 5]])
    valid = np.array([True, True, True, False])
    np.testing.assert_allclose(st.reference_median(a, 2 * a, valid), [[0, 2], [0, 4]])
    np.testing.assert_allclose(st.reference_mean(a, 2 * a, valid), [[0, 4], [0, 8]])
    assert np.isnan(st.reference_mean(a, a, np.zeros(4, bool))).all()


def test_good_fits():
    residual = np.array([0.1, 0.1, 0.12, 0.5, np.nan, 0.1])
    used = np.array([9, 9, 9, 9, 9, 3])
    np.testing.assert_array_equal(st.good_fits(residual, used, 5, None), [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(st.good_fits(residual, used, 5, 0.11), [1, 1, 0, 0, 0, 0])
    assert not st.good_fits(np.full(3, np.nan), np.zeros(3), 5, None).any()
