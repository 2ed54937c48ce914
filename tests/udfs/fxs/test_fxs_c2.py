"""C2UDF against closed forms and direct sums."""

import subprocess
import sys

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid, ShotScale, Veto, VetoCode
from framefold.udfs.fxs.shots import half_of

GRID = PolarGrid(5, 16, 0.1, 0.2)
EXACT = {"precision": "float64", "part": "complex"}


def run(frames, udf, executor="inline", **options):
    with ff.Context(executor=executor) as ctx:
        res = ctx.run_udf(ctx.load(frames, sig_dims=2), udf, **options)
    return res, udf.correlation(res)


def direct(frames, weight=None):
    """Definition: C2[q, q', k] = 1/(N P) sum_j sum_p I_j[q, p] I_j[q', (p + k) mod P]."""
    n, n_q, n_phi = frames.shape
    f = frames.astype("f8") * (1 if weight is None else weight)
    out = np.zeros((n_q, n_q, n_phi))
    for j in range(n):
        for k in range(n_phi):
            for p in range(n_phi):
                out[:, :, k] += f[j, :, p][:, None] * f[j, :, (p + k) % n_phi][None]
    return out / (n * n_phi)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).random((40, 5, 16))


def test_one_shot_with_one_order():
    """Oracle 1: I = 1 + a_q cos(m phi + d) has C_m = a a'/4 and C2 = 1 + a a'/2 cos(m D), all else 0."""
    a = np.array([0.1, 0.4, 0.3, 0.2, 0.5])
    shot = 1 + a[:, None] * np.cos(3 * GRID.phi + 0.7)
    _, c = run(np.stack([shot, shot]), C2UDF(None, GRID, **EXACT))
    cm = c.c_m(covariance=False)
    np.testing.assert_allclose(cm[3], np.outer(a, a) / 4, atol=1e-15)
    np.testing.assert_allclose(cm[0], 1, atol=1e-14)
    assert abs(np.delete(cm, [0, 3], axis=0)).max() < 1e-16
    expected = 1 + np.outer(a, a)[:, :, None] / 2 * np.cos(3 * GRID.phi)
    np.testing.assert_allclose(c.c2(mean=True, covariance=False), expected, atol=1e-14)


def test_the_sign_of_the_angle(frames):
    """Oracle 1: a phase that depends on q shows which way D runs."""
    shot = 1 + 0.3 * np.cos(2 * GRID.phi + np.arange(5)[:, None] * 0.4)
    both = np.stack([shot, shot])
    _, c = run(both, C2UDF(None, GRID, center="none", **EXACT))
    np.testing.assert_allclose(c.c2(mean=True, covariance=False), direct(both), atol=1e-14)


def test_triple_loop_with_mask(frames):
    """Oracle 4: the numerator of a masked run is the direct sum over weighted frames."""
    bad = np.zeros((5, 16), bool)
    bad[1:3, 4:7] = True
    _, c = run(frames, C2UDF(None, GRID, mask=bad, center="none", **EXACT))
    np.testing.assert_allclose(
        c.c2(mean=True, covariance=False, mask=False), direct(frames, ~bad), rtol=1e-12
    )


def test_the_array_of_the_paper(frames):
    """Oracle 4: sum of A(q) conj(A(q')) over images, as its equations (2) and (3) state it."""
    _, c = run(frames, C2UDF(None, GRID, **EXACT))
    a = np.fft.fft(frames, axis=-1)
    expected = np.zeros((5, 5, 16), complex)
    for image in a:
        for q in range(5):
            expected[q] += image[q] * image.conj()
    np.testing.assert_allclose(c.to_paper(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "kw, tolerance",
    [
        ({}, 2e-6),
        ({"accumulate": "float32"}, 5e-6),
        ({"part": "complex"}, 2e-6),
        ({"precision": "float64"}, 1e-12),
        (EXACT, 1e-12),
        ({"orders": "even"}, 2e-6),
        ({"orders": [0, 3, 5], "batch": 7}, 2e-6),
        ({"orders": slice(1, 4), "halves": False}, 2e-6),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_q", [5, 21])  # below and above the width of a vector register
def test_all_kinds_of_sums(kw, tolerance, n_q):
    data = np.random.default_rng(1).random((50, n_q, 40)).astype("f4")
    grid = PolarGrid(n_q, 40, 0.1, 0.2)
    _, c = run(data, C2UDF(None, grid, **kw))
    a = np.fft.rfft(data.astype("f8"), axis=-1)[..., c.orders] / 40
    expected = np.einsum("jqm,jrm->mqr", a, a.conj()) / 50
    got = c.c_m(covariance=False)
    np.testing.assert_allclose(got, expected if c.is_complex else expected.real, atol=tolerance)


FRESH = """
import numpy as np
import framefold as ff
from framefold.udfs.fxs import C2UDF, PolarGrid
data = np.random.default_rng(1).random((50, 5, 40))
udf = C2UDF(None, PolarGrid(5, 40, 0.1, 0.2), part="complex", precision="float64")
with ff.Context(executor="inline") as ctx:
    c = udf.correlation(ctx.run_udf(ctx.load(data, sig_dims=2), udf))
a = np.fft.rfft(data, axis=-1) / 40
np.testing.assert_allclose(c.c_m(covariance=False), np.einsum("jqm,jrm->mqr", a, a.conj()) / 50, atol=1e-12)
"""


@pytest.mark.slow
def test_the_first_products_of_a_process():
    """Addresses do not keep arrays alive: one in three processes read what others had written there."""
    for _ in range(6):
        subprocess.run([sys.executable, "-c", FRESH], check=True, timeout=120)


def test_rotation_of_shots_by_whole_bins_changes_nothing(frames):
    """Oracle 2."""
    turned = np.stack([np.roll(f, i, axis=-1) for i, f in enumerate(frames)])
    a, b = (run(x, C2UDF(None, GRID, precision="float64"))[1].c_m(covariance=False) for x in (frames, turned))
    np.testing.assert_allclose(a, b, atol=1e-15)


def test_symmetry_positivity_and_power(frames):
    """Oracle 3: C2(q, q', D) = C2(q', q, -D); C_m >= 0; the trace is the mean square (Parseval)."""
    _, c = run(frames, C2UDF(None, GRID, **EXACT))
    c2 = c.c2(mean=True, covariance=False)
    np.testing.assert_allclose(c2, np.roll(c2[:, :, ::-1], 1, axis=2).swapaxes(0, 1), atol=1e-15)
    assert min(np.linalg.eigvalsh(m).min() for m in c.c_m(covariance=False)) > -1e-15
    np.testing.assert_allclose(np.diagonal(c2[:, :, 0]), (frames**2).mean(axis=(0, 2)), rtol=1e-12)


@pytest.mark.parametrize("kw, tolerance", [({"precision": "float64"}, 1e-12), ({}, 1e-6)], ids=str)
def test_any_cutting_gives_the_same_sums(kw, tolerance):
    """Oracle 5: partitions, batches and executors."""
    data = np.random.default_rng(2).random((150, 5, 16)).astype("f4")
    reference, c = run(data, C2UDF(None, GRID, **kw))
    for batch, executor, options in (
        (3, "inline", {"partition_frames": 7}),
        (64, "threads", {"partition_frames": 40}),
        (16, "inline", {"deterministic": True}),
    ):
        res, other = run(data, C2UDF(None, GRID, batch=batch, **kw), executor, **options)
        np.testing.assert_allclose(other.products, c.products, atol=tolerance * c.products.max())
        np.testing.assert_array_equal(other.frames, c.frames)
        np.testing.assert_allclose(res["cc_half"].data, reference["cc_half"].data, rtol=1e-5)
    roi = np.arange(150) % 3 == 0
    _, part = run(data, C2UDF(None, GRID, **kw), roi=roi)
    _, alone = run(data[roi], C2UDF(None, GRID, halves=False, **kw))
    np.testing.assert_allclose(part.c_m(), alone.c_m(), atol=tolerance)


def test_halves_are_fixed_by_the_frame():
    ids = np.arange(100_000)
    halves = half_of(ids)
    assert abs(halves.mean() - 0.5) < 4 / np.sqrt(len(ids)) / 2
    assert abs(np.corrcoef(halves[:-1], halves[1:])[0, 1]) < 4 / np.sqrt(len(ids))
    data = np.random.default_rng(3).random((30, 5, 16))
    _, c = run(data, C2UDF(None, GRID, precision="float64"))
    first = data[half_of(np.arange(30)) == 0]
    _, alone = run(first, C2UDF(None, GRID, halves=False, precision="float64"))
    np.testing.assert_allclose(c.c_m(half=0), alone.c_m(), atol=1e-15)


def test_two_particles_per_shot(frames):
    """Oracle 12: intensities add, so that C_m doubles (m >= 1), SAXS too, and C_0 gains the square of SAXS."""
    rng = np.random.default_rng(4)
    n = 20_000
    one = rng.random((2, n, 1)) * np.cos(2 * GRID.phi[: 4 * 4] + rng.uniform(0, 2 * np.pi, (2, n, 1)))
    one = 1 + 0.5 * np.repeat(one[:, :, None, :], 2, axis=2)
    grid = PolarGrid(2, 16, 0.1, 0.2)
    _, single = run(one[0].astype("f4"), C2UDF(None, grid))
    _, double = run(one.sum(axis=0).astype("f4"), C2UDF(None, grid))
    # C_2 is <x^2>/16 of x uniform in 0 .. 1: the relative error of each mean of n is sqrt(4/5)/sqrt(n)
    assert double.c_m()[2, 0, 1] / single.c_m()[2, 0, 1] == pytest.approx(2, abs=4 * 2 * 0.9 * np.sqrt(2 / n))
    np.testing.assert_allclose(double.saxs, 2 * single.saxs, rtol=1e-5)
    np.testing.assert_allclose(double.c_m()[0], 2 * single.c_m()[0] + 2 * 1.0, rtol=1e-5)


def test_classes_are_summed_apart(frames):
    label = np.arange(40) % 3 - 1
    _, c = run(frames, C2UDF(None, GRID, classes=label, precision="float64"))
    assert c.n_classes == 2
    for k in (0, 1):
        _, alone = run(frames[label == k], C2UDF(None, GRID, precision="float64"))
        np.testing.assert_allclose(c.c_m(k), alone.c_m(), atol=1e-15)


def test_scale_multiplies_and_a_missing_one_is_a_veto(frames):
    energy = np.full(40, 2.0)
    energy[::4] = 4.0
    energy[[3, 5]] = np.nan, -1
    bright = frames * np.nan_to_num(energy, nan=7.0)[:, None, None]
    res, c = run(bright, C2UDF(None, GRID, scale=ShotScale.aux(energy), precision="float64"))
    good = np.delete(np.arange(40), [3, 5])
    np.testing.assert_allclose(c.saxs, 2 * frames[good].mean(axis=(0, 2)), rtol=1e-12)
    assert res["veto_code"].data[[3, 5]].tolist() == [VetoCode.NO_AUX] * 2
    assert res["hit_rate"].data[0] == pytest.approx(38 / 40)
    _, ringed = run(bright[good], C2UDF(None, GRID, scale=ShotScale.ring(0.1, 0.2)))
    assert ringed.saxs.mean() == pytest.approx(1, rel=1e-6)


def test_vetoes(frames):
    mean = frames.mean(axis=(1, 2))
    res, c = run(frames, C2UDF(None, GRID, veto=Veto.threshold(lo=np.median(mean))))
    assert c.frames.sum() == 20
    np.testing.assert_allclose(res["score"].data, mean, rtol=1e-6)
    flags = np.arange(40) < 10
    _, c = run(frames, C2UDF(None, GRID, veto=Veto.aux(flags)))
    assert c.frames.sum() == 10
    _, c = run(frames, C2UDF(None, GRID, veto=Veto.custom(lambda s: s["score"] > 0.5)))
    assert c.frames.sum() == (mean > 0.5).sum()
    with pytest.raises(UDFError, match=r"no frame of 40 was used \(miss 40\): check veto"):
        run(frames, C2UDF(None, GRID, veto=Veto.threshold(lo=99)))


def test_automatic_threshold_comes_from_a_calibration_before_the_run():
    rng = np.random.default_rng(5)
    data = rng.poisson(2, (400, 5, 16)).astype("f4")
    hits = rng.random(400) < 0.1
    data[hits] += 10
    udf = C2UDF(None, GRID, veto=Veto.auto())
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(data, sig_dims=2)
        with pytest.raises(UDFError, match="udf.calibrated"):
            ctx.run_udf(ds, udf)
        ready = udf.calibrated(ctx, ds)
        res = ctx.run_udf(ds, ready)
    assert (res["veto_code"].data == VetoCode.USED).tolist() == hits.tolist()


def test_detector_frames_through_the_operator():
    """Regridding, NaN frames, saturation and corrections of the run, against the same done by hand."""
    rng = np.random.default_rng(6)
    geo = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(32.2, 31.1), shape=(64, 60))
    grid = PolarGrid(6, 24, 0.01, 0.07)
    frames = rng.poisson(5, (30, 64, 60)).astype("f4")
    dark = rng.uniform(0, 1, (64, 60))
    frames[3, :, :40] = np.nan
    frames[4, 10:14] = 1000
    udf = C2UDF(geo, grid, saturation=1000, precision="float64")
    res, c = run(frames, udf, corrections=ff.Corrections(dark=dark))
    assert res["veto_code"].data[[3, 4]].tolist() == [VetoCode.INCOMPLETE, VetoCode.SATURATED]
    from framefold.udfs.fxs import build_operator

    op = build_operator(geo, grid, PixelModel(dark=dark))
    polar = np.delete(op.apply(frames), [3, 4], axis=0)
    _, expected = run(polar.astype("f8"), C2UDF(None, grid, precision="float64"))
    np.testing.assert_allclose(c.c_m(), expected.c_m(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "kw, message",
    [
        ({"orders": [99]}, "orders 99 .. 99: n_phi=16 has 0 .. 8"),
        ({"orders": "odd"}, "is not 'all', 'even'"),
        ({"diameter": 300.0}, "n_phi=128 or more"),
        ({"scale": ShotScale.aux(np.ones(7))}, "7 values, the dataset 40 frames"),
        ({"veto": Veto.aux(np.ones(7))}, "7 flags, the dataset 40 frames"),
        ({"classes": [1, 2]}, "classes has 2 values"),
        ({"hit_window": (3, 4)}, "no polar bin lies in 3 .. 4"),
        ({"mask": np.zeros((2, 2))}, r"mask has shape \(2, 2\), polar frames \(5, 16\)"),
        ({"memory_limit": 10}, "use fewer rings"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_the_run(frames, kw, message):
    with pytest.raises((DataError, UDFError), match=message):
        run(frames, C2UDF(None, GRID, **kw))


def test_unknown_options_are_refused():
    with pytest.raises(UDFError, match="center='middle'"):
        C2UDF(None, GRID, center="middle")


def test_frames_of_another_shape_are_refused(frames):
    with pytest.raises(DataError, match=r"frames have shape \(5, 16\), the polar grid has \(4, 16\)"):
        run(frames, C2UDF(None, PolarGrid(4, 16, 0.1, 0.2)))


def test_constant_frames_have_no_correlations():
    _, c = run(np.full((10, 5, 16), 3.0), C2UDF(None, GRID))
    assert abs(c.c_m()[1:]).max() == 0
    assert np.isnan(c.cc_half().curve).all()


def test_diameter_limits_the_orders(frames):
    _, c = run(frames, C2UDF(None, PolarGrid(5, 16, 0.1, 0.2), diameter=15.0))
    assert c.orders.tolist() == list(range(8))  # ceil(0.2 * 15) + 4


def test_accepted_frames_are_recorded_in_the_same_run(frames, tmp_path):
    import pickle

    udf = C2UDF(None, GRID, veto=Veto.threshold(lo=0.5), scale=ShotScale.aux(np.r_[np.nan, np.ones(39)]))
    keep = pickle.loads(pickle.dumps(udf.accepts()))
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(frames, sig_dims=2)
        res, recorded = ctx.run_udf(ds, [udf, ff.udfs.RecordUDF(tmp_path / "hits.npy", choose=keep)])
    used = res["veto_code"].data == VetoCode.USED
    assert 0 < used.sum() < 39
    np.testing.assert_array_equal(recorded["chosen"].data, used)
    np.testing.assert_array_equal(np.load(tmp_path / "hits.npy")[used], frames[used])
    with pytest.raises(UDFError, match="calibrated"):
        C2UDF(None, GRID, veto=Veto.auto()).accepts()


@pytest.mark.slow
def test_two_processes_give_the_same_sums():
    rng = np.random.default_rng(7)
    geo = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(32.2, 31.1), shape=(64, 60))
    frames = rng.poisson(3, (300, 64, 60)).astype("u2")
    udf = C2UDF(
        geo, PolarGrid(20, 32, 0.01, 0.07), pixels=PixelModel(adu_per_photon=1.0),
        scale=ShotScale.aux(rng.random(300) + 0.5),
    )  # fmt: skip
    _, one = run(frames, udf.copy())
    with ff.Context(workers=2) as ctx:
        two = udf.correlation(ctx.run_udf(ctx.load(frames, sig_dims=2), udf.copy()))
    np.testing.assert_array_equal(two.frames, one.frames)
    np.testing.assert_allclose(two.c_m(), one.c_m(), atol=1e-6 * abs(one.c_m()).max())
