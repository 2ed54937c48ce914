"""UDFs that hand frames on: pick, monitor, record."""

import numpy as np
import pytest

from framefold.errors import DataError, UDFError
from framefold.udfs.monitor import MonitorUDF
from framefold.udfs.pick import PickUDF
from framefold.udfs.record import RecordUDF


def frames(dtype="u2"):
    return np.arange(4 * 5 * 6 * 7).reshape(4, 5, 6, 7).astype(dtype)


@pytest.mark.parametrize("tile", [None, (2, 3, 7), (3, 2, 3)])
def test_pick(run, tile):
    data = frames()
    roi = np.random.default_rng(7).random((4, 5)) < 0.3
    got = run(PickUDF(), data, roi=roi, tile=tile)
    assert list(got) == ["intensity"]
    assert got["intensity"].dtype == data.dtype
    np.testing.assert_array_equal(got["intensity"].data, data[roi])
    np.testing.assert_array_equal(run(PickUDF(), data)["intensity"].data, data.reshape(-1, 6, 7))


def test_pick_marks_frames_that_are_missing(run):
    valid = np.ones(20, bool)
    valid[3] = False
    got = run(PickUDF(), frames(), valid=valid)["intensity"]
    assert not got.data[3].any()
    np.testing.assert_array_equal(got.valid_mask.all(axis=(1, 2)), valid)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_monitor_shows_the_newest_frame_in_any_order(run, order):
    data = frames()
    got = run(MonitorUDF(), data, order=order, tile=(3, 2, 7))["intensity"].data
    np.testing.assert_array_equal(got, data[-1, -1])
    roi = np.zeros((4, 5), bool)
    roi[1, 2:4] = True
    np.testing.assert_array_equal(run(MonitorUDF(), data, roi=roi)["intensity"].data, data[1, 3])


@pytest.mark.parametrize("dtype", ["u2", "c8"])
def test_record(run, tmp_path, dtype):
    data = frames(dtype)
    path = tmp_path / "frames.npy"
    got = run(RecordUDF(path), data, order=[2, 0, 1])
    assert got["recorded"].data.tolist() == [20]
    written = np.load(path, allow_pickle=False)
    assert written.dtype == data.dtype
    np.testing.assert_array_equal(written, data)
    with pytest.raises(DataError, match="frames.npy exists: choose another name, or pass overwrite=True"):
        run(RecordUDF(path), data)
    roi = np.random.default_rng(8).random((4, 5)) < 0.5
    run(RecordUDF(path, overwrite=True), data, roi=roi)
    np.testing.assert_array_equal(np.load(path), data[roi])


@pytest.mark.parametrize("as_aux", [False, True], ids=["array", "aux"])
def test_record_keeps_some(run, tmp_path, as_aux):
    data, path = frames(), tmp_path / "frames.npy"
    keep = np.random.default_rng(9).random((4, 5)) < 0.4
    udf = RecordUDF(path, keep=RecordUDF.aux_data(keep, kind="nav", dtype="bool") if as_aux else keep)
    got = run(udf, data, order=[2, 0, 1])
    assert got["recorded"].data.tolist() == [keep.sum()]
    np.testing.assert_array_equal(np.load(path), data[keep])
    roi = np.random.default_rng(8).random((4, 5)) < 0.5
    run(RecordUDF(path, overwrite=True, keep=keep.ravel()), data, roi=roi)
    np.testing.assert_array_equal(np.load(path), data[roi & keep])


def test_record_cannot_keep_what_is_not_there(run, tmp_path):
    for keep in (np.ones(19, bool), np.ones(20, int)):
        with pytest.raises(DataError, match=r"keep has dtype .* it must be bool, one entry for each of"):
            run(RecordUDF(tmp_path / "frames.npy", keep=keep), frames())


def test_record_nowhere(run, tmp_path):
    with pytest.raises(DataError, match="cannot make .*missing.*frames.npy"):
        run(RecordUDF(tmp_path / "missing" / "frames.npy"), frames())


def test_record_writes_what_a_function_chooses(run, tmp_path):
    data = frames()
    path = tmp_path / "chosen.npy"
    got = run(RecordUDF(path, choose=lambda tile, ids: ids % 3 == 0), data, tile=(3, 6, 7))
    wanted = np.arange(20).reshape(4, 5) % 3 == 0
    np.testing.assert_array_equal(got["chosen"].data, wanted)
    assert got["recorded"].data[0] == 7
    np.testing.assert_array_equal(np.load(path), data * wanted[..., None, None].astype("u2"))


def test_record_refuses_flags_of_another_number(run, tmp_path):
    with pytest.raises(UDFError, match=r"flags of shape \(2,\) for"):
        run(RecordUDF(tmp_path / "x.npy", choose=lambda tile, ids: [True, False]), frames(), tile=(3, 6, 7))
    with pytest.raises(UDFError, match="not both"):
        RecordUDF(tmp_path / "y.npy", keep=np.ones(20, bool), choose=lambda tile, ids: ids > 0)
