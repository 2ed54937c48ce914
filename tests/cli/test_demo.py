"""The demo on a small scan: files, and physics that comes out as it was put in."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.cli.demo import demo
from framefold.cli.demo_data import Calibrated, deflection, make_scan, write_scan
from framefold.context import Context
from framefold.io.save import load_results


def test_the_file_holds_the_scan_and_its_axes(tmp_path):
    scan = make_scan((6, 5), (48, 48))
    write_scan(Calibrated(scan), tmp_path / "scan.nxs")
    with Context(executor="inline") as ctx:
        ds = ctx.load(tmp_path / "scan.nxs")
        assert ds.shape == (6, 5, 48, 48)
        assert [(a.name, a.units) for a in ds.axes] == [("y", "m"), ("x", "m"), ("ky", "1/m"), ("kx", "1/m")]
        assert np.array_equal(ctx.map(ds, np.sum).data, scan.array().sum((2, 3)))


def test_the_field_points_away_from_positive_charge():
    field = deflection((64, 64))
    y, x = 19, 17  # the first precipitate
    assert field[y - 5, x, 0] < 0 < field[y + 5, x, 0]
    assert field[y, x - 5, 1] < 0 < field[y, x + 5, 1]


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    assert demo(make_scan((16, 16), (64, 64)), tmp_path, workers=0) == 0
    out = capsys.readouterr().out
    assert "agrees with the one put in to 0." in out
    assert (tmp_path / "demo.png").read_bytes()[:4] == b"\x89PNG"
    results = load_results(tmp_path / "demo.nxs")
    assert {"sum_intensity", "std_std", "com_field", "adf_intensity", "df_intensity"} <= set(results)
    with Context(executor="inline") as ctx:
        assert ctx.load(tmp_path / "scan.nxs").shape == (16, 16, 64, 64)
    assert np.array_equal(results["sum_intensity"].data, make_scan((16, 16), (64, 64)).array().sum((0, 1)))
