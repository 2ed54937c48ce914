"""Masks that differ from frame to frame: each angle is divided by what was measured."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.io.live.memory import MemoryLiveSource
from framefold.udfcore.live import LiveOptions
from framefold.udfs.fxs import C2UDF, Correlation, Geometry, PixelModel, PolarGrid, VetoCode, build_operator
from framefold.udfs.fxs.frame_masks import divided
from framefold.udfs.fxs.shots import half_of

N_Q, P = 3, 16
GRID = PolarGrid(N_Q, P, 0.1, 0.2)
ALL = np.arange(P // 2 + 1)


def run(frames, udf, **options):
    with ff.Context(executor="inline") as ctx:
        res = ctx.run_udf(ctx.load(frames, sig_dims=2), udf, **options)
    return res, udf.correlation(res)


def lossy(n, seed, share=0.25):
    """Which bins count in each frame, a sector lost in some, and frames with NaN elsewhere."""
    rng = np.random.default_rng(seed)
    valid = rng.random((n, N_Q, P)) > share
    valid[::5, :, : P // 4] = False
    return valid


def angles(c):
    return P * np.fft.irfft(c, P, axis=0)


def double_loop(frames, weights):
    """Return sum and number of products of pairs of bins by angle, both ways around, ``(P, q, q')``."""
    total, pairs = np.zeros((2, P, N_Q, N_Q))
    f = frames * weights
    for j in range(len(frames)):
        for p in range(P):
            for other in range(P):
                for k in ((other - p) % P, (p - other) % P):
                    total[k] += np.outer(f[j, :, p], f[j, :, other])
                    pairs[k] += np.outer(weights[j, :, p], weights[j, :, other])
    return total, pairs


def test_each_angle_is_divided_by_the_pairs_that_were_measured():
    """Against a loop over frames and pairs of bins."""
    frames, valid = np.random.default_rng(0).random((24, N_Q, P)), lossy(24, 1)
    udf = C2UDF(None, GRID, mask="per-frame", center="none", precision="float64", batch=7)
    res, c = run(np.where(valid, frames, np.nan), udf, partition_frames=9)
    total, pairs = double_loop(frames, valid.astype(float))
    got = angles(c.c_m(covariance=False))
    expected = total / pairs
    expected -= expected.mean(axis=0) - got.mean(axis=0)  # order 0 is tested below
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    np.testing.assert_allclose(c.c_m(covariance=False)[0], total.sum(axis=0) / pairs.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.moveaxis(c.mask_correlation(), 2, 0), pairs / (2 * 24 * P), atol=1e-14)
    assert (res["veto_code"].data == VetoCode.USED).all()
    half = half_of(np.arange(24)) == 1
    total, pairs = double_loop(frames[half], valid[half].astype(float))
    got = angles(c.c_m(half=1, covariance=False))
    np.testing.assert_allclose(
        got - got.mean(axis=0), total / pairs - (total / pairs).mean(axis=0), atol=1e-13
    )


def test_scores_and_ring_means_are_those_of_the_bins_that_count():
    frames, valid = np.random.default_rng(2).random((20, N_Q, P)), lossy(20, 3)
    valid[4, 1] = False  # a whole ring
    valid[7] = False  # and a whole frame
    udf = C2UDF(None, GRID, mask="per-frame", precision="float64")
    res, c = run(np.where(valid, frames, np.nan), udf)
    assert np.flatnonzero(res["veto_code"].data).tolist() == [7]
    assert res["veto_code"].data[7] == VetoCode.INCOMPLETE
    rings = np.ma.array(frames, mask=~valid).mean(axis=2)
    np.testing.assert_allclose(c.saxs, rings.mean(axis=0), rtol=1e-12)
    score = np.ma.array(frames, mask=~valid).mean(axis=(1, 2)).filled(np.nan)
    np.testing.assert_allclose(res["score"].data, score, rtol=1e-6)


def test_pairs_of_frames_have_the_bins_that_both_have():
    """What does not change between shots drops out exactly, whatever the masks."""
    rng = np.random.default_rng(4)
    static = 5 + 3 * rng.random((N_Q, P))
    frames, valid = rng.random((24, N_Q, P)), lossy(24, 5)
    udf = C2UDF(None, GRID, mask="per-frame", center="none", pairing="consecutive", precision="float64")
    _, c = run(np.where(valid, frames + static, np.nan), udf)
    total, pairs = double_loop((frames[::2] - frames[1::2]) / np.sqrt(2), valid[::2] * valid[1::2] * 1.0)
    expected = total / pairs
    got = angles(c.c_m())
    np.testing.assert_allclose(got - got.mean(axis=0), expected - expected.mean(axis=0), atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"center": "none"}, {"pairing": "consecutive"}], ids=str)
@pytest.mark.parametrize("covariance", [True, False], ids=["covariance", "plain"])
def test_one_mask_for_all_frames_is_the_fixed_mask(options, covariance):
    frames = np.random.default_rng(6).random((30, N_Q, P))
    bad = np.zeros((N_Q, P), bool)
    bad[0, 3:6] = bad[2, 9] = True
    _, fixed = run(frames, C2UDF(None, GRID, mask=bad, precision="float64", **options))
    _, c = run(
        np.where(bad, np.nan, frames), C2UDF(None, GRID, mask="per-frame", precision="float64", **options)
    )
    np.testing.assert_allclose(
        c.c_m(covariance=covariance)[1:], fixed.c_m(covariance=covariance)[1:], atol=1e-9
    )
    np.testing.assert_allclose(c.saxs, fixed.saxs, rtol=1e-12)


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(10)
    c = np.zeros((P // 2 + 1, N_Q, N_Q))
    for m, power in ((1, 0.2), (2, 1.0), (5, 0.3)):
        a = rng.normal(size=(N_Q, N_Q))
        c[m] = power * (a @ a.T + np.eye(N_Q)) / N_Q
    return c


def test_the_bias_of_centring_is_undone_for_many_masks(truth):
    """The expectation value of ring-centred sums, by dense matrices, comes back as the truth."""
    weights = lossy(12, 11).astype(float)
    f, lag = angles(truth), (np.arange(P)[None, :] - np.arange(P)[:, None]) % P
    sums, pairs = np.zeros((2, P, N_Q, N_Q))
    for w in weights:
        e = [np.diag(v) @ (np.eye(P) - np.outer(np.ones(P), v) / v.sum()) for v in w]
        for q in range(N_Q):
            for r in range(N_Q):
                covariance = e[q] @ f[lag, q, r] @ e[r].T
                for k in range(P):
                    sums[k, q, r] += covariance[np.arange(P), (np.arange(P) + k) % P].sum() / P
                    pairs[k, q, r] += (w[q] * np.roll(w[r], -k)).sum() / P
    n_m, m_m = (np.fft.rfft(x, axis=0).real / P for x in (sums, pairs))
    nothing = np.zeros((P // 2 + 1, N_Q))
    args = (n_m, nothing, m_m, nothing, len(weights), np.ones((N_Q, P)), weights.astype(np.uint8))
    got = divided(*args, centred=True, covariance=False)
    np.testing.assert_allclose(got[1:], truth[1:], atol=1e-7)
    without = divided(*args, centred=False, covariance=False)
    assert abs(without[1:] - truth[1:]).max() > 0.01 * truth.max(), "the fix of centring matters"


@pytest.mark.parametrize("center, covariance", [("ring", True), ("none", True), ("none", False)])
def test_shots_with_random_masks_give_the_unmasked_truth(truth, center, covariance):
    """Oracle 8 with masks that differ: within statistics."""
    rng, n = np.random.default_rng(12), 12_000
    roots = np.linalg.cholesky(truth + 1e-12 * np.eye(N_Q))
    z = rng.normal(size=(n, P // 2 + 1, N_Q, 2)) * np.sqrt(0.5)
    a = np.einsum("mqr,nmr->nqm", roots, z[..., 0] + 1j * z[..., 1])
    a[..., 0] = 1
    frames = np.fft.irfft(a * P, P, axis=-1).astype("f4")
    frames[~lossy(n, 13)] = np.nan
    _, c = run(frames, C2UDF(None, GRID, mask="per-frame", center=center))
    # variance of a product of Gaussian amplitudes; bins that are missing add the power of other orders
    error = np.sqrt(np.einsum("mqq,mrr->mqr", truth, truth).sum(axis=0) / n) * 1.5
    found = c.c_m(covariance=covariance)
    assert (abs(found[1:] - truth[1:]) < 4 * error).all()


GEO = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(24.2, 23.6), shape=(48, 48))
POLAR = PolarGrid(4, 16, 0.01, 0.06)


def test_full_and_lost_pixels_are_left_out_of_their_frame_only():
    """A live run with lost sectors and a file with NaN there are the frames regridded without those pixels."""
    rng = np.random.default_rng(14)
    photons = rng.poisson(4, (24, 48, 48)).astype("u2")
    arrived = np.ones((24, 4), bool)
    arrived[[3, 11], 2] = False
    photons[5, 20:24, 30:40] = 1000
    known = photons.astype("f4")
    known[5, 20:24, 30:40] = np.nan
    known[[3, 11], :, 24:36] = np.nan
    model = PixelModel(mask=np.eye(48, dtype=bool))
    udf = C2UDF(
        GEO, POLAR, mask="per-frame", pixels=model, saturation=1000, max_saturated=0.1, precision="float64"
    )
    expected = build_operator(GEO, POLAR, model).apply(known).astype("f8")
    assert np.isnan(expected[[3, 11]]).any()
    _, truth = run(expected, C2UDF(None, POLAR, mask="per-frame", precision="float64"))
    _, stored = run(known, udf.copy())
    with ff.Context(executor="inline") as ctx:
        source = MemoryLiveSource(photons, sectors=4, valid=arrived, options=LiveOptions(missing="fill"))
        res = ctx.run_udf(ctx.load(source), udf)
        live = udf.correlation(res)
    for c in (stored, live):
        assert c.n_frames() == 24
        np.testing.assert_allclose(c.c_m(), truth.c_m(), atol=1e-9)
        np.testing.assert_allclose(c.saxs, truth.saxs, rtol=2e-7)  # ring means of detector frames are float32


def flat_light(n, seed, lost):
    """Photons of a source that looks the same all around, and NaN where a frame lost pixels."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(3.0, (n, 40, 40)).astype("f4")
    if lost:
        frames[rng.random(frames.shape) < 0.15] = np.nan
        frames[::4, :, 26:] = np.nan
    return frames


ROUND = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(20.3, 19.6), shape=(40, 40))
RINGS = PolarGrid(5, 24, 0.015, 0.06)
COUNTS = PixelModel(adu_per_photon=1.0, polarisation=None, solid_angle=False)


@pytest.mark.parametrize("options", [{}, {"center": "none"}, {"pairing": "consecutive"}], ids=str)
def test_photons_of_frames_with_their_own_masks_do_not_correlate(options):
    """Oracle 7 with a mask per frame: z-scores are N(0, 1) after the self-term, and far off without it."""
    n, parts = 1200, 10
    udf = C2UDF(ROUND, RINGS, mask="per-frame", pixels=COUNTS, classes=np.arange(n) // 2 % parts, halves=False,
                **options)  # fmt: skip
    _, c = run(flat_light(n, 30, lost=True), udf)
    found, raw = (
        np.array([np.diagonal(c.c_m(k, self_term=s), axis1=1, axis2=2)[1:] for k in which])
        for s, which in ((True, range(parts)), (False, [None]))
    )
    error = found.std(axis=0, ddof=1) / np.sqrt(parts)
    z = found.mean(axis=0) / error  # Student's t of 9 degrees: 1.13 wide, above 6 once in 5000
    assert abs(z).max() < 6
    assert 0.7 < z.std() < 1.6
    assert abs(z.mean()) < 4 * 1.13 / np.sqrt(z.size / 3)  # orders that masks mix are not independent
    assert np.median(raw / error) > 10


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_noise_of_frames_with_equal_masks_is_that_of_the_fixed_mask(masked):
    """Both are unbiased: H = sum h V, of Poisson counts of known mean, with var H = sum h^2 var(n) / frames."""
    frames, light, taken = flat_light(8 * 32, 31, lost=False), 3.0, (256, 32)
    mask = np.zeros((40, 40), bool)
    if masked:
        mask[18:21] = mask[:, 27:29] = True
    model = PixelModel(mask=mask, adu_per_photon=1.0, polarisation=None, solid_angle=False)
    _, fixed = run(frames, C2UDF(ROUND, RINGS, pixels=model))
    frames[:, mask] = np.nan
    _, each = run(frames, C2UDF(ROUND, RINGS, mask="per-frame", pixels=COUNTS))
    op = build_operator(ROUND, RINGS, model)
    w = op.weight.astype(float)[:, :, None]
    e = op.matrix.toarray().astype(float).reshape(5, 24, -1)
    e = np.fft.rfft(w * (e - (w * e).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)), axis=1) / 24
    h = np.einsum("qmx,rmx->qrmx", e, e.conj()).real[:, :, 1:]
    truth, square = light * h.sum(axis=-1), light * (h**2).sum(axis=-1)
    near = np.sqrt(square) > 1e-3 * np.sqrt(square).max()  # other pairs of rings share no pixel
    found = [np.array([c.self_term.of_ring(q, 5) for q in range(5)])[:, :, 1:] for c in (fixed, each)]
    for got, n in zip((*found, found[1] - found[0] + truth), (*taken, 1 / (1 / 32 - 1 / 256)), strict=True):
        z = ((got - truth) / np.sqrt(np.where(near, square, 1) / n))[near]
        assert abs(z).max() < 5
        assert 0.2 < (z**2).mean() < 3  # rings count for about one number each
        np.testing.assert_allclose(got, truth, atol=0.04 * truth.max())


def test_frames_filled_on_the_way_are_refused_where_the_mask_is_fixed():
    photons = np.random.default_rng(15).poisson(4, (24, 48, 48)).astype("u2")
    arrived = np.ones((24, 4), bool)
    arrived[[3, 11], 2] = False
    udf = C2UDF(GEO, POLAR)
    with ff.Context(executor="inline") as ctx:
        source = MemoryLiveSource(photons, sectors=4, valid=arrived, options=LiveOptions(missing="fill"))
        res = ctx.run_udf(ctx.load(source), udf)
    assert np.flatnonzero(res["veto_code"].data == VetoCode.INCOMPLETE).tolist() == [3, 11]


def test_a_file_keeps_the_masks(tmp_path):
    frames, valid = np.random.default_rng(16).random((40, N_Q, P)), lossy(40, 17)
    _, c = run(np.where(valid, frames, np.nan), C2UDF(None, GRID, mask="per-frame"))
    c.save(tmp_path / "c2.nxs")
    back = Correlation.load(tmp_path / "c2.nxs")
    np.testing.assert_array_equal(back.c_m(half=0), c.c_m(half=0))
    np.testing.assert_array_equal(back.mask_correlation(), c.mask_correlation())


def test_what_cannot_be_known_is_not_invented():
    """A ring of one shot has no covariance; an angle without pairs has no estimate."""
    frames = np.random.default_rng(18).random((10, N_Q, P))
    frames[1:, 0] = np.nan
    frames[:, 1, 1:] = np.nan
    _, c = run(frames, C2UDF(None, GRID, mask="per-frame", center="none"))
    with_covariance, plain = (c.c_m(covariance=x)[1:] for x in (True, False))
    assert np.isnan(with_covariance[:, 0, 0]).all()
    assert np.isfinite(plain[:, 0, [0, 2]]).all()
    assert np.isnan(plain[:, 1, 1]).all()
    assert np.isfinite(with_covariance[:, 1:, 2]).all()


def test_what_does_not_go_with_masks_per_frame_is_refused():
    frames = np.ones((4, N_Q, P))
    with pytest.raises(UDFError, match="'per-frame' is needed"):
        C2UDF(None, GRID, mask="each")
    with pytest.raises(DataError, match="orders='all' is needed"):
        run(frames, C2UDF(None, GRID, mask="per-frame", orders="even"))
    with pytest.raises(UDFError, match="the same again for the masks"):
        run(frames, C2UDF(None, GRID, mask="per-frame", memory_limit=10))
    with pytest.raises(DataError, match="no pairing, and no mask"):
        run(frames, C2UDF(None, GRID, mask="per-frame", part="complex"))[1].to_paper()
