"""Frames in several files: DECTRIS masters and virtual datasets, complete and with files missing."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.hdf5 import open_hdf5
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig

FRAMES = np.random.default_rng(3).integers(0, 500, (10, 6, 5)).astype("u4")


def master(folder, numbers=(1, 2, 3), per_file=4, stated=(10, 1), name="run_master.h5"):
    with h5py.File(folder / name, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        specific = detector.create_group("detectorSpecific")
        specific["nimages"], specific["ntrigger"] = stated
        specific["pixel_mask"] = np.eye(6, 5, dtype="u4")
        specific["flatfield"] = np.full((6, 5), 2, "f4")
        specific["photon_energy"] = 12_400.0
        detector["description"] = "Dectris EIGER2 Si 500K"
        detector["x_pixel_size"] = detector["y_pixel_size"] = 75e-6
        detector["detector_distance"] = 0.2
        group = file.create_group("entry/data")
        for i, n in enumerate(numbers):
            target = f"run_data_{n:06d}.h5"
            group[f"data_{n:06d}"] = h5py.ExternalLink(target, "/entry/data/data")
            with h5py.File(folder / target, "w") as data:
                part = FRAMES[i * per_file : (i + 1) * per_file]
                data.create_dataset("entry/data/data", data=part, chunks=(1, 6, 5), compression="gzip")
    return folder / name


def all_frames(source) -> np.ndarray:
    n = source.shape.nav.size
    return source.read(TileSlice(0, n, full_sig(tuple(source.shape.sig))))


def test_master_joins_its_files(tmp_path) -> None:
    source = open_hdf5(master(tmp_path))
    assert source.shape == (10, 6, 5)
    assert source.valid is None
    assert source.stats().path == "direct"
    check_source(source, FRAMES)
    # over a border of files
    assert np.array_equal(source.read(TileSlice(3, 9, (slice(1, 4), slice(0, 5)))), FRAMES[3:9, 1:4])
    m = source.metadata
    assert m.mask.sum() == 5
    assert (m.gain == 2).all()
    assert m.energy == pytest.approx(12_400 * 1.602176634e-19, rel=1e-6, abs=0)
    assert m.wavelength == pytest.approx(1e-10, rel=1e-3, abs=0)
    assert m.camera_length == pytest.approx(0.2)
    assert m.pixel_size == (75e-6, 75e-6)


@pytest.mark.parametrize("stated", [(0, 0), (99, 1)])  # absent or wrong counts: every file is opened
def test_master_counts_its_files(tmp_path, stated) -> None:
    source = open_hdf5(master(tmp_path, stated=stated))
    assert source.shape == (10, 6, 5)
    assert np.array_equal(all_frames(source), FRAMES)


def test_triggers_and_images_make_a_scan(tmp_path) -> None:
    source = open_hdf5(master(tmp_path, stated=(5, 2)))
    assert source.shape == (2, 5, 6, 5)
    assert source.metadata.nav_shape == (2, 5)


def test_missing_data_file(tmp_path) -> None:
    path = master(tmp_path)
    (tmp_path / "run_data_000002.h5").unlink()
    with pytest.raises(DataError, match=r"run_data_000002.h5 is missing.*allow_missing=True"):
        open_hdf5(path)
    source = open_hdf5(path, allow_missing=True)
    assert source.shape == (10, 6, 5)
    assert source.valid.tolist() == [True] * 4 + [False] * 4 + [True] * 2
    assert "4 of 10 frames are missing" in source.stats().reason
    check_source(source, FRAMES)
    with pytest.raises(DataError, match="frames 4:6 are missing"):
        source.read(TileSlice(2, 6, full_sig((6, 5))))
    for name in ("run_data_000001.h5", "run_data_000003.h5"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="none of its data files exists"):
        open_hdf5(path, allow_missing=True)


def test_missing_last_file_is_as_long_as_the_master_says(tmp_path) -> None:
    path = master(tmp_path)
    (tmp_path / "run_data_000003.h5").unlink()
    assert open_hdf5(path, allow_missing=True).valid.tolist() == [True] * 8 + [False] * 2


def test_gap_in_the_numbers(tmp_path) -> None:
    with pytest.raises(DataError, match="lacks data_000002"):
        open_hdf5(master(tmp_path, numbers=(1, 3, 4)))


def test_data_file_of_another_shape(tmp_path) -> None:
    path = master(tmp_path)
    with h5py.File(tmp_path / "run_data_000002.h5", "w") as file:
        file["entry/data/data"] = np.zeros((4, 6, 6), "u4")
    with pytest.raises(DataError, match=r"run_data_000002.h5.*\(6, 6\) uint32, the others have \(6, 5\)"):
        all_frames(open_hdf5(path))


def test_short_data_file_is_noticed_when_read(tmp_path) -> None:
    path = master(tmp_path)
    with h5py.File(tmp_path / "run_data_000002.h5", "w") as file:
        file["entry/data/data"] = np.zeros((3, 6, 5), "u4")
    with pytest.raises(DataError, match="has 3 frames, 4 are expected"):
        all_frames(open_hdf5(path))


def test_more_files_than_readers_stay_open(tmp_path, monkeypatch) -> None:
    from framefold.io import hdf5_frames

    monkeypatch.setattr(hdf5_frames, "OPEN_READERS", 2)
    source = open_hdf5(master(tmp_path))
    for _ in range(2):
        assert np.array_equal(all_frames(source), FRAMES)
    assert len(source._readers) == 2


def test_real_master(data_dir) -> None:
    source = open_hdf5(data_dir / "test_00_master.h5")
    assert source.shape == (4, 4, 192, 192)  # the scan is stated in test_00.h5
    assert source.dtype == np.uint32
    assert source.stats().path == "direct"
    assert source.stats().reason == ""
    with h5py.File(data_dir / "test_00_data_000001.h5") as file:
        compare = open_hdf5(data_dir / "test_00_master.h5", direct=False)
        assert file["entry/data/data"].shape == (16, 192, 192)
    assert all_frames(source).tobytes() == all_frames(compare).tobytes()
    m = source.metadata
    assert m.energy == pytest.approx(300e3 * 1.602176634e-19, rel=1e-6, abs=0)
    assert m.wavelength == pytest.approx(1.9687e-12, rel=1e-4, abs=0)  # electrons of 300 kV
    assert m.camera_length == pytest.approx(0.115)
    assert m.pixel_size == (1e-4, 1e-4)
    assert m.raw["description"] == "Dectris ARINA CZT"


# -- virtual datasets --------------------------------------------------------------------------------------


def sources(folder, count=3, per_file=4):
    for i in range(count):
        with h5py.File(folder / f"s{i}.h5", "w") as file:
            data = np.full((per_file, 6, 5), 100 * i) + np.arange(per_file)[:, None, None]
            file.create_dataset("d", data=data.astype("u2"), chunks=(1, 6, 5), compression="gzip")


def test_virtual_frames_take_the_fast_path(tmp_path) -> None:
    sources(tmp_path)
    layout = h5py.VirtualLayout((12, 6, 5), "u2")
    for i in range(3):  # interleaved: file i has frames i, i + 3, ... of pairs, in order
        for k in range(4):
            layout[3 * k + i] = h5py.VirtualSource(tmp_path / f"s{i}.h5", "d", (4, 6, 5))[k]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    source = open_hdf5(tmp_path / "v.h5")
    assert source.stats().path == "direct"
    with h5py.File(tmp_path / "v.h5") as file:
        assert np.array_equal(all_frames(source), file["v"][()])


def test_virtual_scan_rows(tmp_path) -> None:
    sources(tmp_path)
    layout = h5py.VirtualLayout((3, 2, 6, 5), "u2")
    for i in range(3):
        layout[i] = h5py.VirtualSource("s%d.h5" % i, "d", (4, 6, 5))[1:3]  # relative name  # noqa: UP031
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    source = open_hdf5(tmp_path / "v.h5")
    assert source.shape == (3, 2, 6, 5)
    assert source.stats().path == "direct"
    assert all_frames(source)[:, 0, 0].tolist() == [1, 2, 101, 102, 201, 202]


def test_virtual_source_missing_is_never_zeros(tmp_path) -> None:
    sources(tmp_path)
    layout = h5py.VirtualLayout((14, 6, 5), "u2")
    for i in range(3):
        layout[4 * i : 4 * i + 4] = h5py.VirtualSource(tmp_path / f"s{i}.h5", "d", (4, 6, 5))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)  # frames 12, 13: nothing is mapped
    assert open_hdf5(tmp_path / "v.h5").valid.tolist() == [True] * 12 + [False] * 2
    (tmp_path / "s1.h5").unlink()
    with pytest.raises(DataError, match=r"s1.h5 is missing"):
        open_hdf5(tmp_path / "v.h5")
    source = open_hdf5(tmp_path / "v.h5", allow_missing=True)
    assert source.valid.tolist() == [True] * 4 + [False] * 4 + [True] * 4 + [False] * 2
    assert source.read(TileSlice(8, 12, full_sig((6, 5))))[:, 0, 0].tolist() == [200, 201, 202, 203]


def test_virtual_source_that_lost_frames(tmp_path) -> None:
    sources(tmp_path, count=1)
    layout = h5py.VirtualLayout((4, 6, 5), "u2")
    layout[:] = h5py.VirtualSource(tmp_path / "s0.h5", "d", (4, 6, 5))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
        file["other"] = np.zeros((2, 2))
    sources(tmp_path, count=1, per_file=3)
    with pytest.raises(DataError, match=r"s0.h5 is missing, which holds part"):
        open_hdf5(tmp_path / "v.h5")


def modules(folder):
    sources(folder, count=2)
    layout = h5py.VirtualLayout((4, 2, 6, 5), "u2")
    for i in range(2):
        layout[:, i] = h5py.VirtualSource(folder / f"s{i}.h5", "d", (4, 6, 5))
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    return folder / "v.h5"


def test_virtual_modules_take_h5py(tmp_path) -> None:
    path = modules(tmp_path)
    source = open_hdf5(path, nav_dims=1)
    assert source.shape == (4, 2, 6, 5)
    assert source.stats().path == "h5py"
    assert "not whole frames" in source.stats().reason
    assert all_frames(source)[:, :, 0, 0].tolist() == [[0, 100], [1, 101], [2, 102], [3, 103]]


def test_virtual_module_missing(tmp_path) -> None:
    path = modules(tmp_path)
    (tmp_path / "s1.h5").unlink()
    with pytest.raises(DataError, match=r"s1.h5 is missing"):
        open_hdf5(path, nav_dims=1)
    with pytest.raises(DataError, match="none of the"):
        open_hdf5(path, nav_dims=1, allow_missing=True)
