"""What refined positions are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.udfcore.metadata import Metadata
from framefold.udfs.ptycho.positions import ScanPositions
from framefold.udfs.ptycho.refine import REACH, told_turn, turn

PIXELS = np.random.default_rng(3).uniform(0, 40, (30, 2))


@pytest.mark.parametrize("angle", [0.01, -1.5])
def test_turns_have_the_sign_of_scan_positions(angle):
    turned = ScanPositions(PIXELS, units="px", rotation_deg=angle).pixels(Metadata(), (30,), (1e-9, 1e-9))[0]
    # the linear part of a rotation is its sine
    assert np.radians(turn(PIXELS, turned - PIXELS)) == pytest.approx(
        np.sin(np.radians(angle)), rel=1e-9, abs=0
    )
    said = told_turn(PIXELS, turned - PIXELS)
    assert (said is not None) == (abs(angle) > 1)
    assert said is None or "turned by -1.5 degrees" in said


def test_moves_at_their_limit_are_told():
    moves = np.zeros((30, 2))
    assert told_turn(PIXELS, moves) is None
    moves[:, 0] = np.where(np.arange(30) % 2, REACH, -REACH)
    moves -= (
        np.column_stack([PIXELS, np.ones(30)])
        @ np.linalg.lstsq(np.column_stack([PIXELS, np.ones(30)]), moves)[0]
    )
    assert "that are allowed" in str(told_turn(PIXELS, moves))
