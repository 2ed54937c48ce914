"""Whatever arrives in a socket: nothing is written outside its slot, and every datagram has one fate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.io.live import kernels_packet as kp
from framefold.io.live import kernels_receive as kr
from framefold.io.live import kernels_state as kw
from framefold.io.live import open_url
from framefold.io.live.core import Core
from framefold.io.live.packet import Check, Field, PacketFormat, Term
from framefold.io.live.replay.fates import Impairments
from framefold.io.live.replay.jungfrau import encode_eiger, encode_jungfrau
from framefold.io.live.replay.k2is import encode, pack12

URLS = (
    "k2is://127.0.0.1:0?sectors=2&width=8&height=8&piece=4x4&ring_bytes=20000&n_frames=9&receiver=thread",
    "jungfrau://127.0.0.1:0?interfaces=2&width=8&height=8&rows=2&ring_bytes=20000&n_frames=9&receiver=thread",
    "eiger-udp://127.0.0.1:0?width=8&height=4&packet_bytes=16&ring_bytes=20000&n_frames=9&receiver=thread",
)
FRAMES = np.random.default_rng(5).integers(0, 4096, (9, 8, 16)).astype(np.uint16)
WIRES = (
    encode(FRAMES, sectors=2, piece=(4, 4)),
    encode_jungfrau(FRAMES[:, :, :8], interfaces=2, rows=2),
    encode_eiger(FRAMES[:, :, :8], packet_bytes=16),
)


def seeds(wire):
    """Real datagrams of the dataset with their sector."""
    out = []
    for f in range(wire.frames):
        for p in range(wire.packets):
            head = wire.headers[f, p].copy()
            stamp = wire.frame_id
            head[stamp.offset : stamp.offset + stamp.size] = np.frombuffer(
                f.to_bytes(stamp.size, "big" if stamp.big_endian else "little"), np.uint8
            )
            if wire.flag is not None:
                head[wire.flag[0]] |= wire.flag[1]
            out.append((int(wire.sectors[p]), head.tobytes() + wire.payloads[f, p].tobytes()))
    return out


SEEDS = [seeds(w) for w in WIRES]
changes = st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), max_size=4)
datagrams = st.lists(
    st.one_of(
        st.tuples(st.just("seed"), st.integers(0, 200), changes, st.integers(0, 300)),
        st.tuples(st.just("noise"), st.binary(max_size=120), st.integers(0, 7)),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=25)
@given(st.integers(0, 2), st.sampled_from(["pieces", "frames"]), datagrams, st.booleans())
def test_anything_may_arrive(which, layout, script, known_first):
    stream = open_url(URLS[which], first_frame=0 if known_first else None).open()
    spec = stream._spec(layout)
    ring = spec.ring()
    core = Core(spec, ring, lambda message: None)
    core.open()
    try:
        state, net = core._state, core._net
        state.run[kw.ARMED] = 1
        counted = np.zeros(len(spec.pieces), int)
        for now, item in enumerate(script, 1):
            if item[0] == "seed":
                sector, data = SEEDS[which][item[1] % len(SEEDS[which])]
                raw = bytearray(data)
                for at, value in item[2]:
                    raw[at % len(raw)] = value
                raw = raw[: item[3]] if item[3] < len(raw) else raw
            else:
                raw, sector = item[1], item[2] % len(spec.pieces)
            raw = bytes(raw)[: net.batch.shape[1]]
            net.batch[0, : len(raw)] = np.frombuffer(raw, np.uint8)
            net.lengths[0] = len(raw)
            counted[sector] += 1
            kr.ingest(state, core._places, core._stage, core._control, net.batch, net.lengths, 1, sector, now)
            state.run[kw.NOTICES] = 0
            assert ring.intact()
        waiting = core._stage
        left = np.zeros(len(spec.pieces), int)
        for i in range(waiting.queue[1]):
            left[waiting.info[(waiting.queue[0] + i) % len(waiting.packets), 0]] += 1
        c = state.counters
        np.testing.assert_array_equal(c[:, kw.DATAGRAMS], counted)
        np.testing.assert_array_equal(c[:, kw.RECEIVED] + left, counted)
        np.testing.assert_array_equal(c[:, kw.RECEIVED], c[:, kw.VALID : kw.FOREIGN + 1].sum(axis=1))
    finally:
        core.close()
        ring.close()


@given(st.integers(-400, 400), st.integers(-200, 200), st.integers(1, 6), st.sampled_from([0, 1, 2]))
def test_pixels_never_leave_the_slot(start, stride, rows, encoding):
    """Against slicing: all or nothing, and canaries around the slot stay as they were."""
    table = np.zeros(kp.TABLE, np.int64)
    wire = 6 * rows
    table[kp.HEADER], table[kp.PAYLOAD], table[kp.ENCODING], table[kp.ITEM] = 4, wire, encoding, 2
    start, stride = 2 * start, 2 * stride
    packet = np.random.default_rng(1).integers(0, 256, 4 + wire, dtype=np.uint8)
    memory = np.full(600, 0xA5, np.uint8)
    slot = memory[100:500]
    done = kp.place(packet, table, start, stride, rows, slot)
    width = 8 if encoding == 1 else 6
    ends = [start + r * stride for r in range(rows)]
    assert done == (min(ends) >= 0 and max(ends) + width <= 400)
    assert (memory[:100] == 0xA5).all()
    assert (memory[500:] == 0xA5).all()
    if not done:
        assert (slot == 0xA5).all()
        return
    expected = np.full(400, 0xA5, np.uint8)
    for r, at in enumerate(ends):
        line = packet[4 + 6 * r : 10 + 6 * r]
        if encoding == 1:
            line = kp.unpack12_reference(line).view(np.uint8)
        elif encoding == 2:
            line = line.reshape(-1, 2)[:, ::-1].reshape(-1)
        expected[at : at + width] = line
    np.testing.assert_array_equal(slot, expected)


def test_twelve_bits_by_hand_and_back():
    """Bytes b0 b1 b2 are b0 | (b1 & 15) << 8 and b1 >> 4 | b2 << 4."""
    packed = np.array([0x21, 0x43, 0x65, 0xFF, 0x0F, 0x00], np.uint8)
    out = np.zeros(4, np.uint16)
    kp.unpack12(packed, out)
    assert out.tolist() == [0x321, 0x654, 0xFFF, 0x000]
    assert kp.unpack12_reference(packed).tolist() == out.tolist()
    values = np.random.default_rng(0).integers(0, 4096, 1000).astype(np.uint16)
    back = np.zeros(1000, np.uint16)
    kp.unpack12(pack12(values), back)
    np.testing.assert_array_equal(back, values)


def small(**changes):
    good = {
        "header": 8, "payload": 12, "frame_id": Field(0, 4), "id_bits": 32, "terms": (Term(Field(4, 2), 1, 4, 1),),
    }  # fmt: skip
    return PacketFormat(**{**good, **changes})


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"frame_id": Field(6, 4)}, "does not lie within the header of 8 bytes"),
        ({"frame_id": Field(0, 3)}, "does not lie within"),
        ({"terms": (Term(Field(-1, 2), 1, 4, 1),)}, "does not lie within"),
        ({"checks": (Check(Field(0, 2), 1, Field(7, 2)),)}, "does not lie within"),
        ({"flag": (8, 1)}, "flag at byte 8"),
        ({"terms": (Term(Field(4, 2), 0, 4, 1),)}, "step >= 1"),
        ({"id_bits": 65}, "id_bits is 1 to 64"),
        ({"payload": 70000}, "UDP carries up to 65507"),
        ({"payload": 11}, "no whole number of <u2 pixels"),
        ({"payload": 11, "encoding": "u12"}, "not pairs of 12-bit pixels"),
        ({"terms": (Term(Field(4, 2), 1, 4, 1),) * 5}, "at most 4 terms"),
    ],
)
def test_formats_that_cannot_be(changes, match):
    with pytest.raises(DataError, match=match):
        small(**changes).table()


@pytest.mark.parametrize("size, big", [(1, False), (2, True), (4, False), (4, True), (8, True), (8, False)])
def test_fields_are_read_as_struct_does(size, big):
    data = np.arange(200, 216, dtype=np.uint8)
    value = int.from_bytes(data[3 : 3 + size].tobytes(), "big" if big else "little")
    assert kp.read_field(data, 3, size, big) % 2**64 == value


def test_impairments_are_none_by_default():
    assert Impairments().none
    assert not Impairments(reorder=1).none
