"""Begins runs: from the arguments of a call to what the executor folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framefold.context.keywords import Progress, Roi
from framefold.context.viewing import observers_of
from framefold.errors import UDFError
from framefold.executor.base import Executor
from framefold.executor.drive import Run
from framefold.io.save import save_result
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.pre import Transform
from framefold.udfcore.provenance import provenance_of
from framefold.udfcore.roi import as_roi

Options = Callable[[Dataset], RunOptions]


def options_of(
    ds: Dataset | LiveDataset, udfs: Sequence[Any], roi: Roi = None, corrections: Corrections | None = None,
    backends: Sequence[str] | str | None = None, pre: Sequence[Transform] = (),
    partition_frames: int | None = None, deterministic: bool = False, dtype_policy: str = "group",
    publish_interval: float = 0.1,
) -> Options:  # fmt: skip
    """Return what makes the options of a run when the shape of its dataset is known.

    Raises
    ------
    UDFError, DataError
        If they are wrong; for a dataset whose shape is known at once.
    """
    if dtype_policy not in ("group", "joint"):
        raise UDFError(f"dtype_policy={dtype_policy!r} is not one of 'group', 'joint'")
    if partition_frames is not None and partition_frames < 1:
        raise UDFError(f"partition_frames must be at least 1, got {partition_frames}")
    if not publish_interval > 0:
        raise UDFError(f"publish_interval must be above 0 s, got {publish_interval}")
    if not udfs:
        raise ValueError("no UDF given: pass one UDF or a list with at least one")
    names = (backends,) if isinstance(backends, str) else None if backends is None else tuple(backends)

    def make(known: Dataset) -> RunOptions:
        return RunOptions(
            roi=as_roi(roi, tuple(known.shape.nav), known.name),
            corrections=corrections,
            backends=names,
            pre=tuple(pre),
            dtype_policy=dtype_policy,
            partition_frames=partition_frames,
            deterministic=deterministic,
            publish_interval=publish_interval,
        )

    if isinstance(ds, Dataset):
        options = make(ds)  # what is wrong is raised at once
        return lambda _: options
    return make


def start_run(
    executor: Executor, ds: Dataset | LiveDataset, udfs: Sequence[Any], options: Options, progress: Progress,
    retries: int, validate: bool, on_ready: Callable[[Any], Any] | None, opened: Callable[[Any], Any],
) -> Run:  # fmt: skip
    """Begin a run over a dataset, or over the next acquisition of a live one.

    Parameters
    ----------
    opened
        Told of what can be stopped, where the data come by themselves.
    """
    if isinstance(ds, LiveDataset):
        from framefold.executor.live import open_station  # noqa: PLC0415  # only for live sources

        station = open_station(executor, ds)
        try:
            run = start_live_run(
                executor, station, ds, udfs, options, progress, validate, on_ready, opened=opened
            )
        except BaseException:
            station.close()
            raise
        run.closing.callback(station.close)
        return run
    opts = options(ds)
    run = Run(
        executor, ds, udfs, opts, observers=observers_of(progress), retries=retries, validate=validate,
        provenance=lambda: provenance_of(ds, opts), saver=save_result,
    )  # fmt: skip
    if on_ready is not None:
        on_ready(run.plan)
    return run


def start_live_run(
    executor: Executor, station: Any, ds: LiveDataset, udfs: Sequence[Any], options: Options,
    progress: Progress, validate: bool, on_ready: Callable[[Any], Any] | None, **more: Any,
) -> Run:  # fmt: skip
    """Begin a run over the next acquisition of a station that is open."""
    from framefold.executor.live import open_live  # noqa: PLC0415  # only for live sources

    return open_live(
        executor, station, ds, udfs, options, observers=observers_of(progress), validate=validate,
        provenance=provenance_of, saver=save_result, on_ready=on_ready, **more,
    )  # fmt: skip
