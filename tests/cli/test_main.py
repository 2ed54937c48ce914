"""The program: help, versions, errors and exit codes."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from framefold.cli import main as program
from framefold.cli.command import Command, commands
from framefold.errors import DataError


def test_help_lists_the_commands(cli):
    out = cli("--help").out
    for name in ("info", "run", "convert", "udf", "demo", "bench"):
        assert name in out
    assert cli().out == out


def test_version(cli):
    assert cli("--version").out.startswith("framefold ")


@pytest.mark.parametrize("name", list(commands()))
def test_each_command_explains_itself(cli, name):
    assert "--debug" in cli(name, "--help").out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from framefold.cli.main import main; main(['--help']); "
        "print([m for m in ('matplotlib', 'distributed', 'bokeh', 'hypothesis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "framefold", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("framefold ")


@pytest.fixture
def with_command(monkeypatch):
    def add(run):
        command = Command("try", "a test", lambda parser: None, run)
        monkeypatch.setattr(program, "commands", lambda: {"try": command})

    return add


def test_our_errors_are_one_line(cli, with_command):
    def run(args):
        exc = DataError("scan.mib is not there")
        exc.add_note("  in partition 3")
        raise exc

    with_command(run)
    assert cli("try", code=2).err == "framefold try: scan.mib is not there\n  in partition 3\n"
    assert "Traceback" in cli("try", "--debug", code=2).err


def test_other_errors_show_where(cli, with_command):
    def run(args):
        raise ZeroDivisionError("user code")

    with_command(run)
    assert "Traceback" in cli("try", code=1).err


def test_ctrl_c(cli, with_command):
    def run(args):
        raise KeyboardInterrupt

    with_command(run)
    assert cli("try", code=130).err == "framefold: stopped\n"


def test_unknown_command(cli):
    assert "invalid choice: 'rum'" in cli("rum", code=2).err


class Point:
    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"{name}:X", load


def test_commands_of_plug_ins(monkeypatch):
    def broken():
        raise ImportError("gone")

    mine = Command("mine", "mine", lambda p: None, lambda a: 0)
    taken = Command("run", "not mine", lambda p: None, lambda a: 0)
    points = [Point("a", lambda: mine), Point("b", broken), Point("c", lambda: 3), Point("d", lambda: taken)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match="does not load|is not a Command|is taken") as caught:
        found = commands()
    assert len(caught) == 3
    assert found["mine"] is mine
    assert found["run"].help != "not mine"
