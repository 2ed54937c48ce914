"""Layout discovery: real files, and small files of each convention."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io import hdf5_tree
from framefold.io.hdf5 import open_hdf5
from framefold.testing.check_source import check_source
from framefold.udfcore.metadata import Axis
from framefold.udfcore.tile import TileSlice, full_sig

pytest.importorskip("hdf5plugin")  # registers its filters with HDF5, which reads the truth

# key, shape, nav axes, first axis, last axis; every key by h5ls, every number by h5dump
REAL = {
    "test_00_data_000001.h5": ("/entry/data/data", (16, 192, 192), 1, None, None),
    "Si100_4D.emd": (
        "/4DSTEM_simulation/data/datacubes/CBED_array_depth0000/datacube",
        (11, 11, 8, 8),
        2,
        Axis("R_x", 0.5, 0.0, "nm"),
        Axis("Q_y", 0.18416207, -0.73664826, "nm^-1"),
    ),
    "py4DSTEM_size2x3x4x5.h5": (
        "/datacube_root/datacube/data",
        (2, 3, 4, 5),
        2,
        Axis("Rx", 0.126796875, 0.0, "nm"),
        Axis("Qy", 0.044251566616087125, 0.0, "A^-1"),
    ),
    "fei_example_tem_stack.emd": (
        "/Data/Image/26f60320a61d4f66a73efd8cde34ffa9/Data",
        (2, 3, 3),
        1,
        Axis("frame"),
        Axis("x", 8.172883192297851e-12, -1.6738064777826e-08, "m"),
    ),
    "nexus_dls_example.nxs": (
        "/entry1/testdata/nexustest/data",
        (10, 10, 15),
        2,
        Axis("y", 1.0, 0.0, ""),
        Axis(),
    ),
    "PETRAIII_P25_Near_Field_Ptycho.cxi": (
        "/entry_1/instrument_1/detector_1/data",
        (200, 100, 100),
        1,
        Axis("frame"),
        Axis("x", 5.5e-5, 0.0, "m"),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(data_dir, name) -> None:
    key, shape, nav_dims, first, last = REAL[name]
    source = open_hdf5(data_dir / name)
    assert source.candidate.key == key
    assert source.shape == shape
    assert source.shape.nav_dims == nav_dims
    for got, expected in zip(
        source.metadata.axes[::1][:1] + source.metadata.axes[-1:], (first, last), strict=False
    ):
        assert (got.name, got.units) == (expected.name, expected.units)
        assert got.scale == pytest.approx(expected.scale, rel=1e-6)
        assert got.offset == pytest.approx(expected.offset, rel=1e-6)
    if first is None:
        assert source.metadata.axes == ()
    with h5py.File(data_dir / name) as file:
        stored = file[key][()]
    truth = np.moveaxis(stored, -1, 0) if name.startswith("fei") else stored
    check_source(source, truth)


def test_real_cxi_takes_h5py_and_states_its_geometry(data_dir) -> None:
    source = open_hdf5(data_dir / "PETRAIII_P25_Near_Field_Ptycho.cxi")
    assert source.stats().path == "h5py"
    assert "cut the frames" in source.stats().reason
    m = source.metadata
    assert m.wavelength == pytest.approx(9.794912e-11, rel=1e-6, abs=0)
    assert m.energy == pytest.approx(2.0280385e-15, rel=1e-6, abs=0)
    assert m.camera_length == pytest.approx(1.12)
    assert m.pixel_size == pytest.approx((5.5e-5, 5.5e-5))
    assert m.mask.sum() == 5
    assert m.positions.shape == (200, 3)
    assert m.positions[1] == pytest.approx([-5.2007606e-05, -3.8152295e-05, 0])


def test_real_emd_lists_both_cubes(data_dir) -> None:
    source = open_hdf5(data_dir / "Si100_4D.emd")
    keys = [c.key.split("/")[-2] for c in source.candidates]
    assert keys == ["CBED_array_depth0000", "CBED_array_depth0001"]
    second = open_hdf5(data_dir / "Si100_4D.emd", key=source.candidates[1].key)
    assert second.shape == (11, 11, 8, 8)


def test_real_velox_says_that_it_transposes(data_dir) -> None:
    stats = open_hdf5(data_dir / "fei_example_tem_stack.emd").stats()
    assert stats.path == "h5py"
    assert "frame axis is the last one" in stats.reason


def test_real_file_without_images(data_dir) -> None:
    with pytest.raises(DataError, match="no dataset of numbers with three or more axes"):
        open_hdf5(data_dir / "test_00.h5")


def test_wrong_keys_list_the_candidates(data_dir) -> None:
    path = data_dir / "nexus_dls_example.nxs"
    with pytest.raises(
        DataError,
        match=r"no dataset '/nowhere'.*\n  /entry1/testdata/nexustest/data \(10, 10 \| 15\) float64",
    ):
        open_hdf5(path, key="nowhere")
    with pytest.raises(DataError, match="is a group, not a dataset of numbers"):
        open_hdf5(path, key="/entry1/instrument")
    with pytest.raises(DataError, match=r"of type \|S.* not a dataset of numbers"):
        open_hdf5(path, key="/entry1/sample/name")
    assert open_hdf5(path, key="/entry1/testdata/nexustest").shape == (10, 10, 15)
    assert open_hdf5(path, key="/alias_signal/nexustest/data").shape == (10, 10, 15)


# -- NeXus ---------------------------------------------------------------------------------------------


def nexus(path, axes, shape=(3, 4, 6, 5), **attrs):
    """Write an NXdata group; return its dataset's truth."""
    truth = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        decoy = entry.create_group("decoy")
        decoy.attrs.update({"NX_class": "NXdata", "signal": "big"})
        decoy["big"] = np.zeros((50, 10, 10), "u1")
        group = entry.create_group("scan")
        group.attrs.update({"NX_class": "NXdata", "signal": "frames"} | attrs)
        if axes is not None:
            group.attrs["axes"] = axes
        group["frames"] = truth
        group["row"] = 2.0 + 0.5 * np.arange(shape[0])
        group["row"].attrs["units"] = "um"
        file.attrs["default"] = "entry"
        entry.attrs["default"] = "scan"
    return truth


@pytest.mark.parametrize(
    ("axes", "attrs", "shape", "nav_dims"),
    [
        (["row", "column", ".", "."], {}, (3, 4, 6, 5), 2),
        (["row", "column"], {}, (3, 4, 6, 5), 2),  # fewer names than axes
        (["row"], {"interpretation": "image"}, (3, 4, 6, 5), 2),
        (["row"], {"interpretation": "spectrum"}, (3, 4, 6, 5), 3),
        (None, {}, (3, 4, 6, 5), 2),
        (["row", "column", "ky", "kx"], {}, (3, 4, 6, 5), 2),
        ("row:column", {}, (3, 4, 6, 5), 2),  # the old way
        (["column", "row"], {"row_indices": [0], "column_indices": [1]}, (3, 4, 6, 5), 2),
    ],
)
def test_nexus_axes(tmp_path, axes, attrs, shape, nav_dims) -> None:
    truth = nexus(tmp_path / "a.nxs", axes, **attrs)
    source = open_hdf5(tmp_path / "a.nxs")
    assert source.candidate.key == "/entry/scan/frames"  # @default wins over the larger decoy
    assert source.shape == shape
    assert source.shape.nav_dims == nav_dims
    if axes is not None:
        assert source.metadata.axes[0] == Axis("row", 0.5, 2.0, "um")
    sig = shape[nav_dims:]
    assert np.array_equal(source.read(TileSlice(1, 3, full_sig(sig))), truth.reshape(-1, *sig)[1:3])


def test_nexus_signal_axes_first(tmp_path) -> None:
    truth = nexus(tmp_path / "a.nxs", [".", ".", "y", "x"])
    source = open_hdf5(tmp_path / "a.nxs")
    assert source.shape == (6, 5, 3, 4)
    assert source.shape.nav_dims == 2
    expected = truth.transpose(2, 3, 0, 1).reshape(-1, 3, 4)
    assert np.array_equal(source.read(TileSlice(4, 9, full_sig((3, 4)))), expected[4:9])


def test_nexus_detector_and_beam(tmp_path) -> None:
    nexus(tmp_path / "a.nxs", None)
    mask = np.zeros((6, 5), "u4")
    mask[1, 2] = 8
    with h5py.File(tmp_path / "a.nxs", "a") as file:
        instrument = file["entry"].create_group("instrument")
        instrument.attrs["NX_class"] = "NXinstrument"
        for name, kind, values in (
            (
                "det",
                "NXdetector",
                {"distance": (150, "mm"), "y_pixel_size": (75, "um"), "x_pixel_size": (50, "um")},
            ),
            ("beam", "NXbeam", {"incident_energy": (12.4, "keV")}),
        ):
            group = instrument.create_group(name)
            group.attrs["NX_class"] = kind
            for key, (value, units) in values.items():
                group[key] = value
                group[key].attrs["units"] = units
        instrument["det/pixel_mask"] = mask
    m = open_hdf5(tmp_path / "a.nxs").metadata
    assert m.camera_length == pytest.approx(0.15)
    assert m.pixel_size == pytest.approx((75e-6, 50e-6))
    assert m.energy == pytest.approx(12.4e3 * 1.602176634e-19, rel=1e-6, abs=0)
    assert m.wavelength == pytest.approx(1e-10, rel=1e-3, abs=0)  # 12.4 keV is 1 angstrom
    assert np.argwhere(m.mask).tolist() == [[1, 2]]


def test_nexus_old_style_signal_attribute(tmp_path) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"] = "NXdata"
        group["other"] = np.zeros((4, 9, 9))
        group["counts"] = np.ones((4, 3, 3))
        group["counts"].attrs["signal"] = 1
    assert open_hdf5(tmp_path / "a.nxs").candidate.key == "/entry/data/counts"


# -- CXI, hspy, EMD 0.2, MAT -------------------------------------------------------------------------


def test_cxi_mask_bits(tmp_path) -> None:
    mask = np.array([[0, 0x1, 0x4], [0x10000, 0x20, 0x80], [0x100, 0x10004, 0x400]], "u4")
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = np.zeros((4, 3, 3))
        detector["mask"] = mask
        detector["basis_vectors"] = [[0, -5e-5], [-4e-5, 0], [0, 0]]
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/instrument_1/source_1/energy"] = 1.602176634e-19 * 8000
    source = open_hdf5(tmp_path / "a.cxi")
    assert len(source.candidates) == 1
    # signal, peak mask and resolution limit say nothing against the pixel
    assert source.metadata.mask.tolist() == [[False, True, True], [False, False, True], [False, True, True]]
    assert "hot" in source.metadata.raw["mask_bits"]
    assert source.metadata.pixel_size == pytest.approx((4e-5, 5e-5))
    assert source.metadata.wavelength == pytest.approx(1.5498e-10, rel=1e-4, abs=0)


def test_hspy_axes(tmp_path) -> None:
    truth = np.arange(2 * 3 * 4 * 5, dtype="u2").reshape(2, 3, 4, 5)
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        group = file.create_group("Experiments/scan")
        group["data"] = truth
        for i, (name, scale, units, navigate) in enumerate(
            [
                ("y", 2.0, "nm", True),
                ("x", 3.0, "nm", True),
                ("ky", 0.1, "1/nm", False),
                ("_None_", 0.2, "_None_", False),
            ]
        ):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update(
                {"name": name, "scale": scale, "offset": 1.0, "units": units, "navigate": navigate, "size": 4}
            )
    source = open_hdf5(tmp_path / "a.hspy")
    assert source.candidate.layout == "hspy"
    assert source.shape.nav_dims == 2
    assert source.metadata.axes == (
        Axis("y", 2.0, 1.0, "nm"),
        Axis("x", 3.0, 1.0, "nm"),
        Axis("ky", 0.1, 1.0, "1/nm"),
        Axis("", 0.2, 1.0, "px"),
    )


def test_ncem_emd_counts_dims_from_one(tmp_path) -> None:
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("data/stack")
        group.attrs["emd_group_type"] = 1
        group["data"] = np.zeros((3, 4, 5))
        group["dim1"] = [0.0, 1.0, 3.0]  # not equidistant: no calibration
        group["dim2"] = [0.0, 0.5]
        group["dim3"] = 7 + 0.25 * np.arange(5)
        for i, name in enumerate(["tilt", "y", "x"]):
            group[f"dim{i + 1}"].attrs.update({"name": name, "units": "[n_m]"})
    assert open_hdf5(tmp_path / "a.emd").metadata.axes == (
        Axis("tilt"),
        Axis("y", 0.5, 0.0, "nm"),
        Axis("x", 0.25, 7.0, "nm"),
    )


def test_matlab_says_that_axes_are_reversed(tmp_path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["cube"] = np.zeros((3, 4, 5))
        file["cube"].attrs["MATLAB_class"] = np.bytes_("double")
    source = open_hdf5(tmp_path / "a.mat")
    assert source.candidate.layout == "MAT 7.3"
    assert "reverse" in source.stats().reason


# -- no convention ---------------------------------------------------------------------------------------


def test_largest_dataset_if_it_stands_out(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"] = np.zeros((2, 4, 4))
        file["deep/large"] = np.zeros((8, 4, 4))
        file["flat"] = np.zeros((1000, 1000))
        file["flag"] = np.zeros((50, 4, 4), "S3")
    assert open_hdf5(tmp_path / "a.h5").candidate.key == "/deep/large"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["other"] = np.zeros((4, 4, 4), "u2")
    with pytest.raises(
        DataError,
        match=r"which with key=:\n  /deep/large \(8 \| 4, 4\) float64 \[HDF5\]\n  /other \(4 \| 4, 4\) uint16",
    ):
        open_hdf5(tmp_path / "a.h5")
    assert open_hdf5(tmp_path / "a.h5", "flat").shape == (1000, 1000)


def test_dimension_scales_calibrate(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = np.zeros((3, 4, 5))
        file["x"] = 0.5 * np.arange(5)
        file["x"].attrs["units"] = "mm"
        file["x"].make_scale("x")
        file["d"].dims[2].attach_scale(file["x"])
    assert open_hdf5(tmp_path / "a.h5").metadata.axes[2] == Axis("x", 0.5, 0.0, "mm")


def test_cycles_and_broken_links(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a/b")
        group["up"] = file["a"]
        group["self"] = h5py.SoftLink("/a/b")
        group["gone"] = h5py.SoftLink("/nowhere")
        group["elsewhere"] = h5py.ExternalLink("missing.h5", "/d")
        group["d"] = np.zeros((3, 4, 5))
    source = open_hdf5(tmp_path / "a.h5")
    assert source.candidate.key == "/a/b/d"
    assert len(source.candidates) == 1


def test_external_link_to_one_stack(tmp_path) -> None:
    truth = np.arange(60).reshape(3, 4, 5)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("x/d", data=truth, chunks=(1, 4, 5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = h5py.ExternalLink("data.h5", "/x/d")
    source = open_hdf5(tmp_path / "a.h5")
    assert source.stats().path == "direct"
    assert np.array_equal(source.read(TileSlice(0, 3, full_sig((4, 5)))), truth)


def test_too_many_objects_and_too_deep(tmp_path, monkeypatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("/".join("abcdef"))
        file["d"] = np.zeros((3, 4, 5))
    monkeypatch.setattr(hdf5_tree, "MAX_DEPTH", 4)
    with pytest.raises(DataError, match="more than 4 levels: say which dataset to load with key="):
        open_hdf5(tmp_path / "a.h5")
    monkeypatch.setattr(hdf5_tree, "MAX_DEPTH", 32)
    monkeypatch.setattr(hdf5_tree, "MAX_OBJECTS", 3)
    with pytest.raises(DataError, match="more than 3 objects"):
        open_hdf5(tmp_path / "a.h5")
    assert open_hdf5(tmp_path / "a.h5", key="/d").shape == (3, 4, 5)


def test_several_soft_links_are_all_followed(tmp_path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name in "abc":
            file[f"{name}/d"] = np.zeros((3, 4, 5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "abc":
            file[name] = h5py.ExternalLink("data.h5", f"/{name}")
    with pytest.raises(DataError, match=r"/a/d .*\n  /b/d .*\n  /c/d "):
        open_hdf5(tmp_path / "a.h5")


def test_nexus_variant_of_cxi(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        entry = file.create_group("entry_1")
        entry["definition"] = "NXcxi_ptycho"
        detector = entry.create_group("instrument_1/detector_1")
        detector["data"] = np.zeros((2, 3, 5, 4), "u2")
        for name, value, units in (
            ("distance", 1500, "mm"),
            ("x_pixel_size", 55, "um"),
            ("y_pixel_size", 75, "um"),
        ):
            detector[name] = value
            detector[name].attrs["units"] = units
        entry["instrument_1/source_1/energy"] = 3.0  # of the machine, GeV
        entry["instrument_1/beam_1/energy"] = 8.0
        entry["instrument_1/beam_1/energy"].attrs["units"] = "keV"
        places = np.arange(18.0).reshape(2, 3, 3)
        entry["sample_1/geometry_1/translation"] = places
        entry["sample_1/geometry_1/translation"].attrs["units"] = "um"
    source = open_hdf5(tmp_path / "a.h5")
    assert source.candidate.layout == "CXI"
    assert source.shape.nav_dims == 2
    m = source.metadata
    assert m.energy == pytest.approx(8e3 * 1.602176634e-19, rel=1e-6, abs=0)
    assert m.wavelength == pytest.approx(1.5498e-10, rel=1e-4, abs=0)
    assert m.camera_length == pytest.approx(1.5)
    assert m.pixel_size == pytest.approx((75e-6, 55e-6))
    assert m.positions == pytest.approx(places.reshape(6, 3) * 1e-6)
