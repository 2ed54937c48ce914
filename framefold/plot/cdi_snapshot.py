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
from framefold.udfcore.metadata import Axis, Metadata
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import ResultBuffer, Snapshot, UDFResult
from framefold.udfcore.udf import UDF
from framefold.udfs.cdi.starts import Multistart, Start
from framefold.udfs.cdi.state import CDI


class StartsUDF(UDF):
    """Declares what is shown of many starts; a "frame" is a start of the frame's shape. It folds nothing.

    Results: ``object`` (complex, of a volume the slice through the middle of the support), ``support``,
    ``llk_free`` and ``error`` by rank, ``prtf`` by shell.

    Parameters
    ----------
    sizes
        Number of starts, and of shells.
    """

    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__(sizes=tuple(sizes))

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare what is shown."""
        starts, shells = self.params.sizes

        def curve(n: int) -> BufferDecl:
            return self.buffer("single", (n,), "float64", use="result_only")

        return {
            "object": self.buffer("sig", (), "complex64", use="result_only"),
            "support": self.buffer("sig", (), "bool", use="result_only"),
            "llk_free": curve(starts),
            "error": curve(starts),
            "prtf": curve(shells),
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
        udf = StartsUDF((n, min(cdi.shape) // 2))
        shape = cdi.shape[-2:]
        size, unit = (1.0, "px") if cdi.pixel_size is None else (cdi.pixel_size, "m")
        axes = Metadata(axes=(Axis("start"), Axis("y", size, 0.0, unit), Axis("x", size, 0.0, unit)))
        dataset = Dataset(ArraySource(np.broadcast_to(np.uint8(0), (n, *shape)), sig_dims=2, metadata=axes))
        self.plan = make_plan(dataset, [udf], RunOptions())
        self.cancelled = False
        self._n, self._viewer, self._version = n, viewer, 0
        self._shape = tuple(shape)
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
            name: np.zeros(self._shape, d.dtype) if d.kind == "sig" else np.full(d.extra_shape, np.nan)
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
