"""``framefold fxs`` from simulated shots to invariants."""

import argparse

import h5py
import numpy as np
import pytest

from framefold.cli import fxs_arguments
from framefold.cli.main import main
from framefold.errors import FramefoldError
from framefold.udfs.fxs import Correlation


@pytest.fixture
def shots(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main(
        [
            "fxs",
            "simulate",
            "shots.h5",
            "--particle",
            "blobs:12:3",
            "--shots",
            "60",
            "--photons",
            "2e4",
            "--size",
            "48",
            "--pixel-size",
            "2e-3",
            "--distance",
            "0.7",
            "--panels",
            "2,2",
            "--gap",
            "2",
            "--no-progress",
        ]
    )
    assert code == 0
    assert "60 shots of 12 blobs" in capsys.readouterr().out
    return tmp_path


def test_from_shots_to_invariants(shots, capsys):
    c2 = [
        "fxs",
        "c2",
        "shots.h5",
        "--geometry",
        "shots.poni",
        "--adu-per-photon",
        "1",
        "--nq",
        "12",
        "--nphi",
        "32",
        "--no-progress",
    ]
    assert main([*c2, "--dry-run"]) == 0
    assert "of the bins covered, 17 orders" in capsys.readouterr().out
    assert main([*c2, "--save", "c2.nxs"]) == 0
    told = capsys.readouterr().out
    assert "60 shots correlated, hit rate 100.0 %" in told
    assert "photon self-term: subtracted" in told
    assert main([*c2, "--save", "c2.nxs"]) == 2
    assert "c2.nxs exists" in capsys.readouterr().err
    assert main(["fxs", "show", "c2.nxs", "--plot", "show.png"]) == 0
    assert "CC1/2" in capsys.readouterr().out
    assert (shots / "show.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["fxs", "invert", "c2.nxs", "--lmax", "4", "--save", "bl.nxs", "--plot", "bl.png"]) == 0
    with h5py.File("bl.nxs") as f:
        assert f["entry/data/B_l"].shape == (3, 12, 12)
    assert main(["fxs", "filter", "bl.nxs", "--diameter", "120", "--save", "clean.nxs"]) == 0
    assert "saved to clean.nxs" in capsys.readouterr().out


def test_scales_and_vetoes(shots, capsys):
    base = ["fxs", "c2", "shots.h5", "--geometry", "shots.poni", "--nq", "8", "--nphi", "32", "--no-progress"]
    np.save("energy.npy", np.ones(60))
    np.save("use.npy", np.arange(60) < 20)
    assert main([*base, "--scale", "energy.npy", "--veto", "use.npy"]) == 0
    assert "20 shots correlated" in capsys.readouterr().out
    assert main([*base, "--scale", "ring:0.02,0.05", "--veto", "0:1e9", "--center", "none"]) == 0
    assert main([*base, "--veto", "sometimes"]) == 2
    assert "--veto 'sometimes': auto, auto:K" in capsys.readouterr().err
    assert main(["fxs", "c2", "shots.h5"]) == 2
    assert "--geometry is missing" in capsys.readouterr().err


def test_masks_that_may_differ_are_the_fixed_mask_where_they_do_not(shots, capsys):
    base = ["fxs", "c2", "shots.h5", "--geometry", "shots.poni", "--nq", "8", "--nphi", "32", "--no-progress"]
    assert main([*base, "--adu-per-photon", "1", "--save", "fixed.nxs"]) == 0
    capsys.readouterr()
    more = ["--mask-per-frame", "--saturation", "1e6", "--adu-per-photon", "1", "--save", "each.nxs"]
    assert main([*base, *more]) == 0
    assert "photon self-term: subtracted" in capsys.readouterr().out
    fixed, each = (Correlation.load(name) for name in ("fixed.nxs", "each.nxs"))
    plain = fixed.c_m(self_term=False)[1:]
    rounding = 1e-5 * np.nanmax(abs(plain))
    np.testing.assert_allclose(each.c_m(self_term=False)[1:], plain, atol=rounding)
    # the self-term is that of 32 of the 60 shots, and of all: relative to the sum over a ring it differs as ring
    # means do from shot to shot, photons and speckles; pairs of bins, by which it is divided, are at least 2 %
    h = np.array([fixed.self_term.of_ring(q, 8)[q, 1:].max() for q in range(8)])
    error = h * np.sqrt((fixed.saxs2 / fixed.saxs**2 - 1) * (1 / 32 - 1 / 60))
    measured = np.maximum(fixed.mask_correlation().min(axis=2), 0.02)
    apart = abs(each.c_m() - fixed.c_m())[1:]
    assert (np.nan_to_num(apart) <= 5 * np.sqrt(error[:, None] * error) / measured + rounding).all()
    np.testing.assert_array_equal(np.isnan(each.c_m()), np.isnan(fixed.c_m()))


def test_a_file_of_something_else_is_refused(tmp_path, capsys):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        f["a"] = 1
    assert main(["fxs", "show", str(path)]) == 2
    assert "holds no correlations" in capsys.readouterr().err


def test_a_geom_file_is_a_geometry(tmp_path):
    path = tmp_path / "run.geom"
    panel = {"min_fs": 0, "max_fs": 3, "min_ss": 0, "max_ss": 1, "corner_x": -2, "corner_y": -1}
    path.write_text("clen = /run/clen\nres = 1000\n" + "".join(f"p/{k} = {v}\n" for k, v in panel.items()))
    parser = argparse.ArgumentParser()
    fxs_arguments.add_detector(parser)
    given = parser.parse_args(["--geometry", str(path), "--clen", "0.3", "--energy", "8000"])
    geo = fxs_arguments.make_geometry(given)
    np.testing.assert_allclose(geo.pixel_map[:, 1, 0], [-1.5e-3, 0.5e-3, 0.3])
    assert geo.photon_energy == pytest.approx(8000)
    given.geometry = "run.poni"
    with pytest.raises(FramefoldError, match="--clen is for .geom files"):
        fxs_arguments.make_geometry(given)
