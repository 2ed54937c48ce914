"""What refined positions are said to be."""

from __future__ import annotations

import numpy as np

from framefold.udfs.ptycho.refine import REACH, told_moves

PIXELS = np.random.default_rng(3).uniform(0, 40, (30, 2))


def test_common_errors_are_told():
    moves = np.zeros((30, 2))
    assert told_moves(PIXELS, moves, affine=False) is None
    assert "rotation 0.00" in str(told_moves(PIXELS, moves, affine=True))
    turned = 0.02 * (PIXELS - PIXELS.mean(axis=0))[:, ::-1] * [-1, 1]
    assert "turned by 1.1 degrees" in str(told_moves(PIXELS, turned, affine=False))


def test_moves_at_their_limit_are_told():
    moves = np.zeros((30, 2))
    moves[:, 0] = np.where(np.arange(30) % 2, REACH, -REACH)
    design = np.column_stack([PIXELS, np.ones(30)])
    moves -= design @ np.linalg.lstsq(design, moves)[0]
    assert "that are allowed" in str(told_moves(PIXELS, moves, affine=False))
