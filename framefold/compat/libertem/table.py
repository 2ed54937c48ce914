# ruff: noqa: E501  # a table
"""Which module of LiberTEM has which names, and where framefold keeps what they mean.

A value is ``"module:attribute"``, or ``"module"`` for a module itself.
"""

from __future__ import annotations

_OWN = "framefold.compat.libertem"


def _from(place: str, *names: str) -> dict[str, str]:
    """Return names that mean the attribute of the same name in `place`; ``a=b`` means attribute b."""
    pairs = (n.split("=") if "=" in n else (n, n) for n in names)
    return {name: f"{place}:{attribute}" for name, attribute in pairs}


_UDF_BASICS = _from(
    f"{_OWN}.udf",
    "UDF", "UDFMeta", "UDFData", "UDFFrameMixin", "UDFTileMixin", "UDFPartitionMixin", "UDFPreprocessMixin",
    "UDFPostprocessMixin", "check_cast",
) | _from("framefold.errors", "UDFRunCancelled")  # fmt: skip
_SHAPES = _from(f"{_OWN}.shapes", "Shape", "Slice", "SliceUsageError")
_CORRECTIONS = _from(f"{_OWN}.corrections", "CorrectionSet")
_DETECTOR = _from(
    f"{_OWN}.corrections",
    "correct",
    "correct_dot_masks",
    "CorrectError",
    "RepairValueError",
    "RepairDescriptor",
)
_SPARSE = _from(f"{_OWN}.arrays", "to_dense", "to_sparse", "is_sparse", "sparse_to_coo", "assert_sparse")
_DATASETS = (
    _from(f"{_OWN}.dataset", "DataSet", "DataSetException", "DataSetMeta")
    | _from(f"{_OWN}.partition", "Partition", "BasePartition=Partition")
    | _from(f"{_OWN}.tiles", "TilingScheme", "DataTile")
)
_BACKENDS = _from(
    f"{_OWN}.backends", "IOBackend", "IOBackendImpl", "MMapBackend", "BufferedBackend", "DirectBackend"
)
_PLOTS = _from(f"{_OWN}.plots", "get_plottable_2D_channels", "Live2DPlot", "Dummy2DPlot")

TABLE: dict[str, dict[str, str]] = {
    "libertem": {"__version__": f"{_OWN}.version:__version__"},
    # --- UDFs
    "libertem.udf": _UDF_BASICS | _from(f"{_OWN}.udfs.auto", "AutoUDF"),
    "libertem.udf.base": _UDF_BASICS
    | _from(f"{_OWN}.udf", "NoOpUDF", "MergeAttrMapping", "UDFMergeAllMixin", "UDFParams", "UDFPartRunner", "UDFProtocol")
    | _from(f"{_OWN}.runs", "UDFResults", "UDFRunner"),
    "libertem.udf.auto": _from(f"{_OWN}.udfs.auto", "AutoUDF"),
    "libertem.udf.sum": _from(f"{_OWN}.udfs.sums", "SumUDF"),
    "libertem.udf.sumsigudf": _from(f"{_OWN}.udfs.sums", "SumSigUDF", "run_sumsig"),
    "libertem.udf.logsum": _from(f"{_OWN}.udfs.sums", "LogsumUDF", "run_logsum"),
    "libertem.udf.stddev": _from(
        f"{_OWN}.udfs.stddev", "StdDevUDF", "run_stddev", "consolidate_result", "merge", "process_tile"
    ),
    "libertem.udf.raw": _from(f"{_OWN}.udfs.raw", "PickUDF"),
    "libertem.udf.record": _from(f"{_OWN}.udfs.raw", "RecordUDF"),
    "libertem.udf.masks": _from(f"{_OWN}.udfs.masks", "ApplyMasksUDF", "ApplyMasksEngine"),
    "libertem.udf.com": _from(
        f"{_OWN}.udfs.com", "CoMUDF", "CoMParams", "RegressionOptions", "GuessResult", "apply_correction",
        "center_shifts", "coordinate_check", "curl_2d", "divergence", "guess_corrections", "magnitude",
    ),
    "libertem.udf.FEM": _from(f"{_OWN}.udfs.rings", "FEMUDF", "run_fem"),
    "libertem.udf.crystallinity": _from(f"{_OWN}.udfs.rings", "CrystallinityUDF", "run_analysis_crystall"),
    "libertem_live": {},
    "libertem_live.udf.monitor": _from(f"{_OWN}.udfs.monitor", "SignalMonitorUDF", "PartitionMonitorUDF"),
    # --- common
    "libertem.common": _SHAPES,
    "libertem.common.shape": _SHAPES,
    "libertem.common.slice": _SHAPES,
    "libertem.common.math": _from(
        f"{_OWN}.arrays", "prod", "count_nonzero", "flat_nonzero", "make_2D_square", "ndenumerate"
    ),
    "libertem.common.numba": _from(f"{_OWN}.arrays", "rmatmul"),
    "libertem.common.udf": _from("framefold.udfcore.udf", "UDFMethod") | _from(f"{_OWN}.udf", "UDFProtocol"),
    "libertem.common.exceptions": _from("framefold.errors", "UDFException=UDFError", "UDFRunCancelled")
    | _from(f"{_OWN}.executors", "ExecutorSpecException"),
    "libertem.common.backend": _from(
        f"{_OWN}.arrays", "set_use_cpu", "set_use_cuda", "get_use_cpu", "get_use_cuda", "get_device_class"
    ),
    "libertem.common.sparse": _SPARSE,
    "libertem.common.buffers": _from(
        f"{_OWN}.buffers",
        "BufferWrapper", "AuxBufferWrapper", "PlaceholderBufferWrapper", "reshaped_view", "get_bbox",
        "get_bbox_slice", "get_inner_slice", "zeros_aligned", "empty_aligned",
    )
    | _from("framefold.udfcore.udf", "ArrayWithMask")
    | _from("framefold.errors", "InvalidMaskError"),
    "libertem.common.container": _from(f"{_OWN}.maskstack", "MaskContainer"),
    "libertem.common.executor": _from(
        f"{_OWN}.executors",
        "Environment", "JobCancelledError", "JobExecutor", "TaskCommHandler", "TaskProtocol", "WorkerQueue",
    )
    | _from("framefold.errors", "ExecutorError"),
    "libertem.warnings": _from(f"{_OWN}.udf", "UseDiscouragedWarning"),
    # --- arrays and corrections
    "libertem.masks": _SPARSE
    | _from(
        f"{_OWN}.detector_masks",
        "circular", "_make_circular_mask", "ring", "rectangular", "radial_bins", "polar_map", "radial_gradient",
        "radial_gradient_background_subtraction", "background_subtraction", "balance", "gradient_x", "gradient_y",
        "bounding_radius", "sparse_circular_multi_stack", "sparse_template_multi_stack",
    ),
    "libertem.corrections": _CORRECTIONS,
    "libertem.corrections.corrset": _CORRECTIONS,
    "libertem.corrections.detector": _DETECTOR,
    "libertem.corrections.coordinates": _from(
        f"{_OWN}.corrections", "identity", "scale", "rotate", "rotate_deg", "flip_y", "flip_x", "scale_rotate_flip_y"
    ),
    "libertem.io.corrections": _CORRECTIONS,
    "libertem.io.corrections.corrset": _CORRECTIONS,
    "libertem.io.corrections.detector": _DETECTOR,
    # --- datasets, executors, the context
    "libertem.api": _from(f"{_OWN}.context", "Context", "ResultAsyncGenerator")
    | _from(f"{_OWN}.runs", "ResultGenerator=ResultsForDataSet")
    | _from(f"{_OWN}.dataset", "DataSet"),
    "libertem.io.dataset": {},
    "libertem.io.dataset.base": _DATASETS | _BACKENDS,
    "libertem.io.dataset.base.backend": _BACKENDS,
    "libertem.io.dataset.base.tiling": _from(f"{_OWN}.tiles", "DataTile"),
    "libertem.io.dataset.base.tiling_scheme": _from(f"{_OWN}.tiles", "TilingScheme"),
    "libertem.io.dataset.memory": _from(f"{_OWN}.datasets", "MemoryDataSet") | _from(f"{_OWN}.partition", "MemPartition=Partition"),
    "libertem.io.dataset.raw": _from(f"{_OWN}.datasets", "RawFileDataSet") | _from(f"{_OWN}.partition", "RawPartition=Partition"),
    "libertem.executor.inline": _from(f"{_OWN}.executors", "InlineJobExecutor"),
    "libertem.executor.concurrent": _from(f"{_OWN}.executors", "ConcurrentJobExecutor"),
    "libertem.executor.dask": _from(f"{_OWN}.executors", "DaskJobExecutor"),
    "libertem.analysis.com": _from(f"{_OWN}.analyses", "COMAnalysis"),
    "libertem.analysis.fem": _from(f"{_OWN}.analyses", "FEMAnalysis"),
    "libertem.analysis.apply_fft_mask": _from(f"{_OWN}.analyses", "ApplyFFTMask"),
    # --- plots and tools
    "libertem.viz": _PLOTS,
    "libertem.viz.base": _PLOTS,
    "libertem.viz.mpl": _from(f"{_OWN}.plots", "MPLLive2DPlot"),
    "libertem.utils": _from(f"{_OWN}.geometry", "make_cartesian", "make_polar", "rotate_deg", "rotate_rad", "frame_peaks",
                            "calc_coords", "within_frame", "regularize_indices"),
    "libertem.utils.generate": _from(f"{_OWN}.geometry", "gradient_data", "exclude_pixels", "cbed_frame"),
    "libertem.utils.devices": _from(f"{_OWN}.arrays", "detect", "has_cupy"),
    "sparseconverter": _from(
        f"{_OWN}.converter",
        "NUMPY", "NUMPY_MATRIX", "CUDA", "CUPY", "SPARSE_COO", "SPARSE_GCXS", "SPARSE_DOK", "SCIPY_COO", "SCIPY_CSR",
        "SCIPY_CSC", "SCIPY_COO_ARRAY", "SCIPY_CSR_ARRAY", "SCIPY_CSC_ARRAY", "CUPY_SCIPY_COO", "CUPY_SCIPY_CSR",
        "CUPY_SCIPY_CSC", "BACKENDS", "CPU_BACKENDS", "CUDA_BACKENDS", "CUPY_BACKENDS", "SPARSE_BACKENDS",
        "DENSE_BACKENDS", "ND_BACKENDS", "D2_BACKENDS", "ArrayBackend", "ArrayT", "get_backend", "get_device_class",
        "for_backend",
    ),
}  # fmt: skip
