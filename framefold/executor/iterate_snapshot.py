"""What an iteration hands out: immutable snapshots, with the results as `UDFResult`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.executor.iterate_load import LoadUDF
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plan import RunOptions, UDFPlan
from framefold.udfcore.planning import make_plan
from framefold.udfcore.results import ResultBuffer, Snapshot
from framefold.udfcore.udf import UDFMethod

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class IterationSnapshot(Snapshot):
    """The state of an iterative reduction, immutable.

    Attributes
    ----------
    iteration
        Iterations done.
    history
        Figures by name, one number per iteration.
    reason
        Why the iteration ended; empty while it goes on.
    """

    iteration: int = 0
    history: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    reason: str = ""


def result_plan(dataset: Dataset, udf: IterativeUDF, run: RunOptions) -> UDFPlan:
    """Return the description of the run that its results carry."""
    info = make_plan(dataset, [LoadUDF(None)], run).udfs[0].info
    sig = tuple(info.dataset_shape.sig)
    return UDFPlan(
        type(udf), udf._kwargs, type(udf).__name__, {}, UDFMethod.TILE, info, sig, frozenset(), frozenset()
    )


class IterativeResult(ResultBuffer):
    """A result of kind ``single`` with axes of its own."""

    own_axes: tuple[Axis, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Calibrated axes of the first axes of `data`."""
        return self.own_axes


def as_result(name: str, array: Array, plan: UDFPlan, axes: tuple[Axis, ...] = ()) -> IterativeResult:
    """Return an array as a result of kind ``single``."""
    result = IterativeResult(
        name, BufferDecl("single", (), array.dtype), plan, array, np.ones(array.shape, bool)
    )
    result.own_axes = axes
    return result
