"""Built-in reductions, one file each."""

from __future__ import annotations
from framefold.udfs.apply_masks import ApplyMasksUDF as ApplyMasksUDF
from framefold.udfs.auto import AutoUDF as AutoUDF
from framefold.udfs.com import CoMUDF as CoMUDF
from framefold.udfs.crystallinity import CrystallinityUDF as CrystallinityUDF
from framefold.udfs.dpc import DPCUDF as DPCUDF
from framefold.udfs.fem import FEMUDF as FEMUDF
from framefold.udfs.logsum import LogSumUDF as LogSumUDF
from framefold.udfs.mean import MeanUDF as MeanUDF
from framefold.udfs.minmax import MaxUDF as MaxUDF
from framefold.udfs.minmax import MinUDF as MinUDF
from framefold.udfs.monitor import MonitorUDF as MonitorUDF
from framefold.udfs.pick import PickUDF as PickUDF
from framefold.udfs.radial_profile import RadialProfileUDF as RadialProfileUDF
from framefold.udfs.record import RecordUDF as RecordUDF
from framefold.udfs.spectral_peaks import SpectralPeaksUDF as SpectralPeaksUDF
from framefold.udfs.stddev import StdDevUDF as StdDevUDF
from framefold.udfs.sum import SumUDF as SumUDF
from framefold.udfs.sumsig import SumSigUDF as SumSigUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF as VirtualDetectorUDF
from typing import TYPE_CHECKING, Any
