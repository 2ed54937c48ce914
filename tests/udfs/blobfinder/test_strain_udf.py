"""Strain of synthetic crystals against their truth, however the data are cut."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim import deformation
from framefold.sim.stem import GRAIN_TURN, cbed
from framefold.testing.check_udf import check_udf
from framefold.udfs.blobfinder.blobfinder_udf import BlobfinderUDF
from framefold.udfs.blobfinder.correlate import CropCorrelation, FullFrameCorrelation, SparseCorrelation
from framefold.udfs.blobfinder.lattice import LatticeFit
from framefold.udfs.blobfinder.strain import Spacings
from framefold.udfs.blobfinder.strain_udf import StrainUDF

SIG = (96, 96)
LATTICE = ((32, 32), (0.5, 14), (14, -0.5))
MAPS = {"eps_xx": "sigma_xx", "eps_yy": "sigma_yy", "eps_xy": "sigma_xy", "theta": "sigma_theta"}


def scan_of(strain=None, scan=(10, 12), **options):
    options = {"dose": 30_000, "background": 0.3, "falloff": 0.5, "seed": 1, **options}
    return cbed(scan, SIG, strain=strain, **options)


def lattice_of(scan):
    return (scan.truth.zero, scan.truth.a, scan.truth.b)


def run(ctx, scan, udf=None, **options):
    t = scan.truth
    udf = udf or StrainUDF(lattice_of(scan), scan.radius, reference=np.stack([t.a, t.b]), **options)
    return ctx.run_udf(ctx.load(scan), udf)


@pytest.mark.parametrize(
    "field",
    [
        deformation.uniform((10, 12), 0.01, -0.008, 0.004, 0.01),
        deformation.step((10, 12), eps_xx=0.02, theta=-0.01),
        deformation.dislocation((10, 12), burgers=0.3),
        deformation.smooth_random((10, 12), amplitude=0.008, length=3.0),
    ],
    ids=["uniform", "step", "dislocation", "random"],
)
def test_strain_is_the_truth(inline, field):
    result = run(inline, scan_of(field))
    assert result["valid"].data.all()
    for name, sigma in MAPS.items():
        error, s = result[name].data - getattr(field, name), result[sigma].data
        assert np.mean(np.abs(error) < 3 * s) > 0.95
        assert np.sqrt(np.mean((error / s) ** 2)) < 1.3
        assert np.sqrt(np.mean(s**2)) < 1.5e-3


def test_missing_disks_bending_and_background(inline):
    field = deformation.step((10, 12), eps_yy=0.015)
    result = run(inline, scan_of(field, missing=0.3, bend=15.0, background=2.0))
    valid = result["valid"].data
    assert valid.mean() > 0.95
    z = ((result["eps_yy"].data - field.eps_yy) / result["sigma_yy"].data)[valid]
    assert np.mean(np.abs(z) < 3) > 0.93


def test_ellipse_is_undone(inline):
    field = deformation.uniform((10, 12), eps_xx=0.01)
    scan = scan_of(field, ellipse=0.03, ellipse_angle=np.radians(30))
    t = scan.truth
    E = np.linalg.inv(_ellipse(0.03, 30.0))
    bent = [np.linalg.inv(E) @ v[::-1] for v in (t.a, t.b)]
    reference = np.stack([v[::-1] for v in bent])
    result = run(
        inline, scan, StrainUDF(lattice_of(scan), scan.radius, reference=reference, ellipse=(0.03, 30.0))
    )
    z = (result["eps_xx"].data - 0.01) / result["sigma_xx"].data
    assert abs(np.mean(z)) < 0.5


def _ellipse(size, degrees):
    from framefold.udfs.blobfinder.strain import rotation

    R = rotation(np.radians(degrees))
    return R @ np.diag([1 + size / 2, 1 - size / 2]) @ R.T


def test_descan_by_aux_data(inline):
    field = deformation.step((10, 12), eps_xx=0.01)
    scan = scan_of(field, descan=7.0)
    t = scan.truth
    shift = ff.UDF.aux_data(t.shift, "nav", (2,))
    result = run(inline, scan, zero_shift=shift)
    assert result["valid"].data.all()
    np.testing.assert_allclose(result["zero"].data, t.zero + t.shift, atol=0.1)
    z = (result["eps_xx"].data - field.eps_xx) / result["sigma_xx"].data
    assert np.mean(np.abs(z) < 3) > 0.95


def test_other_grains(inline):
    """A grain turned within reach is measured as turned; one beyond it is masked, never a plausible strain."""
    scan = cbed((8, 12), (128, 128), dose=30_000, grains=3, seed=2)
    result = run(inline, scan)
    grain, valid, theta = scan.truth.grain, result["valid"].data, result["theta"].data
    assert valid[grain == 0].all()
    assert np.abs(theta[grain == 0]).max() < 0.005
    turned = valid & (grain == 1)
    assert np.abs(theta[turned] - GRAIN_TURN).max(initial=0) < 0.005
    assert valid[grain == 2].mean() < 0.01
    assert np.isnan(result["eps_xx"].data[~valid]).all()


def test_two_grains(inline):
    """With a lattice for each, both grains are mapped, each relative to its own reference."""
    field = deformation.uniform((6, 12), 0.0, 0.0, 0.0, 0.0)
    scan = cbed((6, 12), (128, 128), strain=field, dose=60_000, grains=2, seed=2)
    t = scan.truth
    c, s = np.cos(GRAIN_TURN), np.sin(GRAIN_TURN)
    other = [(s * v[1] + c * v[0], c * v[1] - s * v[0]) for v in (t.a, t.b)]
    udf = StrainUDF(
        [(t.zero, t.a, t.b), (t.zero, *other)], scan.radius, reference=np.stack([[t.a, t.b], other])
    )
    result = inline.run_udf(inline.load(scan), udf)
    assert result["valid"].data.all()
    assert (result["grain"].data == t.grain).mean() > 0.99
    for name, sigma in MAPS.items():
        assert np.mean(np.abs(result[name].data) < 3 * result[sigma].data) > 0.95
    assert result["reference"].data.shape == (2, 2, 2)
    m = ff.strain_map(inline, scan, scan.radius, [(t.zero, t.a, t.b), (t.zero, *other)])
    assert m.valid.all() and np.abs(m.theta).max() < 0.01
    by_region = m.rereference(roi=t.grain == 0)
    np.testing.assert_allclose(by_region.reference[0], np.stack([t.a, t.b]), atol=0.02)
    m.plot_fit(0, 11)


def test_vacuum_is_masked(inline):
    scan = scan_of()
    frames = scan.array()
    frames[3:5] = 0
    frames[6, 2:4] = np.random.default_rng(0).poisson(0.3, (2, *SIG))
    result = inline.run_udf(inline.load(frames), StrainUDF(lattice_of(scan), scan.radius))
    valid = result["valid"].data
    assert not valid[3:5].any() and not valid[6, 2:4].any()
    assert valid.sum() == valid.size - 26
    assert result["eps_xx"].valid_mask.sum() == valid.sum()


def test_beam_stop(inline):
    field = deformation.uniform((10, 12), eps_xx=0.01)
    scan = scan_of(field)
    frames = scan.array()
    y, x = np.mgrid[: SIG[0], : SIG[1]]
    stop = np.hypot(y - 48, x - 48) < 7
    frames[..., stop] = 60_000
    t = scan.truth
    udf = StrainUDF(lattice_of(scan), scan.radius, reference=np.stack([t.a, t.b]), excluded=stop)
    result = inline.run_udf(inline.load(frames), udf)
    assert result["valid"].data.all()
    z = (result["eps_xx"].data - 0.01) / result["sigma_xx"].data
    assert np.mean(np.abs(z) < 3) > 0.95


def test_references(inline):
    field = deformation.step((10, 12), eps_xx=0.02)
    scan = scan_of(field, dose=300_000)
    left = field.eps_xx == 0
    by_mask = run(inline, scan, StrainUDF(lattice_of(scan), scan.radius, reference=~left))
    np.testing.assert_allclose(by_mask["eps_xx"].data[left].mean(), 1 / 1.02 - 1, atol=3e-4)
    median = run(inline, scan, StrainUDF(lattice_of(scan), scan.radius))
    assert abs(np.median(median["eps_yy"].data)) < 2e-4


def test_reference_of_spacings(inline):
    """Strain relative to the material, where the whole scan is strained: the median would give 0."""
    field = deformation.uniform((3, 4), eps_xx=0.012, eps_yy=-0.004)
    scan = cbed((3, 4), (96, 96), strain=field, dose=80_000, background=0.2, falloff=0.5, seed=2)
    t = scan.truth
    step = 0.03
    known = Spacings(1 / (np.hypot(*t.a) * step), 1 / (np.hypot(*t.b) * step), 90.0, step)
    result = run(inline, scan, StrainUDF(lattice_of(scan), scan.radius, reference=known))
    for name, truth in (("eps_xx", 0.012), ("eps_yy", -0.004), ("eps_xy", 0.0)):
        error = result[name].data - truth
        assert abs(error.mean()) < 4 * result[f"sigma_{name[4:]}"].data.mean() / np.sqrt(12), name


@pytest.mark.parametrize("wrong", [(0.0, 0.2, 90.0, 0.1), (0.2, 0.2, 0.0, 0.1), (0.2, 0.2, 90.0, -1.0)])
def test_spacings_refused(wrong):
    with pytest.raises(DataError, match="positive lengths|between 3 and 177 degrees"):
        Spacings(*wrong)


@pytest.mark.parametrize("subpixel", ["parabola", "ml4", "ml6"])
def test_other_refinements(inline, subpixel):
    field = deformation.uniform((6, 6), 0.01, 0.0, 0.0, 0.01)
    result = run(inline, scan_of(field, (6, 6)), subpixel=subpixel)
    assert result["valid"].data.all()
    assert np.abs(result["eps_xx"].data - 0.01).max() < 0.006


@pytest.fixture(scope="module")
def few():
    scan = cbed((4, 5), (64, 64), lattice=((32, 32), (0.5, 14), (14, -0.5)), radius=4.0, dose=20_000, seed=3)
    return scan, scan.array()


@pytest.mark.parametrize("udf", [BlobfinderUDF, StrainUDF])
def test_any_cut(few, udf):
    """Whole frames, or parts of them in any order, give the same numbers."""
    scan, frames = few
    check_udf(udf(lattice_of(scan), 4.0), data=frames, n=8, rtol=1e-5)


def test_any_cut_of_two_lattices(few):
    scan, frames = few
    two = [lattice_of(scan), ((32, 32), (7.0, 12.1), (12.1, -7.0))]
    check_udf(StrainUDF(two, 4.0), data=frames, n=6, rtol=1e-5)


@pytest.mark.parametrize(
    "engine", [FullFrameCorrelation(), SparseCorrelation()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("subpixel", ["auto", "parabola"])
def test_engines_agree(few, inline, engine, subpixel):
    """The engines find the same maxima; the fit does not depend on which found them."""
    scan, frames = few
    ours, other = (
        inline.run_udf(inline.load(frames), BlobfinderUDF(lattice_of(scan), 4.0, e, subpixel))
        for e in (CropCorrelation(scaling=engine.scaling), engine)
    )
    # the transform rounds: 1e-5 of the counts in a frame
    atol = 1e-4 if subpixel == "auto" else 2e-3
    np.testing.assert_allclose(other["centers"].data, ours["centers"].data, atol=atol)
    np.testing.assert_allclose(other["correlation"].data, ours["correlation"].data, rtol=1e-3)


def test_sparse_in_any_parts(few):
    scan, frames = few
    check_udf(
        BlobfinderUDF(lattice_of(scan), 4.0, SparseCorrelation(search=2.0)), data=frames, n=3, rtol=1e-4
    )


def test_engines_refuse(few, inline):
    scan, frames = few
    shift = ff.UDF.aux_data(np.zeros((4, 5, 2)), "nav", (2,))
    with pytest.raises(DataError, match="fixed places"):
        inline.run_udf(frames, BlobfinderUDF(lattice_of(scan), 4.0, SparseCorrelation(), zero_shift=shift))
    source = MemoryLiveSource(frames.reshape(-1, 64, 64), sectors=2, block_frames=5)
    with pytest.raises(UDFError, match="needs whole frames"):
        inline.run_udf(
            inline.load(source, nav_shape=(4, 5)),
            BlobfinderUDF(lattice_of(scan), 4.0, FullFrameCorrelation()),
        )


def test_any_cut_with_shifts(few):
    scan, frames = few
    shift = ff.UDF.aux_data(np.random.default_rng(0).uniform(-0.6, 0.6, (4, 5, 2)), "nav", (2,))
    check_udf(BlobfinderUDF(lattice_of(scan), 4.0, zero_shift=shift), data=frames, n=8, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_dtypes(few, inline, dtype):
    scan, frames = few
    frames = np.minimum(frames, 255)
    truth = inline.run_udf(inline.load(frames), BlobfinderUDF(lattice_of(scan), 4.0))["centers"].data
    other = inline.run_udf(inline.load(frames.astype(dtype)), BlobfinderUDF(lattice_of(scan), 4.0))[
        "centers"
    ].data
    np.testing.assert_allclose(other, truth, atol=1e-5)


def test_roi(few, inline):
    scan, frames = few
    roi = np.zeros((4, 5), bool)
    roi[1:3, 2:] = True
    whole = inline.run_udf(inline.load(frames), StrainUDF(lattice_of(scan), 4.0))
    part = inline.run_udf(inline.load(frames), StrainUDF(lattice_of(scan), 4.0, reference=roi), roi=roi)
    np.testing.assert_allclose(part["a"].data[roi], whole["a"].data[roi], atol=1e-6)
    assert np.isnan(part["eps_xx"].data[~roi]).all()


def test_map_fills_while_frames_arrive(few):
    scan, frames = few
    ctx = ff.Context(executor="inline")
    counts = [
        int(np.isfinite(s["eps_xx"].data).sum())
        for s in ctx.run_udf_iter(ctx.load(frames), StrainUDF(lattice_of(scan), 4.0), partition_frames=5)
    ]
    assert counts == [5, 10, 15, 20]


def test_threads(few):
    scan, frames = few
    one = ff.Context(executor="inline").run_udf(frames, StrainUDF(lattice_of(scan), 4.0))
    two = ff.Context(executor="threads").run_udf(frames, StrainUDF(lattice_of(scan), 4.0), partition_frames=3)
    np.testing.assert_array_equal(one["eps_xx"].data, two["eps_xx"].data)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pattern": 8.0}, "overlap"),
        ({"pattern": 4.0, "lattice": ((32, 32), (0, 14), (0, 28))}, "parallel"),
        ({"lattice": ((-900, 32), (0.5, 700), (700, 0.1))}, "no disk"),
        ({"lattice": ((32, 32), (0.5, 10.5), (200, 0)), "fit": LatticeFit(min_peaks=3)}, "line"),
        ({"lattice": ((32, 32), (0, 40), (40, 0))}, "only 1 disks"),
        ({"pattern": 20.0, "lattice": ((32, 32), (0, 60), (60, 0))}, "smaller than"),
        ({"subpixel": "ml5"}, "Did you mean"),
        ({"gain": 0.0}, "gain"),
        ({"excluded": np.zeros((3, 3), bool)}, "excluded has the shape"),
        ({"reference": np.zeros((4, 5), bool)}, "holds no frame"),
        ({"reference": np.ones((3, 3), bool)}, "the scan"),
        ({"reference": "mean"}, "median"),
        ({"lattice": [LATTICE, LATTICE], "reference": [[0, 10.0], [10.0, 0.0]]}, "for each lattice"),
        ({"reference": [[0, 10.0], [0, 20.0]]}, "parallel"),
        ({"zero_shift": 3}, "aux_data"),
    ],
    ids=lambda v: None if isinstance(v, dict) else v[:12],
)
def test_refused_before_the_run(few, inline, options, message):
    arguments = {"lattice": LATTICE, "pattern": 4.0, **options}
    with pytest.raises(DataError, match=message):
        inline.run_udf(few[1], StrainUDF(**arguments))


def test_complex_and_flat_frames_are_refused(inline):
    with pytest.raises(UDFError, match="real frames"):
        inline.run_udf(np.zeros((2, 2, 64, 64), np.complex64), StrainUDF(LATTICE, 4.0))


def test_empty_roi(few, inline):
    result = inline.run_udf(few[1], StrainUDF(LATTICE, 4.0), roi=np.zeros((4, 5), bool))
    assert np.isnan(result["eps_xx"].data).all()


def test_one_pixel_wide_scan(few, inline):
    result = inline.run_udf(few[1][:, :1], StrainUDF(LATTICE, 4.0))
    assert result["eps_xx"].shape == (4, 1) and result["valid"].data.all()


@pytest.mark.parametrize("value", [0, 3])
def test_constant_frames_are_masked(inline, value):
    frames = np.full((2, 3, 64, 64), value, np.uint16)
    result = inline.run_udf(frames, StrainUDF(LATTICE, 4.0))
    assert not result["valid"].data.any()
    assert np.isnan(result["eps_xx"].data).all()


def test_noise_without_lattice_is_masked(inline):
    frames = np.random.default_rng(0).poisson(5, (4, 4, 64, 64)).astype(np.uint16)
    result = inline.run_udf(frames, StrainUDF(LATTICE, 4.0))
    assert not result["valid"].data.any()


def test_nan_frames_are_masked(few, inline):
    frames = few[1].astype(np.float32)
    frames[1, 1] = np.nan
    result = inline.run_udf(frames, StrainUDF(LATTICE, 4.0))
    assert result["valid"].data.sum() == 19 and not result["valid"].data[1, 1]


def test_options_are_values():
    assert CropCorrelation() == CropCorrelation(None, "sqrt")
    assert LatticeFit() == LatticeFit(5, 5)
    with pytest.raises(DataError, match="scaling"):
        CropCorrelation(scaling="sqr")
    with pytest.raises(DataError, match="search"):
        CropCorrelation(search=0.0)


@pytest.mark.parametrize("mean", [0.1, 20.0])
def test_noise_alone_gives_no_strain(inline, mean):
    frames = np.random.default_rng(0).poisson(mean, (20, 20, *SIG)).astype(np.uint8)
    result = inline.run_udf(inline.load(frames), StrainUDF(LATTICE, 4.0))
    assert not result["valid"].data.any()
