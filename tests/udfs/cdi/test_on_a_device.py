"""Every operator on arrays of the stand-in for CuPy, and of CuPy, against the loops of the processor."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.sim.coherent import coherent_pattern
from framefold.testing import device
from framefold.udfcore.namespace import is_device, require_device, standing_in
from framefold.udfs.cdi import CDI, LLK, FreePixels, Save, kernels, multistart, parse, reference
from framefold.udfs.cdi.recipe import OPERATORS

FREE = FreePixels(0.05)


def state(shape=(12, 15), seed=0):
    rng = np.random.default_rng(seed)
    support = rng.random(shape) < 0.3
    obj = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    mask = rng.random(shape) < 0.1
    return FREE * CDI(rng.gamma(1, 5, shape), support, obj, mask, pixel_size=1e-9, precision="double")


ALGEBRA = [
    "ER", "ER(positivity=True)", "SF", "HIO", "HIO(positivity=True)", "ASR", "HPR", "RAAR", "DM",
    "ChargeFlip(threshold=0.3)", "ML**3", "Sup", "Sup(relative_to='mean', border=2)",
    "Sup(relative_to='max', sigma=1, force_shrink=True, keep_largest=True)", "Detwin", "ScaleObj",
    "AutoCorrelationSupport", "InterpMask", "FreePixels", "RandomObject", "Upsample", "ER**2*PSF",
    "ERProj*IFT*ApplyAmplitude*FT", "LLK*ER*LLK*PSF",
]  # fmt: skip


def test_all_operators_are_tried():
    """`Save` and `Show` write files: there is a test of its own for them."""
    tried = {
        OPERATORS[name] for text in ALGEBRA for name in re.findall("[A-Za-z]+", text) if name in OPERATORS
    }
    assert {c.__name__ for c in OPERATORS.values() if isinstance(c, type) and c not in tried} == {
        "Save", "Product"
    }  # fmt: skip


VOLUMES = ["ER", "ML**3", "Sup(keep_largest=True, border=1)", "Detwin(axis=2)", "Upsample", "ER**2*PSF"]


@pytest.mark.parametrize(
    "text, shape", [*((t, (12, 15)) for t in ALGEBRA), *((t, (8, 6, 10)) for t in VOLUMES)]
)
def test_operators_agree_with_the_processor(device_xp, text, shape):
    op = parse(text)
    expected = op * state(shape)
    there = op * state(shape).on("cupy")
    assert is_device(there.obj)
    assert is_device(there.support)
    assert is_device(there.data.intensity)
    found = there.on("numpy")
    np.testing.assert_allclose(found.obj, expected.obj, atol=1e-10 * np.abs(expected.obj).max())
    np.testing.assert_array_equal(found.support, expected.support)
    np.testing.assert_array_equal(found.data.code, expected.data.code)
    np.testing.assert_allclose(found.data.intensity, expected.data.intensity, rtol=1e-12)
    for (cycle, figures), (other, there_figures) in zip(expected.history, found.history, strict=True):
        assert cycle == other
        assert figures == pytest.approx(there_figures, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("text", ALGEBRA)
def test_single_precision_stays_single(text):
    """Half of the memory and of the time on most cards."""
    x = state()
    single = FREE * CDI(x.iobs, x.support, np.fft.fftshift(x.obj), x.mask)
    with standing_in(device):
        found = parse(text) * single.on("cupy")
    assert found.obj.dtype == np.complex64
    assert found.data.intensity.dtype == np.float32
    assert found.psf is None or found.psf.dtype == np.float32


@pytest.mark.parametrize("beta", [0.7, 1.0])
def test_identities(device_xp, beta):
    x = state().on("cupy")
    for a, b in (
        (f"HPR(beta={beta})", f"HIO(beta={beta})"), (f"DM(beta={beta}, gs={1 / beta}, gm=-1)", f"HIO(beta={beta})"),
        ("ASR", "HIO(beta=1)"), ("RAAR(beta=1)", "HIO(beta=1)"), ("DM(beta=1)", "HIO(beta=1)"),
    ):  # fmt: skip
        left, right = ((parse(f"({t})**3") * x).on("numpy").obj for t in (a, b))
        assert np.abs(left - right).max() < 1e-12 * np.abs(left).max(), (a, b)


def test_iterations_wait_for_nothing():
    with standing_in(device):
        x = state().on("cupy")
        op = parse("ER**3*HIO**5*RAAR**2*DM*ChargeFlip(threshold=0.3)")
        op * x  # amplitudes are computed once
        with device.traffic.none_allowed():
            op * x
        before = device.traffic.to_host, device.traffic.syncs
        parse("Sup") * x
        assert (device.traffic.to_host - before[0], device.traffic.syncs - before[1]) == (
            0,
            1,
        )  # it vanished?


def test_likelihood_formula_agrees_with_the_kernel():
    rng = np.random.default_rng(0)
    wave = rng.normal(size=30) + 1j * rng.normal(size=30)
    seen, code = rng.poisson(1, 30).astype(float), rng.integers(0, 3, 30).astype("u1")
    sums = np.zeros((3, 3))
    kernels.likelihood(wave.view("f8"), seen, code, 0.5, sums)
    model = np.abs(wave) ** 2 * 0.25
    np.testing.assert_allclose(reference.likelihood(np, model, seen, code), sums, rtol=1e-12)


def test_starts_run_on_the_device_and_come_back(device_xp):
    pattern = coherent_pattern((24, 24))
    recipe = "ER**10*Sup*HIO**20*AutoCorrelationSupport"
    found = [
        multistart(CDI(pattern.iobs, precision="double"), recipe, n=3, keep=2, backend=b)
        for b in ("numpy", "cupy")
    ]
    for a, b in zip(*(f.starts for f in found), strict=True):
        assert a.seed == b.seed
        assert a.rank == pytest.approx(b.rank, rel=1e-6)
    assert isinstance(found[1].solutions, np.ndarray)
    np.testing.assert_allclose(found[1].weights, found[0].weights, rtol=1e-6)


def test_states_are_saved_from_the_device(device_xp, tmp_path):
    path = tmp_path / "state.npz"
    x = LLK() * state().on("cupy")
    Save(str(path)) * x
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["obj"], x.on("numpy").solution)
    assert "support" in repr(x)


def test_without_a_device_the_mend_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UDFError, match=r"needs a CUDA device and CuPy: pip install 'framefold\[cuda\]'"):
        require_device("--backend cupy")
    with pytest.raises(UDFError, match="cannot be used"):
        state().on("cupy")
