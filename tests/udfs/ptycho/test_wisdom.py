"""Plans of FFTW are kept in the user's cache, and a cache that is broken does no harm."""

from __future__ import annotations

import numpy as np
import pyfftw
import pytest

from framefold.udfs.ptycho.kernels import wisdom


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = pyfftw.export_wisdom()
    wisdom._recall.cache_clear()
    pyfftw.forget_wisdom()
    yield wisdom.cache_file()
    pyfftw.forget_wisdom()
    pyfftw.import_wisdom(before)
    wisdom._recall.cache_clear()


def transforms_right(plans, wave):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=wave.shape) + 1j * rng.normal(size=wave.shape)).astype("c8")
    wave[...] = values
    plans[0].execute()
    np.testing.assert_allclose(wave, np.fft.fft2(values), atol=1e-4)  # float32, sums over 96 values
    plans[1].execute()
    np.testing.assert_allclose(wave / (12 * 8), values, atol=1e-5)


def test_patient_plans_are_found_again(cache):
    wave = pyfftw.empty_aligned((2, 12, 8), "c8")
    transforms_right(wisdom.plan_pair(wave, patient=False), wave)
    assert not cache.exists()
    transforms_right(wisdom.plan_pair(wave, patient=True), wave)
    kept = cache.read_bytes()
    assert list(cache.parent.iterdir()) == [cache]
    # another process: it knows nothing but the file
    pyfftw.forget_wisdom()
    wisdom._recall.cache_clear()
    assert wisdom._plans(wave, "FFTW_PATIENT", "FFTW_WISDOM_ONLY") is None
    transforms_right(wisdom.plan_pair(wave, patient=False), wave)
    assert wisdom._plans(wave, "FFTW_PATIENT", "FFTW_WISDOM_ONLY") is not None
    assert cache.read_bytes() == kept


def test_a_broken_cache_is_not_missed(cache):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"nonsense")
    wave = pyfftw.empty_aligned((1, 12, 8), "c8")
    transforms_right(wisdom.plan_pair(wave, patient=False), wave)
    cache.unlink()
    cache.mkdir()  # cannot be replaced by a file
    transforms_right(wisdom.plan_pair(wave, patient=True), wave)
    assert all(p == cache for p in cache.parent.iterdir())
