"""The keyword arguments that runs share, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from framefold.udfcore.corrections import Corrections
from framefold.udfcore.pre import Transform

Roi = Any
Plots = Any
Progress = Any


class RunKeywords(TypedDict, total=False):
    """The keyword-only arguments of `Context.run_udf`."""

    pre: Sequence[Transform]
    on_ready: Callable[[Any], Any] | None
    publish_interval: float
    partition_frames: int | None
    deterministic: bool
    dtype_policy: Literal["group", "joint"]
    retries: int
    validate: bool


class IterKeywords(RunKeywords, total=False):
    """The keyword-only arguments of `Context.run_udf_iter`."""

    publish: Literal["auto", "merge", "latest", "window"]


class AcquisitionKeywords(TypedDict, total=False):
    """The keyword-only arguments of `Context.acquisitions`."""

    roi: Roi
    corrections: Corrections | None
    progress: Progress
    backends: Sequence[str] | str | None
    plots: Plots
    pre: Sequence[Transform]
    on_ready: Callable[[Any], Any] | None
    publish_interval: float
    dtype_policy: Literal["group", "joint"]
    validate: bool
