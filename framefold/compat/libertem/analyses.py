"""The few of LiberTEM's analyses that are a UDF and a bit of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.corrections import flip_y, identity, rotate_deg
from framefold.compat.libertem.detector_masks import circular, gradient_x, gradient_y, ring
from framefold.compat.libertem.modules import loaded

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AnalysisResult:
    """One result; `raw_data` is an array, or a tuple of arrays for vectors (x, y)."""

    raw_data: Any
    key: str


class AnalysisResultSet(Mapping[str, AnalysisResult]):
    """Results by name, as items and as attributes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._results = {k: AnalysisResult(v, k) for k, v in values.items()}

    def __getitem__(self, key: str) -> AnalysisResult:
        return self._results[key]

    def __getattr__(self, key: str) -> AnalysisResult:
        try:
            return self.__dict__["_results"][key]
        except KeyError:
            raise AttributeError(f"no result {key!r}; there are: {', '.join(self)}") from None

    def __iter__(self) -> Any:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


class COMAnalysis:
    """Shift of the centre of mass.

    Parameters
    ----------
    dataset
        Two navigation and two signal axes.
    parameters
        ``cx``, ``cy`` (centre, px; default the middle), ``mask_radius``, ``mask_radius_inner`` (px),
        ``scan_rotation`` (degrees), ``flip_y``.
    """

    def __init__(self, dataset: Any, parameters: Mapping[str, Any]) -> None:
        known = {"cx", "cy", "mask_radius", "mask_radius_inner", "scan_rotation", "flip_y"}
        if set(parameters) - known:
            raise TypeError(
                f"unknown parameters {sorted(set(parameters) - known)}; there are: {sorted(known)}"
            )
        self.dataset = dataset
        self._p = {k: v for k, v in parameters.items() if v is not None}
        sig_y, sig_x = tuple(dataset.shape.sig)
        self._centre = (self._p.get("cy", sig_y // 2), self._p.get("cx", sig_x // 2))

    def get_udf(self) -> Any:
        """Return the UDF: sum and first moments inside the mask."""
        (sig_y, sig_x), (cy, cx) = tuple(self.dataset.shape.sig), self._centre
        radius, inner = self._p.get("mask_radius", float("inf")), self._p.get("mask_radius_inner", 0.0)

        def factory() -> Array:
            disk = (
                ring(cx, cy, sig_x, sig_y, radius, inner) if inner else circular(cx, cy, sig_x, sig_y, radius)
            )
            return np.stack([disk, disk * gradient_y(sig_x, sig_y), disk * gradient_x(sig_x, sig_y)])

        return loaded("libertem.udf.masks").ApplyMasksUDF(
            factory, use_sparse=False, mask_count=3, mask_dtype=np.float32
        )

    def get_results(self, udf_results: Any, roi: Any) -> AnalysisResultSet:
        """Return field, magnitude, divergence and curl."""
        total, y, x = np.moveaxis(udf_results["intensity"].data, -1, 0)
        cy, cx = self._centre
        seen = total != 0
        safe = np.where(seen, total, 1)
        shift = np.stack([np.where(seen, y / safe - cy, 0), np.where(seen, x / safe - cx, 0)])
        turn = rotate_deg(self._p.get("scan_rotation", 0.0)) @ (
            flip_y() if self._p.get("flip_y") else identity()
        )
        dy, dx = np.einsum("ij,jyx->iyx", turn, shift)
        if roi is not None:
            dy, dx = np.where(roi, dy, np.nan), np.where(roi, dx, np.nan)
        return AnalysisResultSet(
            {
                "field": (dx, dy),
                "x": dx,
                "y": dy,
                "magnitude": np.hypot(dy, dx),
                "divergence": np.gradient(dy, axis=0) + np.gradient(dx, axis=1),
                "curl": np.gradient(dy, axis=1) - np.gradient(dx, axis=0),
            }
        )


class _OneBuffer:
    """An analysis whose only result is the buffer ``intensity``."""

    def __init__(self, dataset: Any, parameters: Mapping[str, Any]) -> None:
        self.dataset = dataset
        self.parameters = dict(parameters)

    def get_results(self, udf_results: Any, roi: Any) -> AnalysisResultSet:
        """Return the intensity."""
        return AnalysisResultSet({"intensity": udf_results["intensity"].data})


class FEMAnalysis(_OneBuffer):
    """Standard deviation in a ring: parameters ``cx, cy, ri, ro`` in px."""

    def get_udf(self) -> Any:
        """Return the UDF."""
        p = self.parameters
        return loaded("libertem.udf.FEM").FEMUDF(center=(p["cx"], p["cy"]), rad_in=p["ri"], rad_out=p["ro"])


class ApplyFFTMask(_OneBuffer):
    """Sum over a ring of the spectrum: ``rad_in, rad_out``, and ``real_centerx, real_centery, real_rad``."""

    def get_udf(self) -> Any:
        """Return the UDF."""
        p = self.parameters
        centre = (p["real_centery"], p["real_centerx"]) if p.get("real_rad") is not None else None
        return loaded("libertem.udf.crystallinity").CrystallinityUDF(
            rad_in=p["rad_in"], rad_out=p["rad_out"], real_center=centre, real_rad=p.get("real_rad")
        )
