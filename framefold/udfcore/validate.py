"""Checks of a run before the first tile is read."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import textwrap
import warnings
from collections.abc import Sequence

from framefold.errors import MissingMergeError, ParameterError, UDFError, did_you_mean
from framefold.udfcore.plan import Plan, UDFPlan
from framefold.udfcore.udf import UDF

MEMORY_FRACTION = 0.6


def check_run(plan: Plan, udfs: Sequence[UDF], *, lanes: int, processes: bool) -> None:
    """Refuse what cannot work, before workers start.

    Raises
    ------
    UDFError
        `MissingMergeError`, `ParameterError` and others, each naming the UDF and the mend.
    """
    for udf, p in zip(udfs, plan.udfs, strict=True):
        check_merge(udf, p)
        check_constructor(udf)
        if processes:
            check_picklable(udf)
        warn_undeclared(udf, p)
    check_memory(plan, lanes)


def check_merge(udf: UDF, plan: UDFPlan) -> None:
    """Require `merge` or ``reduce=`` for buffers that partitions share, `get_results` for result_only."""
    overrides = type(udf).merge is not UDF.merge
    for name, decl in plan.decls.items():
        if decl.use == "result_only":
            if type(udf).get_results is UDF.get_results:
                raise UDFError(
                    f"{plan.name}: buffer {name!r} is result_only, "
                    f"so get_results(self) must be defined and return it"
                )
        elif decl.kind != "nav" and decl.reduce is None and not overrides:
            raise MissingMergeError(
                f"{plan.name}: buffer {name!r} (kind={decl.kind!r}) needs a merge. "
                f'Declare reduce="sum" in self.buffer(...), or define merge(self, dest, src).'
            )


def check_constructor(udf: UDF) -> None:
    """Require that workers can make their own object: the class takes its own parameters."""
    cls = type(udf)
    try:
        inspect.signature(cls).bind(**udf._kwargs)
    except TypeError as exc:
        raise ParameterError(
            f"{cls.__name__}.__init__ does not accept its own parameters ({exc}): pass all of them on with "
            f"super().__init__(name=value, ...) under the names that __init__ takes"
        ) from exc


def check_picklable(udf: UDF) -> None:
    """Require parameters that can travel to other processes, naming the one that cannot."""
    for key, value in udf._kwargs.items():
        try:
            try:
                pickle.dumps(value)
            except Exception:  # noqa: BLE001  # functions and local classes travel by cloudpickle
                import cloudpickle  # noqa: PLC0415

                cloudpickle.dumps(value)
        except Exception as exc:
            raise ParameterError(
                f"{type(udf).__name__}: parameter {key!r} ({type(value).__name__}) "
                f"cannot be sent to workers: {exc}"
            ) from exc


def check_memory(plan: Plan, lanes: int) -> None:
    """Refuse buffers that would not fit in memory, with the table and the remedies."""
    limit = int(total_memory() * MEMORY_FRACTION)
    need, lines = 0, []
    for p in plan.udfs:
        for name, d in p.decls.items():
            if d.use == "result_only":
                continue
            head = d.nbytes(plan.n_rows, p.sig)
            copies = 1 if d.kind == "nav" else 2 + lanes  # head, snapshot, one per lane
            need += head * copies
            lines.append((head * copies, f"{p.name}.{name}: {copies} x {head / 2**20:.1f} MB"))
    if need > limit:
        table = "; ".join(text for _, text in sorted(lines, reverse=True)[:5])
        raise UDFError(
            f"the result buffers need {need / 2**30:.2f} GB in {lanes} lanes (limit {limit / 2**30:.2f} GB): "
            f"{table}. Use fewer lanes, a smaller extra_shape, or workers with more memory."
        )


def total_memory() -> int:
    """Return the memory of this machine in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def warn_undeclared(udf: UDF, plan: UDFPlan) -> None:
    """Warn about ``self.results.NAME`` in the source of the class where NAME is not declared."""
    cls = type(udf)
    # finding the source of a class parses its whole file: once per class, and not for our own
    if cls.__module__.startswith("framefold.") or cls.__dict__.get("_framefold_checked") == set(plan.decls):
        return
    cls._framefold_checked = set(plan.decls)  # type: ignore[attr-defined]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "results"
            and isinstance(node.value.value, ast.Name)
            and node.value.value.id == "self"
            and node.attr not in plan.decls
            and node.attr not in ("get", "get_buffer", "keys", "values", "items", "as_dict")
        ):
            warnings.warn(
                f"{plan.name} uses self.results.{node.attr}, which get_result_buffers does not declare; "
                f"declared: {', '.join(plan.decls)}.{did_you_mean(node.attr, plan.decls)}",
                stacklevel=2,
            )
