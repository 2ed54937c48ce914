"""The file of `Invariants`: HDF5 with NeXus groups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from framefold.udfs.fxs.nexus import group, opened, written

if TYPE_CHECKING:
    from framefold.udfs.fxs.kam import Invariants

FORMAT = "framefold-invariants"


def save(inv: Invariants, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write ``B_l`` (l, q, q') as the default signal, with the agreement of the halves.

    Raises
    ------
    DataError
        If the file exists.
    """
    with written(path, FORMAT, overwrite=overwrite) as entry:
        entry.attrs["n_particles"] = inv.n_particles
        data = group(entry, "data", "NXdata", signal="B_l", axes=["l", "q", "q_prime"])
        data["l"], data["q"], data["q_prime"], data["B_l"] = inv.degrees, inv.q, inv.q, inv.b_l
        data["cc_half"] = inv.cc_half
        for name in ("q", "q_prime"):
            data[name].attrs["units"] = "1/angstrom"


def load(path: str | os.PathLike[str]) -> Invariants:
    """Read what `save` wrote.

    Raises
    ------
    DataError
        If the file is not there, or is something else.
    """
    from framefold.udfs.fxs.kam import Invariants  # noqa: PLC0415  # numba only where needed

    otherwise = "holds no invariants: write them with framefold fxs invert --save"
    with opened(path, FORMAT, otherwise) as entry:
        data = entry["data"]
        q, degrees, b_l, cc_half = (data[name][()] for name in ("q", "l", "B_l", "cc_half"))
        return Invariants(q, degrees, b_l, cc_half, float(entry.attrs["n_particles"]))
