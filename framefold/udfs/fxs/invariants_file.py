"""The file of `Invariants`: HDF5 with NeXus groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from framefold.errors import DataError

if TYPE_CHECKING:
    from framefold.udfs.fxs.kam import Invariants


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
        entry.attrs.update(NX_class="NXentry", default="data", n_particles=inv.n_particles)
        data = entry.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="B_l")
        data.attrs["axes"] = ["l", "q", "q_prime"]
        data["l"], data["q"], data["q_prime"], data["B_l"] = inv.degrees, inv.q, inv.q, inv.b_l
        data["cc_half"] = inv.cc_half
        for name in ("q", "q_prime"):
            data[name].attrs["units"] = "1/angstrom"
    draft.replace(target)
