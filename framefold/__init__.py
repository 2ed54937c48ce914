"""Fold detector frames into answers: user-defined, streaming map-reduce of detector data.

Start with `Context`, ``ctx.load`` and ``ctx.run_udf``; write a `UDF` for what is not built in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from framefold import errors
from framefold.context import Context
from framefold.io.save import load_results
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.pipe import Pipe
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.pre import Apply, Bin, Crop, Flip, Gaussian, Log, Mask, Rot90, Threshold
from framefold.udfcore.provenance import version as _version
from framefold.udfcore.results import ResultBuffer, Snapshot, UDFResult
from framefold.udfcore.shapes import Shape, Slice
from framefold.udfcore.udf import UDF

if TYPE_CHECKING:
    from framefold import masks, sim, testing, udfs
    from framefold.strainmap import strain_map

__version__ = _version()

__all__ = [
    "Context", "UDF", "IterativeUDF", "EngineOptions", "AuxData", "PlotSpec",
    "Dataset", "Corrections", "Shape", "Slice",
    "UDFResult", "ResultBuffer", "Snapshot", "load_results",
    "Pipe", "Crop", "Bin", "Mask", "Log", "Threshold", "Gaussian", "Flip", "Rot90", "Apply",
    "errors", "masks", "sim", "testing", "udfs", "strain_map",
]  # fmt: skip

_LAZY = ("masks", "sim", "testing", "udfs")  # numba and generators load when they are first used


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"framefold.{name}")
    if name == "strain_map":
        return importlib.import_module("framefold.strainmap").strain_map
    raise AttributeError(f"module 'framefold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "strain_map"])
