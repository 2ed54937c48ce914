"""Results of several UDFs as one, for one file."""

from __future__ import annotations

from collections.abc import Sequence

from framefold.udfcore.results import UDFResult


def labels(names: Sequence[str]) -> list[str]:
    """Return short, different names of the UDFs of a run.

    >>> labels(["sum", "my.mod:FooUDF", "sum"])
    ['sum', 'foo', 'sum2']
    """
    found: list[str] = []
    for name in names:
        short = name.rsplit(":", 1)[-1].lower().removesuffix("udf").strip("_") or "udf"
        n = 1 + sum(1 for f in found if f.rstrip("0123456789") == short)
        found.append(short if n == 1 else f"{short}{n}")
    return found


def combined(names: Sequence[str], results: Sequence[UDFResult]) -> UDFResult:
    """Return the results of all UDFs of a run as one; prefixed by `names` if there are several."""
    if len(results) == 1:
        return results[0]
    buffers = {f"{n}_{key}": buf for n, r in zip(names, results, strict=True) for key, buf in r.items()}
    first = results[0]
    about = {k: v for k, v in first.provenance.items() if k not in ("udf", "parameters")}
    about["udfs"] = [{"name": n, "udf": r.provenance["udf"], "parameters": r.provenance["parameters"]}
                     for n, r in zip(names, results, strict=True)]  # fmt: skip
    return UDFResult(buffers, first.damage, first.report, about, {}, first._saver)
