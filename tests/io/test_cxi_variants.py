"""CXI files as they are written in practice: every spelling states the same geometry and positions."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from framefold.io.hdf5 import open_hdf5

N, ENERGY, EV = 6, 1.28e-15, 1.602176634e-19
XYZ = np.random.default_rng(1).uniform(1e-6, 9e-6, (N, 3))
DETECTOR = "entry_1/instrument_1/detector_1"
PLACE = "entry_1/sample_1/geometry_1/translation"
ENERGY_AT = "entry_1/instrument_1/source_1/energy"


def write(path):
    file = h5py.File(path, "w")
    file["cxi_version"] = 160
    file[f"{DETECTOR}/data"] = np.zeros((N, 8, 12), "u2")
    file[f"{DETECTOR}/distance"] = 2.0
    file[f"{DETECTOR}/x_pixel_size"], file[f"{DETECTOR}/y_pixel_size"] = 75e-6, 55e-6
    file[ENERGY_AT] = ENERGY
    file[PLACE] = XYZ
    return file


def put(key, value, units=None):
    def change(file):
        if key in file:
            del file[key]
        file[key] = value
        if units:
            file[key].attrs["units"] = units

    return change


def move(old, new):
    return lambda file: file.move(old, new)


def beside_another_detector(file):
    file.move(f"{DETECTOR}/data", "entry_1/data_1/data")
    file["entry_1/instrument_1/detector_2/distance"] = 3.0


def no_version(file):
    del file["cxi_version"]


def results_first(file):
    file.move("entry_1", "entry_2")
    file["entry_1/image_1/data"] = np.ones((4, 4), complex)
    file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/image_1/data")


@pytest.mark.parametrize(
    "change",
    [
        put(PLACE, XYZ * 1e6, "µm"),
        put(PLACE, XYZ * 1e6, "microns"),
        put(PLACE, XYZ.T),
        put(PLACE, XYZ.reshape(2, 3, 3)),
        move(PLACE, "entry_1/data_1/translation"),
        move(PLACE, f"{DETECTOR}/translation"),
        put(f"{DETECTOR}/distance", np.full(N, 2.0)),
        put(f"{DETECTOR}/distance", np.full(N, 2000.0), "mm"),
        put(f"{DETECTOR}/distance", -2.0),
        put(ENERGY_AT, np.full(N, ENERGY)),
        put(ENERGY_AT, np.full(N, ENERGY / EV / 1e3), "keV"),
        move(ENERGY_AT, "entry_1/instrument_1/beam_1/energy"),
        move(DETECTOR, "entry_1/instrument_1/pilatus"),
        move(f"{DETECTOR}/data", "entry_1/data_1/data"),
        move(f"{DETECTOR}/data", "entry_1/data_2/data"),
        beside_another_detector,
        move("entry_1", "entry"),
        no_version,
        results_first,
    ],
)
def test_spellings_of_the_same(tmp_path, change):
    with write(tmp_path / "a.cxi") as file:
        change(file)
    source = open_hdf5(tmp_path / "a.cxi")
    m = source.metadata
    assert source.shape == (N, 8, 12)
    assert m.energy == pytest.approx(ENERGY, abs=0)
    assert m.camera_length == pytest.approx(2)
    assert m.pixel_size == pytest.approx((55e-6, 75e-6), abs=0)
    np.testing.assert_allclose(m.positions, XYZ, rtol=1e-12)
    assert m.raw["positions_of"] == "sample"


def test_two_columns_are_x_and_y(tmp_path):
    with write(tmp_path / "a.cxi") as file:
        put(PLACE, XYZ[:, :2])(file)
    np.testing.assert_allclose(open_hdf5(tmp_path / "a.cxi").metadata.positions, XYZ * [1, 1, 0])


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (N, 3, 2)])
def test_basis_vectors(tmp_path, shape):
    basis = np.array([[0, -75e-6], [-55e-6, 0], [0, 0]])
    with write(tmp_path / "a.cxi") as file:
        put(f"{DETECTOR}/basis_vectors", basis.T if shape == (2, 3) else np.broadcast_to(basis, shape))(file)
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.cxi").metadata.raw["basis_vectors"], basis)


def test_values_that_change_along_the_scan_are_no_scalar(tmp_path):
    with write(tmp_path / "a.cxi") as file:
        put(f"{DETECTOR}/distance", np.linspace(2, 2.1, N))(file)
        put(PLACE, XYZ, "furlong")(file)
    m = open_hdf5(tmp_path / "a.cxi").metadata
    assert m.camera_length is None
    assert m.positions is None
    assert "'furlong', which is not known" in m.raw["positions_note"]


@pytest.mark.parametrize(
    "mask, message", [(np.ones((4, 4), "u4"), "shape"), (np.full((8, 12), 0.5), "no set of bits")]
)
def test_masks_that_cannot_be_used_are_told(tmp_path, mask, message):
    with write(tmp_path / "a.cxi") as file:
        put(f"{DETECTOR}/mask", mask)(file)
    m = open_hdf5(tmp_path / "a.cxi").metadata
    assert m.mask is None
    assert message in m.raw["mask_note"]


def test_masks_of_floats(tmp_path):
    bits = np.zeros((8, 12), "f4")
    bits[2, 3] = 1
    with write(tmp_path / "a.cxi") as file:
        put(f"{DETECTOR}/mask", bits)(file)
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.cxi").metadata.mask, bits > 0)
