"""European XFEL runs: mock runs of EXtra-data, filled with numbers that tell module, train and pulse."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.euxfel import FORMAT, open_euxfel
from framefold.testing.check_source import check_source
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice

pytest.importorskip("extra_data")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def fill(folder, key: str, most_rows: int) -> None:
    """Write row + 1000 x module into the first pixels of every frame; the mocks are sparse zeros."""
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r+") as file:
            for source in file.get("INSTRUMENT", {}).values():
                for modules in source.values():
                    for channel, device in modules.items():
                        if key in device:
                            number = int("".join(c for c in channel.split("CH")[0] if c.isdigit()))
                            data = device[key]
                            n = min(most_rows, len(data))
                            part = (slice(n), *(0 for _ in data.shape[1:-2]), slice(0, 2), slice(0, 3))
                            data[part] = np.broadcast_to(
                                1000 * number + np.arange(n).reshape(n, 1, 1), data[part].shape
                            )


@pytest.fixture(scope="module")
def lpd(tmp_path_factory):
    from extra_data.tests.make_examples import make_lpd_run_mini_missed_train

    folder = tmp_path_factory.mktemp("lpd")
    make_lpd_run_mini_missed_train(folder)
    fill(folder, "image/data", 50)
    return folder


def corner(start: int, stop: int, modules: slice) -> TileSlice:
    return TileSlice(start, stop, (modules, slice(0, 1), slice(0, 2)))


def test_lpd_with_a_missed_train(lpd) -> None:
    source = open_euxfel(lpd)
    assert isinstance(source, Source)
    n_modules = len(source.metadata.raw["modules"])
    assert source.shape == (5, 10, n_modules, 256, 256)
    assert source.shape.nav_dims == 2
    assert source.dtype == np.uint16
    assert source.metadata.raw["detector"] == "FXE_DET_LPD1M-1"
    # module 1 lacks the third train
    assert np.flatnonzero(~source.valid).tolist() == list(range(20, 30))
    assert "10 of module 1" in source.stats().reason
    got = source.read(corner(8, 12, slice(0, 2)))
    assert got[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert got[:, 1, 0, 1].tolist() == [1008, 1009, 1010, 1011]
    # after the gap the rows of module 1 are ten behind
    assert source.read(corner(30, 32, slice(0, 2)))[:, :, 0, 0].tolist() == [[30, 1020], [31, 1021]]
    with pytest.raises(DataError, match="module 1 lacks frame 20"):
        source.read(corner(18, 22, slice(0, 2)))


def test_frames_are_those_of_extra_data(lpd) -> None:
    from extra_data import RunDirectory
    from extra_data.components import LPD1M

    peer = LPD1M(RunDirectory(lpd), modules=[0, 1], raw=True, min_modules=2)
    truth = peer.get_array("image.data", unstack_pulses=False)
    labels = [(int(train), int(pulse)) for train, pulse in truth.indexes["train_pulse"]]
    source = open_euxfel(lpd, modules=[0, 1])
    valid = np.flatnonzero(source.valid)
    assert labels == list(
        zip(source.train_ids[valid].tolist(), source.pulse_ids[valid].tolist(), strict=True)
    )
    for at, frame in list(enumerate(valid))[::7]:
        got = source.read(TileSlice(frame, frame + 1, (slice(0, 2), slice(0, 4), slice(0, 4))))[0]
        assert np.array_equal(got, truth.values[:, at].reshape(2, 256, 256)[:, :4, :4])


def test_contract(lpd) -> None:
    source = open_euxfel(lpd)
    truth = np.zeros((50, 2, 256, 256), "u2")
    truth[:, 0, :2, :3] = np.arange(50)[:, None, None]
    rows = np.concatenate([np.arange(20), np.zeros(10), np.arange(20, 40)])
    truth[:, 1, :2, :3] = 1000 + rows[:, None, None]
    check_source(source, truth, reads=10)


def test_choosing_modules(lpd) -> None:
    source = open_euxfel(lpd, modules=[0])
    assert source.shape == (5, 10, 1, 256, 256)
    assert source.valid is None
    assert source.stats().reason == ""
    with pytest.raises(DataError, match=r"has the modules \[.*asked for \[0, 14\]"):
        open_euxfel(lpd, modules=[0, 14])


def test_keys_and_detectors(lpd) -> None:
    with pytest.raises(DataError, match=r"has no 'image.dat'; there are: .*Did you mean 'image.data'"):
        open_euxfel(lpd, "image.dat")
    with pytest.raises(DataError, match="which is no image"):
        open_euxfel(lpd, "image.cellId")
    with pytest.raises(DataError, match=r"no detector FXE_DET_LPD; there are: FXE_DET_LPD1M-1. Did you mean"):
        open_euxfel(lpd, detector="FXE_DET_LPD")
    with pytest.raises(DataError, match=r"plane=1: frames of .* have 1 plane"):
        open_euxfel(lpd, plane=1)


def test_pickle_and_sniff(lpd, tmp_path) -> None:
    source = open_euxfel(lpd)
    again = pickle.loads(pickle.dumps(source))
    assert again.shape == source.shape
    assert again.identity == source.identity
    assert FORMAT.sniff(str(lpd), b"") is None
    assert "no files named like" in FORMAT.sniff(str(tmp_path), b"")
    with pytest.raises(DataError, match="cannot be opened as a run"):
        open_euxfel(tmp_path)


@pytest.mark.slow
def test_agipd_planes(tmp_path) -> None:
    from extra_data.tests.make_examples import make_agipd1m_run

    make_agipd1m_run(tmp_path, rep_rate=True)
    fill(tmp_path, "image/data", 5)
    source = open_euxfel(tmp_path)
    assert source.shape == (100, 64, 16, 512, 128)
    assert source.valid is None
    assert source.read(corner(1, 3, slice(14, 16)))[:, :, 0, 0].tolist() == [[14001, 15001], [14002, 15002]]
    gain = open_euxfel(tmp_path, plane=1)
    assert gain.read(corner(1, 3, slice(14, 16))).max() == 0


def test_jungfrau_cells_are_frames(tmp_path) -> None:
    from extra_data.tests.make_examples import make_fxe_jungfrau_run

    make_fxe_jungfrau_run(tmp_path)
    with pytest.raises(
        DataError, match="several detectors, say which with detector=: FXE_XAD_JF1M, FXE_XAD_JF500K"
    ):
        open_euxfel(tmp_path)
    with h5py.File(next(tmp_path.glob("*JNGFR02*.h5")), "r+") as file:
        file["INSTRUMENT/FXE_XAD_JF1M/DET/JNGFR02:daqOutput/data/adc"][3, 5, 0, 1] = 7
    source = open_euxfel(tmp_path, detector="FXE_XAD_JF1M")
    assert source.shape == (100, 16, 2, 512, 1024)
    got = source.read(corner(3 * 16 + 4, 3 * 16 + 7, slice(0, 2)))
    assert got[:, :, 0, 1].tolist() == [[0, 0], [0, 7], [0, 0]]
