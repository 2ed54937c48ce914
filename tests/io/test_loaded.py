"""Files through the engine: sums, regions, corrections and missing frames, against numpy."""

import numpy as np
import pytest
import scipy.sparse

import framefold as ff


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="inline") as context:
        yield context


def scan(dtype="uint16", shape=(4, 5, 16, 64)):
    return np.random.default_rng(0).integers(0, 60, shape).astype(dtype)


def merlin(path, frames, pixel):
    n, h, w = frames.shape
    body = b""
    for i in range(n):
        head = f"MQ1,{i + 1:06d},00384,01,{w:04d},{h:04d},{pixel},   1x1,01,T,0.001,MQ1A,T,1000000ns,12,"
        body += head.encode().ljust(384, b"\0") + frames[i].astype(f">u{int(pixel[1:]) // 8}").tobytes()
    path.write_bytes(body)
    return path


@pytest.mark.parametrize("pixel", ["U08", "U16"])
def test_merlin_scan(ctx, tmp_path, pixel):
    arr = scan("uint8" if pixel == "U08" else "uint16")
    path = merlin(tmp_path / "a.mib", arr.reshape(-1, 16, 64), pixel)
    (tmp_path / "a.hdr").write_text("HDR,\t\nScanX:\t5\nScanY:\t4\nEnd\t")
    ds = ctx.load(path)
    assert tuple(ds.shape) == arr.shape
    np.testing.assert_array_equal(ctx.run_udf(ds, ff.udfs.SumUDF())["intensity"].data, arr.sum(axis=(0, 1)))
    roi = np.zeros((4, 5), bool)
    roi[1:3, ::2] = True
    got = ctx.run_udf(ds, ff.udfs.SumUDF(), roi=roi)["intensity"].data
    np.testing.assert_array_equal(got, arr[roi].sum(axis=0))


def test_dark_and_truncation(ctx, tmp_path):
    arr = scan()
    path = tmp_path / "a.raw"
    path.write_bytes(arr.tobytes()[:-3000])
    with pytest.warns(UserWarning, match="18 whole frames"):
        ds = ctx.load(path, nav_shape=(4, 5), sig_shape=(16, 64), dtype="uint16")
    dark = np.random.default_rng(1).random((16, 64)).astype("float32")
    res = ctx.run_udf(ds, ff.udfs.SumSigUDF(), corrections=ff.Corrections(dark=dark))
    flags = res["intensity"].valid_mask
    assert flags.reshape(-1).tolist() == [True] * 18 + [False] * 2
    truth = (arr - dark.astype(float)).sum(axis=(2, 3))
    np.testing.assert_allclose(res["intensity"].data[flags], truth[flags], rtol=1e-5)


def test_series_and_shift(ctx, tmp_path):
    arr = scan()
    for i, row in enumerate(arr):
        np.save(tmp_path / f"row_{i}.npy", row)
    ds = ctx.load(tmp_path, nav_shape=(4, 5), sync_offset=2)
    res = ctx.run_udf(ds, ff.udfs.SumSigUDF())["intensity"]
    flat = arr.sum(axis=(2, 3)).reshape(-1)
    np.testing.assert_array_equal(res.data.reshape(-1)[:18], flat[2:])
    assert not res.valid_mask.reshape(-1)[18:].any()


@pytest.mark.parametrize("kind", ["sparse", "scipy", "dask", "fortran"])
def test_other_arrays(ctx, tmp_path, kind):
    arr = scan(shape=(4, 5, 8, 16))
    arr[arr > 10] = 0
    if kind == "sparse":
        given, options = pytest.importorskip("sparse").COO.from_numpy(arr), {}
    elif kind == "scipy":
        given = scipy.sparse.csr_array(arr.reshape(20, -1))
        options = {"nav_shape": (4, 5), "sig_shape": (8, 16)}
    elif kind == "dask":
        given, options = pytest.importorskip("dask.array").from_array(arr, chunks=(2, 3, 8, 8)), {}
    else:
        np.save(tmp_path / "a.npy", np.asfortranarray(arr))
        given, options = tmp_path / "a.npy", {}
    ds = ctx.load(given, **options)
    assert tuple(ds.shape) == arr.shape
    roi = np.zeros((4, 5), bool)
    roi[1:, 1:4] = True
    for region, truth in ((None, arr.reshape(20, 8, 16)), (roi, arr[roi])):
        both = ctx.run_udf(ds, [ff.udfs.SumUDF(), ff.udfs.SumSigUDF()], roi=region)
        np.testing.assert_array_equal(both[0]["intensity"].data, truth.sum(axis=0))
        got = both[1]["intensity"]
        np.testing.assert_array_equal(got.data[got.valid_mask], truth.sum(axis=(1, 2)))
