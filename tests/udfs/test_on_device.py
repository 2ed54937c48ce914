"""Built-in reductions give on a device what they give on the host."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold import udfs
from framefold.udfcore.backend import Backends

rng = np.random.default_rng(3)
SIG = (8, 10)
DATA = {
    "uint16": rng.integers(0, 4000, (5, 6, *SIG)).astype("uint16"),
    "int8": rng.integers(-100, 100, (5, 6, *SIG)).astype("int8"),
    "float32": rng.normal(10, 3, (5, 6, *SIG)).astype("float32"),
}
ROI = rng.random((5, 6)) > 0.3
MASKS = [np.ones(SIG), rng.random(SIG), rng.random(SIG) > 0.7]
LABELS = rng.integers(-1, 3, (5, 6))
# every reduction, with the parameters that it needs; those that do not run on a device stand apart below
CASES = {
    "ApplyMasksUDF": lambda: udfs.ApplyMasksUDF(MASKS),
    "ApplyMasksUDF, integers": lambda: udfs.ApplyMasksUDF([np.arange(80).reshape(SIG), MASKS[2]]),
    "ApplyMasksUDF, complex": lambda: udfs.ApplyMasksUDF(MASKS[1] * np.exp(1j * MASKS[1])),
    "AutoUDF, kernel": lambda: udfs.AutoUDF(np.std),
    "AutoUDF, function": lambda: udfs.AutoUDF(lambda frame: frame.sum(axis=0) * 2),
    "CoMUDF": lambda: udfs.CoMUDF(r=3.5, regression=1),
    "CrystallinityUDF": lambda: udfs.CrystallinityUDF(1, 3, real_center=(4, 5), real_rad=1.5),
    "DPCUDF": lambda: udfs.DPCUDF(r=3.5),
    "FEMUDF": lambda: udfs.FEMUDF((4, 5), 1, 3),
    "FrameStatsUDF": lambda: udfs.FrameStatsUDF(saturation=60),
    "GroupedSumUDF": lambda: udfs.GroupedSumUDF(LABELS),
    "HistogramUDF": lambda: udfs.HistogramUDF(bins=[-50, -10, 0, 8, 9.5, 300], range=None),
    "LogSumUDF": udfs.LogSumUDF,
    "MaxUDF": udfs.MaxUDF,
    "MeanUDF": udfs.MeanUDF,
    "MinUDF": udfs.MinUDF,
    "MonitorUDF": udfs.MonitorUDF,
    "PercentileUDF": lambda: udfs.PercentileUDF((10, 50), range=(0, 20)),
    "PickUDF": udfs.PickUDF,
    "RadialProfileUDF": lambda: udfs.RadialProfileUDF(center=(3.5, 5.2), split=True),
    "StdDevUDF": udfs.StdDevUDF,
    "SumSigUDF": udfs.SumSigUDF,
    "SumUDF": udfs.SumUDF,
    "VirtualDetectorUDF": lambda: udfs.VirtualDetectorUDF("annuli", radii=(0, 2, 4)),
}
HOST_ONLY = {"RecordUDF", "SpectralPeaksUDF"}
ELSEWHERE = {"BlobfinderUDF", "C2UDF", "ICoMUDF", "Ptychography", "SSBUDF", "StrainUDF"}  # tests of their own


def test_every_reduction_is_tried():
    assert {name.split(",")[0] for name in CASES} | HOST_ONLY | ELSEWHERE == set(udfs.__all__)
    for name in HOST_ONLY:
        assert not getattr(udfs, name).engine.device


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


def both(ctx, data, make, **options):
    """Return results on the host and on the device of the same run, in two tiles of two partitions at least."""
    ds = ctx.load(data, sig_shape=SIG)
    return [
        ctx.run_udf(ds, make(), partition_frames=7, backends=backend, **options)
        for backend in ("numpy", "cupy")
    ]


def same(host, device, rtol):
    assert host.keys() == device.keys()
    for name in host:
        a, b = host[name], device[name]
        assert isinstance(b.data, np.ndarray)
        assert a.data.dtype == b.data.dtype, name
        np.testing.assert_array_equal(a.valid_mask, b.valid_mask, err_msg=name)
        if a.data.dtype.kind in "fc":
            scale = np.nanmax(np.abs(a.data), initial=1e-300, where=np.isfinite(a.data))
            np.testing.assert_allclose(b.data, a.data, rtol=0, atol=rtol * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(b.data, a.data, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_host(ctx, device_xp, name):
    make = CASES[name]
    assert Backends.BACKEND_CUPY in make().get_backends() or name.startswith("AutoUDF")
    # in single precision only where transforms are; the host sums products of float32 in blocks of float32
    rtol = 1e-5 if name in ("CrystallinityUDF", "ApplyMasksUDF", "ApplyMasksUDF, complex") else 1e-11
    same(*both(ctx, DATA["uint16"], make, roi=ROI), rtol)
    same(*both(ctx, DATA["float32"], make), max(rtol, 2e-6))  # numpy's own float32 functions


@pytest.mark.parametrize("name", ["SumUDF", "SumSigUDF", "MeanUDF", "StdDevUDF", "CoMUDF", "HistogramUDF"])
def test_equals_the_host_with_corrections(ctx, device_xp, name):
    bad = np.zeros(SIG, bool)
    bad[2, 3] = True
    corrections = ff.Corrections(dark=MASKS[1], gain=MASKS[1] + 0.5, excluded_pixels=bad)
    same(*both(ctx, DATA["int8"], CASES[name], corrections=corrections), 2e-6)
