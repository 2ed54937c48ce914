"""All goals of the benchmarks beside their figures, missed ones first: gathered from the tables of the documentation.

    python benchmarks/summary.py [--tables docs/benchmarks]

Writes ``summary.md`` beside the tables. Rows with a verdict are counted; rows with a goal and no verdict, and what
the text beside the tables calls missed, are listed behind them: nothing that was missed stays out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
VERDICTS = ("missed", "met")


def goals(text):
    """Yield (what, figures, verdict) of what `text` says of goals.

    The verdict is ``"missed"`` or ``"met"``, ``"open"`` for rows with a goal and no verdict, and ``"text"`` for
    lines outside of tables that speak of a missed goal.
    """
    header = None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            if "missed" in line:
                yield line.strip(" -"), "", "text"
            continue
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
            continue
        verdict = cells[-1].strip("*")
        aim = [
            c for name, c in zip(header, cells, strict=False) if name == "goal" and c not in ("", "reported")
        ]
        if verdict not in VERDICTS:
            if not aim or set(line) <= set("|-: "):
                continue
            verdict = "open"
        named = 2 if header[0] == "id" else 1
        cut = -1 if verdict in VERDICTS else None
        figures = "; ".join(
            f"{name}: {cell}" for name, cell in zip(header[named:cut], cells[named:cut], strict=False) if cell
        )
        yield ", ".join(cells[:named]), figures, verdict


def summary(folder):
    """Return the table of all goals in the pages of `folder`."""
    rows = []
    for page in sorted(folder.glob("*.md")):
        if page.name != "summary.md":
            rows += [
                (verdict, what, figures, page.stem) for what, figures, verdict in goals(page.read_text())
            ]
    by = {v: [r for r in rows if r[0] == v] for v in (*VERDICTS, "open", "text")}
    judged = len(by["missed"]) + len(by["met"])
    lines = [
        f"{len(by['met'])} of the {judged} goals that a table judges are met, {len(by['missed'])} are **missed**. "
        f"{len(by['open'])} more rows state a goal beside a figure without a verdict, and {len(by['text'])} lines "
        "of the text speak of missed goals; they follow the table and are not counted in it. The reasons stand "
        "below each table.",
        "",
        "| goal | figures | table | |",
        "|---|---|---|---|",
    ]
    marks = {"missed": "**missed**", "met": "met", "open": "not judged"}
    for verdict in ("missed", "open", "met"):
        lines += [
            f"| {what} | {figures} | {page} | {marks[verdict]} |" for _, what, figures, page in by[verdict]
        ]
    lines += ["", *(f"- {page}: {what}" for _, what, _, page in by["text"])]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, default=HERE)
    args = parser.parse_args()
    text = summary(args.tables)
    (args.tables / "summary.md").write_text(text)


if __name__ == "__main__":
    main()
