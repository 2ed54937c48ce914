"""Denominators from the histogram against direct sums."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.udfs.ptycho.denominators import Histogram, effective_overlap, illuminated


@pytest.mark.parametrize("modes, objects, bank", [(1, 1, 1), (2, 3, 4)])
def test_histogram_gives_the_direct_sums(modes, objects, bank):
    rng = np.random.default_rng(0)
    n, m, shape, frames = 7, 9, (30, 24), 20
    probe = rng.normal(size=(bank, modes, n, m)) + 1j * rng.normal(size=(bank, modes, n, m))
    obj = rng.normal(size=(objects, *shape)) + 1j * rng.normal(size=(objects, *shape))
    corner = np.stack(
        [rng.integers(0, shape[0] - n + 1, frames), rng.integers(0, shape[1] - m + 1, frames)], 1
    )
    corner[0], corner[1] = (0, 0), (shape[0] - n, shape[1] - m)  # the edges
    corner[2] = corner[3]  # twice the same place
    entry = rng.integers(0, bank, frames)
    d_obj, d_probe = np.zeros(shape), np.zeros((n, m))
    for (y, x), b in zip(corner, entry, strict=True):
        d_obj[y : y + n, x : x + m] += (np.abs(probe[b]) ** 2).sum(axis=0)
        d_probe += (np.abs(obj[:, y : y + n, x : x + m]) ** 2).sum(axis=0)
    for real, tolerance in (("f8", 1e-12), ("f4", 1e-5)):
        histogram = Histogram(corner, entry, bank, shape, real)
        cast = "c16" if real == "f8" else "c8"
        found_o = histogram.of_object(probe.astype(cast))
        found_p = histogram.of_probe(obj.astype(cast), (n, m))
        assert np.abs(found_o - d_obj).max() <= tolerance * d_obj.max()
        assert np.abs(found_p - d_probe).max() <= tolerance * d_probe.max()
        assert found_o.dtype == real


def test_effective_overlap_counts_frames():
    # an even square of 8 px, stepped by 2 px: 16 frames over every inner pixel
    probe = np.zeros((1, 1, 16, 16), complex)
    probe[0, 0, 4:12, 4:12] = 2
    corner = np.indices((20, 20)).reshape(2, -1).T * 2
    histogram = Histogram(corner, np.zeros(len(corner), int), 1, (60, 60), "f8")
    assert effective_overlap(histogram, probe) == pytest.approx(16, rel=1e-9)


def test_illuminated_is_empty_in_the_dark():
    assert not illuminated(np.zeros((3, 3))).any()
    assert illuminated(np.ones((3, 3))).all()
