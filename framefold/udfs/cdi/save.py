"""Results to files that other programs open: CXI for imaging, npz for scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.cdi.algebra import Operator
from framefold.udfs.cdi.state import CDI, FREE, MASKED

CXI_VERSION = 160
# bits of CXI masks: no bit, "to be ignored"
_IGNORED = 0x40


@dataclass(frozen=True, repr=False)
class Save(Operator):
    """Write the state to a file; ``{cycle}`` in the name is the number of iterations so far.

    Parameters
    ----------
    path
        ``.cxi`` or ``.npz``.
    """

    path: str

    def apply(self, cdi: CDI) -> CDI:
        """Return the state as it is."""
        save_state(cdi, self.path.format(cycle=cdi.cycle))
        return cdi


def save_state(cdi: CDI, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write object, support, history and data of a state.

    Parameters
    ----------
    path
        ``.cxi`` (HDF5, CXI 1.6: ``entry_1/image_1`` the object, its mask the support,
        ``entry_1/instrument_1`` the data) or ``.npz``.
    extra
        Further arrays and numbers, in ``entry_1/image_1/process_1/results``.

    Raises
    ------
    DataError
        For other suffixes.
    """
    path, cdi = Path(path), cdi.on("numpy")
    history = {
        name: np.array([figures.get(name, np.nan) for _, figures in cdi.history])
        for name in sorted({k for _, figures in cdi.history for k in figures})
    }
    if history:
        history["cycle"] = np.array([cycle for cycle, _ in cdi.history])
    if path.suffix == ".npz":
        support = cdi.parts[1]
        results = {f"history_{k}": v for k, v in history.items()} | dict(extra or {})
        np.savez(path, obj=cdi.solution, support=support, pixel_size=cdi.pixel_size or np.nan, **results)
    elif path.suffix in (".cxi", ".h5", ".hdf5"):
        _write_cxi(cdi, path, history, extra or {})
    else:
        raise DataError(f"cannot save a reconstruction as {path.name}: use .cxi or .npz")


def _write_cxi(cdi: CDI, path: Path, history: dict[str, npt.NDArray[Any]], extra: dict[str, Any]) -> None:
    import h5py  # noqa: PLC0415  # only where a file is written

    _, support = cdi.parts
    temporary = path.with_name(path.name + ".part")
    with h5py.File(temporary, "w") as f:
        f["cxi_version"] = CXI_VERSION
        f["number_of_entries"] = 1
        entry = f.create_group("entry_1")
        entry["program_name"] = "framefold"
        image = entry.create_group("image_1")
        image.create_dataset("data", data=cdi.solution, compression="gzip", compression_opts=1)
        image.create_dataset(
            "mask",
            data=np.where(support, 0, _IGNORED).astype(np.uint32),
            compression="gzip",
            compression_opts=1,
        )
        image["data_type"] = "electron density"
        image["data_space"] = "real"
        image["is_fft_shifted"] = 0
        if cdi.pixel_size is not None:
            image["image_size"] = np.array(cdi.shape[::-1], dtype=np.float64) * cdi.pixel_size
        process = image.create_group("process_1")
        results = process.create_group("results")
        for name, values in extra.items():
            results[name] = values
        for name, values in history.items():
            results[f"history/{name}"] = values
        detector = entry.create_group("instrument_1/detector_1")
        code = np.fft.fftshift(cdi.data.code)
        detector.create_dataset(
            "data", data=np.fft.fftshift(cdi.data.intensity), compression="gzip", compression_opts=1
        )
        detector.create_dataset(
            "mask", data=np.where(code == MASKED, _IGNORED, 0).astype(np.uint32), compression="gzip",
            compression_opts=1,
        )  # fmt: skip
        detector["free_pixels"] = code == FREE
        entry["data_1/data"] = h5py.SoftLink("/entry_1/image_1/data")
    temporary.replace(path)
