"""The file of `Invariants`: HDF5 with NeXus groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from framefold.errors import DataError

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
    import h5py  # noqa: PLC0415  # takes 0.1 s to load

    target = Path(path)
    if target.exists() and not overwrite:
        raise DataError(f"{target} exists: choose another name, or pass overwrite=True")
    draft = target.with_name(target.name + ".part")
    with h5py.File(draft, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data", format=FORMAT, n_particles=inv.n_particles)
        data = entry.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="B_l")
        data.attrs["axes"] = ["l", "q", "q_prime"]
        data["l"], data["q"], data["q_prime"], data["B_l"] = inv.degrees, inv.q, inv.q, inv.b_l
        data["cc_half"] = inv.cc_half
        for name in ("q", "q_prime"):
            data[name].attrs["units"] = "1/angstrom"
    draft.replace(target)


def load(path: str | os.PathLike[str]) -> Invariants:
    """Read what `save` wrote.

    Raises
    ------
    DataError
        If the file is not there, or is something else.
    """
    import h5py  # noqa: PLC0415  # as above

    from framefold.udfs.fxs.kam import Invariants  # noqa: PLC0415  # numba only where needed

    try:
        file = h5py.File(path, "r")
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc}") from exc
    with file:
        entry = file.get("entry")
        if entry is None or entry.attrs.get("format") != FORMAT:
            raise DataError(f"{path} holds no invariants: write them with framefold fxs invert --save")
        data = entry["data"]
        q, degrees, b_l, cc_half = (data[name][()] for name in ("q", "l", "B_l", "cc_half"))
        return Invariants(q, degrees, b_l, cc_half, float(entry.attrs["n_particles"]))
