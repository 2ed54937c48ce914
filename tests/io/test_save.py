"""Saving: everything comes back equal, pictures and tables hold what they should, nothing half remains."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io import save, save_pictures
from framefold.io.save import load_results, save_result
from framefold.udfcore.metadata import Axis

RNG = np.random.default_rng(4)


@dataclass
class Buffer:
    data: np.ndarray
    kind: str
    axes: tuple[Axis, ...] = ()
    extra_shape: tuple[int, ...] = ()
    valid_mask: np.ndarray | None = None


class Result(dict):
    damage = np.array([[True, False, True], [True, True, True]])
    provenance: dict[str, Any] = {
        "program": "framefold",
        "version": "1",
        "parameters": {"radius": np.float32(2.5)},
    }
    report: dict[str, Any] = {"seconds": 0.5, "warnings": ["é"]}


NAV = (Axis("y", 2.0, -1.0, "nm"), Axis("x", 2.5, 0.0, "nm"))
SIG = (Axis("ky", 0.1, -0.4, "1/nm"), Axis("kx", 0.1, -0.5, "1/nm"))


def everything() -> Result:
    nav_mask = np.array([[True, False, True], [True, True, True]])
    return Result(
        intensity=Buffer(RNG.normal(size=(2, 3)).astype("f4"), "nav", NAV, (), nav_mask),
        field=Buffer(RNG.normal(size=(2, 3, 2)), "nav", NAV, (2,), np.repeat(nav_mask[..., None], 2, -1)),
        total=Buffer(RNG.integers(0, 9, (8, 10)).astype("u8"), "sig", SIG),
        wave=Buffer(RNG.normal(size=(8, 10)) + 1j, "sig", SIG),
        hot=Buffer(RNG.random((8, 10)) > 0.5, "sig", SIG),
        n=Buffer(np.array(7), "single"),
        matrix=Buffer(RNG.normal(size=(3, 4)), "single", (), (3, 4)),
        process=Buffer(np.arange(3), "single", (), (3,)),  # a name that the file uses itself
        empty=Buffer(np.zeros((0, 2)), "single", (), (0, 2)),
    )


@pytest.mark.parametrize("suffix", [".nxs", ".h5", ".zarr", ".npz"])
def test_round_trip(tmp_path, suffix) -> None:
    result = everything()
    save_result(tmp_path / f"a{suffix}", result)
    back = load_results(tmp_path / f"a{suffix}")
    assert set(back) == set(result)
    for name, expected in result.items():
        got = back[name]
        assert got.dtype == expected.data.dtype, name
        assert np.array_equal(got.data, expected.data), name
        assert got.shape == expected.data.shape
        assert (got.kind, got.axes, got.extra_shape) == (expected.kind, expected.axes, expected.extra_shape)
        mask = np.ones(got.shape, bool) if expected.valid_mask is None else expected.valid_mask
        assert got.valid_mask.dtype == bool
        assert np.array_equal(got.valid_mask, mask)
    assert back.damage.dtype == bool
    assert np.array_equal(back.damage, result.damage)
    assert back.provenance == {"program": "framefold", "version": "1", "parameters": {"radius": 2.5}}
    assert back.report == result.report
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}"]
    with pytest.raises(KeyError, match="Did you mean 'total'"):
        back["totl"]


def test_results_can_be_saved_again(tmp_path) -> None:
    save_result(tmp_path / "a.nxs", everything())
    save_result(tmp_path / "b.npz", load_results(tmp_path / "a.nxs"))
    assert np.array_equal(
        load_results(tmp_path / "b.npz")["field"].data, load_results(tmp_path / "a.nxs")["field"].data
    )


def test_nexus_structure(tmp_path) -> None:
    result = everything()
    save_result(tmp_path / "a.nxs", result)
    with h5py.File(tmp_path / "a.nxs") as file:
        assert file.attrs["NX_class"] == "NXroot"
        assert file.attrs["default"] == "entry"
        entry = file["entry"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "intensity"
        group = entry["field"]
        assert group.attrs["NX_class"] == "NXdata"
        assert group.attrs["signal"] == "data"
        assert list(group.attrs["axes"]) == ["y", "x", "."]
        assert group["y"][()].tolist() == [-1.0, 1.0]
        assert group["y"].attrs["units"] == "nm"
        assert group["valid_mask"].dtype == np.uint8
        assert group.attrs["coverage"] == pytest.approx(5 / 6)
        assert entry["hot/data"].dtype == np.uint8
        process = next(g for g in entry.values() if g.attrs["NX_class"] == "NXprocess")
        assert process["program"][()] == b"framefold"
        assert json.loads(process["provenance"][()])["parameters"] == {"radius": 2.5}


def test_npz_is_readable_by_numpy_alone(tmp_path) -> None:
    result = everything()
    save_result(tmp_path / "a.npz", result)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["wave"], result["wave"].data)


def test_npy_holds_one(tmp_path) -> None:
    result = everything()
    with pytest.raises(
        DataError, match=r"\.npy holds one result, there are 9: intensity, field.*'intensity'"
    ):
        save_result(tmp_path / "a.npy", result)
    save_result(tmp_path / "total.npy", {"total": result["total"]})
    assert np.array_equal(np.load(tmp_path / "total.npy"), result["total"].data)
    assert np.array_equal(load_results(tmp_path / "total.npy")["total"].data, result["total"].data)


def test_tif(tmp_path) -> None:
    tifffile = pytest.importorskip("tifffile")
    result = everything()
    save_result(tmp_path / "a.tif", {"intensity": result["intensity"]})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages[0]
        assert np.array_equal(page.asarray(), result["intensity"].data)
        # 2.5 nm per pixel along x, 2 nm along y
        ratio = [num / den for num, den in (page.tags["XResolution"].value, page.tags["YResolution"].value)]
        assert ratio == pytest.approx([1e7 / 2.5, 1e7 / 2.0], rel=1e-6)
        assert json.loads(page.description)["axes"][0]["units"] == "nm"
    save_result(tmp_path / "b.tif", {"hot": result["hot"]})
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), result["hot"].data)
    with pytest.raises(
        DataError, match=r"\.tif holds an image of two axes, 'field' has the shape \(2, 3, 2\)"
    ):
        save_result(tmp_path / "c.tif", {"field": result["field"]})


def rows(path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv(tmp_path) -> None:
    axis = (Axis("q", 0.5, 1.0, "1/nm"),)
    valid = np.array([True, False, True])
    table = {
        "sum": Buffer(np.array([1.5, 2.5, 1 / 3]), "nav", axis, (), valid),
        "com": Buffer(np.arange(6).reshape(3, 2), "nav", axis, (2,)),
        "wave": Buffer(np.array([1j, 2, 3]), "nav", axis),
    }
    save_result(tmp_path / "a.csv", table)
    heading, *lines = rows(tmp_path / "a.csv")
    assert heading == ["q (1/nm)", "sum", "com[0]", "com[1]", "wave.real", "wave.imag"]
    assert lines[0] == ["1.0", "1.5", "0", "1", "0.0", "1.0"]
    assert lines[1][1] == ""
    assert float(lines[2][1]) == 1 / 3
    save_result(tmp_path / "b.csv", {"n": Buffer(np.array(7), "single")})
    assert rows(tmp_path / "b.csv") == [["index", "n"], ["0.0", "7"]]
    with pytest.raises(DataError, match=r"'total' has the shape \(8, 10\)"):
        save_result(tmp_path / "c.csv", {"total": everything()["total"]})
    with pytest.raises(DataError, match=r"same kind and length, there are sum nav \(3,\), n single \(\)"):
        save_result(tmp_path / "c.csv", {"sum": table["sum"], "n": Buffer(np.array(7), "single")})


def test_png(tmp_path) -> None:
    image = pytest.importorskip("matplotlib.image")
    result = everything()
    for name in ("intensity", "wave", "hot", "total"):
        save_result(tmp_path / f"{name}.png", {name: result[name]})
        assert image.imread(tmp_path / f"{name}.png").shape[0] > 500
    nothing = Buffer(np.full((3, 4), np.nan), "sig")
    save_result(tmp_path / "nan.png", {"x": nothing})
    assert save_pictures._extent(save.detach({"i": result["intensity"]})["i"]) == (-1.25, 6.25, 2.0, -2.0)


def test_limits_ignore_outliers() -> None:
    values = np.append(np.linspace(0, 1, 10_000), 1e9)
    low, high = save_pictures.display_limits(values)
    assert 0 < low < 0.01
    assert 0.99 < high <= 1


def test_unknown_ending_lists_the_known(tmp_path) -> None:
    with pytest.raises(
        DataError, match=r"unknown ending '.nx'. Did you mean '.nxs'\? Known are:\n  .nxs  everything"
    ):
        save_result(tmp_path / "a.nx", everything())
    with pytest.raises(DataError, match="unknown ending ''"):
        load_results(tmp_path / "a")


@pytest.mark.parametrize("suffix", [".nxs", ".zarr", ".npz"])
def test_overwrite_is_refused_unless_asked(tmp_path, suffix) -> None:
    path = tmp_path / f"a{suffix}"
    save_result(path, {"a": np.arange(3)})
    with pytest.raises(DataError, match="exists: give another name, or overwrite=True"):
        save_result(path, {"a": np.arange(4)})
    assert len(load_results(path)["a"].data) == 3
    save_result(path, {"a": np.arange(4)}, overwrite=True)
    assert len(load_results(path)["a"].data) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_missing_folder(tmp_path) -> None:
    with pytest.raises(DataError, match=r"folder .*gone does not exist"):
        save_result(tmp_path / "gone" / "a.nxs", everything())


@pytest.mark.parametrize("suffix", [".nxs", ".zarr", ".npz", ".npy", ".csv"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, suffix) -> None:
    path = tmp_path / f"a{suffix}"
    save_result(path, {"a": np.arange(3)})
    kept = save._SAVERS[suffix]

    def fails(temporary, result) -> None:
        kept.write(temporary, result)
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(save._SAVERS, suffix, save._Saver("", fails, kept.read))
    with pytest.raises(DataError, match=r"could not be written.*No space left"):
        save_result(path, {"a": np.arange(4)}, overwrite=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if kept.read is not None:
        assert len(load_results(path)["a"].data) == 3


def test_what_cannot_be_saved(tmp_path) -> None:
    with pytest.raises(DataError, match="'a' holds Python objects"):
        save_result(tmp_path / "a.npz", {"a": np.array([None, {}])})
    with pytest.raises(DataError, match="got tuple"):
        save_result(tmp_path / "a.npz", (everything(),))
    with pytest.raises(DataError, match="without entries"):
        save_result(tmp_path / "a.npz", {})
    with pytest.raises(DataError, match="cannot be the name of an HDF5 group"):
        save_result(tmp_path / "a.nxs", {"a/b": np.arange(3)})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = 1
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.savez(tmp_path / "b.npz", x=np.array([None]))
    (tmp_path / "c.npz").write_bytes(b"PK broken")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.zarr").mkdir()
    for name, text in {
        "a.h5": "no results of framefold",
        "a.npz": "no results of framefold",
        "b.npz": "cannot be read as npz",
        "c.npz": "cannot be read as npz",
        "a.png": "read back from .nxs",
        "a.zarr": "cannot be read as a Zarr group",
        "gone.nxs": "no such file",
    }.items():
        with pytest.raises(DataError, match=text):
            load_results(tmp_path / name)
