"""``framefold run`` and its relatives on small files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import h5py
import numpy as np
import pytest

from framefold.udfcore.combine import labels


def test_one_pass_of_several_udfs(cli, file, scan):
    out = cli("run", file, "--udf", "sum", "--udf", "com", "-p", "r=5", "--udf", "std").out
    assert "sum  intensity" in out
    assert "com  field" in out
    assert "std  std" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("sum"))
    total = scan.astype("int64").sum((0, 1))
    assert row[5:9] == [str(total.min()), f"{total.mean():.5g}", str(total.max()), "100"]
    assert "30 frames in" in out
    assert "--save out.nxs" in out


def test_saved_results(cli, file, scan):
    assert "saved to out.npz" in cli("run", file, "--udf", "sum", "--save", "out.npz").out
    with np.load("out.npz") as saved:
        assert any(np.array_equal(saved[k], scan.sum((0, 1))) for k in saved.files)
    cli("run", file, "--udf", "sum", "--udf", "sum", "--save", "two.nxs")
    with h5py.File("two.nxs") as f:
        names = []
        f.visit(names.append)
    assert any(n.endswith("sum_intensity") for n in names)
    assert any(n.endswith("sum2_intensity") for n in names)


def test_existing_files_are_safe_before_anything_runs(cli, file, tmp_path):
    (tmp_path / "out.nxs").write_text("mine")
    assert (
        "out.nxs exists: use another name, or --overwrite"
        in cli("run", file, "--udf", "sum", "--save", "out.nxs", code=2).err
    )
    assert (tmp_path / "out.nxs").read_text() == "mine"
    cli("run", file, "--udf", "sum", "--save", "out.nxs", "--overwrite")
    assert (tmp_path / "out.nxs").read_bytes().startswith(b"\x89HDF")
    assert "does not exist" in cli("run", file, "--udf", "sum", "--save", "no/out.nxs", code=2).err


def test_roi_and_corrections(cli, file, scan, tmp_path):
    rng = np.random.default_rng(1)
    dark, gain, bad = rng.random((16, 12)), rng.random((16, 12)) + 0.5, np.zeros((16, 12), bool)
    bad[3, 3] = True
    for name, array in (("dark", dark), ("gain", gain), ("bad", bad)):
        np.save(tmp_path / f"{name}.npy", array)
    cli("run", file, "--udf", "sum", "--roi", "[1:3, ::2]", "--dark", "dark.npy", "--gain", "gain.npy",
        "--excluded", "bad.npy", "--save", "out.npy")  # fmt: skip
    truth = ((scan[1:3, ::2] - dark) * gain).sum((0, 1))
    found = np.load("out.npy")
    good = ~bad
    assert np.allclose(found[good], truth[good], rtol=1e-5)
    around = truth[2:5, 2:5].copy()
    around[1, 1] = np.nan
    assert found[3, 3] == pytest.approx(np.nanmean(around), rel=1e-5)


def test_own_udf_from_a_file(cli, file, scan, tmp_path):
    (tmp_path / "my_udf_file.py").write_text(
        "from framefold.udfcore.udf import UDF\n"
        "class Peak(UDF):\n"
        "    def __init__(self, factor=1):\n"
        "        super().__init__(factor=factor)\n"
        "    def get_result_buffers(self):\n"
        "        return {'peak': self.buffer('nav', dtype='float64')}\n"
        "    def process_frame(self, frame):\n"
        "        self.results.peak[...] = self.params.factor * frame.max()\n"
    )
    cli("run", file, "--udf", "my_udf_file.py:Peak", "-p", "factor=2.5", "--save", "p.npy")
    assert np.allclose(np.load("p.npy"), 2.5 * scan.max((2, 3)))
    sys.modules.pop("my_udf_file")


def test_an_error_in_a_udf_shows_where(cli, file, tmp_path):
    (tmp_path / "bad_udf_file.py").write_text(
        "from framefold.udfcore.udf import UDF\n"
        "class Bad(UDF):\n"
        "    def get_result_buffers(self):\n"
        "        return {'x': self.buffer('nav')}\n"
        "    def process_frame(self, frame):\n"
        "        raise ValueError('boom')\n"
    )
    err = cli("run", file, "--udf", "bad_udf_file.py:Bad", code=1).err
    assert "ValueError: boom" in err
    assert "Bad.process_frame" in err
    sys.modules.pop("bad_udf_file")


def test_raw_files(cli, scan, tmp_path):
    scan.astype(">u2").tofile(tmp_path / "scan.raw")
    cli(
        "run",
        "scan.raw",
        "--udf",
        "sum",
        "--nav-shape",
        "6,5",
        "--sig-shape",
        "16,12",
        "--dtype",
        ">u2",
        "--save",
        "s.npy",
    )
    assert np.array_equal(np.load("s.npy"), scan.sum((0, 1)))


def test_dry_run_reports_and_reads_nothing(cli, file):
    out = cli("run", file, "--udf", "sum", "--udf", "std", "--roi", "[0]", "--dry-run", "--save", "x.npy").out
    assert "process_tile" in out
    assert "intensity  sig   16x12  uint64" in out
    assert not os.path.exists("x.npy")


def test_a_picture_in_a_file(cli, file):
    out = cli("run", file, "--udf", "sum", "--udf", "sumsig", "--plot=view.png").out
    assert "picture in view.png" in out
    with open("view.png", "rb") as f:
        assert f.read(4) == b"\x89PNG"


@pytest.mark.parametrize(
    "argv, text",
    [
        (["run", "scan.npy", "--udf", "summ"], "no UDF 'summ'"),
        (["run", "scan.npy"], "the following arguments are required: --udf"),
        (["run", "scan.npy", "-p", "r=3", "--udf", "sum"], "-p belongs to the --udf before it"),
        (["run", "scan.npy", "--udf", "com", "-p", "r"], "-p takes key=value"),
        (["run", "scan.npy", "--udf", "sum", "--roi", "x"], "is not a slice"),
        (["run", "scan.npy", "--udf", "sum", "--dark", "no.npy"], "cannot read an array from no.npy"),
        (["run", "nothing.npy", "--udf", "sum"], "nothing.npy"),
        (["run", "scan.npy", "--udf", "sum", "--plot"], "use --plot=view.png"),
        (["run", "scan.npy", "--udf", "sum", "--workers", "2", "--scheduler", "x"], "give one of them"),
        (["run", "scan.npy", "--udf", "sum", "--save", "x.doc"], "unknown ending"),
        (["info", "scan.npy", "-o", "nonsense=3"], "nonsense"),
        (["info", "scan.npy", "--dtype", "foo"], "'foo' is not a dtype"),
        (["bench", "nothing"], "no benchmark nothing"),
    ],
)
def test_mistakes_are_one_clear_message(cli, file, argv, text):
    err = cli(*argv, code=2).err
    assert text in err
    assert "Traceback" not in err


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(cli, file):
    err = cli("run", file, "--udf", "sum", "--nav-shape", "5,5").err
    assert err.startswith("framefold: warning: nav_shape (5, 5) holds 25 frames, the source has 30")


def test_progress(cli, file):
    assert "30 of 30 frames (100 %), done in" in cli("run", file, "--udf", "sum", "--progress").err
    assert cli("run", file, "--udf", "sum", "--no-progress").err == ""


def test_names_of_results():
    assert labels(["sum", "a.b:MyUDF", "sum", "x.py:Sum"]) == ["sum", "my", "sum2", "sum3"]


def test_ctrl_c_saves_what_is_there(tmp_path):
    """A real signal in a real process: exit code 130, and a file with the frames that were done."""
    np.save(tmp_path / "scan.npy", np.ones((300, 128, 128), "uint16"))
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from framefold.udfcore.udf import UDF\n"
        "class Slow(UDF):\n"
        "    def get_result_buffers(self):\n"
        "        return {'n': self.buffer('nav', dtype='int64')}\n"
        "    def process_frame(self, frame):\n"
        "        time.sleep(0.02)\n"
        "        print('frame', flush=True)\n"
        "        self.results.n[...] = 1\n"
    )
    argv = [
        sys.executable,
        "-m",
        "framefold",
        "run",
        "scan.npy",
        "--udf",
        "slow.py:Slow",
        "--save",
        "out.npy",
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, (out, err)
    assert "stopped after" in err
    saved = np.load(tmp_path / "out.npy")
    assert 0 < saved.sum() < 300


def test_info(cli, file):
    out = cli("info", file).out
    assert "(6, 5 | 16, 12)" in out
    assert "uint16" in out
    facts = json.loads(cli("info", file, "--json").out)
    assert facts["nav_shape"] == [6, 5]
    assert facts["sig_shape"] == [16, 12]
    assert facts["bytes"] == 6 * 5 * 16 * 12 * 2
    assert facts["format"] == "npy"
    assert [a["name"] for a in facts["axes"]] == ["y", "x", "ky", "kx"]


def test_info_of_a_file_with_several_arrays(cli, tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as f:
        for name in ("a", "b"):
            f[name] = np.zeros((2, 3, 4), "uint8")
    facts = json.loads(cli("info", "two.h5", "--key", "b", "--json").out)
    assert {c["key"].strip("/") for c in facts["candidates"]} >= {"b"}
    assert "--key" in cli("info", "two.h5", "--key", "b").out


def test_convert(cli, file, scan):
    cli("convert", file, "part.npy", "--roi", "[2]")
    assert np.array_equal(np.load("part.npy").reshape(5, 16, 12), scan[2])
    cli("convert", file, "all.h5", "--compression", "none")
    facts = json.loads(cli("info", "all.h5", "--json").out)
    assert facts["nav_shape"] == [6, 5]
    assert "exists" in cli("convert", file, "all.h5", code=2).err


def test_udf_list_and_check(cli, tmp_path):
    out = cli("udf", "list").out
    assert "stddev (or std):" in out
    assert "-p cy=None, cx=None, r=inf" in out
    assert (
        "the same answer in 3 random cuts"
        in cli("udf", "check", "sumsig", "-n", "3", "--shape", "3,4,5,6").out
    )
    (tmp_path / "broken_udf_file.py").write_text(
        "from framefold.udfcore.udf import UDF\n"
        "class Broken(UDF):\n"
        "    def get_result_buffers(self):\n"
        "        return {'x': self.buffer('single', dtype='int64')}\n"
        "    def process_frame(self, frame):\n"
        "        self.results.x += 1\n"
        "    def merge(self, dest, src):\n"
        "        dest.x[:] = src.x\n"
    )
    assert "depends on partitions" in cli("udf", "check", "broken_udf_file.py:Broken", code=1).err
    sys.modules.pop("broken_udf_file")


def test_bench_runs_anywhere(cli):
    out = cli("bench", "--quick", "--size", "4").out
    assert "framefold SumUDF" in out
    assert "GB/s" in out


@pytest.mark.usefixtures("nothing_left_of_pages")
def test_a_page_stays_until_it_is_ended(cli, file, monkeypatch):
    view = pytest.importorskip("framefold.web.view", reason="the browser view needs bokeh")
    seen = []

    def wait(self):
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            seen.append((answer.status, self.hub.progress().state))
        self.stop()

    monkeypatch.setattr(view.BrowserView, "wait", wait)
    out = cli("run", file, "--udf", "sum", "--plot=browser")
    assert seen == [(200, "complete")]
    assert "live view at http://127.0.0.1:" in out.err
    assert "shows the result until Ctrl-C" in out.err
    assert "nothing was saved" not in out.out


@pytest.fixture
def nothing_left_of_pages():
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("framefold-web")] == []


def test_on_a_device(cli, file, scan, device_xp):
    cli("run", file, "--udf", "sum", "--backend", "cupy", "--save", "out.npy")
    np.testing.assert_array_equal(np.load("out.npy"), scan.sum((0, 1)))
    assert ", cupy, lane 0" in cli("run", file, "--udf", "sum", "--backend", "cupy", "--dry-run").out


def test_without_a_device_says_what_is_missing(cli, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = cli("run", file, "--udf", "sum", "--backend", "cupy", code=2).err
    assert "--backend cupy: it needs a CUDA device and CuPy: pip install 'framefold[cuda]'" in text
