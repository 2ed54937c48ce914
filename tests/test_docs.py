"""The code in README and documentation runs as it stands, page by page."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from framefold.sim.stem import cbed

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/index.md",
    # those that are notebooks run when the documentation is built
    *sorted(p for p in ROOT.glob("docs/tutorials/*.md") if "file_format: mystnb" not in p.read_text()),
    *sorted(ROOT.glob("docs/how-to/*.md")),
]


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return line number and text of each Python block."""
    text = page.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start(1)), m.group(1)) for m in found]


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    return cbed((16, 16), (64, 64), dose=2000, background=0.05).array()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_runs(page, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", scan)
    assert blocks(page)
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, "docs_page", module)  # classes of the page can be pickled
    for line, code in blocks(page):
        # padded, so that a traceback shows the line of the page
        exec(compile("\n" * line + code.replace("scan.mib", "scan.npy"), str(page), "exec"), vars(module))
