"""Disks and lattices by array operations equal those of the kernels, and stay on the device."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

import framefold as ff
from framefold.sim import deformation
from framefold.sim.stem import cbed
from framefold.testing import device
from framefold.udfcore.namespace import to_host
from framefold.udfs.blobfinder.array_engine import ArrayAssembly, ArrayEngine, template_of
from framefold.udfs.blobfinder.array_lattice import fit_arrays
from framefold.udfs.blobfinder.correlate import CropCorrelation, FullFrameCorrelation
from framefold.udfs.blobfinder.disks import measure_frames, plan_disks, scratch_of
from framefold.udfs.blobfinder.kernels_fit import LOW_SNR, NOT_CONVERGED, TILTED
from framefold.udfs.blobfinder.lattice import LatticeFit, Lattices, as_lattice, empty_lattices, fit_block
from framefold.udfs.blobfinder.meter import Peaks, empty_peaks
from framefold.udfs.blobfinder.patterns import RadialGradient, as_pattern
from framefold.udfs.blobfinder.strain_udf import StrainUDF

SIG = (96, 96)
NAMES = tuple(Peaks.__dataclass_fields__)


@pytest.fixture(scope="module")
def scan():
    field = deformation.smooth_random((3, 4), amplitude=0.01, length=2.0)
    return cbed(
        (3, 4), SIG, strain=field, dose=30_000, background=0.5, falloff=0.5, missing=0.2, bend=8.0, seed=2
    )


def plan_for(scan, subpixel="auto", pattern=None, **options):
    t = scan.truth
    given = {"gain": 1.0, "min_snr": 4.0, "saturation": None, "excluded": None, **options}
    return plan_disks(
        SIG,
        as_lattice((t.zero, t.a, t.b)),
        pattern or as_pattern(scan.radius),
        CropCorrelation(),
        subpixel,
        **given,
    )


def frames_of(scan):
    return scan.array().reshape(-1, *SIG)


def room(xp, n, m):
    return Peaks(**{k: xp.asarray(getattr(empty_peaks(n, m), k)) for k in NAMES})


def quiet(xp):
    """No transfer and no wait inside, where that is counted."""
    return device.traffic.none_allowed() if xp is device else nullcontext()


def both(xp, plan, frames, shift=None):
    """Return the disks of the kernels and of the arrays."""
    n, m = len(frames), len(plan.hk)
    want, got = empty_peaks(n, m), room(xp, n, m)
    measure_frames(plan, frames, shift, want, scratch_of(plan))
    engine = ArrayEngine(xp, plan)
    tile, moved = xp.asarray(frames), None if shift is None else xp.asarray(shift)
    with np.errstate(all="ignore"), quiet(xp):
        engine.measure_frames(tile, moved, got)
    return want, Peaks(**{k: to_host(getattr(got, k)) for k in NAMES})


def equal(want, got, away=0.002):
    """Equal to 1e-4 px; `away`: the share of disks at whose borderline another decision is allowed."""
    decided = want.flags == got.flags
    assert np.mean(~decided) <= away
    np.testing.assert_array_equal(np.isnan(want.centers[decided]), np.isnan(got.centers[decided]))
    good = decided & ((want.flags & (NOT_CONVERGED | LOW_SNR)) == 0) & np.isfinite(want.amplitude)
    assert np.mean(good) > 0.4
    assert np.abs(want.centers[good] - got.centers[good]).max() < 1e-4
    for name, rtol in (("sigma", 2e-3), ("amplitude", 1e-3), ("background", 5e-3), ("correlation", 1e-4), ("prominence", 1e-4), ("chi2", 2e-3)):  # fmt: skip
        a, b = getattr(want, name)[good], getattr(got, name)[good]
        np.testing.assert_allclose(b, a, rtol=rtol, atol=2e-4 * np.nanmax(np.abs(a), initial=0), err_msg=name)
    np.testing.assert_allclose(got.tilt[good], want.tilt[good], atol=2e-3 * np.nanmax(want.amplitude))


@pytest.mark.parametrize("subpixel", ["parabola", "ml4", "ml6", "auto"])
def test_disks_equal_those_of_the_kernels(xp, scan, subpixel):
    want, got = both(xp, plan_for(scan, subpixel), frames_of(scan))
    equal(want, got)
    if subpixel == "ml6":
        assert (got.flags & TILTED).any()


def test_bad_and_full_pixels_and_shifts(xp, scan):
    frames = frames_of(scan).astype(np.float32)
    frames[0, 40:44, 40:60] = np.nan
    excluded = np.zeros(SIG, bool)
    excluded[:, 46:49] = True
    shift = np.random.default_rng(0).uniform(-9, 9, (len(frames), 2))
    plan = plan_for(scan, excluded=excluded, saturation=float(np.quantile(frames[1:], 0.995)))
    want, got = both(xp, plan, np.nan_to_num(frames, nan=0.0), shift)
    equal(want, got, away=0.01)
    want, got = both(xp, plan_for(scan, pedestal=-0.4), frames)
    equal(want, got)


def test_a_measured_pattern(xp, scan):
    equal(*both(xp, plan_for(scan, "ml4", RadialGradient(scan.radius)), frames_of(scan)))


def test_parts_of_frames_are_put_together(xp, scan):
    plan, frames = plan_for(scan), frames_of(scan)[:3]
    engine = ArrayEngine(xp, plan)
    assembly, got = ArrayAssembly(engine, 5, 3), room(xp, 3, len(plan.hk))
    assert not assembly.add(xp.asarray(frames[:, :50]), (0, 0), 5, None)
    np.testing.assert_array_equal(assembly.incomplete(), [0, 1, 2])
    assert assembly.add(xp.asarray(frames[:, 50:]), (50, 0), 5, None)
    with np.errstate(all="ignore"):
        assembly.measure(5, 3, None, got)
    want = empty_peaks(3, len(plan.hk))
    measure_frames(plan, frames, None, want, scratch_of(plan))
    equal(want, Peaks(**{k: to_host(getattr(got, k)) for k in NAMES}), away=0.01)
    assert not len(assembly.incomplete())


def test_the_template_comes_back_from_its_taps(scan):
    meter = plan_for(scan).meter
    np.testing.assert_allclose(template_of(meter), as_pattern(scan.radius).template(meter.half), atol=2e-6)


@pytest.mark.parametrize("rounds", [0, 5])
def test_lattices_equal_those_of_the_kernel(xp, rounds):
    rng = np.random.default_rng(5)
    hk = np.mgrid[-3:4, -3:4].reshape(2, -1).T.astype(float)
    vectors = rng.normal(0, 0.3, (20, 3, 2)) + [[48, 48], [0, 14], [14, 0]]
    centers = vectors[:, :1] + hk @ vectors[:, 1:] + rng.normal(0, 0.05, (20, 49, 2))
    centers[rng.random((20, 49)) < 0.1] += 5  # outliers
    centers[3, 4:] = np.nan  # too few
    sigma = rng.uniform(0.02, 0.2, centers.shape)
    usable = rng.random((20, 49)) > 0.2
    usable[7] = hk[:, 0] == 0  # on a line
    fit, want, there = LatticeFit(rounds=rounds), empty_lattices(20, 49), empty_lattices(20, 49)
    got = Lattices(**{k: xp.asarray(v) for k, v in vars(there).items()})
    fit_block(centers, sigma, usable, hk, fit, want)
    given = [xp.asarray(a) for a in (centers, sigma, usable, hk)]
    with np.errstate(all="ignore"), quiet(xp):
        fit_arrays(xp, *given, fit, got)
    assert np.isnan(want.a[[3, 7]]).all()
    for name, a in vars(want).items():
        b = to_host(getattr(got, name))
        if a.dtype.kind == "f":
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(b, a, err_msg=name)


def test_strain_on_a_device_equals_the_host(device_xp, scan):
    t = scan.truth

    def udf(**options):
        return StrainUDF((t.zero, t.a, t.b), scan.radius, reference=np.stack([t.a, t.b]), **options)

    roi = np.ones((3, 4), bool)
    roi[1, 2] = False
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(scan)
        a = ctx.run_udf(ds, udf(), roi=roi, partition_frames=5)
        b = ctx.run_udf(ds, udf(), roi=roi, partition_frames=5, backends="cupy")
    np.testing.assert_array_equal(a["valid"].data, b["valid"].data)
    for name in ("eps_xx", "eps_yy", "eps_xy", "theta", "zero", "a", "b"):
        np.testing.assert_allclose(b[name].data, a[name].data, atol=2e-5, err_msg=name)
    # what has no formula stays on the host
    for only in (
        {"subpixel": "com"},
        {"correlation": FullFrameCorrelation()},
        {"correlation": CropCorrelation(hybrid=0.5)},
        {"fit": LatticeFit(match="nearest")},
    ):
        assert udf(**only).get_backends() == ("numpy",)
