"""Disks on the flank of a steep halo, which pushes all of them towards the beam."""

import numpy as np
import pytest

MIDDLE = 30


def on_halo(disks, kind, n=150, level=20.0, seed=1):
    """Return counts of disks 22 px from the centre of a halo that is as bright as they are, and centres."""
    rng = np.random.default_rng(seed)
    at = MIDDLE + rng.uniform(-0.6, 0.6, (n, 2))
    y, x = np.mgrid[:60, :60]
    r = np.hypot(y - MIDDLE - 10, x - MIDDLE + 20)
    halo = np.exp(-(r - 22.0) / 8) if kind == "exponential" else (1 + 22.0**2 / 49) / (1 + r**2 / 49)
    frames = np.stack([disks.expected(cy, cx, 5.0, level, 0.1) for cy, cx in at]) + level * halo
    return rng.poisson(frames).astype(np.uint16), at


@pytest.mark.parametrize("kind", ["exponential", "lorentzian"])
def test_a_steep_halo_does_not_move_disks(disks, kind):
    frames, at = on_halo(disks, kind)
    peaks = disks.measured(frames, 5.0, spacing=22.0)
    off = peaks.centers[:, 0] - at
    sigma = np.median(peaks.sigma[:, 0])
    # on a constant background they move by radius x slope / height, half a pixel
    steep = 1 / 8 if kind == "exponential" else 2 * 22.0 / (49 + 22.0**2)
    assert np.hypot(*off.mean(axis=0)) < 0.2 * 5.0 * steep
    assert np.abs(off / peaks.sigma[:, 0]).max() < 6.0
    assert off.std() > 0.6 * sigma  # nor are the errors merely large
    assert sigma < 0.15


def test_a_flat_background_stays_as_it_is(disks):
    frames, at = disks.random(400, radius=5.0, level=20.0, background=20.0)
    peaks = disks.measured(frames, 5.0, spacing=22.0)
    ratio = (peaks.centers[:, 0] - at) / peaks.sigma[:, 0]
    assert ratio.std() == pytest.approx(1.0, abs=0.12)
    assert np.median(peaks.sigma) < 1.25 * disks.bound(5.0, 20.0, 20.0)
