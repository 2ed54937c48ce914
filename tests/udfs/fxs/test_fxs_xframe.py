"""Correlations against those of xFrame 0.9.8, stored: it was run as a program on the patterns made here.

`benchmarks/fxs_xframe.py` drives it, and says how its polar images come about.
"""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

import framefold as ff
from framefold.udfs.fxs import C2UDF, PolarGrid

SIDE, CENTRE, N_PHI = 32, (15.3, 15.7), 16
PIXEL, DISTANCE, WAVELENGTH = 200e-6, 0.8, 1.23984


@pytest.fixture(scope="module")
def theirs():
    return np.load(Path(__file__).parent / "data" / "xframe_c2.npz")


@pytest.fixture(scope="module")
def polar(theirs):
    """Five patterns whose orders 2 and 5 turn, interpolated with splines of order 2."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    r = 2 * np.hypot(rows - CENTRE[0], columns - CENTRE[1]) / SIDE
    phi = np.arctan2(columns - CENTRE[1], rows - CENTRE[0])
    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, 5)
    images = [100 * np.exp(-r) * (1 + 0.3 * np.cos(2 * (phi - t) + 4 * r) + 0.2 * np.cos(5 * (phi - t) - 1.5 * r))
              for t in turns]  # fmt: skip
    radius = DISTANCE / PIXEL * np.tan(2 * np.arcsin(theirs["q"] * WAVELENGTH / (4 * np.pi)))
    angles = np.stack([np.cos(theirs["phi"]), np.sin(theirs["phi"])])
    places = np.asarray(CENTRE)[:, None, None] + radius[:, None] * angles[:, None]
    return np.stack(
        [scipy.ndimage.map_coordinates(x.astype("f4").astype("f8"), places, order=2) for x in images]
    )


def test_correlations_are_those_of_xframe(polar, theirs):
    """Both sum float64 numbers of the same polar images: they differ by rounding; the sign of D is the same."""
    n_q = len(theirs["q"])
    udf = C2UDF(None, PolarGrid(n_q, N_PHI, 0.0, 0.02), center="none", part="complex", precision="float64",
                halves=False)  # fmt: skip
    with ff.Context(executor="inline") as ctx:
        res = ctx.run_udf(ctx.load(polar, sig_dims=2), udf)
    c = udf.correlation(res)
    np.testing.assert_allclose(c.saxs, theirs["saxs"], rtol=1e-10)
    ours = c.c2(covariance=False, mean=True)
    np.testing.assert_allclose(ours, theirs["c2"], atol=1e-10 * theirs["c2"].max())
    assert np.abs(ours[:, :, ::-1] - theirs["c2"]).max() > 1e-3 * theirs["c2"].max()
