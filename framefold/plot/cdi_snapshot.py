"""Many starts as snapshots of a run: what the viewers of runs, the browser page among them, can follow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.io.memory import ArraySource
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import ResultBuffer, Snapshot, UDFResult
from framefold.udfcore.udf import UDF
from framefold.udfs.cdi.starts import Multistart, Start
from framefold.udfs.cdi.state import CDI


class StartsUDF(UDF):
    """Declares what is shown of many starts; a "frame" is a start. It folds nothing itself.

    Results: ``object`` (complex, of a volume the slice through the middle of the support), ``support``,
    ``llk_free`` and ``error`` by rank, ``prtf`` by shell.

    Parameters
    ----------
    shape
        Of the object as drawn.
    starts, shells
        How many.
    """

    def __init__(self, shape: tuple[int, ...], starts: int, shells: int) -> None:
        super().__init__(shape=tuple(shape), starts=starts, shells=shells)

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare what is shown."""
        p = self.params

        def shown(extra: tuple[int, ...], dtype: str) -> BufferDecl:
            return self.buffer("single", extra, dtype, use="result_only")

        return {
            "object": shown(p.shape, "complex64"),
            "support": shown(p.shape, "bool"),
            "llk_free": shown((p.starts,), "float64"),
            "error": shown((p.starts,), "float64"),
            "prtf": shown((p.shells,), "float64"),
        }

    def process_frame(self, frame: npt.NDArray[Any]) -> None:
        """Do nothing: starts run elsewhere."""

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the object, its support, the starts by rank, and how well phases repeat."""
        return (
            PlotSpec("hue-phase", ("object",), title="best object so far"),
            PlotSpec("image", ("support",), cmap="gray"),
            PlotSpec("line", ("llk_free",), title="free LLK of the starts, by rank", scale="log"),
            PlotSpec("line", ("error",), title="amplitude error of the starts, by rank"),
            PlotSpec("line", ("prtf",), title="PRTF by shell"),
        )


class StartsRun:
    """Feeds a viewer of runs with starts; to the viewer it is a run that can be cancelled.

    Parameters
    ----------
    cdi
        Fixes shapes.
    n
        Starts in all.
    viewer
        With ``begin``, ``update`` and ``close``, such as `framefold.web.view.BrowserView`.
    """

    def __init__(self, cdi: CDI, n: int, viewer: Any) -> None:
        udf = StartsUDF(cdi.shape[-2:], n, min(cdi.shape) // 2)
        dataset = Dataset(ArraySource(np.zeros((n, 1, 1), dtype=np.uint8), sig_dims=2))
        self.plan = make_plan(dataset, [udf], RunOptions())
        self.cancelled = False
        self._n, self._viewer, self._version = n, viewer, 0
        if callable(getattr(viewer, "connect", None)):
            viewer.connect(self)
        viewer.begin(self._snapshot(self._empty(), 0, final=False), [udf])

    def cancel(self) -> None:
        """Ask for an end after the present starts."""
        self.cancelled = True

    def report(self) -> Mapping[str, Any]:
        """Return what a run reports; nothing is known here."""
        return {}

    def batch(self, starts: Sequence[Start]) -> bool:
        """Show the starts so far; False ends them."""
        if starts[0].end is not None:
            values = {**self._by_rank(starts), **self._object(starts[0].end)}
            self._viewer.update(self._snapshot(values, len(starts), final=False))
        return not self.cancelled

    def close(self, found: Multistart) -> None:
        """Show the end."""
        values = {**self._by_rank(found.starts), **self._object(found.best), "prtf": found.prtf.value}
        self._viewer.close(self._snapshot(values, len(found.starts), final=True))

    # --- what is shown -----------------------------------------------------------------------

    def _empty(self) -> dict[str, npt.NDArray[Any]]:
        decls = self.plan.udfs[0].decls
        return {
            name: np.zeros(d.extra_shape, d.dtype)
            if d.dtype.kind in "bc"
            else np.full(d.extra_shape, np.nan, d.dtype)
            for name, d in decls.items()
        }

    def _by_rank(self, starts: Sequence[Start]) -> dict[str, npt.NDArray[Any]]:
        values = self._empty()
        for i, start in enumerate(starts):
            if start.fit is not None:
                values["llk_free"][i], values["error"][i] = start.fit.llk_free, start.fit.error
        return values

    @staticmethod
    def _object(end: CDI) -> dict[str, npt.NDArray[Any]]:
        solution, support = end.solution, end.parts[1]
        if solution.ndim == 3:
            inside = np.flatnonzero(support.any(axis=(1, 2)))
            middle = int(inside[len(inside) // 2])
            solution, support = solution[middle], support[middle]
        return {"object": solution.astype(np.complex64), "support": support}

    def _snapshot(self, values: Mapping[str, npt.NDArray[Any]], done: int, *, final: bool) -> Snapshot:
        plan = self.plan.udfs[0]
        damage = np.arange(self._n) < done
        self._version += 1

        def make() -> tuple[UDFResult, ...]:
            buffers = {
                name: ResultBuffer(name, plan.decls[name], plan, arr, np.isfinite(arr))
                for name, arr in values.items()
            }
            return (UDFResult(buffers, damage, {}, {}, dict.fromkeys(values, done)),)

        return Snapshot(damage, self._version, time.time(), done, (0, 0), final, make)
