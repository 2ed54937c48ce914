"""The centre of drawn rings is found, whatever is masked."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.fxs import Geometry, PixelModel, PolarGrid, refine_centre

SHAPE = (120, 128)
TRUE = (61.7, 59.2)
GRID = PolarGrid(16, 32, 0.02, 0.16)
PLAIN = PixelModel(polarisation=None, solid_angle=False)


def flat(centre):
    return Geometry(distance=0.1, pixel_size=1e-4 * 3, wavelength=2e-10, centre=centre, shape=SHAPE)


@pytest.fixture(scope="module")
def rings():
    """Photons of an isotropic source, drawn from the distance to the true centre; 120 per pixel."""
    i, k = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(i + 0.5 - TRUE[0], k + 0.5 - TRUE[1])
    return np.random.default_rng(0).poisson(300 * np.exp(-r / 25) * (1.2 + np.cos(r / 4))).astype("f8")


@pytest.mark.parametrize("start", [(60.0, 61.0), (64.0, 57.5)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_centre_of_drawn_rings_is_found(rings, start, masked):
    mask = np.zeros(SHAPE, bool)
    if masked:
        mask[:, 70:75] = True
        mask[58:, 20:32] = True
    pixels = PixelModel(mask, polarisation=None, solid_angle=False)
    found = refine_centre(np.where(mask, 1e6, rings), flat(start), GRID, pixels)
    # each photon says where it is to about a period (4 pixels); 3e5 photons leave 0.01, bins a bit more
    np.testing.assert_allclose(found.centre, TRUE, atol=0.05)


def test_a_map_of_pixels_is_shifted(rings):
    start = flat((60.0, 61.0))
    t = start.frames_of_pixels()[0].reshape(3, *SHAPE)
    given = Geometry.from_pixel_map(t[[1, 0, 2]], wavelength=2e-10)
    found = refine_centre(rings, given, GRID, PLAIN)
    shift = (given.pixel_map - found.pixel_map)[:, 0, 0] / 3e-4
    np.testing.assert_allclose(shift, [TRUE[1] - 61, TRUE[0] - 60, 0], atol=0.05)


def test_what_has_no_centre_is_explained(rings):
    with pytest.raises(DataError, match=r"the frame has shape \(120, 127\), the geometry \(120, 128\)"):
        refine_centre(rings[:, 1:], flat(TRUE), GRID)
    ramp = np.arange(120.0)[:, None] * np.ones(128) + 1
    with pytest.raises(DataError, match="the mean frame is not isotropic|the frame is not isotropic"):
        refine_centre(ramp, flat(TRUE), GRID, PLAIN, limit=5)
