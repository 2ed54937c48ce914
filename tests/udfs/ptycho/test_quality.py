"""Figures of quality against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.ptycho.ambiguity import mean_gradient, ramp, remove_ambiguities
from framefold.udfs.ptycho.modes import fidelity, orthogonalise, powers, purity
from framefold.udfs.ptycho.quality import object_error, ring_correlation, thinned


def smooth(shape, rng, width=0.08):
    freq = np.add.outer(np.fft.fftfreq(shape[0]) ** 2, np.fft.fftfreq(shape[1]) ** 2)
    noise = rng.normal(size=(2, *shape))
    field = np.fft.ifft2(np.fft.fft2(noise[0] + 1j * noise[1]) * np.exp(-freq / width**2))
    return 1 + 0.4 * field / field.std()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -1.6)])
def test_object_error_knows_the_ambiguities(shift):
    rng = np.random.default_rng(0)
    truth = smooth((60, 50), rng)
    w = np.zeros(truth.shape)
    w[8:-8, 8:-8] = 1
    fy, fx = np.fft.fftfreq(60)[:, None], np.fft.fftfreq(50)[None]
    moved = np.fft.ifft2(np.fft.fft2(truth) * np.exp(-2j * np.pi * (shift[0] * fy + shift[1] * fx)))
    found = moved * ramp(truth.shape, 0.02, -0.03) * (0.7 * np.exp(1.1j))
    assert object_error(found, truth, w) < 2e-3  # the ramp is cut off at the border, which the shift spreads
    noise = 0.05 * rng.normal(size=truth.shape) * np.linalg.norm(truth) / np.sqrt(truth.size)
    assert object_error(found + noise * 0.7, truth, w) == pytest.approx(0.05, rel=0.1)


def test_ambiguities_leave_intensities_alone():
    rng = np.random.default_rng(1)
    obj = smooth((40, 40), rng)[None] * ramp((40, 40), 0.1, -0.2) * (3 - 1j)
    probe = rng.normal(size=(2, 16, 16)) + 1j * rng.normal(size=(2, 16, 16))
    new_obj, new_probe = remove_ambiguities(obj, probe, np.ones((40, 40)))
    for at in ((0, 0), (7, 11), (24, 24)):
        part = (slice(None), slice(at[0], at[0] + 16), slice(at[1], at[1] + 16))
        before, after = (np.abs(np.fft.fft2(p * o[part])) for p, o in ((probe, obj), (new_probe, new_obj)))
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9 * before.max())
    where = np.ones((40, 40), bool)
    assert np.abs(mean_gradient(new_obj[0], where)).max() < 1e-9
    assert np.median(np.abs(new_obj)) == pytest.approx(1)
    assert np.angle(new_obj.sum()) == pytest.approx(0, abs=1e-9)


def test_the_sign_of_the_phase_can_be_chosen():
    y, x = np.indices((30, 30)) - 15
    obj = np.exp(1j * (y**2 + (x - 3) ** 2 < 20))[None]
    probe = np.ones((1, 8, 8), complex)
    plus, _ = remove_ambiguities(obj, probe, np.ones((30, 30)), phase_positive=True)
    minus, _ = remove_ambiguities(obj, probe, np.ones((30, 30)), phase_positive=False)
    np.testing.assert_allclose(plus, minus[:, ::-1, ::-1].conj(), atol=1e-6)
    # few pixels stand out: their phase lies above the mean
    assert np.angle(plus).max() > -np.angle(plus).min()


def test_modes_become_orthogonal_without_changing_the_state():
    rng = np.random.default_rng(2)
    modes = rng.normal(size=(3, 6, 5)) + 1j * rng.normal(size=(3, 6, 5))
    new, u = orthogonalise(modes)
    flat = new.reshape(3, -1)
    gram = flat.conj() @ flat.T
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-12 * np.abs(gram).max())
    np.testing.assert_allclose(u.conj().T @ u, np.eye(3), atol=1e-12)
    mutual = [np.einsum("ma,mb->ab", m.reshape(3, -1), m.reshape(3, -1).conj()) for m in (modes, new)]
    np.testing.assert_allclose(mutual[0], mutual[1], atol=1e-12)
    assert (np.diff(powers(new)) <= 0).all()
    assert fidelity(modes, new) == pytest.approx(1)
    assert purity(np.stack([np.eye(4), 0 * np.eye(4)])) == pytest.approx(1)
    assert purity(np.eye(4)[:, :, None]) == pytest.approx(0.25)


def test_ring_correlation_finds_where_noise_begins():
    rng = np.random.default_rng(3)
    n = 128
    q = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None])
    white = np.fft.fft2(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))
    signal = np.fft.ifft2(white * (q < 0.25))
    halves = [signal + 0.02 * (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))) for _ in range(2)]
    found = ring_correlation(halves[0] + 5, halves[1] + 5, np.ones((n, n)))
    # signal up to a quarter of a cycle per pixel; the soft rim of 19 px spreads it by 1 / 19
    assert 0.5 / (0.25 + 1 / 19) <= found.resolution <= 0.5 / (0.25 - 1 / n)
    assert found.frc[2:20].min() > 0.9
    assert np.abs(found.frc[found.frequency > 0.3]).max() < 0.5
    assert found.half_bit[0] > found.half_bit[-1] > 0.1716  # .2071 / 1.2071
    with pytest.raises(DataError, match="fewer than 8"):
        ring_correlation(signal, signal, _spot(n))


def _spot(n):
    w = np.zeros((n, n))
    w[:3, :3] = 1
    return w


def test_thinned_halves_are_independent_and_add_up():
    rng = np.random.default_rng(4)
    frames = rng.poisson(20, (50, 16, 16)).astype(np.uint16)
    a, b = thinned(frames, rng)
    assert a.dtype == b.dtype == np.uint16
    np.testing.assert_array_equal(a + b, frames)
    assert a.mean() == pytest.approx(10, rel=0.02)
    assert a.var() == pytest.approx(10, rel=0.05)  # Poisson
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.04
    with pytest.raises(DataError, match="takes counts"):
        thinned(frames.astype(float), rng)
