"""LiberTEM's `Context`."""

from __future__ import annotations

import asyncio
import html
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from framefold.compat.libertem import datasets
from framefold.compat.libertem.buffers import BufferWrapper
from framefold.compat.libertem.dataset import DataSet
from framefold.compat.libertem.executors import ConcurrentJobExecutor, JobExecutor, make_executor
from framefold.compat.libertem.notprovided import NotProvided
from framefold.compat.libertem.runs import (
    LazyResults,
    ResultsForDataSet,
    UDFResults,
    UDFRunner,
    make_run,
    region,
    steps,
)
from framefold.executor.drive import Run
from framefold.udfcore.udf import UDF

_DATASETS = {"memory": datasets.MemoryDataSet, "mem": datasets.MemoryDataSet, "raw": datasets.RawFileDataSet}
_FILES = (
    "auto", "hdf5", "mib", "blo", "k2is", "ser", "frms6", "empad", "seq", "mrc", "tvips", "npy", "dm", "cxi",
)  # fmt: skip


class ResultAsyncGenerator:
    """The asynchronous twin of `ResultsForDataSet`; the event loop is never blocked."""

    def __init__(self, generator: ResultsForDataSet) -> None:
        self._generator = generator
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="framefold-results")

    async def _call(self, fn: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    def __aiter__(self) -> ResultAsyncGenerator:
        return self

    async def __anext__(self) -> LazyResults:
        found = await self._call(next, self._generator, None)
        if found is None:
            self._pool.shutdown(wait=False)
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """End the run."""
        if not self._pool._shutdown:
            await self._call(self._generator.close)
            self._pool.shutdown(wait=False)

    async def athrow(self, exc: BaseException) -> Any:
        """Raise `exc` inside the run."""
        return await self._call(self._generator.throw, exc)

    async def update_parameters_experimental(self, parameters: Sequence[dict[str, Any]]) -> None:
        """Use other parameters for partitions that begin from now on."""
        await self._call(self._generator.update_parameters_experimental, parameters)


class Context:
    """Loads datasets and runs UDFs under LiberTEM's interface.

    Parameters
    ----------
    executor
        None: threads in this process.
    plot_class
        Makes live plots; None: with matplotlib.
    """

    def __init__(self, executor: JobExecutor | None = None, plot_class: Any = None) -> None:
        self.executor = ConcurrentJobExecutor() if executor is None else executor
        self._plot_class = plot_class

    @classmethod
    def make_with(
        cls,
        executor_spec: str = "threads",
        *,
        cpus: Any = None,
        gpus: Any = None,
        plot_class: Any = None,
        snooze_timeout: float | None = None,
        main_process_gpu: bool | int | None = None,
    ) -> Context:
        """Return a context with the executor of a name: ``"inline"``, ``"threads"`` or ``"dask"``."""
        if snooze_timeout is not None:
            raise NotProvided("Context.make_with(snooze_timeout=...)")
        return cls(make_executor(executor_spec, cpus, gpus, main_process_gpu), plot_class)

    @property
    def plot_class(self) -> Any:
        """The class that makes live plots."""
        if self._plot_class is None:
            from framefold.compat.libertem.plots import MPLLive2DPlot  # noqa: PLC0415

            self._plot_class = MPLLive2DPlot
        return self._plot_class

    @plot_class.setter
    def plot_class(self, value: Any) -> None:
        self._plot_class = value

    def load(self, filetype: str, *args: Any, io_backend: Any = None, **kwargs: Any) -> DataSet:
        """Open a dataset: ``"memory"``, ``"raw"``, or ``"auto"`` and the names of file formats.

        The reader's own way of input (`io_backend`) is accepted for files: framefold chooses by itself.
        """
        kind = str(filetype).lower()
        if kind in _DATASETS:
            if io_backend is not None:
                kwargs["io_backend"] = io_backend
            return _DATASETS[kind](*args, **kwargs)
        if kind in _FILES:
            if kind == "hdf5" and "ds_path" in kwargs:
                kwargs["key"] = kwargs.pop("ds_path")
            return datasets.FileDataSet(*args, **kwargs)
        raise NotProvided(f"the file type {filetype!r}", f" There are: {', '.join((*_DATASETS, *_FILES))}.")

    # --- runs --------------------------------------------------------------------------------

    def run_udf(
        self,
        dataset: DataSet,
        udf: UDF | Iterable[UDF],
        roi: Any = None,
        corrections: Any = None,
        progress: Any = False,
        backends: Any = None,
        plots: Any = None,
        sync: bool = True,
    ) -> Any:
        """Run one UDF, or several in one pass; return a dict of buffers, or one per UDF."""
        udfs, single = _as_list(udf)
        _, iterator = self._start(dataset, udfs, roi, corrections, progress, backends, plots)

        def work() -> Any:
            *_, last = iterator
            return last.buffers[0] if single else last.buffers

        return work() if sync else asyncio.to_thread(work)

    def run_udf_iter(
        self,
        dataset: DataSet,
        udf: UDF | Iterable[UDF],
        roi: Any = None,
        corrections: Any = None,
        progress: Any = False,
        backends: Any = None,
        plots: Any = None,
        sync: bool = True,
    ) -> Any:
        """Run UDFs and iterate over their results, one after each merge."""
        udfs, _ = _as_list(udf)
        generator = ResultsForDataSet(
            *self._start(dataset, udfs, roi, corrections, progress, backends, plots)
        )
        return generator if sync else ResultAsyncGenerator(generator)

    def _start(
        self,
        dataset: DataSet,
        udfs: list[UDF],
        roi: Any,
        corrections: Any,
        progress: Any,
        backends: Any,
        plots: Any,
    ) -> tuple[Run, Iterator[LazyResults]]:
        flags = region(roi, dataset)
        made = self._plots(plots, udfs, dataset, flags) if plots is not None and udfs else []
        observers = []
        if progress:
            from framefold.plot.progress import progress_observer  # noqa: PLC0415  # only where wanted

            observers.append(progress_observer(progress))
        run = make_run(self.executor, dataset, udfs, flags, corrections, backends, observers)
        return run, _drawn(steps(run, dataset), made, udfs)

    def map(
        self, dataset: DataSet, f: Any, roi: Any = None, progress: Any = False, corrections: Any = None,
        backends: Any = None,
    ) -> BufferWrapper:  # fmt: skip
        """Apply a function to each frame and return its results as a navigation buffer."""
        from framefold.compat.libertem.modules import loaded  # noqa: PLC0415

        udf = loaded("libertem.udf.auto").AutoUDF(f=f)
        return self.run_udf(dataset, udf, roi, corrections, progress, backends)["result"]

    # --- plots and tables --------------------------------------------------------------------

    def _plots(self, plots: Any, udfs: list[UDF], dataset: DataSet, roi: Any) -> list[Any]:
        from framefold.compat.libertem.plots import get_plottable_2D_channels  # noqa: PLC0415

        named = plots is True or all(
            isinstance(p, (list, tuple)) and all(isinstance(c, (str, list, tuple)) for c in p) for p in plots
        )
        if not named:
            return list(plots)
        empty = UDFRunner.dry_run(udfs, dataset, roi)
        channels = [get_plottable_2D_channels(b) for b in empty.buffers] if plots is True else plots
        made = []
        for i, (udf, chosen) in enumerate(zip(udfs, channels, strict=False)):
            if plots is True and not chosen:
                warnings.warn(
                    f"{type(udf).__name__} (UDF {i}) has no plottable channels, it is not plotted",
                    stacklevel=4,
                )
            for channel in chosen:
                first = UDFResults((empty.buffers[i],), empty.damage)
                plot = self.plot_class(dataset, udf=udf, roi=roi, channel=channel, udfresult=first)
                plot.display()
                made.append(plot)
        return made

    def display(self, dataset: DataSet, udf: UDF, roi: Any = None) -> UDFTable:
        """Return a table of what a run would do, for a notebook."""
        return UDFTable(udf, UDFRunner.inspect_udf(udf, dataset, roi))

    # --- analyses ----------------------------------------------------------------------------

    def create_com_analysis(self, dataset: DataSet, **parameters: Any) -> Any:
        """Return a centre-of-mass analysis for `run`; see `analyses.COMAnalysis` for the parameters."""
        from framefold.compat.libertem.analyses import COMAnalysis  # noqa: PLC0415

        return COMAnalysis(dataset, parameters)

    def run(self, job: Any, roi: Any = None, progress: Any = False, corrections: Any = None) -> Any:
        """Run an analysis and return its results by name."""
        udf_results = self.run_udf(job.dataset, job.get_udf(), roi, corrections, progress)
        return job.get_results(udf_results, region(roi, job.dataset))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("create_") or name == "export_dataset":
            raise NotProvided(f"Context.{name}", " Run the corresponding UDF with run_udf instead.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def close(self) -> None:
        """Release the executor."""
        self.executor.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class UDFTable:
    """The buffers of a UDF as HTML."""

    def __init__(self, udf: UDF, buffers: dict[str, BufferWrapper]) -> None:
        self.udf = udf
        self.title = type(udf).__name__
        self.buffers = buffers

    def _repr_html_(self) -> str:
        cells = [
            (name, b.kind, b.extra_shape, b.shape, b.dtype)
            for name, b in self.buffers.items()
            if b.use != "private"
        ]
        head = "".join(f"<th>{h}</th>" for h in ("name", "kind", "extra shape", "shape", "dtype"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in cells
        )
        return f"<h2>{html.escape(self.title)}</h2><table><tr>{head}</tr>{rows}</table>"


def _as_list(udf: UDF | Iterable[UDF]) -> tuple[list[UDF], bool]:
    return ([udf], True) if isinstance(udf, (UDF, type)) else (list(udf), False)


def _drawn(iterator: Iterator[LazyResults], plots: list[Any], udfs: list[UDF]) -> Iterator[LazyResults]:
    """Yield results after bringing the plots up to date; the last time without regard to the clock."""
    last = None
    for last in iterator:
        for plot in plots:
            plot.new_data(last.buffers[udfs.index(plot.get_udf())], last.damage)
        yield last
    for plot in plots:
        if last is not None:
            plot.new_data(last.buffers[udfs.index(plot.get_udf())], last.damage, force=True)
