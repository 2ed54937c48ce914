"""The program in this process, on small files."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.cli.main import main


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run the program in an empty folder; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(*argv, code=0):
        found = main([str(a) for a in argv])
        out = capsys.readouterr()
        assert found == code, f"exit code {found}\n{out.out}\n{out.err}"
        return out

    return run


@pytest.fixture
def scan():
    return np.random.default_rng(0).integers(0, 50, (6, 5, 16, 12)).astype("uint16")


@pytest.fixture
def file(tmp_path, scan):
    np.save(tmp_path / "scan.npy", scan)
    return "scan.npy"
