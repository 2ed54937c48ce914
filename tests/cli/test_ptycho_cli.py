"""``framefold ptycho`` on simulated and real scans."""

from __future__ import annotations

import sys
import threading

import h5py
import numpy as np
import pytest

from framefold.cli.main import main
from framefold.errors import StreamError
from framefold.io.live.memory import MemoryLiveSource, MemoryStream
from framefold.io.save import load_results
from framefold.sim.ptycho import ptycho_scan
from framefold.testing import DetectorEmulator

H, C = 6.62607015e-34, 299792458.0


@pytest.fixture(scope="module")
def scan():
    return ptycho_scan(64, 24, probe_radius=5, step=2.5, photons=3e5, seed=2)


@pytest.fixture(scope="module")
def cxi(scan, tmp_path_factory):
    """The scan as a CXI file, written by hand: positions of the sample (x, y, z), energy in J."""
    path = tmp_path_factory.mktemp("scan") / "scan.cxi"
    with h5py.File(path, "w") as f:
        f["cxi_version"] = 160
        detector = f.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = scan.frames
        detector["distance"] = 2.0
        detector["x_pixel_size"] = detector["y_pixel_size"] = 75e-6
        detector["basis_vectors"] = np.array([[0, -75e-6], [-75e-6, 0], [0, 0]])
        f["entry_1/instrument_1/source_1/energy"] = H * C / 1e-10
        # the probe at (row, column) = -basis . (x, y): the sample stands at +
        yx = scan.pixels * scan.pixel_size
        translation = np.stack([yx[:, 1], yx[:, 0], 0 * yx[:, 0]], axis=1)
        f["entry_1/sample_1/geometry_1/translation"] = translation
        f["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    return path


def run(*args):
    return main(["ptycho", *map(str, args)])


def test_reconstructs_saves_and_draws(cxi, tmp_path, capsys):
    out, picture = tmp_path / "out.cxi", tmp_path / "view.png"
    assert run(cxi, "-n", 25, "--save", out, f"--plot={picture}", "--no-progress") == 0
    said = capsys.readouterr().out
    assert "positions of the sample" in said
    assert "25 iterations" in said
    assert picture.stat().st_size > 10_000
    with h5py.File(out) as f:
        assert f["cxi_version"][()] == 160
        obj, probe = f["entry_1/image_1/data"], f["entry_1/image_2/data"]
        assert obj.dtype == probe.dtype == np.complex64
        assert probe.shape == (1, 24, 24)
        # lambda z / (n p)
        np.testing.assert_allclose(f["entry_1/image_1/pixel_size"], 1e-10 * 2 / (24 * 75e-6), rtol=1e-6)
        assert f["entry_1/sample_1/geometry_1/translation"].shape == (64, 3)
        error = f["entry_1/image_1/process_1/results/error"][()]
    assert error[-1] < 0.3 * error[0]


def test_orientation_of_cxi_positions_is_right(cxi, scan, tmp_path):
    found = {}
    for of in ("sample", "probe"):
        out = tmp_path / f"{of}.npz"
        assert (
            run(cxi, "--recipe", "12 RPIE; 8 AP", "--positions-of", of, "--save", out, "--no-progress") == 0
        )
        found[of] = load_results(out)
    assert found["sample"]["error"].data[-1] < 1.05 * found["probe"]["error"].data[-1]
    # the signs cancel: basis vectors point along -y and -x, the sample moves against the probe
    pixels = found["sample"]["positions"].data
    np.testing.assert_allclose(pixels - pixels[0], scan.pixels - scan.pixels[0], atol=1e-3)


def test_config_file_round_trip(cxi, tmp_path, capsys, monkeypatch):
    assert run("init", cxi) == 0
    text = capsys.readouterr().out
    assert 'distance = "2 m"' in text
    config = tmp_path / "scan.toml"
    monkeypatch.chdir(tmp_path)
    config.write_text(text + 'iterations = 3\nflip = "none"\n')
    assert run(config, "--no-progress") == 0
    assert "3 iterations" in capsys.readouterr().out
    assert (tmp_path / "scan_reconstruction.cxi").exists()
    config.write_text(f'file = "{cxi}"\nmodus = 3\n')
    assert run(config) != 0
    assert "no option 'modus'. Did you mean 'modes'?" in capsys.readouterr().err


def test_dry_run_says_what_it_found(cxi, capsys):
    assert run(cxi, "--dry-run", "--recipe", "3 RPIE; 2 AP", "--modes", 2) == 0
    said = capsys.readouterr().out
    assert "64 frames of 24 x 24 pixels, far field, wavelength 0.1 nm" in said
    assert "2 probe modes" in said
    assert "iterations in" not in said


def test_array_files_need_to_be_told_everything(scan, tmp_path, capsys):
    data, xy = tmp_path / "frames.npy", tmp_path / "xy.csv"
    np.save(data, scan.frames)
    size = scan.pixel_size
    xy.write_text("y,x\n" + "\n".join(f"{y!r},{x!r}" for y, x in (scan.pixels * size).tolist()))
    assert run(data) != 0
    error = capsys.readouterr().err
    for option in ("--energy", "--distance", "--detector-pixel"):
        assert option in error
    told = ("--wavelength", "0.1 nm", "--distance", "2 m", "--detector-pixel", "75um")
    assert run(data, *told) != 0
    assert "--positions FILE" in capsys.readouterr().err
    assert run(data, *told, "--positions", xy, "-n", 3, "--no-progress") == 0
    assert run(data, *told, "--positions", xy, "--near-field") != 0
    assert "--focus-distance" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, message",
    [
        (("--recipe", "10 RAPIE"), "Did you mean 'RPIE'"),
        (("--near-field", "--far-field"), "give one of them"),
        (("--distance", "2 miles"), "unit 'miles' is not one of"),
        (("--distance", "2000"), "Write it with its unit, '2000 cm' or '2000 mm'"),
        (("--energy", "8"), "'8 keV' or '8 eV'"),
        (("--centre", "left"), "write Y,X in pixels"),
        (("--subpixel", "half"), "number of steps"),
        (("--positions", "absent.csv"), "absent.csv"),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "give one of them"),
    ],
)
def test_wrong_arguments(cxi, capsys, args, message):
    assert run(cxi, *args) != 0
    assert message in capsys.readouterr().err


def test_checkpoint_and_resume(cxi, tmp_path, capsys):
    told = (cxi, "--recipe", "4 RPIE; 6 AP", "--checkpoint", tmp_path / "run.h5", "--no-progress")
    assert run(*told, "-n", 3, "--resume") == 0  # nothing there yet: from the start
    assert run(*told, "--resume") == 0
    assert "10 iterations" in capsys.readouterr().out
    assert run(cxi, "--resume") != 0
    assert "--checkpoint" in capsys.readouterr().err


def test_on_a_device(cxi, tmp_path, device_xp):
    for backend in ("cupy", "numpy"):
        target = tmp_path / f"{backend}.npz"
        assert run(cxi, "--backend", backend, "--recipe", "3 AP", "--double", "--save", target) == 0
    with np.load(tmp_path / "cupy.npz") as there, np.load(tmp_path / "numpy.npz") as here:
        np.testing.assert_allclose(there["raw_object"], here["raw_object"], atol=1e-6)


def test_dry_run_says_what_a_device_must_hold(cxi, capsys, device_xp):
    assert run(cxi, "--backend", "cupy", "--recipe", "DM", "--modes", 2, "--dry-run") == 0
    # 64 frames of 24 x 24, 2 modes, 8 bytes
    size = 64 * 24 * 24 * 2 * 8 / 2**30
    assert f"the counts, exit waves of {size:.3g} GiB, 0.5 GiB at most" in capsys.readouterr().out


def test_without_a_device(cxi, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert run(cxi, "--backend", "cupy") == 2
    assert "pip install 'framefold[cuda]'" in capsys.readouterr().err


def test_resolution_by_halves(cxi, tmp_path, capsys):
    out = tmp_path / "out.npz"
    told = (cxi, "--recipe", "6 RPIE; 6 AP", "--frc", "--save", out, "--no-progress")
    assert run(*told) == 0
    said = capsys.readouterr().out
    assert "resolution" in said
    assert "half of the counts each" in said
    table = np.genfromtxt(tmp_path / "out.frc.csv", delimiter=",")
    # the last ring is the last below half a cycle per pixel of lambda z / (n p)
    assert 0.9 < table[-1, 0] * 2 * 1e-10 * 2 / (24 * 75e-6) <= 1
    assert table[1, 1] > table[-1, 1]
    assert run(*told, "--overwrite", "--frc", "scan") == 0
    assert "every other scan point" in capsys.readouterr().out
    out.unlink()
    assert run(*told) != 0
    assert "out.frc.csv exists" in capsys.readouterr().err


def test_real_near_field_scan(data_dir, tmp_path, capsys):
    """PETRA III, a Siemens star: the spokes of its outer ring alternate 36 times round the circle."""
    path = data_dir / "PETRAIII_P25_Near_Field_Ptycho.cxi"
    assert run(path) != 0
    error = capsys.readouterr().err
    assert "--near-field --focus-distance" in error
    assert run(path, "--near-field") != 0
    assert "--focus-distance" in capsys.readouterr().err
    out = tmp_path / "out.npz"
    told = ("--near-field", "--focus-distance", "3.65e-3", "--recipe", "6 RPIE; 12 AP")
    assert run(path, *told, "--save", out, "--no-progress") == 0
    result = load_results(out)
    errors = result["error"].data
    assert (np.diff(errors[7:]) < 0).all()
    assert errors[-1] < 0.5 * errors[0]
    # 55 um / ((z1 + z2) / z1)
    np.testing.assert_allclose(result["pixel_size"].data, 55e-6 / ((3.65e-3 + 1.12) / 3.65e-3), rtol=1e-6)
    modulus = result["modulus"].data
    assert np.isfinite(modulus).mean() > 0.1


def test_live_scan(scan, tmp_path, capsys, monkeypatch):
    out, positions = tmp_path / "out.npz", tmp_path / "xy.csv"
    np.savetxt(positions, scan.pixels * scan.pixel_size, delimiter=",")
    known = ["--energy", f"{H * C / 1e-10 / 1.602176634e-19}", "--distance", 2, "--detector-pixel", "75 um"]
    with DetectorEmulator("merlin", scan.frames) as detector:
        monkeypatch.setattr("framefold.cli.ptycho._listening", detector.start)
        args = [
            detector.url,
            "--nav-shape",
            64,
            *known,
            "--positions",
            positions,
            "--recipe",
            "8 RPIE; 12 AP",
        ]
        assert run(*args, "--save", out, "--progress") == 0
        assert run(detector.url, "--frc") == 2
    said = capsys.readouterr()
    assert "64 frames of 24 x 24 pixels, far field" in said.out
    assert "64 of 64 frames came" in said.out
    assert "64 frames" in said.err
    assert "--frc needs frames that can be read again" in said.err
    error = load_results(out)["error"].data
    assert error[-1] < 0.7 * error[0]


def test_what_came_before_a_stream_broke_is_saved(scan, tmp_path, capsys, monkeypatch):
    began = threading.Event()

    class Stream(MemoryStream):
        def next_block(self, timeout):
            if self._at < 40:
                return super().next_block(timeout)
            if not began.wait(timeout):
                return None
            raise StreamError("the cable was pulled")

    class Source(MemoryLiveSource):
        def open(self, sectors=None):
            return Stream(self, sectors)

    monkeypatch.setattr("framefold.cli.ptycho.open_dataset", lambda ctx, args: ctx.load(Source(scan.frames)))
    monkeypatch.setattr("framefold.cli.ptycho._tell", lambda udf: began.set())
    monkeypatch.setattr("framefold.executor.iterate_live.SAMPLE", 40)
    out, positions = tmp_path / "out.npz", tmp_path / "xy.npy"
    np.save(positions, scan.pixels * scan.pixel_size)
    known = ["--wavelength", "0.1 nm", "--distance", 2, "--detector-pixel", "75 um"]
    assert run("memory", *known, "--positions", positions, "--save", out) == 2
    assert "the stream broke, what came of it is kept: the cable was pulled" in capsys.readouterr().err
    assert np.isfinite(load_results(out)["phase"].data).any()
    assert load_results(out).damage.sum() == 40
