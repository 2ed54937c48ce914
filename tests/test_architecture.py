"""What import-linter cannot say: kernel files know arrays only; the drawing of the design shows the code."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import framefold

ROOT = Path(framefold.__file__).parent
KERNELS = sorted({*ROOT.glob("kernels/*.py"), *ROOT.rglob("kernels*.py"), *ROOT.glob("io/decode*.py")})
ALLOWED = {"numpy", "pyfftw", "numba", "scipy", "llvmlite", *sys.stdlib_module_names}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_arrays_only(path):
    ours = {n for n in imported(path) if n.split(".")[0] == "framefold"}
    foreign = {n for n in imported(path) - ours if n.split(".")[0] not in ALLOWED}
    assert not foreign
    assert not {n for n in ours if n != "framefold.errors" and "kernels" not in n and "decode" not in n}


DESIGN = (ROOT.parent / "docs" / "design.md").read_text().split("## 7. ")[1].split("## 8. ")[0]


def test_the_drawing_shows_the_layers_that_are_enforced():
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in settings["contracts"] if c["name"] == "Imports point downwards")
    enforced = [set(re.findall(r"\w+", layer)) - {"__main__", "masks"} for layer in contract["layers"]]
    drawing = DESIGN.split("```")[1].splitlines()
    drawn = [set(re.findall(r"\w+", line.split("  " * 4)[0] if line[0] != " " else line.strip().split("   ")[0]))
             for line in drawing if line.strip(" |")]  # fmt: skip
    assert drawn == [layer for layer in enforced if layer]


NAMES = [
    (package, name)
    for package, text in re.findall(r"^\| `(\w+)/` \| (.*) \|$", DESIGN, flags=re.MULTILINE)
    for name in re.findall(r"`([a-z_0-9*]+)`", re.sub(r"\((protocol|behind)[^)]*\)", "", text))
]


@pytest.mark.parametrize("package", sorted({package for package, _ in NAMES}))
def test_the_table_names_files_that_exist(package):
    missing = [n for p, n in NAMES if p == package and not list((ROOT / package).glob(f"{n}.py"))]
    assert not [n for n in missing if not (ROOT / package / n).is_dir()]
