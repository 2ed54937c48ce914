"""Results as text: a table with range and mean of each, and how fast the run was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framefold.plot.progress import rate_text
from framefold.udfcore.results import ResultBuffer, UDFResult


def table(names: Sequence[str], results: Sequence[Mapping[str, ResultBuffer]]) -> str:
    """Return one row per result: shape, dtype, min, mean and max of the valid, finite values."""
    head = ("udf", "result", "kind", "shape", "dtype", "min", "mean", "max", "valid")
    rows: list[tuple[str, ...]] = [head]
    for name, result in zip(names, results, strict=True):
        rows += [(name, key, *_row(buf)) for key, buf in result.items()]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    right = {5, 6, 7, 8}
    lines = [
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(buf: ResultBuffer) -> tuple[str, ...]:
    shape = "x".join(map(str, buf.shape))
    about = (buf.kind, shape, str(buf.dtype))
    if buf.dtype.kind not in "biufc":
        return (*about, "", "", "", "")
    values, valid = buf.raw_data, ~np.ma.getmaskarray(buf.raw_masked_data)
    if values.dtype.kind == "c":
        values = np.abs(values)
    good = values[valid & np.isfinite(values)]
    share = f"{100 * good.size / values.size:.3g} %" if values.size else "-"
    if not good.size:
        return (*about, "-", "-", "-", share)
    return (*about, _number(good.min()), _number(good.mean(dtype=np.float64)), _number(good.max()), share)


def _number(value: Any) -> str:
    return (
        f"{int(value)}"
        if isinstance(value, (np.integer, np.bool_)) and abs(int(value)) < 10**7
        else f"{value:.5g}"
    )


def speed(result: UDFResult) -> str:
    """Return frames, time and throughput of a run in one line."""
    r = result.report
    seconds = max(float(r["seconds"]), 1e-9)
    lanes = len(r["workers"])
    rate = rate_text(r["bytes_read"] / seconds)
    text = f"{r['frames']} frames in {seconds:.3g} s, {rate}, {r['executor']}"
    if lanes > 1:
        text += f" ({lanes} lanes)"
    missing = int(r["invalid_frames"])
    return text + (f", {missing} frames missing in the file" if missing else "")
