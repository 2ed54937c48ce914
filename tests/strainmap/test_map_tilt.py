"""Tilt of a map of a strainless crystal that leans more and more, made without anything of ours."""

import dataclasses

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.strainmap import StrainMap
from framefold.strainmap.calibration import Calibration
from framefold.udfs.blobfinder.lattice import Lattice
from framefold.udfs.blobfinder.strain import Frame

HK = np.array([(h, k) for h in range(-2, 3) for k in range(-2, 3)])
STEP, WAVELENGTH, WIDTH = 0.1, 0.00197, 0.2
LEAN = np.linspace(0.0, 0.06, 7)  # radians, along x


@pytest.fixture
def leaning():
    g = HK @ np.array([[0.0, 20.0], [20.0, 0.0]]) * STEP
    s = LEAN[:, None] * g[:, 1] - WAVELENGTH * (g**2).sum(1) / 2
    level = (1000 * np.exp(-(s**2) / 2 / WIDTH**2))[None]
    a, b = np.zeros((1, 7, 2)), np.zeros((1, 7, 2))
    a[0, :, 1], b[0, :, 0] = 20.0 / np.cos(LEAN), 20.0
    lattices = {"a": a, "b": b, "zero": np.zeros((1, 7, 2)), "cov": np.full((1, 7, 3), 1e-8),
                "residual": np.zeros((1, 7)), "used": np.full((1, 7), 25), "grain": np.zeros((1, 7), np.uint8)}  # fmt: skip
    flat = np.zeros_like(level)
    peaks = {"amplitude": level, "background": flat, "chi2": flat + 1, "flags": flat.astype(np.uint8)}
    return StrainMap(
        lattices=lattices, peaks=peaks, indices=HK, valid=np.ones((1, 7), bool),
        reference=np.array([[0.0, 20.0], [20.0, 0.0]]), frame=Frame(),
        lattice=(Lattice((0.0, 0.0), (0.0, 20.0), (20.0, 0.0)),), radius=5.0,
        calibration=Calibration(step=STEP, wavelength=WAVELENGTH),
    )  # fmt: skip


def test_tilt_and_what_it_pretends(leaning):
    t = leaning.tilt(WIDTH)
    # first order in the tilt: three lengths that are longer by half of its square
    np.testing.assert_allclose(t.tilt[0, :, 1], LEAN, atol=1.5 * LEAN.max() ** 3)
    np.testing.assert_allclose(t.tilt[0, :, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(leaning.eps_xx[0], np.cos(LEAN) - 1, atol=1e-9)
    back = leaning.without_tilt(t).rereference(known=leaning.reference)
    np.testing.assert_allclose(back.eps_xx, 0.0, atol=2e-5)


def test_refused(leaning):
    with pytest.raises(DataError, match="does not state the scale"):
        dataclasses.replace(leaning, calibration=Calibration()).tilt(WIDTH)
    with pytest.raises(DataError, match="one lattice"):
        dataclasses.replace(leaning, indices=np.stack([HK, HK])).tilt(WIDTH)
