"""What comes after the sums: mask, centring, photon self-term, covariance, pairs, convergence, files."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

import framefold as ff
from framefold.errors import DataError
from framefold.udfs.fxs import C2UDF, Correlation, Geometry, PixelModel, PolarGrid, build_operator
from framefold.udfs.fxs.convergence import compare
from framefold.udfs.fxs.mask_effects import corrected
from framefold.udfs.fxs.selfterm import self_term

N_Q, P = 4, 32
GRID = PolarGrid(N_Q, P, 0.1, 0.2)


def correlate(frames, **kw):
    udf = C2UDF(None, GRID, **kw)
    with ff.Context(executor="inline") as ctx:
        return udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf))


@pytest.fixture(scope="module")
def truth():
    """C_m of a process with three orders, correlated between rings."""
    rng = np.random.default_rng(10)
    c = np.zeros((P // 2 + 1, N_Q, N_Q))
    for m, power in ((1, 0.2), (2, 1.0), (4, 0.5), (7, 0.3)):
        a = rng.normal(size=(N_Q, N_Q))
        c[m] = power * (a @ a.T + np.eye(N_Q)) / N_Q
    return c


def shots(c, n, seed):
    """Gaussian frames with the covariance ``C2(D) = sum_m C_m exp(i m D)`` and a mean of 5."""
    rng = np.random.default_rng(seed)
    roots = np.linalg.cholesky(c + 1e-12 * np.eye(N_Q))
    z = rng.normal(size=(n, P // 2 + 1, N_Q, 2)) * np.sqrt(0.5)
    a = np.einsum("mqr,nmr->nqm", roots, z[..., 0] + 1j * z[..., 1])
    a[..., 0] = 5
    return np.fft.irfft(a * P, P, axis=-1).astype("f4")


@pytest.fixture(scope="module")
def bad():
    """Two gaps per ring, at different places."""
    bad = np.zeros((N_Q, P), bool)
    for q in range(N_Q):
        bad[q, 3 + q : 8 + q] = True
        bad[q, 20 : 23 + q % 2] = True
    return bad


def expected_numerator(c, w):
    """E[N_m] of ring-centred masked frames, by matrices: f = w (1 - 1 w^T / W) I."""
    f = np.fft.irfft(c, P, axis=0) * P
    lag = (np.arange(P)[None, :] - np.arange(P)[:, None]) % P
    out = np.zeros((P, N_Q, N_Q))
    for q in range(N_Q):
        for r in range(N_Q):
            left, right = (np.diag(v) @ (np.eye(P) - np.outer(np.ones(P), v) / v.sum()) for v in (w[q], w[r]))
            e = left @ f[lag, q, r] @ right.T
            for k in range(P):
                out[k, q, r] = e[np.arange(P), (np.arange(P) + k) % P].sum() / P
    return np.fft.rfft(out, axis=0).real / P


def test_the_mask_correction_undoes_mask_and_centring_exactly(truth, bad):
    """Oracle 8 without noise: the expectation value, by dense matrices, comes back as the truth."""
    w = (~bad).astype(float)
    numerator = expected_numerator(truth, w)
    got, complete = corrected(numerator, w, centred=True)
    assert complete.all()
    np.testing.assert_allclose(got[1:], truth[1:], atol=1e-7 * truth.max())
    without, _ = corrected(numerator, w, centred=False)
    assert abs(without[1:] - truth[1:]).max() > 0.01 * truth.max(), "the fix of centring matters"


def deviations(c, truth, **options):
    """Return the deviation of the mean over classes from the truth in standard errors, orders from 1."""
    parts = np.stack([c.c_m(k, **options)[1:] for k in range(c.n_classes)])
    return (parts.mean(axis=0) - truth[1:]) / (parts.std(axis=0, ddof=1) / np.sqrt(len(parts)))


@pytest.mark.parametrize("center, covariance", [("ring", True), ("none", True), ("none", False)])
def test_masked_shots_give_the_unmasked_truth(truth, bad, center, covariance):
    """Oracle 8 with shots, ring-centred, as covariance and uncentred: errors come from 20 sets of shots."""
    n, sets = 20_000, 20
    c = correlate(shots(truth, n, 1), mask=bad, center=center, classes=np.arange(n) % sets, halves=False)
    z = deviations(c, truth, covariance=covariance)
    assert abs(z).max() < 6  # of 160 values of Student's t with 19 degrees of freedom: 0.2 % by chance
    assert (z**2).mean() < 1.8
    if center == "ring":
        unfixed = deviations(replace(c, centred=False), truth)
        assert abs(unfixed).max() > 10, "without the fix of centring it shows"


def test_angles_without_pairs_are_not_invented(truth):
    bad = np.zeros((N_Q, P), bool)
    bad[0, 1:] = True
    c = correlate(shots(truth, 50, 2), mask=bad)
    assert np.isnan(c.c_m()[1:, 0, 0]).all()
    assert np.isfinite(c.c_m()[1:, 1, 2]).all()


def test_the_self_term_is_the_covariance_of_noise(bad):
    """Against dense matrices: E V E^T, summed over pairs of bins at each angle."""
    rng = np.random.default_rng(3)
    op = scipy.sparse.random(N_Q * P, 90, density=0.05, rng=rng, format="csr")
    variance = rng.random(90)
    w = (~bad).astype(float)
    dense = op.toarray().reshape(N_Q, P, 90)
    for centred in (False, True):
        e = dense * w[:, :, None]
        if centred:
            means = (w[:, :, None] * dense).sum(axis=1) / w.sum(axis=1)[:, None]
            e = w[:, :, None] * (dense - means[:, None])
        h = np.zeros((P, N_Q, N_Q))
        for k in range(P):
            h[k] = np.einsum("qpx,rpx,x->qr", e, np.roll(e, -k, axis=1), variance) / P
        expected = np.fft.rfft(h, axis=0).real / P
        got = np.zeros((P // 2 + 1, N_Q, N_Q))
        self_term(op, w, variance, centred=centred).subtract(got, np.arange(P // 2 + 1))
        np.testing.assert_allclose(-got[1:], expected[1:], atol=1e-15)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_photons_of_an_isotropic_source_do_not_correlate(masked):
    """Oracle 7: z-scores of C_m after the self-term are N(0, 1) over all orders; without it they are far off."""
    rng = np.random.default_rng(4)
    n = 3000
    geo = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(24.3, 23.6), shape=(48, 48))
    grid = PolarGrid(6, 32, 0.02, 0.07)
    mask = np.zeros((48, 48), bool)
    if masked:
        mask[22:25] = mask[:, 10:12] = True
    frames = rng.poisson(2.0, (n, 48, 48)).astype("u1")
    model = PixelModel(mask=mask, adu_per_photon=1.0, polarisation=None, solid_angle=False)
    udf = C2UDF(geo, grid, pixels=model, variance_every=1, part="real")
    with ff.Context(executor="inline") as ctx:
        c = udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf))
    polar = build_operator(geo, grid, model).apply(frames)
    a = np.fft.rfft(polar - polar.mean(axis=0), axis=-1)[..., 1:] / 32
    near = (
        np.stack([np.einsum("jm,jm->m", a[:, q], a[:, q].conj()).real for q in range(6)]) / n
    )  # about C_m(q, q)
    error = near / np.sqrt(n) * (1.6 if masked else 1.0)
    got, raw = (np.stack([np.diag(x) for x in c.c_m(self_term=s)[1:]], axis=1) for s in (True, False))
    z = got[:, :-1] / error[:, :-1]
    assert abs(z).max() < 4.5
    assert z.std() < 1.25
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert (raw / error).min() > 5


def test_covariance_and_pairs_remove_what_does_not_turn(truth):
    """Oracle 6: a static structure with a linear drift of scale gives nothing, within errors."""
    rng = np.random.default_rng(5)
    n = 4000
    static = np.cos(2 * GRID.phi) + 0.5 * np.cos(5 * GRID.phi)
    noise = rng.normal(size=(n, N_Q, P))
    drift = 1 + 0.2 * np.linspace(-1, 1, n)[:, None, None]
    sigma = 1 / P / np.sqrt(n)  # of a C_m of white noise between different rings
    off = ~np.eye(N_Q, dtype=bool)
    steady = correlate((static + noise).astype("f4"))
    assert abs(steady.c_m(covariance=False)[2][off]).min() > 100 * sigma
    assert abs(steady.c_m()[1:, off]).max() < 5 * sigma
    moving = (static * drift + noise).astype("f4")
    assert abs(correlate(moving).c_m()[2][off]).min() > 5 * sigma, "covariance leaves the drift"
    paired = correlate(moving, pairing="consecutive")
    assert paired.n_frames() == n // 2
    assert abs(paired.c_m()[1:, off]).max() < 5 * sigma * np.sqrt(2)


def test_pairs_do_not_depend_on_how_the_run_is_cut(truth):
    frames = shots(truth, 300, 6)
    udf = C2UDF(None, GRID, pairing="consecutive", precision="float64")
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(frames, sig_dims=2)
        whole = udf.correlation(ctx.run_udf(ds, udf))
        cut = udf.correlation(ctx.run_udf(ds, udf, partition_frames=64))
    np.testing.assert_allclose(cut.c_m(), whole.c_m(), atol=1e-13)


def test_agreement_of_halves_follows_the_number_of_shots(truth):
    """Oracle 10: CC1/2 = s / (s + 1/n) over a decade of n, s from the largest."""
    rng = np.random.default_rng(7)
    grid = PolarGrid(20, P, 0.1, 0.2)
    signal = 0.05 * np.cos(2 * grid.phi + rng.uniform(0, 2 * np.pi, (8000, 1, 1)))
    frames = (signal + rng.normal(size=(8000, 20, P))).astype("f4")
    # one order: C_2 = 0.05^2 / 4 everywhere; a product of white noise has the variance 1 / (2 P^2) per shot
    expected = (0.05**2 / 4) ** 2 * 2 * P**2
    for n in (800, 2500, 8000):
        udf = C2UDF(None, grid, orders=[2])
        with ff.Context(executor="inline") as ctx:
            c = udf.correlation(ctx.run_udf(ctx.load(frames[:n], sig_dims=2), udf))
        half = n / 2
        cc = c.cc_half(width=20).curve[0]
        assert cc == pytest.approx(expected / (expected + 1 / half), abs=4 / np.sqrt(18 * 17 / 2) + 0.05)


def test_pure_noise_does_not_agree():
    frames = np.random.default_rng(8).normal(size=(400, 30, 16)).astype("f4")
    udf = C2UDF(None, PolarGrid(30, 16, 0.1, 0.2))
    with ff.Context(executor="inline") as ctx:
        c = udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf))
    found = c.cc_half()
    points = 10 * 9 / 2 - 9
    assert found.map.shape == (8, 3)
    assert abs(found.map).max() < 4.5 / np.sqrt(points)
    assert abs(found.curve).max() < 4.5 / np.sqrt(points * 8)


def test_equal_halves_agree_and_need_no_more_shots(truth):
    found = compare(truth, truth, np.arange(P // 2 + 1), GRID.q, (100.0, 100.0), width=4)
    assert found.curve[0] == pytest.approx(1)
    assert found.cc_star[0] == pytest.approx(1)
    assert found.shots_needed[0, 0] == 0


def test_less_than_two_frames_per_half_are_no_agreement(truth):
    c = correlate(shots(truth, 3, 9))
    with pytest.raises(DataError, match="at least 2 are needed"):
        c.c_m(half=0)
        c.c_m(half=1)


def test_the_imaginary_part_is_noise_and_falls(truth):
    """Its ratio to the real part falls as 1/sqrt(N)."""
    ratios = [correlate(shots(truth, n, 10), part="complex").noise_ratio()[2] for n in (500, 8000)]
    assert ratios[0] / ratios[1] == pytest.approx(4, rel=0.6)
    with pytest.raises(DataError, match="part='complex'"):
        correlate(shots(truth, 10, 10)).noise_ratio()


def test_a_wrong_centre_raises_odd_orders():
    """Oracle: Friedel symmetric frames have no odd orders; half a pixel off, the alarm rings."""
    rng = np.random.default_rng(11)
    i, k = np.mgrid[:64, :64] - 31.5
    geo = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(32, 32), shape=(64, 64))
    grid = PolarGrid(8, 32, 0.02, 0.09)
    angle = rng.uniform(0, 2 * np.pi, (100, 1, 1))
    frames = np.exp(-((i**2 + k**2) / 400)) * (2 + np.cos(2 * (np.arctan2(i, k) - angle)))
    ratios = []
    for shift in (0.0, 0.5):
        udf = C2UDF(geo.with_centre(32 + shift, 32), grid, pixels=PixelModel(polarisation=None))
        with ff.Context(executor="inline") as ctx:
            ratios.append(udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf)).odd_even().mean())
    assert ratios[0] < 1e-3
    assert ratios[1] > 20 * ratios[0]


def test_a_file_holds_all_that_corrections_need(tmp_path, truth, bad):
    c = correlate(shots(truth, 60, 12), mask=bad)
    path = tmp_path / "c2.nxs"
    c.save(path, c2=True)
    back = Correlation.load(path)
    for options in ({}, {"covariance": False}, {"half": 1}):
        np.testing.assert_array_equal(back.c_m(**options), c.c_m(**options))
    assert back.grid == c.grid
    with pytest.raises(DataError, match="exists: choose another name"):
        c.save(path)
    import h5py

    with h5py.File(path) as f:
        data = f[f.attrs["default"]][f["entry"].attrs["default"]]
        assert data.attrs["signal"] == "C_m"
        np.testing.assert_allclose(data["C2"], c.c2(), atol=1e-5)
    (tmp_path / "other.nxs").write_bytes(b"no hdf5")
    with pytest.raises(DataError, match="cannot read"):
        Correlation.load(tmp_path / "other.nxs")
