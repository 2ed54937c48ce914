"""Coherent diffraction imaging as an algebra of operators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefold.udfs.cdi.algebra import Operator, run
    from framefold.udfs.cdi.algorithms import ASR, DM, ER, HIO, HPR, RAAR, SF, ChargeFlip
    from framefold.udfs.cdi.coherence import EstimatePSF
    from framefold.udfs.cdi.likelihood import LLK, fit
    from framefold.udfs.cdi.maximum_likelihood import ML
    from framefold.udfs.cdi.prepare import FreePixels, InterpMask, RandomObject, ScaleObj, Upsample
    from framefold.udfs.cdi.recipe import parse
    from framefold.udfs.cdi.save import Save
    from framefold.udfs.cdi.starts import Multistart, multistart
    from framefold.udfs.cdi.state import CDI
    from framefold.udfs.cdi.structure_factor import structure_factors
    from framefold.udfs.cdi.support import AutoCorrelationSupport, Detwin, SupportUpdate
    from framefold.udfs.cdi.transforms import FT, IFT, ApplyAmplitude, ERProj, FourierApplyAmplitude

_MODULES = {
    "algebra": ("Operator", "run"),
    "algorithms": ("ASR", "DM", "ER", "HIO", "HPR", "RAAR", "SF", "ChargeFlip"),
    "coherence": ("EstimatePSF",),
    "likelihood": ("LLK", "fit"),
    "maximum_likelihood": ("ML",),
    "starts": ("Multistart", "multistart"),
    "recipe": ("parse",),
    "prepare": ("FreePixels", "InterpMask", "RandomObject", "ScaleObj", "Upsample"),
    "save": ("Save",),
    "state": ("CDI",),
    "structure_factor": ("structure_factors",),
    "support": ("AutoCorrelationSupport", "Detwin", "SupportUpdate"),
    "transforms": ("FT", "IFT", "ApplyAmplitude", "ERProj", "FourierApplyAmplitude"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ASR", "CDI", "DM", "ER", "FT", "HIO", "HPR", "IFT", "LLK", "ML", "RAAR", "SF", "ApplyAmplitude",
    "AutoCorrelationSupport", "ChargeFlip", "Detwin", "ERProj", "EstimatePSF", "FourierApplyAmplitude",
    "FreePixels", "InterpMask", "Multistart", "Operator", "RandomObject", "Save", "ScaleObj", "SupportUpdate",
    "Upsample", "fit", "multistart", "parse", "run", "structure_factors",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"framefold.udfs.cdi.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'framefold.udfs.cdi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
