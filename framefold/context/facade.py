"""The facade: `Context` wires sources, UDFs and executors; it holds no logic of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import numpy as np
import numpy.typing as npt

from framefold.context.keywords import AcquisitionKeywords, IterKeywords, Plots, Progress, Roi, RunKeywords
from framefold.context.repeating import acquire, start_iteration
from framefold.context.running import options_of, start_run
from framefold.context.viewing import (
    folded,
    iteration_viewers,
    observers_of,
    viewed,
    viewers_of,
)
from framefold.errors import UDFError
from framefold.executor.base import Executor
from framefold.executor.choose import make_executor
from framefold.executor.follow import by_merge, by_window, latest
from framefold.executor.generator import AsyncResultGenerator, ResultGenerator
from framefold.executor.iterate import IterateOptions, Iteration
from framefold.io.registry import open_source
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.iterative import IterativeUDF
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.pre import Transform
from framefold.udfcore.provenance import provenance_of
from framefold.udfcore.results import ResultBuffer, UDFResult
from framefold.udfcore.source import Source
from framefold.udfcore.udf import UDF


class Context:
    """Where and how reductions run. Cheap to make; nothing is started before the first run.

    Parameters
    ----------
    where
        None: this process, or the active dask client if there is one. ``"inline"``, a scheduler address,
        a ``distributed.Client`` or a dask cluster object.
    workers
        Start a local dask cluster of this many processes.
    executor
        ``"inline"``, ``"threads"``, ``"dask"`` or an object with the methods of `Executor`.
    plot_class
        Makes the live plots of ``plots=``; None: matplotlib.
    threads_per_worker
        Threads of each local worker; default 1.

    Examples
    --------
    >>> import numpy as np, framefold as ff
    >>> with ff.Context(executor="inline") as ctx:
    ...     ds = ctx.load(np.ones((4, 4, 8, 8), dtype="uint16"))
    ...     int(ctx.run_udf(ds, ff.udfs.SumUDF())["intensity"].data[0, 0])
    16
    """

    def __init__(
        self,
        where: Any = None,
        *,
        workers: int | None = None,
        executor: Any = None,
        plot_class: Any = None,
        threads_per_worker: int | None = None,
    ) -> None:
        self.executor: Executor = make_executor(where, workers, executor, threads_per_worker)
        self.plot_class = plot_class
        self._last: Dataset | LiveDataset | None = None
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()  # what `stop` can stop

    # --- data --------------------------------------------------------------------------------

    def load(
        self,
        source: Any,
        *,
        format: str | None = None,  # noqa: A002  # the word of the field
        nav_shape: Sequence[int] | None = None,
        sig_shape: Sequence[int] | None = None,
        dtype: npt.DTypeLike | None = None,
        sync_offset: int = 0,
        key: str | None = None,
        **options: Any,
    ) -> Dataset:
        """Open a file, directory, glob or array; the format is found by its content.

        Parameters
        ----------
        source
            Path, numpy, sparse, dask, zarr or h5py array, or a source object.
        format
            Name of a format, where detection is not wanted.
        nav_shape
            Scan shape, where the file has none or another one.
        sig_shape, dtype
            For raw files.
        sync_offset
            Frame *i* of the dataset is frame ``i + sync_offset`` of the file.
        key
            Which array inside the file.
        **options
            Options of the format; a wrong name is an error that lists them.

        Raises
        ------
        DataError
            If no format fits, with what was tried.
        """
        opened = open_source(
            source,
            format=format,
            nav_shape=None if nav_shape is None else tuple(int(n) for n in np.atleast_1d(nav_shape)),
            sig_shape=None if sig_shape is None else tuple(int(n) for n in np.atleast_1d(sig_shape)),
            dtype=dtype,
            key=key,
            sync_offset=sync_offset,
            **options,
        )
        nav = None if nav_shape is None else tuple(int(n) for n in np.atleast_1d(nav_shape))
        if not isinstance(opened, Source):
            live = LiveDataset(opened, nav_shape=nav, sync_offset=sync_offset or None)
            self._last = live
            return live  # type: ignore[return-value]  # for a run it is a dataset like any other
        ds = Dataset(opened, nav_shape=nav, sync_offset=sync_offset, exporter=self.export)
        self._last = ds
        return ds

    # --- reductions --------------------------------------------------------------------------

    @overload
    def run_udf(
        self, dataset: Any, udf: UDF, roi: Roi = ..., corrections: Corrections | None = ...,
        progress: Progress = ..., backends: Sequence[str] | str | None = ..., plots: Plots = ...,
        sync: Literal[True] = ..., **options: Unpack[RunKeywords],
    ) -> UDFResult: ...  # fmt: skip
    @overload
    def run_udf(
        self, dataset: Any, udf: Iterable[UDF], roi: Roi = ..., corrections: Corrections | None = ...,
        progress: Progress = ..., backends: Sequence[str] | str | None = ..., plots: Plots = ...,
        sync: Literal[True] = ..., **options: Unpack[RunKeywords],
    ) -> tuple[UDFResult, ...]: ...  # fmt: skip
    @overload
    def run_udf(
        self, dataset: Any, udf: Any, roi: Roi = ..., corrections: Corrections | None = ...,
        progress: Progress = ..., backends: Sequence[str] | str | None = ..., plots: Plots = ...,
        sync: bool = ..., **options: Unpack[RunKeywords],
    ) -> Any: ...  # fmt: skip
    def run_udf(
        self,
        dataset: Any,
        udf: Any,
        roi: Roi = None,
        corrections: Corrections | None = None,
        progress: Progress = False,
        backends: Sequence[str] | str | None = None,
        plots: Plots = None,
        sync: bool = True,
        *,
        pre: Sequence[Transform] = (),
        on_ready: Callable[[Any], Any] | None = None,
        publish_interval: float = 0.1,
        partition_frames: int | None = None,
        deterministic: bool = False,
        dtype_policy: Literal["group", "joint"] = "group",
        retries: int = 3,
        validate: bool = True,
    ) -> Any:
        """Run one UDF, or several in one pass over the data.

        Parameters
        ----------
        dataset
            From `load`, or anything that `load` takes.
        udf
            A UDF, or an iterable of them.
        roi
            Bool mask in navigation shape, sparse mask, coordinate tuple, or iterable of coordinates.
        corrections
            Dark, gain and excluded pixels, applied before the UDF sees the data.
        progress
            True for a bar, or an object with ``start``, ``update`` and ``close``.
        backends
            Array backends that may be used, most wanted first: ``("cupy", "numpy")`` takes a GPU where there
            is one. None: a UDF's own choice, on the CPU where it can.
        plots
            True, ``"browser"``, or what to draw: ``[name or (name, function), ...]``, a list of such lists
            for several UDFs, or plot objects with ``update(snapshot)``.
        sync
            False: return an awaitable.
        pre
            Transforms between the data and all UDFs.
        on_ready
            Called once before the first frame is read. Live: in a thread of its own with a `LiveReady`, when
            everything listens; starting the detector there loses nothing.
        publish_interval
            Seconds between two updates of the plots, and of what workers ship of a live run.
        partition_frames
            Frames per partition; None: by measured time.
        deterministic
            Bitwise the same result for any number of workers.
        dtype_policy
            ``"group"``: each UDF gets its own input dtype; ``"joint"``: all get the joint one.
        retries
            Tries of a partition whose worker died.
        validate
            Check the UDFs before the first tile.

        Returns
        -------
        UDFResult for one UDF, a tuple of them for an iterable, an awaitable of either with ``sync=False``.

        Raises
        ------
        UDFError, DataError, ExecutorError
            Naming the cause and the mend. Exceptions of user code keep their type.
        """
        single = isinstance(udf, (UDF, type))
        udfs = [udf] if single else list(udf)
        if single and isinstance(udf, IterativeUDF):
            iteration = self.iterate(
                dataset, udf, roi=roi, corrections=corrections, progress=progress, plots=plots, pre=pre,
                on_ready=on_ready, publish_every=max(publish_interval, 1.0),
            )  # fmt: skip
            return iteration.to_end() if sync else asyncio.to_thread(iteration.to_end)
        ds = self._as_dataset(dataset)
        opts = options_of(
            ds, udfs, roi, corrections, backends, pre, partition_frames, deterministic, dtype_policy,
            publish_interval,
        )  # fmt: skip

        def work() -> Any:
            run = start_run(
                self.executor, ds, udfs, opts, progress, retries, validate, on_ready, self._live.add
            )
            viewers = viewers_of(plots, self.plot_class, run, udfs)
            results = folded(run, viewers, publish_interval).buffers
            return results[0] if single else results

        return work() if sync else asyncio.to_thread(work)

    @overload
    def run_udf_iter(
        self, dataset: Any, udf: Any, roi: Roi = ..., corrections: Corrections | None = ...,
        progress: Progress = ..., backends: Sequence[str] | str | None = ..., plots: Plots = ...,
        sync: Literal[True] = ..., **options: Unpack[IterKeywords],
    ) -> ResultGenerator: ...  # fmt: skip
    @overload
    def run_udf_iter(
        self, dataset: Any, udf: Any, roi: Roi = ..., corrections: Corrections | None = ...,
        progress: Progress = ..., backends: Sequence[str] | str | None = ..., plots: Plots = ...,
        *, sync: Literal[False], **options: Unpack[IterKeywords],
    ) -> AsyncResultGenerator: ...  # fmt: skip
    def run_udf_iter(
        self,
        dataset: Any,
        udf: Any,
        roi: Roi = None,
        corrections: Corrections | None = None,
        progress: Progress = False,
        backends: Sequence[str] | str | None = None,
        plots: Plots = None,
        sync: bool = True,
        *,
        pre: Sequence[Transform] = (),
        on_ready: Callable[[Any], Any] | None = None,
        publish: Literal["auto", "merge", "latest", "window"] = "auto",
        publish_interval: float = 0.1,
        partition_frames: int | None = None,
        deterministic: bool = False,
        dtype_policy: Literal["group", "joint"] = "group",
        retries: int = 3,
        validate: bool = True,
    ) -> ResultGenerator | AsyncResultGenerator:
        """Run UDFs and iterate over immutable snapshots of their results; see `run_udf` for the arguments.

        Parameters
        ----------
        publish
            ``"merge"``: one snapshot per merged partition, the loop body sets the pace. ``"latest"``: the
            newest every `publish_interval`, a slow loop body delays nothing. ``"auto"``: ``"merge"`` for
            files, ``"latest"`` for live streams. ``"window"``: every window of ``restart_every=``
            frames, once; then (``final``) what came after the last. The loop body sets the pace.

        Returns
        -------
        `ResultGenerator`, or `AsyncResultGenerator` with ``sync=False``.
        """
        if publish not in ("auto", "merge", "latest", "window"):
            raise UDFError(f"publish={publish!r} is not one of 'auto', 'merge', 'latest', 'window'")
        udfs = [udf] if isinstance(udf, (UDF, type)) else list(udf)
        ds = self._as_dataset(dataset)
        opts = options_of(
            ds, udfs, roi, corrections, backends, pre, partition_frames, deterministic, dtype_policy,
            publish_interval,
        )  # fmt: skip
        run = start_run(self.executor, ds, udfs, opts, progress, retries, validate, on_ready, self._live.add)
        if publish == "window" and run.merger.windows is None:
            run.release()
            raise UDFError(
                "publish='window' is for live runs that start anew: load the detector with restart_every=N"
            )
        newest = publish == "latest" or (publish == "auto" and run.live is not None)
        viewers = viewers_of(plots, self.plot_class, run, udfs)
        idle = viewers.idle if viewers else None
        steps = by_window(run) if publish == "window" else by_merge(run)
        if newest:
            steps = latest(run, publish_interval, idle)
        if viewers:
            steps = viewed(steps, viewers)
        generator = ResultGenerator(run, steps)
        return generator if sync else AsyncResultGenerator(generator)

    def iterate(
        self,
        dataset: Any,
        udf: IterativeUDF,
        n: int | None = None,
        *,
        roi: Roi = None,
        corrections: Corrections | None = None,
        pre: Sequence[Transform] = (),
        publish_every: float | str = 1.0,
        progress: Progress = False,
        plots: Plots = None,
        on_ready: Callable[[Any], Any] | None = None,
        lanes: int | None = None,
        residency: Literal["auto", "memory", "disk"] = "auto",
        checkpoint: Any = None,
        checkpoint_every: float = 60.0,
        resume: Any = None,
    ) -> Iteration:
        """Run an iterative UDF; the frames are read once and stay in memory.

        On a context with workers they stay there. Frames of a live stream are received in this process, and
        take part from the next iteration on.

        Parameters
        ----------
        dataset
            From `load`, or anything that `load` takes.
        udf
            An `IterativeUDF`, for instance `framefold.udfs.Ptychography`.
        n
            Most iterations, live after the last frame; None: until the UDF says that it converged.
        roi, corrections, pre, progress, plots
            As in `run_udf`.
        publish_every
            Seconds between two snapshots (``"0.5 s"`` works too); 0: one per iteration. The last one always
            comes.
        on_ready
            Called once, with the `Iteration`, when everything is loaded; live as in `run_udf`.
        lanes
            Threads, on workers of each of them; None: the cores, or the worker's threads.
        residency
            ``"memory"``, ``"disk"`` (frames that the system maps from a temporary file), or ``"auto"``.
        checkpoint, checkpoint_every
            File to which the state is written every so many seconds, and at the end.
        resume
            A checkpoint of the same data to go on from; the same algorithms give the same bits.

        Returns
        -------
        Iteration
            Iterate over it to get snapshots; leaving the loop ends it. ``.result`` has the last results.

        Examples
        --------
        >>> # for state in ctx.iterate(ds, Ptychography(), n=100):
        >>> #     print(state.iteration, state.history["error"][-1])
        """
        ds = self._as_dataset(dataset)
        seconds = (
            float(str(publish_every).removesuffix("s")) if isinstance(publish_every, str) else publish_every
        )
        saved, earlier = (None if path is None else Path(path) for path in (checkpoint, resume))
        iteration = start_iteration(
            self.executor, ds, udf, options_of(ds, [udf], roi, corrections, pre=pre),
            IterateOptions(n, seconds, lanes, residency, saved, checkpoint_every, earlier),
            progress, iteration_viewers(plots, self.plot_class), on_ready, self._live.add,
        )  # fmt: skip
        if not isinstance(ds, LiveDataset):  # there `stop` ends the acquisition, and what came is worked on
            self._live.add(iteration)
        return iteration

    @overload
    def acquisitions(
        self, dataset: Any, udf: UDF, n: int | None = ..., **options: Unpack[AcquisitionKeywords]
    ) -> Iterator[UDFResult]: ...
    @overload
    def acquisitions(
        self, dataset: Any, udf: Iterable[UDF], n: int | None = ..., **options: Unpack[AcquisitionKeywords]
    ) -> Iterator[tuple[UDFResult, ...]]: ...
    def acquisitions(
        self,
        dataset: Any,
        udf: Any,
        n: int | None = None,
        *,
        roi: Roi = None,
        corrections: Corrections | None = None,
        progress: Progress = False,
        backends: Sequence[str] | str | None = None,
        plots: Plots = None,
        pre: Sequence[Transform] = (),
        on_ready: Callable[[Any], Any] | None = None,
        publish_interval: float = 0.1,
        dtype_policy: Literal["group", "joint"] = "group",
        validate: bool = True,
    ) -> Iterator[Any]:
        """Run UDFs on one acquisition of a live detector after the other; see `run_udf` for the arguments.

        Sockets, memory and compiled code stay between them; what is sent in between belongs to the next.

        Parameters
        ----------
        dataset
            A live source.
        n
            How many; None: until `stop` is called, or none begins within the source's ``start_timeout``.
        on_ready
            Called before each acquisition: arm the detector there.

        Returns
        -------
        Iterator over the results of each acquisition, as `run_udf` returns them.

        Raises
        ------
        UDFError
            If `dataset` is not live.
        """
        single = isinstance(udf, (UDF, type))
        udfs = [udf] if single else list(udf)
        ds = self._as_dataset(dataset)
        options = options_of(
            ds, udfs, roi, corrections, backends, pre, dtype_policy=dtype_policy,
            publish_interval=publish_interval,
        )  # fmt: skip
        if not isinstance(ds, LiveDataset):
            raise UDFError(f"acquisitions needs a live source, {ds.name} is a file or array: use run_udf")
        finals = acquire(
            self.executor, ds, udfs, options, n, progress, validate, on_ready, publish_interval,
            plots, self.plot_class, self._live.add,
        )  # fmt: skip
        return (final.buffers[0] if single else final.buffers for final in finals)

    def map(
        self,
        dataset: Any,
        f: Callable[..., Any] | None = None,
        roi: Roi = None,
        progress: Progress = False,
        corrections: Corrections | None = None,
        backends: Sequence[str] | str | None = None,
        *,
        pre: Sequence[Transform] = (),
        plots: Plots = None,
        on_ready: Callable[[Any], Any] | None = None,
    ) -> ResultBuffer:
        """Apply a function to each frame.

        Parameters
        ----------
        dataset
            From `load`; left out, the dataset loaded last is used: ``ctx.map(np.sum)``.
        f
            ``f(frame)`` returns a number, an array, a tuple, or anything else (kept as object).

        Returns
        -------
        ResultBuffer
            Navigation shape, and the shape of what `f` returns.
        """
        if f is None:
            if not callable(dataset) or isinstance(dataset, np.ndarray):
                raise UDFError("ctx.map needs a function: ctx.map(dataset, fn)")
            if self._last is None:
                raise UDFError("no dataset was loaded yet: use ctx.map(dataset, fn)")
            dataset, f = self._last, dataset
        from framefold.udfs.auto import auto_udf  # noqa: PLC0415  # loads numba

        ds = self._as_dataset(dataset)
        udf = auto_udf(f, ds, corrections, tuple(pre))
        result = self.run_udf(
            ds, udf, roi=roi, progress=progress, corrections=corrections, backends=backends, pre=pre,
            plots=plots, on_ready=on_ready,
        )  # fmt: skip
        return next(iter(result.values()))

    def export(
        self,
        dataset: Any,
        path: Any,
        *,
        roi: Roi = None,
        corrections: Corrections | None = None,
        pre: Sequence[Transform] = (),
        dtype: npt.DTypeLike | None = None,
        compression: str = "bslz4",
        progress: Progress = False,
        overwrite: bool = False,
    ) -> None:
        """Write frames to a file that other programs open: HDF5 (NeXus), Zarr or npy by the ending of `path`.

        Parameters
        ----------
        dataset, roi, corrections, pre
            What is written: the frames that a UDF would see. With `roi` they become a flat series.
        path
            ``.h5``, ``.nxs``, ``.zarr`` or ``.npy``.
        dtype
            Of the file; None: that of the data, float32 with corrections.
        compression
            For HDF5: ``"bslz4"``, ``"gzip"`` or ``"none"``.
        overwrite
            Replace an existing file.

        Raises
        ------
        DataError
            If frames are missing and the file is npy, which cannot mark them, or it cannot be written.
        """
        from framefold.convert import export_frames  # noqa: PLC0415  # loads h5py

        ds = self._as_dataset(dataset)
        make = options_of(ds, (None,), roi, corrections, pre=pre)
        if isinstance(ds, LiveDataset):
            ds.export(path)
        assert isinstance(ds, Dataset)
        opts = make(ds)
        export_frames(
            ds,
            path,
            opts,
            dtype=dtype,
            compression=compression,
            overwrite=overwrite,
            observers=observers_of(progress),
            provenance=provenance_of(ds, opts),
        )

    def run_tasks(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return ``[fn(item) for item in items]``, computed on the executor."""
        return self.executor.map(fn, items)

    def inspect(self, dataset: Any, udf: Any, roi: Roi = None) -> Any:
        """Return what a run would do, without reading data: buffers, dtypes, method, tiling, memory."""
        from framefold.udfcore.inspection import inspect_run  # noqa: PLC0415  # a report, not needed to run

        udfs: list[Any] = [udf] if isinstance(udf, (UDF, type)) else list(udf)
        given = self._as_dataset(dataset)
        make = options_of(given, udfs, roi)
        ds = given if isinstance(given, Dataset) else given.dataset
        return inspect_run(ds, udfs, make(ds), self.executor.capacity)

    display = inspect

    def stop(self) -> None:
        """End what runs in this context: live runs and iterations return what they have, others end at once.

        An iteration over a live stream goes on with the frames that came; ``Iteration.stop`` ends that too.
        """
        live = [drive for drive in self._live if not drive.closed]
        for drive in live:
            drive.stop()
        if not live:
            self.executor.cancel()

    def close(self) -> None:
        """Release workers that this context started."""
        self.executor.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Context {self.executor.name}, {self.executor.capacity} lanes>"

    # --- wiring ------------------------------------------------------------------------------

    def _as_dataset(self, dataset: Any) -> Dataset | LiveDataset:
        return dataset if isinstance(dataset, (Dataset, LiveDataset)) else self.load(dataset)
