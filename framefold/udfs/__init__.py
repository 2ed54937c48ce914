"""Built-in reductions, one file each."""

from framefold.udfs.auto import AutoUDF as AutoUDF
from framefold.udfs.logsum import LogSumUDF as LogSumUDF
from framefold.udfs.mean import MeanUDF as MeanUDF
from framefold.udfs.minmax import MaxUDF as MaxUDF
from framefold.udfs.minmax import MinUDF as MinUDF
from framefold.udfs.monitor import MonitorUDF as MonitorUDF
from framefold.udfs.pick import PickUDF as PickUDF
from framefold.udfs.record import RecordUDF as RecordUDF
from framefold.udfs.stddev import StdDevUDF as StdDevUDF
from framefold.udfs.sum import SumUDF as SumUDF
from framefold.udfs.sumsig import SumSigUDF as SumSigUDF
