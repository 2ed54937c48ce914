"""Built-in reductions, one file each; a file is loaded when its class is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefold.udfs.apply_masks import ApplyMasksUDF
    from framefold.udfs.auto import AutoUDF
    from framefold.udfs.blobfinder.blobfinder_udf import BlobfinderUDF
    from framefold.udfs.blobfinder.strain_udf import StrainUDF
    from framefold.udfs.com import CoMUDF
    from framefold.udfs.crystallinity import CrystallinityUDF
    from framefold.udfs.dpc import DPCUDF
    from framefold.udfs.fem import FEMUDF
    from framefold.udfs.fourd.icom import ICoMUDF
    from framefold.udfs.fourd.ssb import SSBUDF
    from framefold.udfs.frame_stats import FrameStatsUDF
    from framefold.udfs.fxs.c2 import C2UDF
    from framefold.udfs.grouped_sum import GroupedSumUDF
    from framefold.udfs.histogram import HistogramUDF
    from framefold.udfs.logsum import LogSumUDF
    from framefold.udfs.mean import MeanUDF
    from framefold.udfs.minmax import MaxUDF, MinUDF
    from framefold.udfs.monitor import MonitorUDF
    from framefold.udfs.percentile import PercentileUDF
    from framefold.udfs.pick import PickUDF
    from framefold.udfs.ptycho.ptychography import Ptychography
    from framefold.udfs.radial_profile import RadialProfileUDF
    from framefold.udfs.record import RecordUDF
    from framefold.udfs.spectral_peaks import SpectralPeaksUDF
    from framefold.udfs.stddev import StdDevUDF
    from framefold.udfs.sum import SumUDF
    from framefold.udfs.sumsig import SumSigUDF
    from framefold.udfs.virtual_detector import VirtualDetectorUDF

_MODULES = {
    "ApplyMasksUDF": "apply_masks",
    "AutoUDF": "auto",
    "BlobfinderUDF": "blobfinder.blobfinder_udf",
    "C2UDF": "fxs.c2",
    "CoMUDF": "com",
    "CrystallinityUDF": "crystallinity",
    "DPCUDF": "dpc",
    "FEMUDF": "fem",
    "FrameStatsUDF": "frame_stats",
    "GroupedSumUDF": "grouped_sum",
    "HistogramUDF": "histogram",
    "ICoMUDF": "fourd.icom",
    "LogSumUDF": "logsum",
    "MaxUDF": "minmax",
    "MeanUDF": "mean",
    "MinUDF": "minmax",
    "MonitorUDF": "monitor",
    "PercentileUDF": "percentile",
    "PickUDF": "pick",
    "Ptychography": "ptycho.ptychography",
    "RadialProfileUDF": "radial_profile",
    "RecordUDF": "record",
    "SSBUDF": "fourd.ssb",
    "SpectralPeaksUDF": "spectral_peaks",
    "StdDevUDF": "stddev",
    "StrainUDF": "blobfinder.strain_udf",
    "SumSigUDF": "sumsig",
    "SumUDF": "sum",
    "VirtualDetectorUDF": "virtual_detector",
}

__all__ = [
    "ApplyMasksUDF", "AutoUDF", "BlobfinderUDF", "C2UDF", "CoMUDF", "CrystallinityUDF", "DPCUDF",
    "FEMUDF", "FrameStatsUDF", "GroupedSumUDF", "HistogramUDF", "ICoMUDF", "LogSumUDF", "MaxUDF",
    "MeanUDF", "MinUDF", "MonitorUDF", "PercentileUDF", "PickUDF", "Ptychography", "RadialProfileUDF",
    "RecordUDF", "SSBUDF", "SpectralPeaksUDF", "StdDevUDF", "StrainUDF", "SumSigUDF", "SumUDF",
    "VirtualDetectorUDF",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"framefold.udfs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'framefold.udfs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
