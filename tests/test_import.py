"""What `import framefold` may and may not do."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["distributed", "dask", "matplotlib", "bokeh", "cupy", "numba"])
def test_import_stays_light(heavy: str) -> None:
    code = f"import framefold, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
