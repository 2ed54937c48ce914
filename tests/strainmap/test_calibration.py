"""What files say of detectors, and strain from non-square pixels and from the material without options."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from framefold.strainmap import StrainMap
from framefold.strainmap.calibration import Calibration, aspect_of, step_of
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfs.blobfinder.lattice import Lattice
from framefold.udfs.blobfinder.strain import Frame


def stated(y, x, wavelength=None):
    return SimpleNamespace(metadata=Metadata(axes=(Axis(), Axis(), y, x), wavelength=wavelength))


@pytest.mark.parametrize(
    ("units", "scale", "wavelength", "step"),
    [
        ("1/nm", 0.05, None, 0.05),
        ("nm^-1", 0.05, None, 0.05),
        ("A^-1", 0.005, None, 0.05),
        ("1/\u00c5", 0.005, None, 0.05),
        ("1/m", 5e7, None, 0.05),
        ("mrad", 0.0985, 1.97e-12, 0.05),  # theta / lambda
        ("mrad", 0.0985, None, None),
        ("furlong", 1.0, None, None),
    ],
)
def test_reciprocal_length(units, scale, wavelength, step):
    ds = stated(Axis("ky", 1.2 * scale, 0.0, units), Axis("kx", scale, 0.0, units), wavelength)
    assert step_of(ds) == (None if step is None else pytest.approx(step))
    assert aspect_of(ds) == pytest.approx(1.2)


def test_nothing_stated():
    assert step_of(stated(Axis(), Axis())) is None and aspect_of(stated(Axis(), Axis())) == 1.0
    assert step_of(SimpleNamespace()) is None and aspect_of(SimpleNamespace(metadata=Metadata())) == 1.0


def crystal(aspect, step):
    """Return a map of a crystal that is stretched by 2 % along x and 1 % along y in its right half."""
    a = np.tile(np.array([0.0, 20.0]), (2, 4, 1))
    b = np.tile(np.array([25.0 / aspect, 0.0]), (2, 4, 1))  # 25 widths of a pixel
    a[:, 2:, 1] /= 1.02
    b[:, 2:, 0] /= 1.01
    lattices = {"a": a, "b": b, "zero": np.zeros((2, 4, 2)), "cov": np.full((2, 4, 3), 1e-6),
                "residual": np.zeros((2, 4)), "used": np.full((2, 4), 9), "grain": np.zeros((2, 4), np.uint8)}  # fmt: skip
    one = Lattice((0.0, 0.0), (0.0, 20.0), (25.0 / aspect, 0.0))
    return StrainMap(
        lattices=lattices, peaks={}, indices=np.zeros((0, 2), np.int64), valid=np.ones((2, 4), bool),
        reference=np.stack([a[0, 0], b[0, 0]]), frame=Frame(aspect=aspect), lattice=(one,), radius=3.0,
        calibration=Calibration(2.0, 7.0, step),
    )  # fmt: skip


def test_material_of_a_saved_map_needs_no_options(tmp_path):
    m = crystal(1.25, 0.05)
    m.save(tmp_path / "m.nxs")
    back = StrainMap.load(tmp_path / "m.nxs")
    assert back.calibration == m.calibration and back.frame == m.frame
    # 20 px of 0.05 / nm: planes 1 nm apart; 25 of them: 0.8 nm
    strain = back.rereference(spacings=(1.0, 0.8, 90.0))
    np.testing.assert_allclose(strain.eps_xx[0], [0, 0, 0.02, 0.02], atol=1e-6)
    np.testing.assert_allclose(strain.eps_yy[0], [0, 0, 0.01, 0.01], atol=1e-6)


def test_pixels_that_are_not_square():
    """A rotation of the crystal looks like shear where pixels are taken for square."""
    turn = np.radians(3.0)
    c, s = np.cos(turn), np.sin(turn)
    m = crystal(1.25, None)
    a, b = m.lattices["a"].copy(), m.lattices["b"].copy()
    a[:, 2:] = np.array([20 * s / 1.25, 20 * c])
    b[:, 2:] = np.array([25 * c / 1.25, -25 * s])
    turned = dataclasses.replace(m, lattices={**m.lattices, "a": a, "b": b})
    np.testing.assert_allclose(turned.theta[0], [0, 0, turn, turn], atol=1e-6)
    for name in ("eps_xx", "eps_yy", "eps_xy"):
        np.testing.assert_allclose(getattr(turned, name), 0.0, atol=1e-6)
    square = dataclasses.replace(turned, frame=Frame())
    assert abs(square.eps_xy[0, 3]) > 0.005
