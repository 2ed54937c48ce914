"""Side-band ptychography against a weak-phase simulation, a per-frame reference and lost frames."""

import numpy as np
import pytest

from framefold.errors import DataError, UDFError
from framefold.sim.phase_scan import phase_scan
from framefold.testing.check_udf import check_udf
from framefold.udfs.fourd.kernels import BOTH_BANDS, SINGLE_BAND, pick_pixels, trotters_reference
from framefold.udfs.fourd.optics import Aberrations
from framefold.udfs.fourd.sidebands import sidebands
from framefold.udfs.fourd.ssb import SSBUDF, probe_coverage

N = 32


def smooth_phase(strength=1e-3, n=N, top=5, seed=0):
    """Return a random phase with frequencies up to `top` cycles per field, well inside twice the aperture."""
    rng = np.random.default_rng(seed)
    spectrum = np.zeros((n, n), complex)
    for y in range(-top, top + 1):
        for x in range(-top, top + 1):
            if 0 < y * y + x * x <= top * top:
                spectrum[y, x] = rng.normal() + 1j * rng.normal()
    phase = np.fft.ifft2(spectrum).real
    return strength * phase / np.abs(phase).max()


def ssb(scan, **options):
    o = scan.optics
    return SSBUDF(80e3, o.semiangle, o.radius, o.scan_step, **options)


def run(run_on, scan, frames=None, roi=None, tile=None, data=None, **options):
    given = scan.frames if data is None else data
    return run_on(given, ssb(scan, **options), frames=frames, roi=roi, tile=tile)


ABERRATED = Aberrations(C1=40e-10, A1=(20 + 10j) * 1e-10, B2=30e-9, A2=20e-9j, C3=20e-6)


@pytest.fixture(scope="module")
def plain():
    return phase_scan(smooth_phase(), 0.3e-10)


@pytest.fixture(scope="module")
def aberrated():
    return phase_scan(smooth_phase(), 0.3e-10, aberrations=ABERRATED)


@pytest.mark.parametrize("mode", ["ssb", "wpoa"])
def test_weak_phase_is_found(run_on, plain, mode):
    # the error is that of the weak-phase approximation: terms of second order cancel between the side bands
    found = run(run_on, plain, mode=mode, precision="double")["phase"].data
    assert np.abs(found - plain.phase).max() < 2e-6 * np.abs(plain.phase).max()


@pytest.mark.parametrize("mode", ["ssb", "wpoa"])
def test_aberrations_are_undone(run_on, aberrated, mode):
    c = ABERRATED
    options = {"C1": c.C1, "A1": c.A1, "B2": c.B2, "A2": c.A2, "C3": c.C3}
    found = run(run_on, aberrated, mode=mode, precision="double", **options)["phase"].data
    # aberrations break the symmetry by which second-order terms cancel: they are 1e-3 rad smaller
    assert np.abs(found - aberrated.phase).max() < 2e-3 * np.abs(aberrated.phase).max()
    blind = run(run_on, aberrated, mode=mode, precision="double")["phase"].data
    assert np.abs(blind - aberrated.phase).max() > 0.1 * np.abs(aberrated.phase).max()


@pytest.mark.parametrize("mode", ["ssb", "wpoa"])
def test_rows_against_weights_on_every_frame(run_on, mode):
    """Each frame alone: its bright field times all weights times its phase, as the formula stands."""
    aberrated = phase_scan(smooth_phase(0.3), 0.3e-10, aberrations=ABERRATED)
    udf = run(run_on, aberrated, frames=37, tile=(5, 7, N), mode=mode, C1=40e-10)
    o = aberrated.optics
    k = (np.indices((N, N)) - N // 2) * o.pixel_frequency
    inside = np.hypot(*k) <= o.aperture_frequency
    ky, kx = k[0][inside], k[1][inside]
    side = N // 2
    q = np.fft.fftfreq(side, o.scan_step[0])

    def aperture(y, x):
        chi = np.pi * o.wavelength * 40e-10 * (y**2 + x**2)
        return np.where(np.hypot(y, x) <= o.aperture_frequency, np.exp(-1j * chi), 0)

    frames = aberrated.frames[..., inside]
    spectrum = np.fft.fft2(frames, axes=(0, 1))
    phi = np.zeros((side, side), complex)
    for iy, ix in np.ndindex(side, side):
        w = trotters_reference(ky, kx, q[iy], q[ix], aperture, {"ssb": SINGLE_BAND, "wpoa": BOTH_BANDS}[mode])
        norm = (np.abs(w) ** 2).sum()
        if norm > 1e-3 * inside.sum() and side // 2 not in (iy, ix):
            phi[iy, ix] = -1j * (w.conj() @ spectrum[iy, ix]) / norm
    truth = np.fft.ifft2(phi).real / frames.mean()
    # float32 counts and sums over 256 frames and 300 pixels
    assert np.abs(udf["phase"].data - truth).max() < 1e-5 * np.abs(truth).max()
    np.testing.assert_allclose(udf["bright_field"].data, frames.sum(-1), rtol=1e-6)


def test_damping_follows_the_overlap(run_on, plain):
    """A frequency carried by |W|^2 = S is left with S / (S + w n) of its strength."""
    udf, damped = (run(run_on, plain, precision="double", wiener=w)["spectrum"].data for w in (0.0, 0.5))
    k = (np.indices((N, N)) - N // 2) * plain.optics.pixel_frequency
    inside = np.hypot(*k) <= plain.optics.aperture_frequency
    q = np.fft.fftfreq(N // 2, plain.optics.scan_step[0])

    def aperture(y, x):
        return (np.hypot(y, x) <= plain.optics.aperture_frequency).astype(complex)

    for iy, ix in ((1, 2), (0, 4), (-3, 1)):
        w = trotters_reference(k[0][inside], k[1][inside], q[iy], q[ix], aperture, SINGLE_BAND)
        size = (np.abs(w) ** 2).sum()
        assert damped[iy, ix] / udf[iy, ix] == pytest.approx(size / (size + 0.5 * inside.sum()), rel=1e-5)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_turned_detector(run_on, rotation):
    scan = phase_scan(smooth_phase(), 0.3e-10, scan_rotation=rotation)
    found = run(run_on, scan, scan_rotation=rotation)["phase"].data
    assert np.abs(found - scan.phase).max() < 1e-3 * np.abs(scan.phase).max()


def test_any_cut_order_and_sectors(plain):
    check_udf(ssb(plain, precision="double"), shape=(6, 7, N, N), dtype="uint16", n=12)


def test_lost_frames_leave_no_dark_spots(run_on):
    scan = phase_scan(smooth_phase(0.2), 0.3e-10)
    lost = np.zeros((16, 16), bool)
    lost.flat[np.random.default_rng(1).choice(256, 8, replace=False)] = True
    whole = run(run_on, scan)["phase"].data
    result = run(run_on, scan, roi=~lost)
    valid = result["phase"].valid_mask
    np.testing.assert_array_equal(valid, ~lost)
    error = np.abs(result["phase"].data - whole)[valid]
    # one of about 3 positions that a probe covers is missing where a frame is lost
    assert error.max() < 0.5 * np.abs(whole).max()
    assert np.sqrt((error**2).mean()) < 0.12 * np.sqrt((whole**2).mean())


def test_growing_scan_is_right_where_it_was_seen(run_on):
    scan = phase_scan(smooth_phase(1e-3), 0.3e-10)
    roi = np.zeros((16, 16), bool)
    roi[:8] = True
    result = run(run_on, scan, roi=roi)
    truth = scan.phase
    inner = np.abs(result["phase"].data - truth)[3:5]
    assert inner.max() < 0.15 * np.abs(truth).max()
    assert not result["phase"].valid_mask[12].any()
    assert np.isnan(result["phase"].data[12]).all()


def test_coverage_is_one_where_everything_was_seen(plain):
    geometry = _geometry(plain)
    assert (probe_coverage(geometry, np.ones((16, 16), bool)) == 1).all()
    half = np.zeros((16, 16), bool)
    half[:8] = True
    found = probe_coverage(geometry, half)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert found[3].min() > 0.9


def _geometry(scan, **options):
    from framefold.udfs.fourd.sidebands import Geometry

    return Geometry(
        (N, N), (16, 16), scan.optics, Aberrations(), (N // 2, N // 2), 0.0, False, "ssb", **options
    )


def test_weights_are_made_once(plain):
    assert sidebands(_geometry(plain)) is sidebands(_geometry(plain))


def test_pick_pixels_against_indexing():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 99, (3, 20)).astype("u2")
    pixels, columns, at = np.array([3, 7, 19]), np.array([2, 0, 1]), np.array([4, 0, 2])
    out, total = np.zeros((5, 3), "f4"), np.ones(3)
    rows.flags.writeable = False
    pick_pixels(rows, pixels, columns, at, out, total)
    np.testing.assert_array_equal(out[at][:, columns], rows[:, pixels])
    np.testing.assert_array_equal(total, 1 + rows[:, pixels].sum(1))


@pytest.mark.parametrize("dtype", ["?", "u1", "f2", "i4"])
def test_other_dtypes(run_on, plain, dtype):
    data = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 50, plain.frames.shape).astype(dtype)
    found, truth = (run(run_on, plain, data=d)["phase"].data for d in (data, data.astype("f8")))
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"semiangle": 25.0}, "in rad: for 25.0 mrad give 0.025"),
        ({"scan_step": 0.5}, "in m: for 0.5 Angstrom"),
        ({"voltage": 80.0}, "in V: for 80.0 kV give 80000"),
        ({"radius": -1.0}, "radius=-1.0 must be positive"),
        ({"mode": "wdd"}, "'ssb' or 'wpoa'"),
        ({"precision": "half"}, "'single' or 'double'"),
        ({"wiener": -1}, "wiener=-1 is a share"),
        ({"scan_step": [1e-10]}, "one or two positive lengths"),
    ],
)
def test_wrong_arguments(arguments, message):
    good = {"voltage": 80e3, "semiangle": 0.025, "radius": 8.0, "scan_step": 5e-11}
    with pytest.raises(UDFError, match=message):
        SSBUDF(**{**good, **arguments})


def test_wrong_data(run_on, plain):
    with pytest.raises(UDFError, match="needs a 2-D scan"):
        run_on(np.ones((5, 8, 8)), ssb(plain))
    with pytest.raises(DataError, match=r"pixels of the \(8, 8\) frames lie in the bright-field disk"):
        run_on(np.ones((4, 4, 8, 8)), SSBUDF(80e3, 0.02, 1.0, 5e-11))
    with pytest.raises(DataError, match="no frequency within twice the aperture"):
        run_on(np.ones((2, 2, 8, 8)), SSBUDF(80e3, 0.02, 3.0, 1e-12))
