"""`flat_tile` addresses every element of any view."""

import numpy as np
import pytest

from framefold.kernels.flat import flat_tile

BASE = np.arange(6 * 5 * 8 * 4, dtype=np.int32).reshape(6, 5, 8, 4)

VIEWS = {
    "contiguous": BASE,
    "frames": BASE[1:4],
    "every second frame": BASE[::2],
    "row range": BASE[:, :, :, :][:, 1:3],
    "crop of one axis": BASE[:, :, :, 1:3],
    "crop inside": BASE[:, :, 2:5],
    "crop of everything": BASE[1:4, 1:3, 2:5, 1:3],
    "reversed frames": BASE[::-1],
    "reversed columns": BASE[..., ::-1],
    "broadcast": np.broadcast_to(BASE[:1], (3, 5, 8, 4)),
    "fortran": np.asfortranarray(BASE),
    "1-D signal": BASE.reshape(6, -1)[:, 3:9],
    "2-D signal": BASE.reshape(6, 40, 4)[:, 3:9, 1:],
    "one frame": BASE[2:3, 1:3],
    "empty": BASE[:0],
    "no pixels": BASE[:, 2:2],
}


@pytest.mark.parametrize("tile", VIEWS.values(), ids=VIEWS.keys())
def test_addresses(tile):
    flat = flat_tile(tile)
    f, r, c = np.ogrid[: flat.depth, : flat.rows, : flat.cols]
    at = f * flat.frame_stride + r * flat.row_stride + c
    got = flat.data[at] if tile.size else np.zeros(0, tile.dtype)
    np.testing.assert_array_equal(got.reshape(tile.shape), tile)
    assert flat.data.flags.c_contiguous
    assert not flat.data.flags.writeable


@pytest.mark.parametrize("name", ["frames", "every second frame", "row range", "crop of one axis"])
def test_views_are_not_copied(name):
    tile = VIEWS[name]
    assert np.shares_memory(flat_tile(tile).data, tile)


def test_types_for_numba():
    assert flat_tile(np.ones((2, 3), dtype=bool)).data.dtype == np.uint8
    assert flat_tile(np.ones((2, 3), dtype=np.float16)).data.dtype == np.float32
    assert flat_tile(np.ones((2, 3), dtype=">u2")).data.dtype == np.uint16
    np.testing.assert_array_equal(flat_tile(np.array([[1, 258]], dtype=">u2")).data, [1, 258])


def test_leaves_the_tile_writable():
    tile = np.zeros((2, 3))
    flat_tile(tile)
    tile[0, 0] = 1
