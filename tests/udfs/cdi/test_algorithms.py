"""The identities of the projection algorithms, their fixed points, and formulas written out."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import (
    ASR,
    CDI,
    DM,
    ER,
    FT,
    HIO,
    HPR,
    IFT,
    ML,
    RAAR,
    SF,
    ChargeFlip,
    ERProj,
    FourierApplyAmplitude,
    FreePixels,
    kernels,
    reference,
)  # fmt: skip
from framefold.udfs.cdi.engine import ArrayEngine, Line, engine_for
from framefold.udfs.cdi.kernels_ml import gradient, line_change, line_slopes
from framefold.udfs.cdi.likelihood import fit
from framefold.udfs.cdi.maximum_likelihood import step_length
from framefold.udfs.cdi.state import MEASURED

BETAS = [0.5, 0.9, 1.0, 1.3]


def state(shape=(12, 15), seed=0, precision="double", masked=0.1):
    """Return a state with random everything, which no algorithm has seen."""
    rng = np.random.default_rng(seed)
    support = rng.random(shape) < 0.3
    obj = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    mask = rng.random(shape) < masked
    return CDI(rng.gamma(1, 5, shape), support, obj, mask, precision=precision)


def close(a, b):
    a, b = (x.obj for x in (a, b))
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shape", [(12, 15), (5, 6, 8)])
def test_identities(beta, shape):
    x = state(shape)
    assert close(HPR(beta) * x, HIO(beta) * x) < 1e-12
    assert close(DM(beta, gs=1 / beta, gm=-1) * x, HIO(beta) * x) < 1e-12
    for op in (ASR(), RAAR(1.0), DM(1.0), HPR(1.0)):
        assert close(op**3 * x, HIO(1.0) ** 3 * x) < 1e-12
    assert close(DM(1.0, gs=-1.0, gm=1.0) * x, HIO(1.0) * x) > 0.1  # the sign matters


def projections(x, positivity):
    obj, support = x.parts
    amplitude = np.sqrt(np.fft.ifftshift(np.where(x.mask, 0, x.iobs)))
    measured = ~np.fft.ifftshift(x.mask)

    def p_m(r):
        f = np.fft.fftn(r, norm="ortho")
        return np.fft.ifftn(np.where(measured, amplitude * f / np.abs(f), f), norm="ortho")

    def p_s(r):
        r = np.where(support, r, 0)
        return np.where(r.real < 0, 1j * r.imag, r) if positivity else r

    return obj, p_m, p_s


@pytest.mark.parametrize("positivity", [False, True])
@pytest.mark.parametrize("beta", [0.7, 1.0])
def test_operator_formulas(beta, positivity):
    x = state(seed=3)
    rho, p_m, p_s = projections(x, positivity)
    m = p_m(rho)
    gs, gm = 1 / beta, -1 / beta

    def r_s(v):
        return 2 * p_s(v) - v

    r_m = 2 * m - rho
    allowed = x.support & ((m.real >= 0) | (not positivity))
    formulas = {
        ER(positivity): p_s(m),
        SF(positivity): r_s(m),
        HIO(beta, positivity): np.where(allowed, m, rho - beta * m),
        ASR(positivity): (r_s(r_m) + rho) / 2,
        HPR(beta, positivity): (r_s(r_m + (beta - 1) * m) + rho + (1 - beta) * m) / 2,
        RAAR(beta, positivity): beta / 2 * (r_s(r_m) + rho) + (1 - beta) * m,
        DM(beta, positivity=positivity): rho
        + beta * p_s((1 + gs) * m - gs * rho)
        - beta * p_m((1 + gm) * p_s(rho) - gm * rho),
    }
    for op, truth in formulas.items():
        found = (op * x).obj
        assert np.abs(found - truth).max() < 1e-12 * np.abs(truth).max(), op


def test_charge_flip_formula():
    x = state()
    rho, p_m, _ = projections(x, False)
    m = p_m(rho)
    for threshold in (0.0, 0.5):
        keep = x.support & (m.real >= threshold * np.sqrt((np.abs(m) ** 2).mean()))
        found = (ChargeFlip(threshold) * x).obj
        np.testing.assert_allclose(found, np.where(keep, m, -m), atol=1e-12)


def test_products_of_projections_are_error_reduction():
    x = state()
    composed = ERProj() * FourierApplyAmplitude
    assert close(composed**3 * x, ER() ** 3 * x) < 1e-12
    assert close(ERProj(positivity=True) * FourierApplyAmplitude * x, ER(positivity=True) * x) < 1e-12
    there = FT() * x
    np.testing.assert_allclose(there.obj, np.fft.fftn(x.obj, norm="ortho"), atol=1e-12)
    assert close(IFT() * there, x) < 1e-12


@pytest.mark.parametrize(
    "op",
    [
        ER(),
        SF(),
        HIO(),
        ASR(),
        HPR(),
        RAAR(),
        DM(),
        ML(),
        ER(True),
        HIO(positivity=True),
        RAAR(positivity=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(24, 24), (10, 12, 9)])
def test_the_truth_is_a_fixed_point(op, shape):
    pattern = coherent_pattern(shape, phase=1.0)
    x = CDI(pattern.iobs, pattern.support, pattern.obj, precision="double")
    # the likelihood of a pixel with few counts is that of 1e-6 more
    assert close(op**5 * x, x) < (1e-7 if op == ML() else 1e-10)
    single = CDI(pattern.iobs, pattern.support, pattern.obj)
    assert close(op**5 * single, x) < 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_error_reduction_never_grows(seed):
    rng = np.random.default_rng(seed)
    support = rng.random((16, 16)) < 0.4
    x = CDI(
        rng.gamma(1, 5, (16, 16)), support, mask=rng.random((16, 16)) < 0.05, seed=seed, precision="double"
    )
    errors = []
    for _ in range(40):
        x = ER() * x
        errors.append(fit(x).error)
    assert (np.diff(errors) <= 1e-12).all()
    assert errors[-1] < errors[0]


def test_powers_share_nothing_with_the_start():
    x = state()
    before = x.obj.copy()
    y = HIO() ** 4 * x
    np.testing.assert_array_equal(x.obj, before)
    assert y.data is x.data
    assert y.support is x.support
    assert close(HIO() ** 4 * x, HIO() * (HIO() * (HIO() * (HIO() * x)))) < 1e-14


@pytest.mark.parametrize("rule", [kernels.COMBINE, kernels.FEEDBACK, kernels.FLIP])
@pytest.mark.parametrize("positive", [False, True])
def test_kernels_against_formulas(rule, positive):
    rng = np.random.default_rng(0)
    rho, m = rng.normal(size=(2, 20)) + 1j * rng.normal(size=(2, 20))
    support = rng.random(20) < 0.5
    coefficients = (0.4, 1.3, -0.7, 0.2, 0.9)
    out = np.empty_like(rho)
    flat = [a.view("f8") for a in (rho, m)]
    kernels.next_object(*flat, support, rule, *coefficients, positive, out.view("f8"))
    truth = reference.next_object(np, rho, m, support, rule, coefficients, positive)
    np.testing.assert_allclose(out, truth, atol=1e-14)


def test_amplitude_kernel_against_formula():
    rng = np.random.default_rng(0)
    wave = rng.normal(size=30) + 1j * rng.normal(size=30)
    wave[[3, 7]] = 0  # no phase to keep
    code = rng.integers(0, 3, 30).astype("u1")
    code[3], code[7] = 1, 0
    amplitude = rng.random(30)
    found = wave.copy()
    kernels.impose_amplitude(found.view("f8"), amplitude, code, 0.3)
    np.testing.assert_allclose(found, reference.impose_amplitude(np, wave, amplitude, code, 0.3), atol=1e-14)


def test_engine_of_formulas_gives_the_same():
    x = state()
    obj, support = x.parts
    coefficients = (1.0, 2.0, -1.0, -1.0, 1.0)
    results = []
    for engine in (engine_for(x), ArrayEngine(np)):
        m = engine.project(obj, x)
        results.append(engine.combine(obj.copy(), m, support, kernels.COMBINE, coefficients, False).copy())
    np.testing.assert_allclose(results[0], results[1], atol=1e-12)


def test_likelihood_gradient_against_differences():
    rng = np.random.default_rng(1)
    wave, along = rng.normal(size=(2, 40)) + 1j * rng.normal(size=(2, 40))
    seen, used = rng.poisson(3, 40).astype(float), rng.random(40) < 0.8

    def value(f):
        model = np.abs(f[used]) ** 2 + 1e-6
        return (model - seen[used] * np.log(model)).sum()

    h = 1e-6
    slope = (value(wave + h * along) - value(wave - h * along)) / (2 * h)
    truth = reference.gradient(np, wave, seen, used)
    assert 2 * np.vdot(truth, along).real == pytest.approx(slope, rel=1e-6)
    code, out = used.astype("u1"), np.empty_like(wave)
    gradient(wave.view("f8"), seen, code, 0.3, out.view("f8"))
    np.testing.assert_allclose(out, 0.3 * truth, atol=1e-12)

    line = (wave.view("f8"), along.view("f8"), seen, code)
    for a in (0.0, 0.2):
        first, second, positive = line_slopes(*line, a)
        at = [value(wave + (a + k * 1e-4) * along) for k in (-1, 0, 1)]
        assert first == pytest.approx((at[2] - at[0]) / 2e-4, rel=1e-4)
        assert second == pytest.approx((at[2] - 2 * at[1] + at[0]) / 1e-8, rel=1e-3)
        assert positive >= 0
    assert line_change(*line, 0.7) == pytest.approx(value(wave + 0.7 * along) - value(wave))

    for a in (0.0, 0.3):
        given = (np, wave, along, seen, code, a)
        np.testing.assert_allclose(reference.line_slopes(*given), line_slopes(*line, a), rtol=1e-12)
        assert reference.line_change(*given) == pytest.approx(line_change(*line, a), rel=1e-12, abs=1e-12)

    def best(f):
        on = (f.view("f8"), *line[1:])
        return step_length(Line(lambda a: line_slopes(*on, a), lambda a: line_change(*on, a)))

    assert value(wave + best(wave) * along) < value(wave)
    near = np.sqrt(seen) * np.exp(0.1j * np.angle(wave)) + 0.05 * along  # close to a minimum, Newton finds it
    a = best(near)
    lowest = (value(near + (a + h) * along) - value(near + (a - h) * along)) / (2 * h)
    assert abs(lowest) < 1e-3 * abs(value(near + h * along) - value(near - h * along)) / (2 * h)


def test_maximum_likelihood_descends_and_beats_error_reduction():
    pattern = coherent_pattern((32, 32), photons=2e5, phase=1.0, seed=2)
    rng = np.random.default_rng(0)
    start = pattern.obj * (1 + 0.2 * rng.normal(size=pattern.obj.shape))
    x = CDI(pattern.iobs, pattern.support, start, precision="double")
    llk = [fit(x).llk]
    for _ in range(6):
        x = ML() ** 5 * x
        llk.append(fit(x).llk)
    assert (np.diff(llk) < 1e-9).all()
    reduced = ER() ** 300 * CDI(pattern.iobs, pattern.support, start, precision="double")
    assert llk[-1] < fit(reduced).llk
    # a well-counted pixel contributes 1/2, minus half for each fitted number
    assert llk[-1] < 0.55


def test_fit_against_numpy():
    x = FreePixels(0.2) * state(masked=0.2)
    model = np.abs(np.fft.fftn(x.solution, norm="ortho")) ** 2
    seen, code = x.data.intensity, x.data.code
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = model - seen + np.where(seen > 0, seen * np.log(seen / model), 0)
    found = fit(x)
    assert found.llk == pytest.approx(terms[code == 1].mean())
    assert found.llk_free == pytest.approx(terms[code == 2].mean())
    used = code == MEASURED
    error = ((np.sqrt(model) - np.sqrt(seen))[used] ** 2).sum() / seen[used].sum()
    assert found.error == pytest.approx(np.sqrt(error))
    assert np.isnan(fit(state()).llk_free)


def test_held_out_pixels_do_not_act():
    x = FreePixels(0.3, seed=4) * state()
    changed = x.data.intensity.copy()
    changed[x.data.code == 2] *= 7
    other = x.new(data=type(x.data)(changed, x.data.code))
    assert close(ER() ** 3 * other, ER() ** 3 * x) == 0
    again = FreePixels(0.0) * x
    assert (again.data.code != 2).all()


def test_wrong_space():
    x = state()
    with pytest.raises(DataError, match="apply IFT"):
        ER() * (FT() * x)
    with pytest.raises(DataError, match="IFT acts in Fourier space"):
        IFT() * x
    with pytest.raises(DataError, match="fraction=2"):
        FreePixels(2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"iobs": np.ones(5)}, "2-D or 3-D, got shape"),
        ({"iobs": np.ones((5, 5), complex)}, "real numbers"),
        ({"iobs": np.ones((5, 2))}, "too small"),
        ({"iobs": np.zeros((5, 5))}, "no measured pixel has counts"),
        ({"iobs": np.ones((5, 5)), "mask": np.ones((5, 5))}, "is the mask inverted"),
        ({"iobs": np.ones((5, 5)), "mask": np.ones(5)}, r"the mask has shape \(5,\)"),
        ({"iobs": np.ones((5, 5)), "support": np.ones((5, 4))}, "the support has shape"),
        ({"iobs": np.ones((5, 5)), "support": np.zeros((5, 5))}, "the support is empty"),
        ({"iobs": np.ones((5, 5)), "obj": np.ones((5, 4))}, "the object has shape"),
        ({"iobs": np.ones((5, 5)), "obj": np.full((5, 5), np.nan)}, "not finite"),
        ({"iobs": np.ones((5, 5)), "precision": "half"}, "'single' or 'double'"),
    ],
)
def test_wrong_states(arguments, message):
    with pytest.raises(DataError, match=message):
        CDI(**arguments)


def test_negative_and_missing_counts_are_not_measured():
    iobs = np.ones((6, 6))
    iobs[0, 0], iobs[1, 1] = -3, np.nan
    x = CDI(iobs)
    assert (np.fft.fftshift(x.data.code) == 0).sum() == 2
    assert repr(x) == "<CDI (6, 6), object, cycle 0, support 100 %>"
