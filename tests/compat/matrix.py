"""Runs LiberTEM's UDFs over dtypes, regions, tilings and partitions, and saves what comes out.

The same file runs with the real LiberTEM, as a script, and in the tests under the shim; it imports nothing of ours.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NAV, SIG = (5, 6), (8, 12)
DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8", "c8")
WHOLE = {"rows": None, "deep": (4, *SIG), "single": (1, *SIG)}  # tile shapes that every UDF takes
CUT = {"rows": None, "cut": (4, 3, 5), "deep": (4, 8, 6)}
PARTITIONS = (1, 2, 7)


def make_data(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    top = {"u1": 255, "i1": 127}.get(dtype, 1000)
    data = rng.integers(0 if dtype[0] == "u" else -3, top, size=(*NAV, *SIG)).astype(np.dtype(dtype))
    return data + (1j * rng.integers(0, 9, size=data.shape)).astype("c8") if dtype == "c8" else data


def regions() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    return {"all": None, "some": rng.random(NAV) < 0.6}


def masks() -> np.ndarray:
    rng = np.random.default_rng(9)
    return rng.integers(0, 3, size=(3, *SIG)).astype("f4")


def sparse_masks() -> Any:
    import sparse

    return sparse.COO.from_numpy((masks() > 1).astype("f4"))


def frame_mean(frame: Any) -> Any:
    return frame.mean(axis=0)


def make_udf(name: str, folder: Path) -> Any:
    """Return the UDF of a case; ``None`` if the module does not exist here."""
    from libertem.udf import AutoUDF
    from libertem.udf.com import CoMUDF
    from libertem.udf.crystallinity import CrystallinityUDF
    from libertem.udf.FEM import FEMUDF
    from libertem.udf.logsum import LogsumUDF
    from libertem.udf.masks import ApplyMasksUDF
    from libertem.udf.raw import PickUDF
    from libertem.udf.record import RecordUDF
    from libertem.udf.stddev import StdDevUDF
    from libertem.udf.sum import SumUDF
    from libertem.udf.sumsigudf import SumSigUDF

    shifts = np.random.default_rng(10).integers(-9, 9, size=(*NAV, 2))
    return {
        "sum": lambda: SumUDF(),
        "sum native": lambda: SumUDF(dtype=bool),
        "sumsig": lambda: SumSigUDF(),
        "stddev": lambda: StdDevUDF(),
        "stddev plain": lambda: StdDevUDF(use_numba=False),
        "logsum": lambda: LogsumUDF(),
        "pick": lambda: PickUDF(),
        "masks": lambda: ApplyMasksUDF(masks, use_torch=False),
        "masks sparse": lambda: ApplyMasksUDF(sparse_masks, use_torch=False),
        "masks csc": lambda: ApplyMasksUDF(masks, use_torch=False, use_sparse="scipy.sparse.csc"),
        "masks moved": lambda: ApplyMasksUDF(masks, use_torch=False, shifts=(2, -5)),
        "masks moving": lambda: ApplyMasksUDF(
            masks,
            use_torch=False,
            shifts=ApplyMasksUDF.aux_data(shifts.ravel(), kind="nav", extra_shape=(2,), dtype=int),
        ),
        "com": lambda: CoMUDF(),
        "com ring": lambda: CoMUDF.with_params(
            cy=3.1, cx=5, r=4, ri=1, scan_rotation=23, flip_y=True, regression=1
        ),
        "fem": lambda: FEMUDF(center=(4, 4), rad_in=1, rad_out=3),
        "crystallinity": lambda: CrystallinityUDF(rad_in=1, rad_out=3, real_center=(4, 6), real_rad=2),
        "auto": lambda: AutoUDF(f=frame_mean),
        "auto monitor": lambda: AutoUDF(f=frame_mean, monitor=True),
        "record": lambda: RecordUDF(str(folder / "recorded.npy")),
    }[name]()


FRAMES = ("logsum", "masks moved", "masks moving", "fem", "crystallinity", "auto", "auto monitor")
NAMES = (
    "sum", "sum native", "sumsig", "stddev", "stddev plain", "logsum", "pick", "masks", "masks sparse", "masks csc",
    "masks moved", "masks moving", "com", "com ring", "fem", "crystallinity", "auto", "auto monitor", "record",
)  # fmt: skip


def cases(thorough: bool) -> list[tuple[str, str, str, str, int]]:
    """Return (UDF, dtype, region, tiling, partitions); a sample of 2 per UDF unless `thorough`."""
    found = []
    for i, name in enumerate(NAMES):
        tilings = WHOLE if name in FRAMES else CUT
        full = list(itertools.product((name,), DTYPES, regions(), tilings, PARTITIONS))
        found += full if thorough else full[i % 7 :: len(full) // 2]
    return found


def run(thorough: bool) -> dict[Any, Any]:
    """Return for each case what every buffer holds, or the kind of error."""
    from libertem.api import Context
    from libertem.executor.inline import InlineJobExecutor

    ctx = Context(executor=InlineJobExecutor())
    found: dict[Any, Any] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases(thorough):
            name, dtype, region, tiling, partitions = case
            dataset = ctx.load(
                "memory", data=make_data(dtype), sig_dims=2, num_partitions=partitions,
                tileshape=(WHOLE if name in FRAMES else CUT)[tiling],
            )  # fmt: skip
            try:
                with np.errstate(all="ignore"):
                    result = ctx.run_udf(
                        dataset=dataset, udf=make_udf(name, Path(folder)), roi=regions()[region]
                    )
            except Exception as exc:
                found[case] = next(k.__name__ for k in type(exc).__mro__ if k.__module__ == "builtins")
                continue
            found[case] = {
                k: (np.array(b.data), np.array(b.raw_data), np.array(b.valid_mask), str(b.dtype), b.kind)
                for k, b in result.items()
            }
            if name == "record":
                found[case]["file"] = np.load(Path(folder) / "recorded.npy")
    return found


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        pickle.dump(run(thorough=sys.argv[2] == "thorough"), file)
