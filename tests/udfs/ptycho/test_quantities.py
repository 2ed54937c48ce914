"""Geometry from numbers and text, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.units import ENERGIES, LENGTHS
from framefold.udfs.ptycho import Geometry
from framefold.udfs.ptycho.quantities import quantity

EV = 1.602176634e-19


def test_text_states_its_unit():
    g = Geometry(energy="8 keV", distance="2 m", detector_pixel=("75 um", 55e-6), defocus="-2 µm")
    assert g.energy == pytest.approx(8000 * EV, abs=0)
    assert g.detector_pixel == pytest.approx((75e-6, 55e-6), abs=0)
    assert g.defocus == pytest.approx(-2e-6, abs=0)
    assert g == Geometry(
        energy=8000 * EV, distance=np.float32(2), detector_pixel=[75e-6, 55e-6], defocus=-2e-6
    )
    assert Geometry(focus_distance="inf").focus_distance == np.inf
    # 12.398 keV nm
    assert g.completed(Metadata()).wavelength == pytest.approx(1.54980e-10, rel=1e-5, abs=0)
    assert quantity("8000", ENERGIES, "eV") == quantity("8keV", ENERGIES, "eV")
    with pytest.raises(DataError, match="not a number with a unit"):
        quantity("eight", LENGTHS, "m")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"energy": 8.0}, "plain numbers are in J.*'8 eV' or '8 keV'$"),
        ({"energy": 8000}, "'8000 eV'$"),
        ({"energy": 1e-25}, "for instance '8 keV'"),
        ({"energy": "8 kev"}, "unit 'kev' is not one of J, eV, keV"),
        ({"energy": "8"}, "'8' has no unit: add one of J, eV, keV"),
        ({"energy": None, "wavelength": 1.5}, "'1.5 nm' or '1.5 pm' or '1.5 A'"),
        ({"voltage": 300}, "'300 kV'"),
        ({"distance": 2000}, "'2000 mm'"),
        ({"detector_pixel": 75}, "'75 um'"),
        ({"detector_pixel": (75e-6, 0.055)}, "'0.055 mm'"),
        ({"detector_pixel": (1e-6, 1e-6, 1e-6)}, r"is not \(y, x\), nor one number"),
        ({"detector_pixel": -1e-6}, "must be a positive number"),
        ({"angle_per_pixel": 0.5}, "'0.5 mrad'"),
        ({"defocus": 5}, "'5 mm'"),
        ({"defocus": float("nan")}, "must be finite"),
        ({"distance": [1, 2]}, r"distance=\[1, 2\] is not a number in m, nor text with a unit such as '2 m'"),
        ({"distance": "-2 m"}, "must be a positive number"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        Geometry(**given)


def test_text_is_taken_at_its_word():
    assert Geometry(voltage="50 V").voltage == 50
    assert Geometry(distance="300 m").distance == 300


def test_files_that_state_nonsense_are_not_believed():
    h, c = 6.62607015e-34, 299792458.0
    told = Metadata(
        energy=8.0, wavelength=h * c / 8.0, camera_length=2100.0, pixel_size=(75.0, 75.0), axes=()
    )
    with pytest.raises(DataError, match="state what cannot be") as exc:
        Geometry().completed(told)
    for words in (
        "energy: 8 J",
        "--energy '8 eV' or '8 keV'",
        "--distance",
        "'2100 mm'",
        "--detector-pixel '75 um'",
    ):
        assert words in str(exc.value)
    g = Geometry(energy="8 keV", distance=2.1, detector_pixel="75 um").completed(told)
    assert g.distance == 2.1
