"""Bragg disks: where they are, the lattice they lie on, and the strain that follows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefold.udfs.blobfinder.blobfinder_udf import BlobfinderUDF
    from framefold.udfs.blobfinder.correlate import CropCorrelation, FullFrameCorrelation, SparseCorrelation
    from framefold.udfs.blobfinder.find import FoundLattice, find_lattice
    from framefold.udfs.blobfinder.lattice import Lattice, LatticeFit
    from framefold.udfs.blobfinder.patterns import (
        BackgroundSubtraction,
        Bullseye,
        Disk,
        RadialGradient,
        Template,
    )
    from framefold.udfs.blobfinder.strain import Spacings
    from framefold.udfs.blobfinder.strain_udf import StrainUDF

_MODULES = {
    "BackgroundSubtraction": "patterns",
    "BlobfinderUDF": "blobfinder_udf",
    "Bullseye": "patterns",
    "CropCorrelation": "correlate",
    "Disk": "patterns",
    "FoundLattice": "find",
    "FullFrameCorrelation": "correlate",
    "Lattice": "lattice",
    "LatticeFit": "lattice",
    "RadialGradient": "patterns",
    "Spacings": "strain",
    "SparseCorrelation": "correlate",
    "StrainUDF": "strain_udf",
    "Template": "patterns",
    "find_lattice": "find",
}

__all__ = [
    "BackgroundSubtraction", "BlobfinderUDF", "Bullseye", "CropCorrelation", "Disk", "FoundLattice",
    "FullFrameCorrelation", "Lattice", "LatticeFit", "RadialGradient", "Spacings", "SparseCorrelation",
    "StrainUDF", "Template", "find_lattice",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"framefold.udfs.blobfinder.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'framefold.udfs.blobfinder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
