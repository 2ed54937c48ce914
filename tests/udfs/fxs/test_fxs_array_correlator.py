"""Correlation by array operations equals that of the kernels, on every namespace."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.testing import device
from framefold.udfcore.namespace import to_host
from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid, ShotScale, Veto
from framefold.udfs.fxs.array_correlator import ArrayCorrelator
from framefold.udfs.fxs.build import build_operator
from framefold.udfs.fxs.correlator import Correlator, Layout, Live, Sums

GRID = PolarGrid(n_q=6, n_phi=32, q_min=0.05, q_max=0.2)
GEOMETRY = Geometry(distance=0.1, pixel_size=1e-4, wavelength=2e-10, centre=(20.2, 21.1), shape=(40, 44))
rng = np.random.default_rng(4)
FRAMES = rng.poisson(5, (30, 40, 44)).astype("uint16")
DARK = rng.random((40, 44))
BAD = rng.random((40, 44)) > 0.97


def grid():
    q = GEOMETRY.q()
    return PolarGrid(n_q=6, n_phi=32, q_min=float(q.max()) * 0.2, q_max=float(q.max()) * 0.6)


@pytest.fixture(scope="module")
def operator():
    return build_operator(GEOMETRY, grid(), PixelModel(dark=DARK, mask=BAD))


def test_polar_frames_equal_those_of_the_kernel(xp, operator):
    correlator = ArrayCorrelator(xp, Layout(operator.weight, np.arange(17)), operator)
    lost = FRAMES.astype("float32")
    lost[3, 15:22, 20:30] = np.nan
    for frames in (FRAMES, lost):
        want = operator.apply(frames)
        got = to_host(correlator.regrid(xp.asarray(frames)))
        seen = np.broadcast_to(operator.weight > 0, want.shape)
        np.testing.assert_allclose(got[seen], want[seen], rtol=2e-5, atol=2e-5)
        means = correlator.measure(xp.asarray(got)).means
        np.testing.assert_array_equal(np.isfinite(means).all(axis=1), np.isfinite(want[:, operator.weight > 0]).all(axis=1))  # fmt: skip


LAYOUTS = {
    "real": {},
    "complex": {"part": "complex"},
    "not centred": {"centre": False, "part": "complex"},
    "few orders": {"orders": np.array([0, 2, 4, 7])},
    "no order 0": {"orders": np.array([1, 2])},
}


@pytest.mark.parametrize("paired", [False, True], ids=["frames", "pairs"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_products_equal_those_of_the_kernels(xp, name, paired):
    weight = (rng.random((6, 32)) > 0.1).astype("float32")
    layout = Layout(
        weight, **{"orders": np.arange(17), "precision": "float64", "live_rows": (1, 3), **LAYOUTS[name]}
    )
    polar, factors = rng.random((20, 6, 32)), rng.random(20) + 0.5
    items = [(i, i + 1) for i in range(0, 18, 2)] if paired else [(i, -1) for i in range(20) if i != 4]
    groups = rng.integers(0, 2, len(items))
    found = []
    for correlator in (Correlator(layout, None), ArrayCorrelator(xp, layout, None)):
        there = xp.asarray(polar) if isinstance(correlator, ArrayCorrelator) else polar
        sums, live = Sums.zeros(layout), Live.zeros(layout)
        for half in (slice(0, 7), slice(7, None)):
            measured = correlator.measure(correlator.regrid(there))
            correlator.add(measured.polar, items[half], groups[half], factors, sums, live)
        correlator.flush(sums)
        correlator.flush(sums)  # nothing is left
        found.append((measured.means, sums.products, sums.amplitudes, sums.frames, live.diagonals, live.rows))
    for want, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"part": "complex", "pairing": "consecutive"}], ids=["default", "pairs"]
)
def test_a_run_on_a_device_equals_the_host(device_xp, options):
    veto = Veto.threshold(lo=float(np.median(FRAMES.mean(axis=(1, 2)))) * 0.98)
    udf = C2UDF(GEOMETRY, grid(), mask=BAD, veto=veto, scale=ShotScale.aux(np.linspace(1, 2, 30)), **options)
    with ff.Context(executor="inline") as ctx:
        ds = ctx.load(FRAMES, sig_dims=2)
        here, there = (ctx.run_udf(ds, udf, backends=b, partition_frames=16) for b in ("numpy", "cupy"))
    np.testing.assert_array_equal(there["veto_code"].data, here["veto_code"].data)
    np.testing.assert_array_equal(there["product_frames"].data, here["product_frames"].data)
    for name in ("products", "amplitudes", "saxs", "contrast", "score"):
        scale = np.nanmax(np.abs(here[name].data))
        np.testing.assert_allclose(there[name].data, here[name].data, rtol=0, atol=3e-5 * scale, err_msg=name)


def test_frames_stay_on_the_device(operator):
    """Means cross to the host, decisions back, projections that are watched to the host: all small."""
    from framefold.udfcore.namespace import standing_in

    with standing_in(device):
        correlator = ArrayCorrelator(device, Layout(operator.weight, np.arange(17)), operator)
        tile, sums = device.asarray(FRAMES), Sums.zeros(correlator.layout)
        device.traffic.reset()
        measured = correlator.measure(correlator.regrid(tile))
        correlator.add(measured.polar, [(i, -1) for i in range(30)], np.zeros(30, int), np.ones(30), sums)
        assert device.traffic.bytes_to_host == measured.means.nbytes
        assert device.traffic.bytes_to_device < 30 * 8 * 4
        assert device.traffic.syncs == 0


def test_what_has_no_formula_stays_on_the_host():
    for given in ({"mask": "per-frame"}, {"saturation": 100.0}, {"pixels": PixelModel(adu_per_photon=3.0)}):
        assert C2UDF(GEOMETRY, grid(), **given).get_backends() == ("numpy",)
    assert "cupy" in C2UDF(None, GRID).get_backends()
