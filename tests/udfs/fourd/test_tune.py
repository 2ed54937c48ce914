"""Aberrations of a simulated probe are found from the scan itself."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError, UDFError
from framefold.sim.phase_scan import phase_scan
from framefold.testing.check_udf import check_udf
from framefold.udfs import SSBUDF
from framefold.udfs.fourd.optics import Aberrations
from framefold.udfs.fourd.tune import TrottersUDF, explained, find_aberrations, strongest

N = 32


def scan_of(aberrations, dose=None, strength=0.01):
    rng = np.random.default_rng(2)
    spectrum = np.fft.fft2(rng.normal(size=(N, N)))
    q = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N))
    phase = np.fft.ifft2(np.where(q < 0.2, spectrum, 0)).real
    return phase_scan(strength * phase / np.abs(phase).max(), 0.3e-10, aberrations=aberrations, dose=dose)


def udf_of(scan, **options):
    o = scan.optics
    return SSBUDF(80e3, o.semiangle, o.radius, o.scan_step, **options)


@pytest.mark.parametrize(
    "truth",
    [
        Aberrations(),
        Aberrations(C1=6e-9),
        Aberrations(C1=-9e-9),
        Aberrations(C1=4e-9, A1=(2.5 - 1.5j) * 1e-9),
    ],
    ids=["none", "over", "under", "astigmatic"],
)
@pytest.mark.parametrize("mode", ["ssb", "wpoa"])
def test_defocus_and_astigmatism_are_found(truth, mode):
    scan = scan_of(truth)
    found, share = find_aberrations(ff.Context(executor="inline"), scan.frames, udf_of(scan, mode=mode))
    # a depth of field is 6.7 nm; what is left is of second order in the phase, 1e-2 rad
    assert abs(found.C1 - truth.C1) < 0.1e-9
    assert abs(found.A1 - truth.A1) < 0.1e-9
    assert share > 0.99


def test_noise():
    truth = Aberrations(C1=8e-9)
    scan = scan_of(truth, dose=20_000, strength=0.2)
    found, _ = find_aberrations(ff.Context(executor="inline"), scan.frames, udf_of(scan))
    assert abs(found.C1 - truth.C1) < 0.5e-9


def test_trotters_are_the_transform():
    scan = scan_of(Aberrations(C1=3e-9))
    geometry = udf_of(scan).geometry_of(ff.Context(executor="inline").load(scan.frames).shape)
    points = ((1, 2), (15, 0), (3, 5))
    result = ff.Context(executor="inline").run_udf(scan.frames, TrottersUDF(geometry, points))
    truth = np.fft.fft2(scan.frames[..., geometry.bright_field()], axes=(0, 1))
    for row, (y, x) in zip(result["trotters"].data, points, strict=True):
        np.testing.assert_allclose(row, truth[y, x], atol=1e-12)
    assert explained(result["trotters"].data, points, geometry) < 0.9
    with pytest.raises(UDFError, match="the geometry is of"):
        ff.Context(executor="inline").run_udf(np.ones((4, 4, 8, 8)), TrottersUDF(geometry, points))


def test_any_cut():
    scan = scan_of(Aberrations())
    geometry = udf_of(scan).geometry_of(ff.Context(executor="inline").load(scan.frames).shape)
    check_udf(
        TrottersUDF(geometry, ((1, 2), (3, 4))), shape=scan.frames.shape, dtype="uint16", n=8, rtol=1e-9
    )


def test_strongest_frequencies_are_not_mates():
    scan = scan_of(Aberrations())
    geometry = udf_of(scan).geometry_of(ff.Context(executor="inline").load(scan.frames).shape)
    spectrum = np.fft.fft2(scan.phase)
    points = strongest(spectrum, geometry, 30)
    assert (0, 0) not in points
    assert not {((-y) % 16, (-x) % 16) for y, x in points} & set(points)
    size = [abs(spectrum[p]) for p in points]
    assert size == sorted(size, reverse=True)


def test_vacuum_has_no_aberrations():
    scan = phase_scan(np.zeros((N, N)), 0.3e-10)
    with pytest.raises(DataError, match="no structure"):
        find_aberrations(ff.Context(executor="inline"), np.ones_like(scan.frames), udf_of(scan))
    with pytest.raises(DataError, match="3 frequencies or more"):
        find_aberrations(None, None, udf_of(scan), n=2)
