"""``framefold fxs demo`` and ``framefold fxs simulate ADDRESS``: shots arrive, and converge."""

import re
import threading
import time

import h5py
import numpy as np
import pytest

import framefold as ff
from framefold.cli.main import main
from framefold.sim.fxs import simulate
from framefold.sim.fxs_particle import Particle
from framefold.udfs import SumUDF
from framefold.udfs.fxs import Geometry


@pytest.mark.slow
def test_shots_arrive_and_their_invariants_converge(tmp_path, capsys):
    out = tmp_path / "demo"
    assert (
        main(["fxs", "demo", "--particle", "blobs:8:1", "--shots", "256", "--rate", "1e4", "--out", str(out)])
        == 0
    )
    told = capsys.readouterr().out
    assert "256 shots correlated" in told
    errors = {int(n): float(e) for n, e in re.findall(r"^ +(\d+) +([\d.]+) %", told, re.MULTILINE)}
    assert list(errors) == [16, 64, 256]
    assert errors[256] < errors[16] / 2, "16 times the shots, a quarter of the noise"
    for name in ("live.png", "c2.png", "bl.png"):
        assert (out / name).read_bytes()[:4] == b"\x89PNG"
    with h5py.File(out / "bl.nxs") as f:
        assert f["entry/data/B_l"].shape == (4, 72, 72)


def test_too_few_shots_are_refused(tmp_path, capsys):
    assert main(["fxs", "demo", "--shots", "20", "--out", str(tmp_path / "demo")]) == 2
    assert "--shots 20: at least 128" in capsys.readouterr().err


def _printed(capsys, pattern, told=""):
    """Wait for a line."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        told += capsys.readouterr().out
        if found := re.search(pattern, told):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} was not printed: {told!r}")


def test_simulated_shots_are_sent_as_by_a_detector(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "fxs",
        "simulate",
        "merlin://127.0.0.1:0",
        "--particle",
        "blobs:5:2",
        "--shots",
        "20",
        "--size",
        "32",
    ]
    sender = threading.Thread(target=main, args=(command,), daemon=True)
    sender.start()
    url = _printed(capsys, r"merlin://127\.0\.0\.1:[1-9]\d+")
    with ff.Context(executor="inline") as ctx:
        total = ctx.run_udf(ctx.load(url), SumUDF())["intensity"].data
    geometry = Geometry.from_poni(tmp_path / "shots.poni")
    shots = simulate(Particle.blobs(5, 2), geometry, 20, photons=1e5)
    np.testing.assert_array_equal(total, shots.array().sum(axis=0, dtype=np.int64))
    sender.join(30)
    assert not sender.is_alive()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["shots.h5", "--rate", "10"], "--rate is for an address"),
        (["k2is://127.0.0.1:2001"], "sends datagrams. Write a file"),
    ],
)
def test_what_cannot_be_sent_is_explained(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["fxs", "simulate", *arguments, "--shots", "4", "--size", "32", "--particle", "blobs:2"]) == 2
    assert message in capsys.readouterr().err
