"""All goals of the benchmarks beside their figures, missed ones first and with their reasons.

    python benchmarks/summary.py [--tables docs/benchmarks]

Writes ``summary.md`` beside the tables. A cell that ends in ``met`` or ``**missed**`` judges its row. Reasons come
from ``docs/benchmarks/reasons.toml``: for each page a table of beginnings of rows, ``""`` being that of all others.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def goals(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (what, figures, verdict) of the rows that have a verdict: ``"missed"`` or ``"met"``."""
    header = None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
            continue
        ends = {cell.rsplit(" ", 1)[-1].strip("*") for cell in cells[1:]}
        verdict = "missed" if "missed" in ends else "met" if "met" in ends else ""
        if verdict:
            figures = [
                f"{name}: {cell}" if name else cell
                for name, cell in zip(header[1:], cells[1:], strict=False)
                if cell and cell.strip("*") not in ("met", "missed")
            ]
            yield cells[0], "; ".join(figures), verdict


def reason(reasons: dict[str, dict[str, str]], page: str, what: str) -> str:
    """Return why the row `what` of a page may be missed: that of the longest beginning that fits."""
    found = reasons.get(page, {})
    fits = [begin for begin in found if what.startswith(begin)]
    return found[max(fits, key=len)] if fits else ""


def summary(folder: Path, reasons: dict[str, dict[str, str]] | None = None) -> str:
    """Return the tables of all goals in the pages of `folder`: those missed, and those met."""
    if reasons is None:
        reasons = tomllib.loads((HERE / "reasons.toml").read_text())
    rows = [
        (page.stem, *goal)
        for page in sorted(folder.glob("*.md"))
        if page.name != "summary.md"
        for goal in goals(page.read_text())
    ]
    missed, met = ([r for r in rows if r[3] == verdict] for verdict in ("missed", "met"))
    return "\n".join([
        f"{len(met)} of {len(rows)} goals are met, {len(missed)} are missed.", "",
        "| missed | figures | table | why |",
        "|---|---|---|---|",
        *(f"| {what} | {figures} | {page} | {reason(reasons, page, what)} |" for page, what, figures, _ in missed),
        "",
        "| met | figures | table |",
        "|---|---|---|",
        *(f"| {what} | {figures} | {page} |" for page, what, figures, _ in met),
        "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, default=HERE)
    args = parser.parse_args()
    (args.tables / "summary.md").write_text(summary(args.tables))


if __name__ == "__main__":
    main()
