"""``framefold ptycho FILE`` with defaults, on files that are written in odd ways."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.cli.main import main
from framefold.io.save import load_results
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.quality import object_error

H, C = 6.62607015e-34, 299792458.0
DETECTOR = "entry_1/instrument_1/detector_1"
PLACE = "entry_1/sample_1/geometry_1/translation"
MASK = f"{DETECTOR}/mask"


@pytest.fixture(scope="module")
def scan():
    return ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=1e5, seed=2)


@pytest.fixture
def file(scan, tmp_path):
    """A CXI file without basis vectors: the sample stands at minus (x, y)."""
    with h5py.File(tmp_path / "scan.cxi", "w") as f:
        f["cxi_version"] = 160
        f[f"{DETECTOR}/data"] = scan.frames
        f[f"{DETECTOR}/distance"] = 2.0
        f[f"{DETECTOR}/x_pixel_size"] = f[f"{DETECTOR}/y_pixel_size"] = 75e-6
        f["entry_1/instrument_1/source_1/energy"] = H * C / 1e-10
        f[PLACE] = np.pad(-(scan.pixels * scan.pixel_size)[:, ::-1], ((0, 0), (0, 1)))
        yield f


def replace(file, key, value):
    if key in file:
        del file[key]
    file[key] = value


def run(file, *args):
    file.flush()
    name = file.filename
    file.close()
    return main(["ptycho", name, "--no-progress", *map(str, args)])


def test_frames_as_an_fft_leaves_them(file, scan, tmp_path, capsys):
    """Masked pixels, floats and positions (x, y) besides."""
    frames = scan.frames.astype(">f4")
    bits = np.zeros((32, 32), "u4")
    bits[10:12, 20] = 1
    frames[:, bits > 0] = 60000
    replace(file, f"{DETECTOR}/data", np.fft.ifftshift(frames, axes=(1, 2)))
    file[MASK] = np.fft.ifftshift(bits)
    replace(file, PLACE, file[PLACE][:, :2])
    assert run(file, "--save", tmp_path / "out.npz") == 0
    assert "in the four corners of the frame" in capsys.readouterr().out
    found = load_results(tmp_path / "out.npz")["object"].data
    weight = illuminated(scan.illumination)
    y, x = (min(a, b) for a, b in zip(found.shape, weight.shape, strict=True))
    # the floor of photon noise of this scan is 0.06 at most: see test_reconstruct
    assert object_error(found[:y, :x], scan.object[:y, :x], weight[:y, :x]) < 0.06


@pytest.mark.parametrize(
    "key, value, message",
    [
        (f"{DETECTOR}/distance", 2000.0, "--distance '2000 cm' or '2000 mm'"),
        ("entry_1/instrument_1/source_1/energy", 12.4, "--energy '12.4 eV' or '12.4 keV'"),
        (MASK, 1 - np.eye(32, dtype="u1"), "the other way round"),
    ],
)
def test_what_cannot_be_meant_is_refused(file, capsys, key, value, message):
    replace(file, key, value)
    assert run(file, "--dry-run") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "factor, message", [(1e6, "object pixels apart"), (1e-6, "all positions lie within")]
)
def test_positions_in_another_unit(file, capsys, factor, message):
    replace(file, PLACE, file[PLACE][()] * factor)
    name = file.filename
    assert run(file, "--dry-run") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "--position-units takes m, mm, um, nm or px" in error
    if factor == 1e6:
        assert main(["ptycho", name, "--dry-run", "--position-units", "um"]) == 0
        assert "typical step 2 px" in capsys.readouterr().out


def test_results_are_no_frames(file, capsys):
    replace(file, f"{DETECTOR}/data", np.ones((40, 40), "c8"))
    assert run(file, "--dry-run") == 2
    assert "another dataset of the file may hold the frames" in capsys.readouterr().err
