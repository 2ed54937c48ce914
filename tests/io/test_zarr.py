"""Zarr 2 and 3 directories and open arrays."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.registry import open_source
from framefold.testing.check_source import check_source

zarr = pytest.importorskip("zarr")


def data(dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, (3, 4, 6, 8)).astype(dtype)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32"])
def test_array(tmp_path, version, dtype):
    arr = data(dtype)
    stored = zarr.create_array(
        tmp_path / "a.zarr", shape=arr.shape, chunks=(1, 2, 6, 5), dtype=dtype, zarr_format=version
    )
    stored[...] = arr
    source = open_source(tmp_path / "a.zarr")
    assert source.natural_chunks == (2, 6, 5)
    check_source(source, arr.astype(np.dtype(dtype).newbyteorder("=")), reads=8)
    check_source(open_source(stored, sig_dims=1), arr.astype(np.dtype(dtype).newbyteorder("=")), reads=3)


def test_group(tmp_path):
    group = zarr.create_group(tmp_path / "g.zarr")
    arr = data()
    group.create_array("scan/frames", data=arr)
    group.create_array("dark", data=arr[0, 0])
    check_source(open_source(tmp_path / "g.zarr"), arr, reads=4)
    check_source(open_source(group, key="scan/frames"), arr, reads=4)
    check_source(open_source(tmp_path / "g.zarr", key="/dark"), arr[0, 0], reads=4)
    with pytest.raises(DataError, match="no array 'scan/frame'. Did you mean 'scan/frames'"):
        open_source(tmp_path / "g.zarr", key="scan/frame")
    group.create_array("other", data=arr[:, :3])
    with pytest.raises(DataError, match="no array stands out.*other"):
        open_source(tmp_path / "g.zarr")


def test_metadata(tmp_path):
    stored = zarr.create_array(tmp_path / "a.zarr", shape=(3, 4, 6, 8), dtype="u1", fill_value=0)
    stored.attrs["axes"] = [{"name": n, "scale": 2.0, "offset": -1, "units": "nm"} for n in "yxqp"]
    axis = open_source(tmp_path / "a.zarr").metadata.axes[1]
    assert (axis.name, axis.scale, axis.offset, axis.units) == ("x", 2.0, -1.0, "nm")


def test_damaged(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=data(), chunks=(1, 4, 6, 8))
    with pytest.raises(DataError, match="single array"):
        open_source(tmp_path / "a.zarr", key="x")
    chunk = tmp_path / "a.zarr" / "c" / "1" / "0" / "0" / "0"
    chunk.write_bytes(b"\x00" + chunk.read_bytes()[5:20])
    with pytest.raises(DataError, match=r"a.zarr: cannot read frames 0\.\.11"):
        check_source(open_source(tmp_path / "a.zarr"), data())
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3')
    with pytest.raises(DataError, match="cannot open as Zarr"):
        open_source(tmp_path / "a.zarr")
