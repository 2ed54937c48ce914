"""``framefold strain`` on a small scan."""

import h5py
import numpy as np
import pytest

from framefold.sim import deformation
from framefold.sim.stem import cbed


@pytest.fixture
def crystal(tmp_path):
    field = deformation.step((5, 6), eps_xx=0.02)
    scan = cbed((5, 6), (64, 64), ((32, 32), (0.5, 14), (14, -0.5)), 4.0, strain=field, dose=40_000, seed=1)
    np.save(tmp_path / "crystal.npy", scan.array())
    return "crystal.npy"


LATTICE = ("--radius", "4", "--lattice", "32,32,0.5,14,14,-0.5")


def test_from_file_to_map_and_picture(cli, crystal, tmp_path):
    out = cli(
        "strain", crystal, "--save", "strain.nxs", "--plot=strain.png", "--reference", "roi:0:5,0:3"
    ).out
    assert "30 of 30 frames valid" in out and "saved to strain.nxs" in out and "picture in strain.png" in out
    with h5py.File("strain.nxs") as file:
        eps = file["/entry/eps_xx"][()]
        errors = file["/entry/eps_xx_errors"][()]
    assert np.abs(eps[:, 3:].mean() - 0.02) < 4 * errors.mean() / np.sqrt(7)
    assert (tmp_path / "strain.png").stat().st_size > 5000


def test_given_lattice_and_axes(cli, crystal):
    out = cli(
        "strain", crystal, *LATTICE, "--subpixel", "parabola", "--axes", "a", "--definition", "small",
        "--scan-rotation", "10", "--flip-y", "--ellipse", "0.01,20", "--search", "4", "--roi", "[:3]",
    ).out  # fmt: skip
    assert "18 of 30 frames valid" in out and "nothing was saved" in out


def test_spacings_of_the_material(cli, crystal):
    """Relative to undeformed crystal the median of half strained, half unstrained frames is not 0."""
    length = np.hypot(0.5, 14)
    d = 1 / (length * 0.02)
    cli("strain", crystal, "--save", "strain.nxs", "--reference", f"spacings:{d},{d},90,0.02",
        "--match", "nearest", "--correlation", "full")  # fmt: skip
    with h5py.File("strain.nxs") as file:
        eps, errors = file["/entry/eps_xx"][()], file["/entry/eps_xx_errors"][()]
    close = 4 * errors.mean() / np.sqrt(15)
    assert abs(eps[:, 3:].mean() - 0.02) < close and abs(eps[:, :3].mean()) < close


def test_dry_run(cli, crystal):
    assert "would be found first" in cli("strain", crystal, "--dry-run").out
    assert "StrainUDF" in cli("strain", crystal, *LATTICE, "--dry-run").out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--lattice", "1,2,3"), "six numbers"),
        (("--axes", "north"), "angle in degrees"),
        (("--reference", "mean"), "roi:Y0:Y1,X0:X1"),
        (("--reference", "spacings:1,2"), "DA,DB,DEG,STEP"),
        (("--reference", "spacings:0.2,0.2,180,0.02"), "between 3 and 177 degrees"),
        (("--correlation", "auto", "--search", "4", *LATTICE), "crop, full or sparse"),
        (("--correlation", "sparse", "--hybrid", "0.5", *LATTICE), "crop or full"),
        (("--reference", "spacings:0.2,0.2,90", *LATTICE), "states no reciprocal length"),
        (("--ellipse", "x"), "SIZE,DEG"),
        (("--save", "map.png"), ".nxs or .h5"),
        (("--radius", "9", "--lattice", "32,32,0.5,14,14,-0.5"), "overlap"),
        (("--reference", "roi:9:10,0:1"), "holds no frame"),
    ],
)
def test_refused(cli, crystal, arguments, message):
    assert message in cli("strain", crystal, *arguments, code=2).err


def test_existing_file_is_safe(cli, crystal, tmp_path):
    (tmp_path / "strain.nxs").write_text("mine")
    assert "--overwrite" in cli("strain", crystal, "--save", "strain.nxs", code=2).err
    assert (tmp_path / "strain.nxs").read_text() == "mine"
    cli("strain", crystal, *LATTICE, "--save", "strain.nxs", "--overwrite")
    assert h5py.is_hdf5("strain.nxs")
