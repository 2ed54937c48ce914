"""Whole reconstructions of known objects, alignment, and figures of trust against closed forms."""

import numpy as np
import pytest

from framefold.errors import ConvergenceError, DataError
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import CDI, fit, multistart, parse
from framefold.udfs.cdi.align import align, eigenmodes
from framefold.udfs.cdi.quality import crossing, prtf, shell_correlation, shells

RECIPE = "ER**100*(Sup*ER**20*HIO**80)**8*AutoCorrelationSupport(threshold=0.05)"


def relative_error(found, truth):
    """Return the distance after the best shift, inversion and complex factor."""
    placed = align(found, truth).obj
    factor = np.vdot(placed, truth) / np.vdot(placed, placed)
    return np.linalg.norm(factor * placed - truth) / np.linalg.norm(truth)


def best_error(pattern, recipe, starts=4):
    """Return the error of the start that fits best: single ones may fail, and rounding differs with FFTW's plans."""
    ends = [parse(recipe) * CDI(pattern.iobs, mask=pattern.mask, seed=seed) for seed in range(starts)]
    return relative_error(min(ends, key=lambda end: fit(end).error).solution, pattern.obj)


@pytest.mark.slow
def test_noise_free_objects_are_found():
    pattern = coherent_pattern((64, 64), 0.4, phase=1.0, seed=3)
    recipe = parse(RECIPE)
    errors = [
        relative_error((recipe * CDI(pattern.iobs, seed=seed)).solution, pattern.obj) for seed in range(20)
    ]
    assert np.sum(np.array(errors) < 1e-2) >= 18


def test_one_object_is_found():
    pattern = coherent_pattern((64, 64), 0.4, phase=1.0, seed=3)
    assert best_error(pattern, RECIPE) < 1e-2


def test_beam_stop():
    # 13 pixels of 64: the stop of 5 pixels hides the central speckle, and no more can be recovered
    pattern = coherent_pattern((64, 64), 0.2, beam_stop=5, seed=3)
    assert pattern.iobs.sum() < 0.6e6
    recipe = "ER**100*(Sup*ER**20*HIO**80)**6*AutoCorrelationSupport*InterpMask"
    assert best_error(pattern, recipe, starts=8) < 1e-2


def test_object_in_three_dimensions():
    pattern = coherent_pattern((24, 24, 24), 0.4, seed=1)
    recipe = "ER**50*(Sup*ER**20*HIO**80)**6*AutoCorrelationSupport(threshold=0.05)"
    assert best_error(pattern, recipe, starts=2) < 5e-2


@pytest.fixture(scope="module")
def starts():
    pattern = coherent_pattern((48, 48), 0.4, photons=1e6, phase=1.0, seed=3)
    cdi = CDI(pattern.iobs, pixel_size=10e-9)
    batches = []
    recipe = (
        "ML**20*ER**50*Sup(threshold=0.35)*(Sup*ER**20*HIO**80)**8*AutoCorrelationSupport(threshold=0.05)"
    )
    return pattern, multistart(cdi, recipe, n=8, keep=4, on_batch=lambda s: batches.append(len(s))), batches


def test_starts_are_ranked_by_pixels_never_seen(starts):
    pattern, found, batches = starts
    ranks = [s.rank for s in found.starts]
    assert ranks == sorted(ranks)
    assert sorted(s.seed for s in found.starts) == list(range(8))
    assert [s.end is not None for s in found.starts] == [True] * 4 + [False] * 4
    assert batches == list(range(1, 9))
    # twice to four times what noise leaves of the truth in its own support; a wrong object is off by 0.9
    known = CDI(pattern.iobs, pattern.support, pattern.obj)
    floor = relative_error((parse("ML**10*ER**50") * known).solution, pattern.obj)
    assert relative_error(found.best.solution, pattern.obj) < 8 * floor


def test_what_starts_agree_on(starts):
    _, found, _ = starts
    assert found.solutions.shape == (4, 48, 48)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights[0] > 0.95
    assert (np.diff(found.weights) <= 0).all()
    # counts end at the theoretical frequency where a pixel has about one: phases repeat well below it
    known = found.prtf.value[np.isfinite(found.prtf.value)]
    assert known[:6].min() > 0.8
    assert found.fsc is not None
    assert found.fsc.value[:6].min() > 0.9


def test_tasks_run_elsewhere():
    pattern = coherent_pattern((32, 32), 0.4, seed=3)
    sizes = []

    def run_tasks(fn, items):
        items = list(items)
        sizes.append(len(items))
        return [fn(i) for i in reversed(items)]

    recipe = "ER**20*Sup*HIO**30*AutoCorrelationSupport"
    there = multistart(CDI(pattern.iobs), recipe, n=20, keep=3, run_tasks=run_tasks)
    here = multistart(CDI(pattern.iobs), recipe, n=20, keep=3)
    assert sizes == [16, 4]
    assert [s.seed for s in there.starts] == [s.seed for s in here.starts]
    np.testing.assert_array_equal(there.solutions, here.solutions)


def test_failed_starts():
    pattern = coherent_pattern((32, 32), 0.4, seed=3)
    with pytest.raises(
        ConvergenceError, match="0 of 3 starts succeeded; the first failure: the support vanished"
    ):
        multistart(CDI(pattern.iobs), "Sup(threshold=50.0)*ER**3", n=3, keep=2)
    with pytest.raises(DataError, match="n=2, keep=3"):
        multistart(CDI(pattern.iobs), "ER", n=2, keep=3)
    with pytest.raises(DataError, match="held-out pixels"):
        multistart(CDI(pattern.iobs), "ER", n=2, keep=2, free=0.0)


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("shape", [(16, 21), (8, 9, 10)])
def test_alignment_undoes_what_was_done(shape, twin):
    rng = np.random.default_rng(0)
    spectrum = np.fft.fftn(rng.normal(size=shape) + 1j * rng.normal(size=shape))
    for axis, n in enumerate(shape):  # no Nyquist frequency: it has no sub-pixel shift
        low = np.abs(np.fft.fftfreq(n)) < 0.45
        spectrum = spectrum * low.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    truth = np.fft.ifftn(spectrum)
    shift = (1.37, -3.2, 0.55)[: len(shape)]
    moved = spectrum * np.exp(0.7j)
    for axis, (n, s) in enumerate(zip(shape, shift, strict=True)):
        moved = moved * np.exp(-2j * np.pi * np.fft.fftfreq(n) * s).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    found = align(np.fft.ifftn(moved.conj() if twin else moved), truth)
    assert found.twin == twin
    np.testing.assert_allclose(found.shift, [-s for s in shift], atol=1e-9)
    np.testing.assert_allclose(found.obj, truth, atol=1e-9)
    assert found.correlation == pytest.approx(1)


def test_eigenmodes_against_svd():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(6, 5)) + 1j * rng.normal(size=(6, 5))
    solutions = np.stack([shared + 0.1 * rng.normal(size=(6, 5)) for _ in range(4)])
    modes, weights = eigenmodes(solutions)
    _, s, vh = np.linalg.svd(solutions.reshape(4, -1), full_matrices=False)
    np.testing.assert_allclose(weights, s**2 / (s**2).sum(), atol=1e-12)
    for mode, size, row in zip(modes, s, vh, strict=True):
        assert np.linalg.norm(mode) == pytest.approx(size / 2)
        assert abs(np.vdot(mode.reshape(-1), row)) == pytest.approx(size / 2)
    assert np.vdot(modes[0], solutions.mean(0)).imag == pytest.approx(0, abs=1e-9)
    alone, one = eigenmodes(shared[None])
    np.testing.assert_allclose(alone[0], shared)
    assert one.tolist() == [1.0]


def test_transfer_function_of_known_phase_errors():
    """Gaussian phase errors of variance s^2 leave exp(-s^2 / 2) of the mean: 1/e at s^2 = 2."""
    n, q0 = 64, 0.25
    rng = np.random.default_rng(0)
    wave = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    q = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    noise = rng.normal(size=(400, n, n)) * np.sqrt(2) * q / q0
    solutions = np.fft.ifft2(wave * np.exp(1j * noise), norm="ortho")
    cdi = CDI(np.fft.fftshift(np.abs(wave) ** 2), precision="double", pixel_size=5e-9)
    found = prtf(solutions, cdi)
    np.testing.assert_allclose(found.value[:18], np.exp(-((found.frequency[:18] / q0) ** 2)), atol=0.03)
    assert found.cutoff == pytest.approx(q0, abs=0.01)
    assert found.resolution == pytest.approx(5e-9 / (2 * q0), rel=0.05)
    with pytest.raises(DataError, match="2 solutions or more"):
        prtf(solutions[:1], cdi)


def test_shell_correlation_of_known_noise():
    """Equal signal and noise in both: correlation 1/2."""
    rng = np.random.default_rng(0)
    signal, a, b = rng.normal(size=(3, 96, 96))
    found = shell_correlation(signal + a, signal + b)
    assert found.value[8:].mean() == pytest.approx(0.5, abs=0.05)
    assert shell_correlation(signal, signal).value == pytest.approx(1)
    assert np.isnan(shell_correlation(signal, signal).resolution)
    # 1/2-bit threshold of a ring of n pixels (van Heel and Schatz, eq. 17)
    n = (shells((96, 96))[0] == 20).sum()
    assert found.limit[20] == pytest.approx((0.2071 + 1.9102 / n**0.5) / (1.2071 + 0.9102 / n**0.5))


def test_shells_are_circles():
    index, frequency = shells((8, 12))
    assert frequency.tolist() == [0, 1 / 8, 2 / 8, 3 / 8]
    assert index[0, 0] == 0
    assert index[1, 0] == 1
    assert index[0, 3] == 2  # 3 / 12 = 2 / 8 cycles per pixel
    assert index[4, 6] == -1
    assert np.isnan(crossing(frequency, np.ones(4), np.zeros(4)))
