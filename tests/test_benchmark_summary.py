"""The summary of the benchmarks leaves no missed goal out."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).parent.parent / "benchmarks" / "summary.py"
_spec = importlib.util.spec_from_file_location("benchmark_summary", PATH)
summary = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(summary)

PAGE = """2 cores.

| what | measured | goal | |
|---|---|---|---|
| fast | 3 | 2 | met |
| slow | 1 | 2 | **missed** |
| told | 7 | reported | |

| id | what | goal | GB/s |
|---|---|---|---|
| L1 | path | 5 | 4 |
| L2 | path | | 4 |

- Said in words: **missed**.
"""


def test_every_goal_has_its_place(tmp_path):
    (tmp_path / "a.md").write_text(PAGE)
    (tmp_path / "summary.md").write_text("| old | | | missed |")
    text = summary.summary(tmp_path)
    assert text.startswith("1 of the 2 goals that a table judges are met, 1 are **missed**. 1 more rows")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| slow | measured: 1; goal: 2 | a | **missed** |",
        "| L1, path | goal: 5; GB/s: 4 | a | not judged |",
        "| fast | measured: 3; goal: 2 | a | met |",
    ]
    assert text.endswith("- a: Said in words: **missed**.\n")
