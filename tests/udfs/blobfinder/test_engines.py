"""Correlation of whole frames against transforms by the definition, and the choice between engines."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.live.memory import MemoryLiveSource
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder.blobfinder_udf import BlobfinderUDF
from framefold.udfs.blobfinder.correlate import CropCorrelation, FullFrameCorrelation, SparseCorrelation
from framefold.udfs.blobfinder.disks import corners_of, plan_disks
from framefold.udfs.blobfinder.engines import CropEngine, FullFrameEngine
from framefold.udfs.blobfinder.lattice import as_lattice
from framefold.udfs.blobfinder.patterns import Disk, RadialGradient

NOTHING = {"gain": 1.0, "min_snr": 5.0, "saturation": None, "excluded": None}


@pytest.fixture(scope="module")
def scan():
    return cbed((3, 4), (64, 64), ((32, 32), (0.5, 14), (14, -0.5)), 4.0, dose=30_000, seed=2)


def lattice_of(scan):
    return (scan.truth.zero, scan.truth.a, scan.truth.b)


@pytest.mark.parametrize("hybrid", [1.0, 0.6, 0.0])
def test_hybrid_against_the_definition(hybrid):
    lattice = as_lattice(((32, 32), (0.5, 14), (14, -0.5)))
    plan = plan_disks((64, 64), lattice, Disk(4.0), FullFrameCorrelation(hybrid=hybrid), "ml4", **NOTHING)
    frame = np.random.default_rng(0).poisson(9, (1, 64, 64)).astype(np.uint16)
    corners, _ = corners_of(plan, None)
    m = plan.meter
    maps = plan.engine.part(frame, 0, 0, corners).reshape(-1, m.width, m.width)
    # the template in the corner of a frame that is padded with zeros, double precision
    n = plan.engine._shape[0]
    template = np.zeros((n, n))
    template[: 2 * m.half + 1, : 2 * m.half + 1] = Disk(4.0).template(m.half)
    G = np.fft.fft2(np.sqrt(frame[0].astype(float)), (n, n)) * np.conj(np.fft.fft2(template))
    # a zero-mean template has no wave of zero frequency, and rounding gives it no phase
    weight = np.where(np.abs(G) > 1e-6 * np.abs(G).max(), np.abs(G), np.inf) ** (hybrid - 1)
    truth = np.fft.ifft2(G if hybrid == 1 else G * weight).real
    at = np.rint(plan.expected).astype(int) - m.half
    for values, (y, x) in zip(maps, at, strict=True):
        s = np.arange(-m.shifts, m.shifts + 1)
        ys, xs = np.meshgrid(y + s, x + s, indexing="ij")
        inside = (ys >= -m.half) & (ys < 64 - m.half) & (xs >= -m.half) & (xs < 64 - m.half)
        here = values[: len(s), : len(s)][inside]
        np.testing.assert_allclose(here, truth[ys % n, xs % n][inside], atol=2e-4 * np.abs(truth).max())


@pytest.mark.parametrize("engine", [CropCorrelation(), CropCorrelation(hybrid=0.6), SparseCorrelation(),
                                    FullFrameCorrelation(), FullFrameCorrelation(hybrid=0.6), "auto"])  # fmt: skip
def test_every_engine_goes_with_every_refinement(scan, inline, engine):
    udfs = [
        BlobfinderUDF(lattice_of(scan), 4.0, engine, subpixel)
        for subpixel in ("auto", "ml4", "ml6", "parabola", "upsample", "com")
    ]
    for udf, result in zip(udfs, inline.run_udf(inline.load(scan), udfs), strict=True):
        off = result["centers"].data.reshape(12, -1, 2) - scan.truth.centres
        flags = result["flags"].data.reshape(12, -1)
        fine = flags & 7 == 0
        assert fine.sum() > 0.9 * (flags & 3 == 0).sum() > 0
        limit = 0.1 if udf.params.subpixel in ("auto", "ml4", "ml6") else 0.35
        assert np.sqrt((off[fine] ** 2).mean()) < limit


def test_hybrid_crops_against_the_definition():
    lattice = as_lattice(((32, 32), (0.5, 14), (14, -0.5)))
    plan = plan_disks((64, 64), lattice, Disk(4.0), CropCorrelation(hybrid=0.4), "ml4", **NOTHING)
    m = plan.meter
    crops = np.random.default_rng(0).poisson(9, (1, 2, m.size, m.size)).astype(np.float32)
    maps = plan.engine.maps(crops).reshape(2, m.width, m.width)
    template = np.zeros((m.size, m.size))
    template[: 2 * m.half + 1, : 2 * m.half + 1] = Disk(4.0).template(m.half)
    n = 2 * m.shifts + 1
    for crop, values in zip(crops[0].astype(float), maps, strict=True):
        G = np.fft.fft2(np.sqrt(crop)) * np.conj(np.fft.fft2(template))
        G[0, 0] = 0.0  # a zero-mean template has none, and rounding gives it no phase
        G *= np.where(G == 0, 1.0, np.abs(G)) ** (0.4 - 1)
        truth = np.fft.ifft2(G).real[:n, :n]
        np.testing.assert_allclose(values[:n, :n], truth, atol=2e-4 * np.abs(truth).max())


@pytest.mark.parametrize("hybrid", [0.7, 0.3])
def test_hybrid_leads_to_the_same_fit(scan, inline, hybrid):
    ours, other = (
        inline.run_udf(inline.load(scan), BlobfinderUDF(lattice_of(scan), 4.0, e, "ml4"))
        for e in (CropCorrelation(), FullFrameCorrelation(hybrid=hybrid))
    )
    off = other["centers"].data - ours["centers"].data
    # the last step of a fit gains less than a fiftieth of a chi2: a seventh of sigma, from either side
    assert np.abs(off / ours["sigma"].data).max() < 0.3
    assert np.sqrt(np.mean((off / ours["sigma"].data) ** 2)) < 0.1


def test_no_errors_from_heights_without_scale(scan, inline):
    udf = BlobfinderUDF(lattice_of(scan), 4.0, FullFrameCorrelation(hybrid=0.5), "parabola")
    found = inline.run_udf(inline.load(scan), udf)
    assert (found["sigma"].data == 0).all() and not (found["flags"].data & 8).any()


@pytest.mark.parametrize(
    "sig, spacing, pattern, kind",
    [(256, 44, Disk(6.0), CropEngine), (128, 14, Disk(6.0), CropEngine),
     (256, 44, RadialGradient(20.0), FullFrameEngine)],
    ids=["sparse", "dense", "large"],
)  # fmt: skip
def test_auto_chooses_the_cheaper(sig, spacing, pattern, kind):
    lattice = as_lattice(((sig / 2, sig / 2), (0, spacing), (spacing, 0)))
    plan = plan_disks((sig, sig), lattice, pattern, "auto", "ml4", **NOTHING)
    assert isinstance(plan.engine, kind)


def test_auto_finds_the_same_whole_and_in_parts(inline, monkeypatch):
    monkeypatch.setattr("framefold.udfs.blobfinder.correlate._TRANSFORM", 0.1)
    lattice = ((32, 32), (0.5, 14), (14, -0.5))
    scan = cbed((3, 4), (64, 64), lattice, 4.0, dose=30_000, seed=2)
    frames = scan.array()
    plan = plan_disks((64, 64), as_lattice(lattice), Disk(4.0), "auto", "auto", **NOTHING)
    assert isinstance(plan.engine, FullFrameEngine)
    crops = inline.run_udf(inline.load(frames), BlobfinderUDF(lattice, 4.0))
    whole = inline.run_udf(inline.load(frames), BlobfinderUDF(lattice, 4.0, "auto"))
    source = MemoryLiveSource(frames.reshape(-1, 64, 64), sectors=2, block_frames=5)
    parts = inline.run_udf(inline.load(source, nav_shape=(3, 4)), BlobfinderUDF(lattice, 4.0, "auto"))
    for other in (whole, parts):
        np.testing.assert_allclose(other["centers"].data, crops["centers"].data, atol=1e-4)


def test_refused(scan):
    with pytest.raises(DataError, match="hybrid is between 0"):
        FullFrameCorrelation(hybrid=1.5)
    with pytest.raises(DataError, match="correlation 'best'.*CropCorrelation"):
        BlobfinderUDF(lattice_of(scan), 4.0, "best")
