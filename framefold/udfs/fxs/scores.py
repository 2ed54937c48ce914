"""Scores of frames without correlating them: `ScoreUDF`, and `Accepts` for recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.udf import UDF
from framefold.udfs.fxs.c2 import C2UDF
from framefold.udfs.fxs.c2_items import BLOCK
from framefold.udfs.fxs.correlator import Correlator
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.shots import ShotScale, Veto, window_mean


class ScoreUDF(UDF):
    """Compute the score of each frame as `C2UDF` does: its mean photons in the hit window.

    Result: ``score``, NaN where a frame is incomplete.

    Parameters
    ----------
    settings
        Parameters of the `C2UDF`.
    """

    engine = EngineOptions(whole_frames=True, gil="free", lanes=1, corrections="self")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings=settings)

    def _twin(self) -> C2UDF:
        twin = C2UDF(**{**self.params.settings, "veto": None, "scale": None})
        twin.meta = self.meta
        return twin

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Ask for tiles of many frames."""
        return {"depth": BLOCK, "total_size": self.TILE_SIZE_MAX, "multiple": LANES}

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the scores."""
        self._twin().check()
        return {"score": self.buffer("nav", dtype="float32")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Prepare the operator."""
        twin = self._twin()
        layout = replace(twin.layout(), orders=np.array([0]), groups=1, batch=1, live_rows=())
        return {"correlator": Correlator(layout, twin.operator(), self.meta.threads_per_worker)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Regrid and average."""
        correlator: Correlator = self.worker_data.correlator
        p = self.params.settings
        found = correlator.measure(correlator.regrid(tile))
        q, window = p["grid"].q, p.get("hit_window")
        self.results.score[...] = window_mean(found.means, q, found.weight_sums, window)


class Accepts:
    """Tells which frames a `C2UDF` would use, by its veto and scale. Raw frames; corrections do not enter.

    Parameters
    ----------
    settings
        Parameters of the `C2UDF`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        veto = self._settings.get("veto")
        if veto is not None:
            veto.check_ready()
        self._correlator: Correlator | None = None

    def __call__(self, frames: npt.NDArray[Any], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return a flag per frame."""
        s = self._settings
        if self._correlator is None:
            twin = C2UDF(**s)
            layout = replace(twin.layout(), orders=np.array([0]), groups=1, batch=1, live_rows=())
            self._correlator = Correlator(layout, twin.operator())
        correlator, q = self._correlator, s["grid"].q
        found = correlator.measure(correlator.regrid(frames))
        score = window_mean(found.means, q, found.weight_sums, s.get("hit_window"))
        factors = (s.get("scale") or ShotScale()).factors(ids, found.means, q, found.weight_sums)
        flags, _ = (s.get("veto") or Veto()).accepts(ids, {"score": score, "saturated": np.zeros(len(ids))})
        return flags & np.isfinite(factors) & found.complete

    def __reduce__(self) -> tuple[Any, ...]:
        return Accepts, (self._settings,)
