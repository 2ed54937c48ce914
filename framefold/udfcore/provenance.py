"""What describes a run in its results: versions, dataset, ROI, corrections."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from framefold.udfcore.dataset import Dataset
from framefold.udfcore.plan import RunOptions


def version() -> str:
    """Return the version of the installed package, ``"0+unknown"`` in a bare checkout."""
    try:
        return importlib.metadata.version("framefold")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def provenance_of(dataset: Dataset, options: RunOptions) -> dict[str, Any]:
    """Return plain values that tell how a result came about."""
    roi = options.roi
    return {
        "program": "framefold",
        "version": version(),
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "dataset": dataset.identity,
        "shape": list(dataset.shape),
        "sig_dims": dataset.shape.sig.dims,
        "dtype": str(dataset.dtype),
        "roi_frames": None if roi is None else int(roi.sum()),
        "corrections": None if options.corrections is None else options.corrections.identity,
        "pre": [repr(t) for t in options.pre],
        "deterministic": options.deterministic,
    }
