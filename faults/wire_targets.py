"""What arrives on a wire, for the fuzzer: sound recordings of each protocol, and functions that take any bytes.

A function returns how many pieces were sound when its parser answered with frames or a `StreamError`, and raises for
anything else: another exception, pieces without a fate, or a byte outside its slot.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import random
import types

import numba
import numpy as np

from framefold.errors import StreamError
from framefold.io.live import assembly, open_url, slots
from framefold.io.live import kernels_receive as kr
from framefold.io.live import kernels_state as kw
from framefold.io.live.core import Core
from framefold.io.live.feed import keeping
from framefold.io.live.kernels_election import prepare_next
from framefold.io.live.protocols import dectris, dectris1, karabo, merlin, pva
from framefold.io.live.protocols.series import SeriesFeed
from framefold.io.live.replay.dectris import DectrisEncoder
from framefold.io.live.replay.dectris1 import Dectris1Encoder
from framefold.io.live.replay.jungfrau import encode_eiger, encode_jungfrau
from framefold.io.live.replay.k2is import encode
from framefold.io.live.replay.karabo import KaraboEncoder
from framefold.io.live.replay.merlin import MerlinEncoder
from framefold.io.live.tcp import Closed
from framefold.udfcore.live import AcquisitionStart
from framefold.udfcore.live_encoded import Decoder, encoded

NEXT_MESSAGE, NEXT_PART = b"\n==\n", b"\n--\n"
LONG = 1000.0  # seconds: nothing waits, since all input is here
FRAMES = np.random.default_rng(5).integers(0, 4096, (6, 8, 16)).astype(np.uint16)


# -- streams with backpressure: a feed over an input that ends ---------------------------------------------


class TcpBytes:
    """In the place of a connection: hands out the input, in chunks that do not respect messages."""

    def __init__(self, raw):
        self._raw, self._at, self._chunks, self.connected = raw, 0, random.Random(len(raw)), True

    def connect(self, timeout=0.0):
        if not self.connected:
            raise StreamError("the input has ended")

    def read_into(self, space, timeout, at_least=1):
        n = min(len(space), len(self._raw) - self._at, self._chunks.choice((7, 300, 100_000)))
        if n == 0:
            self.connected = False
            raise Closed
        space[:n] = self._raw[self._at : self._at + n]
        self._at += n
        return n

    def close(self):
        self.connected = False


class ZmqParts:
    """In the place of a socket: hands out the messages of the input."""

    def __init__(self, raw):
        self._messages = [m.split(NEXT_PART) for m in raw.split(NEXT_MESSAGE)]

    def connect(self):
        pass

    def send(self, data):
        pass

    def receive(self, timeout):
        return [memoryview(p) for p in self._messages.pop(0)] if self._messages else None

    def close(self):
        self._messages = []


def drive(feed, over):
    """Take everything from a feed, as the stream's thread does; return how many pieces were taken for sound.

    `over` tells whether the input has ended.
    """
    valid = 0
    with contextlib.suppress(StreamError):
        for _ in range(40):
            start = feed.begin(0.0, wanted=False)
            if start is not None:
                valid += acquire(feed, start)
            elif over():
                break
        feed.heard()
    feed.close()
    return valid


def acquire(feed, start):
    kept = keeping(feed)
    frame = start.frame_bytes if kept is None else kept.frame_bytes
    memory = slots.Slots(frame, 1 << 16, len(start.sectors))

    def taken(block, slot):
        if encoded(block):  # what was received is decoded where it is folded
            for _ in Decoder(start.sectors, start.dtype, 4).chunks(block, np.arange(block.frames)):
                pass
        memory.give_back(slot)

    into = assembly.Assembly(
        start, start.n_frames, layout="pieces", block_time=0.03, deadline=LONG, slots=memory, emit=taken,
        cancelled=lambda: False, keeping=kept,
    )  # fmt: skip
    with contextlib.suppress(StreamError):
        for _ in range(40):
            if feed.receive(into, LONG) is not None or into.complete:
                break
    into.finish()
    for s in into.stats:
        fates = s.valid + s.duplicate + s.late + s.overrun + s.corrupt + s.foreign
        assert s.received == fates, s
        assert s.expected == s.valid + s.lost, s
    return sum(s.valid for s in into.stats)


def take_merlin(raw):
    feed = merlin.MerlinFeed("fuzz", 1)
    feed._connection = TcpBytes(raw)
    return drive(feed, lambda: not feed._connection.connected)


def take_parts(feed, raw):
    feed._socket = ZmqParts(raw)
    return drive(feed, lambda: not feed._socket._messages)


def take_dectris(raw):
    channel = ("all", None)[len(raw) % 2]
    return take_parts(SeriesFeed("fuzz", dectris._parse, dectris.describe, 1, channel), raw)


def take_dectris1(raw):
    return take_parts(dectris1._feed("fuzz"), raw)


def take_karabo(raw):
    trains = ("count", "received")[len(raw) % 2]
    return take_parts(karabo.KaraboFeed("fuzz", "pull", (), "image.data", None, 0, trains), raw)


class Ended:
    """In the place of the queue between p4p and the feed."""

    def __init__(self, values):
        self._values = list(values)

    def get(self, timeout):
        if not self._values:
            raise queue.Empty
        return self._values.pop(0)

    def __bool__(self):
        return bool(self._values)


def take_pva(raw):
    """p4p decodes the messages: here its structures have fields of any content."""
    feed = pva.PvaFeed("fuzz", None, 1.0)
    feed._queue = Ended(ndarray(m) for m in raw.split(NEXT_MESSAGE))
    return drive(feed, lambda: not feed._queue)


_PVA_HEAD = np.dtype([("sizes", "<i4", 3), ("n", "u1"), ("kind", "u1"), ("codec", "u1"), ("about", "i1"),
                      ("compressed", "<i8"), ("id", "<i4")])  # fmt: skip
_CODECS = ("", "lz4", "bslz4", "blosc", "jpeg", "none", "\u00e9")
_KINDS = ("u2", "u1", "i1", "i2", "i4", "u4", "i8", "u8", "f4", "f8", "?", "O", None)


def ndarray(raw):
    head = np.frombuffer(raw[: _PVA_HEAD.itemsize].ljust(_PVA_HEAD.itemsize, b"\0"), _PVA_HEAD)[0]
    body, kind = raw[_PVA_HEAD.itemsize :], _KINDS[head["kind"] % len(_KINDS)]
    if kind is None:
        value = None
    elif kind == "O":
        value = np.array([None])
    else:
        value = np.frombuffer(body[: len(body) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
    about = head["about"]
    codec = types.SimpleNamespace(
        name=_CODECS[head["codec"] % len(_CODECS)], parameters=None if about < 0 else int(about)
    )
    sizes = [types.SimpleNamespace(size=int(n)) for n in head["sizes"][: head["n"] % 4]]
    return types.SimpleNamespace(
        value=value, dimension=sizes, codec=codec, compressedSize=int(head["compressed"]),
        uniqueId=int(head["id"]),
    )  # fmt: skip


def pva_message(frame, number, codec=0, data=None):
    head = np.zeros((), _PVA_HEAD)
    head["sizes"], head["n"], head["codec"] = (*frame.shape[::-1], 0), 2, codec
    head["about"], head["id"] = 6 if codec else -1, number
    body = frame.tobytes() if data is None else data
    head["kind"], head["compressed"] = (0, len(body)) if data is None else (1, len(body))
    return head.tobytes() + body


def pva_seeds():
    from framefold.io.live.replay.compress import bitshuffled, lz4_block  # noqa: PLC0415

    plain = [pva_message(f, 2**31 - 3 + i if i < 3 else i) for i, f in enumerate(FRAMES)]
    packed = [pva_message(FRAMES[0], 0, 1, lz4_block(FRAMES[0].tobytes()))]
    packed += [pva_message(FRAMES[1], 1, 2, bitshuffled(FRAMES[1]))]
    return [NEXT_MESSAGE.join(plain), NEXT_MESSAGE.join(packed)]


def recorded(encoder, frames=FRAMES, meta=None, n=None, nav=None):
    """Return the messages of an acquisition."""
    start = AcquisitionStart(
        len(frames) if n is None else n, frames.shape[1:], frames.dtype, nav, (), 0, meta or {}
    )
    out = [*encoder.begin(start), *(encoder.frame(i, f) for i, f in enumerate(frames)), *encoder.end()]
    return [m for m in out if m]


def joined(messages):
    return NEXT_MESSAGE.join(NEXT_PART.join(m) for m in messages)


def merlin_seeds():
    one = b"".join(b"".join(m) for m in recorded(MerlinEncoder(), nav=(2, 3)))
    bytes_ = b"".join(b"".join(m) for m in recorded(MerlinEncoder(), (FRAMES % 200).astype("u1")))
    # raw frames of four chips are as large as a chip's row at least
    raw = one.replace(b",U16,   1x1,01,", b",R64,   1x1,01,")
    return [one, b"garbage" + bytes_ + one[:3000], raw]


def dectris_seeds(encoder):
    mask = {"pixel_mask": (FRAMES[0] > 4000).astype("u4")}
    return [joined(recorded(encoder(compression=c), meta=mask)) for c in ("none", "lz4", "bslz4")]


def karabo_seeds():
    modules = FRAMES.reshape(6, 2, 4, 16)
    return [joined(recorded(KaraboEncoder(2), modules)), joined(recorded(KaraboEncoder(1)))]


# -- datagrams -------------------------------------------------------------------------------------------

URLS = {
    "k2is": "k2is://127.0.0.1:0?sectors=2&width=8&height=8&piece=4x4&n_frames=9",
    "jungfrau": "jungfrau://127.0.0.1:0?interfaces=2&width=8&height=8&rows=2&n_frames=9",
    "eiger-udp": "eiger-udp://127.0.0.1:0?width=8&height=4&packet_bytes=16&n_frames=9",
}
WIRES = {
    "k2is": lambda: encode(FRAMES, sectors=2, piece=(4, 4)),
    "jungfrau": lambda: encode_jungfrau(FRAMES[:, :, :8], interfaces=2, rows=2),
    "eiger-udp": lambda: encode_eiger(FRAMES[:, :, :8], packet_bytes=16),
}


def datagram_seeds(protocol, frames=9):
    """Return datagrams with two bytes before each: sector and ring, and the bytes that are cut off."""
    wire, out = WIRES[protocol](), []
    stamp = wire.frame_id
    order = "big" if stamp.big_endian else "little"
    for base in (0, 2**32 - 3, 5):
        for f in range(frames):
            for p in range(wire.packets):
                head = wire.headers[f % wire.frames, p].copy()
                number = ((base + f) % 2 ** (8 * stamp.size)).to_bytes(stamp.size, order)
                head[stamp.offset : stamp.offset + stamp.size] = np.frombuffer(number, np.uint8)
                if wire.flag is not None:
                    head[wire.flag[0]] |= wire.flag[1]
                out.append(
                    bytes((int(wire.sectors[p]), 0))
                    + head.tobytes()
                    + wire.payloads[f % wire.frames, p].tobytes()
                )
    third = len(out) // 3
    return [b"".join(out[:third]), b"".join(out[third : 2 * third] + out[2 * third :])]


def take_datagrams(protocol, raw):
    """The first byte of a record: sector, whether blocks are given back before it, whether time passes."""
    layout = ("pieces", "frames")[len(raw) % 2]
    stream = open_url(URLS[protocol], ring_bytes=20_000, receiver="thread").open()
    stream._compiled = not numba.config.DISABLE_JIT
    spec = stream._spec(layout)
    ring = spec.ring()
    core = Core(spec, ring, lambda message: None)
    core.open()
    try:
        return record_all(core, spec, ring, raw)
    finally:
        core.close()
        ring.close()


def record_all(core, spec, ring, raw):
    state, net, stage = core._state, core._net, core._stage
    state.run[kw.ARMED] = 1
    sent = np.zeros(len(spec.pieces), int)
    now, stride, total = 1, spec.size + 2, np.zeros(kw.DATAGRAMS + 1, int)
    for at in range(0, min(len(raw), 300 * stride), stride):
        record = raw[at : at + stride]
        sector, cut = record[0] & 3, record[1] if len(record) > 1 else 0
        sector %= len(spec.pieces)
        data = record[2 : max(2, len(record) - cut)]
        net.batch[0, : len(data)] = np.frombuffer(data, np.uint8)
        net.lengths[0] = len(data)
        if record[0] & 4:
            state.slots[:] = 0
        now += 10**10 if record[0] & 8 else 1000
        sent[sector] += 1
        kr.ingest(state, core._places, stage, core._control, net.batch, net.lengths, 1, sector, now)
        kr.step(state, core._places, stage, core._control, now)
        state.run[kw.NOTICES] = 0
        assert ring.intact(), "a byte was written outside its slot"
        if state.run[kw.PHASE] == kw.ENDED:
            kr.give_back(state, stage)
            total += state.counters.sum(axis=0)[: kw.DATAGRAMS + 1]
            check(state)
            datagrams = state.counters[:, kw.DATAGRAMS].copy()
            prepare_next(state, now, spec.frames)
            total[kw.DATAGRAMS] -= state.counters[:, kw.DATAGRAMS].sum()
            assert (datagrams == sent).all()
            state.run[kw.ARMED] = 1
            kr.reconsider(state, core._places, stage, now)
    check(state)
    waiting = int(stage.queue[1])
    received = total[kw.RECEIVED] + state.counters[:, kw.RECEIVED].sum()
    assert received + waiting == sent.sum(), (received, waiting, sent)
    return int(total[kw.VALID] + state.counters[:, kw.VALID].sum())


def check(state):
    c = state.counters
    np.testing.assert_array_equal(c[:, kw.RECEIVED], c[:, kw.VALID : kw.FOREIGN + 1].sum(axis=1))


# name -> (seeds, function, largest input)
TARGETS = {
    "merlin": (merlin_seeds, take_merlin, 20_000),
    "dectris": (lambda: dectris_seeds(DectrisEncoder), take_dectris, 8_000),
    "dectris1": (lambda: dectris_seeds(Dectris1Encoder), take_dectris1, 8_000),
    "karabo": (karabo_seeds, take_karabo, 12_000),
    "pva": (pva_seeds, take_pva, 4_000),
    **{
        name: (functools.partial(datagram_seeds, name), functools.partial(take_datagrams, name), 20_000)
        for name in URLS
    },
}
