"""Which file and row of a European XFEL run hold each train and pulse of each detector module."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.io.hdf5_layouts import Segment
from framefold.io.hdf5_read import open_file


@dataclass(frozen=True)
class Module:
    """Where the frames of one detector module are.

    Attributes
    ----------
    number
        As the facility counts.
    segments
        One per file, all of its rows.
    file, row
        Per frame of the run: index into `segments` and flat row there; -1 where the module lacks the frame.
    """

    number: int
    segments: tuple[Segment, ...]
    file: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModuleRows:
    """All rows of one module before frames are matched."""

    segments: tuple[Segment, ...]
    train: npt.NDArray[np.int64]
    pulse: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    file: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


def match_frames(
    numbers: Sequence[int], rows: Sequence[ModuleRows]
) -> tuple[npt.NDArray[np.int64], tuple[int, ...], tuple[Module, ...]]:
    """Return all frames of the run (train << 16 | pulse), the scan shape, and where each module has them.

    The scan is (trains, pulses) when every train has the same number of pulses, else flat.
    """
    labels = [(r.train << 16) | r.pulse for r in rows]
    if any(len(np.unique(label)) < len(label) for label in labels):
        # parallel gain repeats the pulse ids: then the place in the train tells the frames apart
        labels = [(r.train << 16) | r.position for r in rows]
    frames = np.unique(np.concatenate(labels))
    modules = []
    for number, r, label in zip(numbers, rows, labels, strict=True):
        at = np.searchsorted(frames, label)
        file, row = np.full((2, len(frames)), -1, np.int64)
        file[at], row[at] = r.file, r.row
        modules.append(Module(number, r.segments, file, row))
    per_train = np.unique(frames >> 16, return_counts=True)[1]
    regular = len(per_train) > 0 and (per_train == per_train[0]).all()
    nav = (len(per_train), int(per_train[0])) if regular else (len(frames),)
    return frames, nav, tuple(modules)


def open_run(path: str) -> Any:
    """Return the run in a directory as EXtra-data opens it."""
    try:
        from extra_data import RunDirectory
    except ImportError:
        raise DataError("runs of the European XFEL need EXtra-data: pip install 'framefold[xfel]'") from None
    try:
        return RunDirectory(path)
    except Exception as exc:
        raise DataError(f"{path} cannot be opened as a run: {exc}") from exc


def detector_of(run: Any, wanted: str | None) -> tuple[str, dict[int, str], str]:
    """Return name, source name per module number, and main key."""
    from extra_data.components import identify_multimod_detectors

    found = dict(identify_multimod_detectors(run))
    listed = ", ".join(sorted(found)) or "none"
    if not found or (wanted is not None and wanted not in found):
        raise DataError(
            f"the run has no detector {wanted or 'of several modules'}; there are: {listed}."
            f"{did_you_mean(wanted or '', found)}"
        )
    if wanted is None and len(found) > 1:
        raise DataError(f"the run has several detectors, say which with detector=: {listed}")
    name = wanted or next(iter(found))
    with warnings.catch_warnings():
        # it prefers corrected data and takes raw data where there are none, as wanted, but warns
        warnings.simplefilter("ignore", UserWarning)
        component = found[name](run, detector_name=name, min_modules=1)
    sources = {int(number): str(source) for source, number in component.source_to_modno.items()}
    return name, sources, str(component._main_data_key)


def choose_modules(name: str, present: list[int], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return `wanted`, or all that are present; refuse modules that are not there."""
    missing = sorted(set(wanted or ()) - set(present))
    if missing or wanted == ():
        raise DataError(f"{name} has the modules {present}, asked for {list(wanted or ())}")
    return tuple(present) if wanted is None else wanted


def rows_of(run: Any, source: str, key: str) -> ModuleRows:
    """Return where each train and pulse of a module is, from the index of its files."""
    keys = sorted(run.keys_for_source(source))
    if key not in keys:
        raise DataError(f"{source} has no {key!r}; there are: {', '.join(keys)}.{did_you_mean(key, keys)}")
    group, _, _ = key.partition(".")
    dataset = f"/INSTRUMENT/{source}/{key.replace('.', '/')}"
    allowed = np.asarray(run.train_ids, np.int64)
    segments, parts = [], []
    for number, access in enumerate(run[source, key].files):
        first, count = (np.asarray(a, np.int64) for a in access.get_index(source, group))
        trains = np.asarray(access.train_ids, np.int64)
        use = (count > 0) & np.isin(trains, allowed)
        place = np.concatenate([np.arange(0), *(np.arange(c) for c in count[use])])
        row = np.repeat(first[use], count[use]) + place
        train = np.repeat(trains[use], count[use])
        with open_file(access.filename) as file:
            stored = file[dataset]
            cells = stored.shape[1] if stored.ndim == 4 and key.startswith("data.") else 1
            pulses = file.get(f"/INSTRUMENT/{source}/{group}/pulseId")
            pulse = place if pulses is None else pulses[()].reshape(len(pulses), -1)[row, 0].astype(np.int64)
            segments.append(Segment(access.filename, dataset, 0, stored.shape[0] * cells))
        if cells > 1:  # JUNGFRAU: one row per train holds all memory cells
            cell = np.tile(np.arange(cells), len(row))
            row, train = np.repeat(row, cells) * cells + cell, np.repeat(train, cells)
            pulse = place = cell
        parts.append((train, pulse, place, np.full(len(row), number), row))
    columns = [np.concatenate(c).astype(np.int64) for c in zip(*parts, strict=True)]
    return ModuleRows(tuple(segments), *columns)
