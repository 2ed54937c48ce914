"""Tilts of crystals made by turning reciprocal lattices in space, with exact excitation errors."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.blobfinder.tilt import tilt_of, without_tilt

HK = np.array([(h, k) for h in range(-3, 4) for k in range(-3, 4)])
STEP, WAVELENGTH, WIDTH = 0.1, 0.00197, 0.02  # 1/nm per px, nm (300 kV), 1/nm
A, B = np.array([0.4, 20.0]), np.array([24.0, -1.0])


def in_space(tilt):
    """Return the reciprocal lattice points (x, y, z), 1/nm, and the foil's normal, of a tilted crystal."""
    ty, tx = tilt
    size = np.hypot(ty, tx)
    axis = np.array([ty, -tx, 0.0]) / max(size, 1e-12)  # +x goes to +z for a positive tilt along x
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    R = np.eye(3) + np.sin(size) * K + (1 - np.cos(size)) * K @ K
    flat = np.column_stack([(HK @ np.stack([A, B]))[:, ::-1] * STEP, np.zeros(len(HK))])
    return flat @ R.T, R @ np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.002, -0.001), (-0.0005, 0.003)])
def test_intensities_of_a_turned_lattice(tilt):
    points, _ = in_space(tilt)
    k = np.array([0.0, 0.0, -1.0 / WAVELENGTH])
    # distance from the Ewald sphere, exact
    s = 1.0 / WAVELENGTH - np.linalg.norm(points + k, axis=1)
    rng = np.random.default_rng(0)
    factor = rng.uniform(0.3, 1.0, (7, 7))
    factor = (factor + factor[::-1, ::-1]).reshape(-1)  # opposite reflections are alike
    level = 1e5 * factor * np.exp(-(s**2) / (2 * WIDTH**2))
    counts = rng.poisson(level, (400, len(HK))).astype(float)
    found = tilt_of(counts, np.sqrt(np.maximum(counts, 1)), HK, np.tile(A, (400, 1)), np.tile(B, (400, 1)),
                    step=STEP, wavelength=WAVELENGTH, width=WIDTH)  # fmt: skip
    scatter, sigma = found.tilt.std(axis=0), np.median(found.sigma, axis=0)
    np.testing.assert_allclose(scatter, sigma, rtol=0.15)
    # beyond first order: the curvature of the cosine, and bias of logarithms of few counts
    assert np.abs(found.tilt.mean(axis=0) - tilt).max() < 0.02 * np.hypot(*tilt) + 4 * sigma.max() / 20


@pytest.mark.parametrize("tilt", [(0.1, 0.0), (0.05, -0.12)])
def test_rods_of_a_turned_lattice(tilt):
    """Where the rods of a thin crystal cross the plane z = 0."""
    points, normal = in_space(tilt)
    seen = points - points[:, 2:] / normal[2] * normal
    np.testing.assert_allclose(seen[:, 2], 0.0, atol=1e-12)
    back = without_tilt(seen[:, 1::-1] / STEP, np.tile(tilt, (len(HK), 1)))
    np.testing.assert_allclose(back, HK @ np.stack([A, B]), atol=1e-9)


def test_no_pairs():
    with pytest.raises(DataError, match="pairs of opposite disks"):
        tilt_of(np.ones(2), np.ones(2), [(1, 0), (0, 1)], A, B, step=1.0, wavelength=1.0, width=1.0)
    with pytest.raises(DataError, match="positive"):
        tilt_of(np.ones(2), np.ones(2), [(1, 0), (0, 1)], A, B, step=0.0, wavelength=1.0, width=1.0)


def test_pairs_along_a_line_tell_no_tilt():
    hk = np.array([(h, 0) for h in range(-3, 4)])
    found = tilt_of(np.full(7, 100.0), np.ones(7), hk, A, B, step=STEP, wavelength=WAVELENGTH, width=WIDTH)
    assert np.isnan(found.tilt).all()
