"""Emulators are made by name; what they cannot do or send is said."""

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.live.replay.make import emulated, make_emulator
from framefold.testing import DetectorEmulator

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def truth():
    return np.random.default_rng(2).integers(0, 60000, (12, 8, 10)).astype(np.uint16)


@pytest.mark.parametrize(
    "protocol, options, match",
    [
        ("k2is", {"loss": 1.5}, "loss: 1.5 is not a probability"),
        ("k2is", {"losses": 0.5}, "no option 'losses'. Did you mean 'loss'"),
        ("k2si", {}, "no emulator of 'k2si'. Did you mean 'k2is'"),
        ("k2is", {"rate": 0}, "rate=0 is not above 0"),
        ("k2is", {"repeat": 0}, "repeat=0 is below 1"),
        ("k2is", {"gap": -1}, "gap=-1 is negative"),
        ("k2is", {"wrap_at": 1}, "wrap_at=1 is below 2"),
        ("k2is", {"reorder": -1}, "are not negative"),
        ("k2is", {"sectors": 16}, "too small to be divided"),
        ("jungfrau", {"modules": (3, 1)}, "are smaller than"),
        ("eiger-udp", {"packet_bytes": 7}, "in packets of 7 bytes"),
    ],
)
def test_what_is_impossible_is_said(protocol, options, match, truth):
    with pytest.raises(DataError, match=match):
        make_emulator(protocol, truth, **options)


def test_frames_are_made_to_fit(truth):
    with pytest.warns(
        UserWarning, match=r"cropped from \(8, 10\) to \(8, 8\), values from .* are clipped to 0..4095"
    ):
        emulator = make_emulator("k2is", truth, sectors=2)
    assert emulator.frames == 12
    with pytest.raises(DataError, match="an array"):
        DetectorEmulator("k2is", np.zeros((4, 4)))
    with pytest.raises(DataError, match="not a str"):
        DetectorEmulator("k2is", "file.mib")


def test_all_that_is_emulated_has_a_protocol(truth):
    from framefold.io.live.registry import protocol_names

    assert set(emulated()) <= set(protocol_names())
