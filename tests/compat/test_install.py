"""The shim appears on request, says what it lacks, and goes without a trace."""

import importlib
import pickle
import subprocess
import sys
import types

import cloudpickle
import pytest

from framefold.compat.libertem import install, shim, uninstall
from framefold.compat.libertem.modules import ShimModule
from framefold.compat.libertem.table import TABLE
from framefold.errors import CompatError


@pytest.fixture(autouse=True)
def clean():
    uninstall()
    yield
    uninstall()


def test_nothing_is_there_without_it():
    code = "import sys, framefold.compat.libertem as c; assert not any(m.split('.')[0] == 'libertem' for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_come_and_go():
    with shim():
        from libertem.common import Shape, Slice
        from libertem.udf import UDF
        from libertem.udf.base import UDF as SAME

        assert UDF is SAME
        assert Slice.from_shape((2, 3), sig_dims=1).shape == Shape((2, 3), sig_dims=1)
    assert "libertem" not in sys.modules
    assert not any(isinstance(m, ShimModule) for m in sys.modules.values())


@pytest.mark.parametrize("module", sorted(TABLE))
def test_every_name_of_the_table_exists(module):
    if module == "sparseconverter":
        place = importlib.import_module("framefold.compat.libertem.converter")
        assert all(hasattr(place, name) for name in TABLE[module])
        return
    with shim():
        found = importlib.import_module(module)
        for name in TABLE[module]:
            getattr(found, name)
        assert set(TABLE[module]) <= set(dir(found))


def test_unknown_names_are_errors_with_the_name():
    with shim():
        import libertem.udf.base

        with pytest.raises(CompatError, match=r"libertem\.udf\.base\.Nothing is not provided"):
            _ = libertem.udf.base.Nothing
        with pytest.raises(CompatError, match=r"libertem\.udf\.nothing is not provided"):
            importlib.import_module("libertem.udf.nothing")
        with pytest.raises(CompatError, match=r"libertem\.web is not provided"):
            from libertem import web  # noqa: F401
        with pytest.raises(ImportError):  # so that optional imports stay optional
            from libertem.io.dataset.base import Negotiator  # noqa: F401


def test_a_real_libertem_is_not_replaced_by_accident(monkeypatch):
    real = types.ModuleType("libertem")
    monkeypatch.setitem(sys.modules, "libertem", real)
    with pytest.raises(CompatError, match="already imported"):
        install()
    with shim(override=True):
        assert sys.modules.get("libertem") is not real
    assert sys.modules["libertem"] is real


def test_sources_must_hold_udfs(tmp_path):
    with pytest.raises(CompatError, match="holds no UDF files"):
        install(sources=tmp_path)


def test_sources_run_unmodified_under_their_own_name(tmp_path):
    (tmp_path / "twice.py").write_text(
        "from libertem.udf import UDF\n\nclass Twice(UDF):\n    pass\n\ndef f():\n    return __name__\n"
    )
    with shim(sources=tmp_path):
        from libertem.udf import sum as builtin
        from libertem.udf.twice import Twice, f

        assert f() == Twice.__module__ == "libertem.udf.twice"
        assert builtin.SumUDF.__module__.startswith("framefold")
        with pytest.raises(AttributeError, match="nothing"):
            _ = sys.modules["libertem.udf.twice"].nothing


def test_modules_and_sources_travel_to_a_process_that_has_neither(tmp_path):
    (tmp_path / "twice.py").write_text("from libertem import masks\n\ndef f():\n    return masks.__name__\n")
    with shim(sources=tmp_path):
        import libertem.masks
        import libertem.udf.twice

        assert pickle.loads(pickle.dumps(libertem.masks)) is libertem.masks
        travelling = cloudpickle.dumps(libertem.udf.twice)
    for file in tmp_path.iterdir():
        if file.is_file():
            file.unlink()
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).f())"
    found = subprocess.run([sys.executable, "-c", code], input=travelling, stdout=subprocess.PIPE, check=True)
    assert found.stdout.decode().strip() == "libertem.masks"


@pytest.mark.parametrize("layout", ["", "udf", "libertem/udf", "src/libertem/udf"])
def test_sources_are_found_in_packages_and_checkouts(tmp_path, layout):
    folder = tmp_path / layout
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "masks.py").write_text("raise AssertionError\n")
    (folder / "masks.py").write_text("here = True\n")
    with shim(sources=tmp_path):
        from libertem.udf import masks

        assert masks.here
