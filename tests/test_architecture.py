"""What import-linter cannot say: kernel files, wherever they are, know arrays only."""

import ast
import sys
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
