"""Names of UDFs, their parameters, and what is refused."""

from __future__ import annotations

import sys

import pytest

from framefold.cli.udf_names import make_udf, udf_class, udf_names
from framefold.errors import FramefoldError
from framefold.udfcore.udf import UDF
from framefold.udfs.com import CoMUDF
from framefold.udfs.stddev import StdDevUDF
from framefold.udfs.sum import SumUDF

OWN = '''
from framefold.udfcore.udf import UDF

class Own(UDF):
    """An own one."""
    def __init__(self, factor, power=2):
        super().__init__(factor=factor, power=power)
    def get_result_buffers(self):
        return {"x": self.buffer("nav")}
    def process_frame(self, frame):
        self.results.x[...] = self.params.factor * frame.sum()

not_a_udf = 3

def make(n=1):
    return Own(n)

def wrong():
    return "no"
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_udf_module.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_udf_module", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    "name, cls",
    [("sum", SumUDF), ("std", StdDevUDF), ("StdDevUDF", StdDevUDF), ("com", CoMUDF), ("std-dev", StdDevUDF)],
)
def test_built_in_names(name, cls):
    assert udf_class(name) is cls


def test_all_names_stand_for_udfs():
    names = udf_names()
    assert {"sum", "stddev", "com", "applymasks", "virtualdetector"} <= set(names)
    assert all(issubclass(c, UDF) for c in names.values())
    assert "udf" not in names


def test_unknown_name_lists_the_known():
    with pytest.raises(
        FramefoldError, match=r"no UDF 'summ'\. Did you mean 'sum'\? There are: .*stddev.*mymodule:MyUDF"
    ):
        udf_class("summ")


@pytest.mark.parametrize("where", ["own_udf_module", "own_udf_module.py"])
def test_own_modules_and_files(own, where):
    udf = make_udf(f"{where}:Own", {"factor": 3})
    assert (udf.params.factor, udf.params.power) == (3, 2)
    assert make_udf(f"{where}:make", {"n": 4}).params.factor == 4


@pytest.mark.parametrize(
    "name, params, text",
    [
        ("own_udf_module:Own", {}, "needs -p factor=..."),
        (
            "own_udf_module:Own",
            {"faktor": 1},
            r"no parameter 'faktor'\. Did you mean 'factor'\? Parameters: factor, power",
        ),
        ("own_udf_module:Owns", {}, r"has no 'Owns'\. Did you mean 'Own'\? UDFs there: Own"),
        ("own_udf_module:not_a_udf", {}, "is a int, not a UDF class"),
        ("own_udf_module:wrong", {}, "made a str, not a UDF"),
        ("no_such_module:X", {}, "no module 'no_such_module'"),
        ("no_such_file.py:X", {}, r"no file no_such_file\.py"),
        ("sum", {"x": 1}, "--udf sum has no parameter 'x'"),
        ("com", {"r": "abc"}, r"--udf com does not take these parameters: .*--debug"),
    ],
)
def test_mistakes(own, name, params, text):
    with pytest.raises(FramefoldError, match=text):
        make_udf(name, params)


def test_a_missing_import_inside_the_module_is_not_hidden(own):
    (own / "own_udf_module.py").write_text("import not_there_at_all")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        udf_class("own_udf_module:X")
