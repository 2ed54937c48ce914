"""Pixels of a packet go where they belong, and nowhere else."""

import numpy as np
import pytest

from framefold.io.live.kernels_packet import ENCODING, HEADER, ITEM, PAYLOAD, place, unpack12_reference


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("start", [64, 70])  # 70: rows do not begin at words of 64 bits
@pytest.mark.parametrize(
    ("encoding", "item", "columns"),
    [(1, 2, 16), (1, 2, 10), (0, 2, 16), (0, 1, 5), (2, 2, 16), (2, 4, 3)],  # 12 bit, as it is, swapped
)
def test_rows_of_a_piece_are_put_apart(encoding, item, columns, start, flipped):
    rows, pitch = 7, 96
    payload = rows * columns * 3 // 2 if encoding == 1 else rows * columns * item
    packet = np.random.default_rng(0).integers(0, 256, 12 + payload).astype(np.uint8)
    if encoding == 1:
        pixels = unpack12_reference(packet[12:]).view(np.uint8)
    else:
        pixels = packet[12:].reshape(-1, item)[:, :: -1 if encoding == 2 else 1]
    pixels = np.ascontiguousarray(pixels).reshape(rows, -1)
    table = np.zeros(64, np.int64)
    table[[HEADER, PAYLOAD, ENCODING, ITEM]] = 12, payload, encoding, item
    slot = np.full(start + rows * pitch, 0xA5, np.uint8)
    wanted = slot.copy()
    wanted[start:].reshape(rows, pitch)[:, : pixels.shape[1]] = pixels[::-1] if flipped else pixels
    first, stride = (start + (rows - 1) * pitch, -pitch) if flipped else (start, pitch)
    assert place(packet, table, first, stride, rows, slot)
    np.testing.assert_array_equal(slot, wanted)
    before = slot.copy()
    assert not place(packet, table, first, stride, rows, slot[: -pitch + 1])
    np.testing.assert_array_equal(slot, before)
