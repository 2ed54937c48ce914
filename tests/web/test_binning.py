"""Area binning, against loops over blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.web.binning import MAX_SIDE, bin_area, block_of


@pytest.mark.parametrize(
    ("shape", "block"), [((512, 512), 1), ((1024, 3), 1), ((1025, 1), 2), ((4096, 2048), 4), ((4097, 1), 5)]
)
def test_blocks_bring_every_side_below_the_limit(shape, block):
    assert block_of(shape) == block
    assert -(-max(shape) // block) <= MAX_SIDE


@given(
    rows=st.integers(1, 13),
    cols=st.integers(1, 13),
    block=st.integers(2, 5),
    kind=st.sampled_from(["uint16", "float32", "complex64", "bool"]),
    seed=st.integers(0, 99),
)
def test_means_over_valid_finite_pixels(rows, cols, block, kind, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 50, (rows, cols)).astype(kind)
    if values.dtype.kind in "fc":
        values[rng.random((rows, cols)) < 0.2] = np.nan
    valid = rng.random((rows, cols)) < 0.7
    means, flags = bin_area(values, valid, block)
    for i in range(0, rows, block):
        for j in range(0, cols, block):
            part = values[i : i + block, j : j + block]
            keep = valid[i : i + block, j : j + block] & np.isfinite(part)
            assert flags[i // block, j // block] == keep.any()
            if keep.any():
                # sums of at most 25 small integers are exact; one division rounds
                assert means[i // block, j // block] == pytest.approx(
                    part[keep].sum() / keep.sum(), rel=1e-15
                )


def test_small_pictures_pass_untouched():
    values = np.array([[1.0, np.inf], [np.nan, 4.0]])
    out, flags = bin_area(values, np.ones((2, 2), bool), 1)
    assert out is values
    assert flags.tolist() == [[True, False], [False, True]]
