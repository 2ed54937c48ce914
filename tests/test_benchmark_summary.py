"""The summary of the benchmarks leaves no missed goal out, and gives a reason for each."""

import importlib.util
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("benchmark_summary", ROOT / "benchmarks" / "summary.py")
summary = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(summary)
REASONS = tomllib.loads((ROOT / "docs" / "benchmarks" / "reasons.toml").read_text())

PAGE = """2 cores.

| what | measured | goal | |
|---|---|---|---|
| fast | 3 | 2 | met |
| slow | 1 | 2 | **missed** |
| told | 7 | reported | |

| path | GB/s | goal | ratio | goal |
|---|---|---|---|---|
| both | 4 | >= 3: met | 0.5 | >= 0.8: **missed** |
| one | 4 | >= 3: met | 0.5 | |
"""


def test_every_goal_has_its_place(tmp_path):
    (tmp_path / "a.md").write_text(PAGE)
    (tmp_path / "summary.md").write_text("| old | | | missed |")
    text = summary.summary(tmp_path, {"a": {"": "because", "slow": "it is slow"}})
    assert text.startswith("2 of 4 goals are met, 2 are missed.")
    assert [line for line in text.splitlines() if line.startswith("| ")] == [
        "| missed | figures | table | why |",
        "| slow | measured: 1; goal: 2 | a | it is slow |",
        "| both | GB/s: 4; goal: >= 3: met; ratio: 0.5; goal: >= 0.8: **missed** | a | because |",
        "| met | figures | table |",
        "| fast | measured: 3; goal: 2 | a |",
        "| one | GB/s: 4; goal: >= 3: met; ratio: 0.5 | a |",
    ]


def test_missed_goals_have_reasons():
    pages = [p for p in (ROOT / "docs" / "benchmarks").glob("*.md") if p.name != "summary.md"]
    missed = [(p.stem, what) for p in pages for what, _, v in summary.goals(p.read_text()) if v == "missed"]
    assert not [(page, what) for page, what in missed if not summary.reason(REASONS, page, what)]


def test_reasons_are_those_of_pages():
    pages = {p.stem for p in (ROOT / "docs" / "benchmarks").glob("*.md")}
    assert set(REASONS) <= pages


def test_run_knows_every_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("benchmark_run", ROOT / "benchmarks" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    scripts = {p.stem for p in (ROOT / "benchmarks").glob("*.py") if "__main__" in p.read_text()}
    known = [line.split()[0] for lines in run.PAGES.values() for line in lines]
    assert sorted(known) == sorted(scripts - {"run", "summary"})
    pages = {p.stem for p in (ROOT / "docs" / "benchmarks").glob("*.md")} - {"summary"}
    assert pages == set(run.PAGES)
