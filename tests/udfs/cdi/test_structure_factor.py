"""Structure factors against a loop, and what symmetry says about them."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.cdi.structure_factor import structure_factors, structure_factors_reference


def atoms(n=3000, seed=0):
    return np.random.default_rng(seed).random((3, n))


def error(found, truth, weight):
    return np.abs(found - truth).max() / np.sqrt((np.abs(weight) ** 2).sum())


@pytest.mark.parametrize("reach", [8, 3000])
@pytest.mark.parametrize("offset", [0.0, 0.371])
def test_against_the_loop(reach, offset):
    rng = np.random.default_rng(1)
    hkl = rng.integers(-reach, reach, (3, 60)) + offset
    x = atoms()
    occ, f = rng.random(3000), rng.normal(size=3000) + 1j * rng.normal(size=3000)
    found = structure_factors(*hkl, *x, occ, f, threads=2)
    truth = structure_factors_reference(*hkl, *x, occ * f)
    # 8e-7 of the polynomials and 6e-8 per term of rounding, sums of 3000 terms
    assert error(found, truth, occ * f) < 1e-5
    real = structure_factors(*hkl, *x, f=f.real)
    assert error(real, structure_factors_reference(*hkl, *x, f.real), f.real) < 1e-5


def test_far_atoms_in_other_cells():
    x = atoms(500)
    hkl = np.random.default_rng(0).integers(-9, 9, (3, 20))
    moved = structure_factors(*hkl, *(x + np.array([[7], [-300], [2]])))
    assert error(moved, structure_factors_reference(*hkl, *x, 1.0), np.ones(500)) < 1e-5


def test_centric_set_is_real():
    x = atoms(400)
    both = np.concatenate([x, -x], axis=1)
    hkl = np.random.default_rng(0).integers(-20, 20, (3, 50))
    found = structure_factors(*hkl, *both)
    assert np.abs(found.imag).max() < 1e-5 * np.sqrt(800)


def test_origin_is_the_sum_and_friedel_mates_are_conjugate():
    x, f = atoms(700), np.random.default_rng(2).random(700)
    assert structure_factors(0, 0, 0, *x, f=f) == pytest.approx(f.sum(), rel=1e-6)
    a, b = structure_factors([3, -3], [5, -5], [-2, 2], *x, f=f)
    assert abs(a - b.conj()) < 1e-5 * np.sqrt((f**2).sum())


def test_grid_shapes_are_kept():
    h, k, l = np.meshgrid(np.arange(3), np.arange(4), np.arange(2), indexing="ij")  # noqa: E741
    found = structure_factors(h, k, l, [0.5], [0.25], [0.0])
    np.testing.assert_allclose(found, np.exp(2j * np.pi * (0.5 * h + 0.25 * k)), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_fast_transform(offset):
    pytest.importorskip("finufft", reason="extra framefold[cdi] is not installed")
    x = atoms(300)
    hkl = np.random.default_rng(0).integers(-12, 12, (3, 40)) + offset
    fast = structure_factors(*hkl, *x, method="nufft")
    assert error(fast, structure_factors_reference(*hkl, *x, 1.0), np.ones(300)) < 1e-5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1, 2], [1, 2, 3], 0, [0], [0], [0]), "which do not fit"),
        ((1, 1, 1, [0, 1], [0], [0]), "equally long"),
        ((1, 1, np.nan, [0], [0], [0]), "must be finite"),
        ((1, 1, 1, [0], [0], [0], [1, 2]), r"occ has shape \(2,\), there are 1 atoms"),
        ((1, 1, 1, [0], [0], [0], None, [np.inf]), "occ and f must be finite"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        structure_factors(*arguments)
    with pytest.raises(DataError, match="'direct', 'nufft' or 'auto'"):
        structure_factors(1, 1, 1, [0], [0], [0], method="fft")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "finufft", None)
    with pytest.raises(DataError, match=r"pip install 'framefold\[cdi\]'"):
        structure_factors(1, 1, 1, [0], [0], [0], method="nufft")
