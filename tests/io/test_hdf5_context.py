"""HDF5 through the whole engine: layouts, missing files, export and results."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError

FRAMES = np.random.default_rng(8).poisson(4, (12, 16, 10)).astype("u2")


@pytest.fixture
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


def series(folder):
    with h5py.File(folder / "run_master.h5", "w") as file:
        group = file.create_group("entry/data")
        for n in range(3):
            target = f"run_data_{n + 1:06d}.h5"
            group[f"data_{n + 1:06d}"] = h5py.ExternalLink(target, "/entry/data/data")
            with h5py.File(folder / target, "w") as data:
                data.create_dataset(
                    "entry/data/data", data=FRAMES[4 * n : 4 * n + 4], chunks=(1, 16, 10), compression="gzip"
                )
    return folder / "run_master.h5"


def test_missing_file_is_missing_in_the_results(ctx, tmp_path) -> None:
    path = series(tmp_path)
    (tmp_path / "run_data_000002.h5").unlink()
    with pytest.raises(DataError, match=r"run_data_000002.h5 is missing"):
        ctx.load(path)
    ds = ctx.load(path, nav_shape=(3, 4), allow_missing=True)
    res = ctx.run_udf(ds, ff.udfs.SumSigUDF())
    assert res["intensity"].valid_mask.tolist() == [[True] * 4, [False] * 4, [True] * 4]
    assert np.array_equal(res["intensity"].data[2], FRAMES[8:].sum(axis=(1, 2)))
    total = ctx.run_udf(ds, ff.udfs.SumUDF())
    assert np.array_equal(total["intensity"].data, FRAMES[:4].sum(0) + FRAMES[8:].sum(0))
    total.save(tmp_path / "sum.nxs")
    back = ff.load_results(tmp_path / "sum.nxs")
    assert np.array_equal(back["intensity"].data, total["intensity"].data)
    assert back.damage.tolist() == total.damage.tolist()
    assert "run_master.h5" in back.provenance["dataset"]


def test_export_and_back(ctx, tmp_path) -> None:
    pytest.importorskip("hdf5plugin")
    ds = ctx.load(series(tmp_path), nav_shape=(3, 4))
    ctx.export(ds, tmp_path / "copy.h5")
    copy = ctx.load(tmp_path / "copy.h5")
    assert tuple(copy.shape) == (3, 4, 16, 10)
    got = ctx.run_udf(copy, ff.udfs.SumSigUDF())["intensity"].data
    assert np.array_equal(got, FRAMES.sum(axis=(1, 2)).reshape(3, 4))


def test_h5py_dataset_and_wrong_option(ctx, tmp_path) -> None:
    path = series(tmp_path)
    with h5py.File(path) as file:
        ds = ctx.load(file["entry/data/data_000001"])
    assert tuple(ds.shape) == (4, 16, 10)
    with pytest.raises(DataError, match="allow_missing"):
        ctx.load(path, alow_missing=True)
