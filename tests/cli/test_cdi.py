"""``framefold cdi`` on small patterns with known objects."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.cli.cdi import centred
from framefold.errors import FramefoldError
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi.align import align

RECIPE = "ER**20*(Sup*ER**10*HIO**40)**5"


@pytest.fixture(scope="module")
def pattern():
    return coherent_pattern((40, 40), 0.35, photons=1e7, seed=3)


def write_cxi(path, pattern):
    with h5py.File(path, "w") as f:
        f["cxi_version"] = 160
        entry = f.create_group("entry_1")
        entry["instrument_1/source_1/energy"] = 8000 * 1.602176634e-19
        detector = entry.create_group("instrument_1/detector_1")
        detector["data"] = pattern.iobs[None].astype("u4")
        detector["mask"] = pattern.mask.astype("u4")
        detector["distance"] = 2.0
        detector["x_pixel_size"] = detector["y_pixel_size"] = 55e-6


def test_on_a_device(cli, tmp_path, pattern, device_xp):
    np.save(tmp_path / "pattern.npy", pattern.iobs)
    short = ("--recipe", "Sup*ER**5*HIO**10", "--starts", 2, "--keep", 2, "--double")
    for backend in ("cupy", "cpu"):
        cli("cdi", "pattern.npy", *short, "--backend", backend, "--save", f"{backend}.npz")
    with np.load(tmp_path / "cupy.npz") as there, np.load(tmp_path / "cpu.npz") as here:
        np.testing.assert_allclose(
            np.abs(there["obj"]), np.abs(here["obj"]), atol=1e-5 * np.abs(here["obj"]).max()
        )


def test_from_pattern_to_object(cli, tmp_path, pattern):
    write_cxi(tmp_path / "pattern.cxi", pattern)
    arguments = (
        "--recipe",
        RECIPE,
        "--starts",
        4,
        "--keep",
        4,
        "--save",
        "out.cxi",
        "--plot=out.png",
        "--progress",
    )
    out = cli("cdi", "pattern.cxi", *arguments)
    assert "the best 4 share" in out.out
    assert "saved to out.cxi" in out.out
    assert "4 of 4 starts" in out.err
    assert (tmp_path / "out.png").stat().st_size > 10_000
    with h5py.File(tmp_path / "out.cxi") as f:
        obj = f["entry_1/image_1/data"][()]
        results = f["entry_1/image_1/process_1/results"]
        assert results["modes"].shape == (4, 40, 40)
        assert results["starts_seed_llkfree_llk_support"].shape == (4, 4)
        size = f["entry_1/image_1/image_size"][()]
    placed = align(obj, pattern.obj)
    assert placed.correlation > 0.8  # another object has about 0.6
    # wavelength * distance / pixel, as the file states them
    wavelength = 6.62607015e-34 * 299792458 / (8000 * 1.602176634e-19)
    np.testing.assert_allclose(size, wavelength * 2 / 55e-6, rtol=1e-6)
    out = cli("cdi", "pattern.cxi", "--save", "out.cxi", code=2)
    assert "out.cxi exists" in out.err


def test_arrays_masks_and_supports(cli, tmp_path, pattern):
    np.save("pattern.npy", pattern.iobs)
    np.save("support.npy", pattern.support)
    np.save("mask.npy", np.arange(40) % 13 == np.arange(40)[:, None] % 11)
    options = ("--mask", "mask.npy", "--support", "support.npy", "--starts", 2, "--recipe", "ER**40*HIO**80")
    out = cli("cdi", "pattern.npy", *options, "--save", "out.npz").out
    assert "nothing was saved" not in out
    with np.load("out.npz") as stored:
        np.testing.assert_array_equal(stored["support"], pattern.support)
    assert "nothing was saved" in cli("cdi", "pattern.npy", *options).out


def test_dry_run_says_what_would_be_done(cli, pattern):
    np.save("pattern.npy", pattern.iobs)
    out = cli("cdi", "pattern.npy", "--dry-run", "--starts", 7, "--pixel-size", "2e-9").out
    assert "40 x 40" in out
    assert "pixel 2e-09 m" in out
    assert "AutoCorrelationSupport*InterpMask" in out
    assert "1350 iterations" not in out
    assert "iterations 1350 for each of 7 starts" in out


def test_volumes_sums_and_frames(cli):
    pattern = coherent_pattern((12, 12, 12), 0.4, photons=1e6, seed=1)
    np.save("volume.npy", pattern.iobs)
    assert "12 x 12 x 12" in cli("cdi", "volume.npy", "--dry-run").out
    assert "pattern    12 x 12, 1" in cli("cdi", "volume.npy", "--dry-run", "--frames", "sum").out
    assert "pattern    12 x 12," in cli("cdi", "volume.npy", "--dry-run", "--frames", "6").out
    out = cli("cdi", "volume.npy", "--recipe", "ER**10*Sup*HIO**20", "--starts", 2, "--save", "out.npz").out
    assert "saved to out.npz" in out
    with np.load("out.npz") as stored:
        assert stored["obj"].shape == (12, 12, 12)


def test_a_beam_off_the_middle_is_told(cli, pattern):
    np.save("off.npy", np.roll(pattern.iobs, (6, -9), (0, 1)))
    out = cli("cdi", "off.npy", "--dry-run")
    assert "brightest at 26,11" in out.err
    assert "--center 26,11" in out.err
    assert "brightest" not in cli("cdi", "off.npy", "--dry-run", "--center", "26,11").err


def test_centring_and_cropping():
    values = np.arange(30.0).reshape(5, 6)
    moved, hidden = centred(values, np.zeros((5, 6), bool), "1,4", None)
    assert moved[2, 3] == values[1, 4]
    np.testing.assert_array_equal(moved[1:, :5], values[:4, 1:])
    assert hidden[0].all()
    assert hidden[:, 5].all()
    assert hidden.sum() == 10
    small, _ = centred(values, np.zeros((5, 6), bool), None, 3)
    np.testing.assert_array_equal(small, values[1:4, 2:5])
    volume, hidden = centred(np.ones((7, 5, 6)), np.zeros((7, 5, 6), bool), "1,4", 4)
    assert volume.shape == (7, 4, 4)
    with pytest.raises(FramefoldError, match="has 1 numbers, the pattern 2 axes"):
        centred(values, np.zeros((5, 6), bool), "3", None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--recipe", "EX**3"), "no operator 'EX'"),
        (("--starts", "1"), "two starts or more"),
        (("--save", "out.tif"), "saved as .cxi or .npz"),
        (("--save", "nowhere/out.cxi"), "there is no folder nowhere"),
        (("--frames", "3"), "a number below 1"),
        (("--center", "a,b"), "is not Y,X in pixels"),
        (("--center", "90,2"), "lies outside the pattern"),
        (("--support", "small.npy"), r"--support has shape (3, 3)"),
        (("--mask", "small.npy"), r"--mask has shape (3, 3)"),
        (("--frames", "volume"), "too few for a volume"),
        (("--plot",), "--plot needs a window system"),
    ],
)
def test_wrong_arguments(cli, pattern, arguments, message):
    np.save("pattern.npy", pattern.iobs)
    np.save("small.npy", np.ones((3, 3)))
    assert message in cli("cdi", "pattern.npy", *arguments, code=2).err
