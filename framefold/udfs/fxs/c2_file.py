"""The file of a `Correlation`: HDF5 with NeXus groups, from which other corrections need no data."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.udfs.fxs.frame_masks import FrameMasks
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.nexus import group, opened, written
from framefold.udfs.fxs.selfterm import SelfTerm

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2_result import Correlation

FORMAT = "framefold-c2"
_ARRAYS = ("orders", "products", "amplitudes", "frames", "weight", "saxs", "saxs2")
_MASKS = ("products", "amplitudes", "patterns")


def save(c: Correlation, path: str | os.PathLike[str], *, overwrite: bool = False, c2: bool = False) -> None:
    """Write sums and estimates.

    ``/entry/data`` is drawn by NeXus viewers: ``C_m`` (order, q, q'), float32. ``/entry/sums`` holds what
    `load` reads.

    Parameters
    ----------
    c
        What to save.
    path
        Of the file.
    overwrite
        Replace an existing file.
    c2
        Write ``C2`` (q, q', D) as well, float32.

    Raises
    ------
    DataError
        If the file exists.
    """
    with written(path, FORMAT, overwrite=overwrite) as entry:
        entry["parameters"] = json.dumps(c.parameters)
        grid = c.grid
        entry.attrs.update(
            n_q=grid.n_q, n_phi=grid.n_phi, q_min=grid.q_min, q_max=grid.q_max, centred=c.centred,
            paired=c.paired, halves=c.halves, wavelength=c.wavelength or 0.0,
        )  # fmt: skip
        sums = group(entry, "sums", "NXcollection")
        for name in _ARRAYS:
            sums[name] = getattr(c, name)
        if c.self_term is not None:
            noise = group(entry, "self_term", "NXcollection")
            for name in ("first", "second", "spectra"):
                noise[name] = getattr(c.self_term, name)
        if c.masks is not None:
            masks = group(entry, "frame_masks", "NXcollection")
            for name in _MASKS:
                masks[name] = getattr(c.masks, name)
        _estimates(entry, c, c2)


def _estimates(entry: Any, c: Correlation, c2: bool) -> None:
    data = group(entry, "data", "NXdata", signal="C_m", axes=["order", "q", "q_prime"])
    data["order"], data["q"], data["q_prime"] = c.orders, c.q, c.q
    data["dphi"] = c.grid.phi
    for name in ("q", "q_prime"):
        data[name].attrs["units"] = "1/angstrom"
    data["dphi"].attrs["units"] = "rad"
    if c.n_frames() >= 2:
        data["C_m"] = c.c_m().astype(np.complex64 if c.is_complex else np.float32)
        if c2:
            cube = c.c2().astype(np.float32)
            data.create_dataset("C2", data=cube, chunks=(1, *cube.shape[1:]))
    curve = group(entry, "saxs", "NXdata", signal="saxs", axes=["q"])
    curve["q"], curve["saxs"] = c.q, c.saxs
    if c.halves and min(c.n_frames(half=0), c.n_frames(half=1)) >= 2:
        found = c.cc_half()
        cc = group(entry, "cc_half", "NXdata", signal="curve", axes=["q"])
        cc["q"], cc["curve"], cc["map"], cc["order"] = found.q, found.curve, found.map, found.orders
        cc["shots_needed"] = found.shots_needed


def load(path: str | os.PathLike[str]) -> Correlation:
    """Read the sums that `save` wrote.

    Raises
    ------
    DataError
        If the file is not there, or is something else.
    """
    from framefold.udfs.fxs.c2_result import Correlation  # noqa: PLC0415  # it imports this module on demand

    otherwise = "holds no correlations: write one with Correlation.save or framefold fxs c2"
    with opened(path, FORMAT, otherwise) as entry:
        at = entry.attrs
        noise = None
        if "self_term" in entry:
            noise = SelfTerm(*(entry["self_term"][k][()] for k in ("first", "second", "spectra")))
        masks = None
        if "frame_masks" in entry:
            masks = FrameMasks(*(entry["frame_masks"][k][()] for k in _MASKS))
        return Correlation(
            grid=PolarGrid(int(at["n_q"]), int(at["n_phi"]), float(at["q_min"]), float(at["q_max"])),
            centred=bool(at["centred"]),
            paired=bool(at["paired"]),
            halves=bool(at["halves"]),
            wavelength=float(at["wavelength"]) or None,
            self_term=noise,
            masks=masks,
            parameters=json.loads(entry["parameters"][()]),
            **{name: entry["sums"][name][()] for name in _ARRAYS},
        )
