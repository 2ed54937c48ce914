"""Datagrams that arrive are in their place, and those that do not are counted."""

import socket
import struct

import numpy as np
import pytest

from framefold.errors import DataError, StreamError
from framefold.io.live import open_url
from framefold.udfcore.live import AcquisitionEnd, Block

WAIT = 30
SMALL = "k2is://127.0.0.1:0?sectors=2&width=32&height=16&piece=8x16"
PIECES = [(y, x) for y in (0, 8) for x in (16, 0)]


def pack12(pixels):
    """Two pixels in three bytes, low bits first; written from the packet table, not from the decoder."""
    low, high = np.asarray(pixels, int).reshape(-1, 2).T
    return b"".join(struct.pack("<I", a | b << 12)[:3] for a, b in zip(low.tolist(), high.tolist()))


def k2_packet(frame_id, y, x, pixels, *, flag=1, width=32, height=16):
    h, w = pixels.shape
    head = bytearray(40)
    struct.pack_into(">I", head, 0, 0xFFFF0055)
    head[9] = flag
    struct.pack_into(
        ">HHIHHHHI", head, 20, width, height, frame_id, x, y, x + w - 1, y + h - 1, 40 + h * w * 3 // 2
    )
    return bytes(head) + pack12(pixels)


class Sender:
    def __init__(self, stream, truth, first_id=0):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stream, self.truth, self.first_id = stream, truth, first_id
        self.sent = np.zeros(len(stream.sectors), int)

    def raw(self, sector, data):
        self.sock.sendto(data, ("127.0.0.1", self.stream.endpoints[sector].port))
        self.sent[sector] += 1

    def frame(self, f, *, flag=1, lost=()):
        px = self.truth[f] if 0 <= f < len(self.truth) else np.zeros(self.truth.shape[1:], int)
        for s in range(2):
            for y, x in PIECES:
                if (s, y, x) not in lost:
                    part = px[y : y + 8, 32 * s + x : 32 * s + x + 16]
                    self.raw(s, k2_packet((self.first_id + f) % 2**32, y, x, part, flag=flag))
        self.wait()

    def wait(self):
        """Until the receiver has taken everything: the socket buffer can never overflow."""
        import time

        until = time.monotonic() + WAIT
        while (self.stream.datagrams() < self.sent).any():
            assert time.monotonic() < until, "datagrams do not arrive"
            time.sleep(0.0005)

    def close(self):
        self.sock.close()


@pytest.fixture
def truth():
    return np.random.default_rng(1).integers(0, 4096, (20, 16, 64)).astype(np.uint16)


def opened(url, **options):
    stream = open_url(
        url, n_frames=20, deadline=WAIT, idle_timeout=WAIT, ring_bytes=1 << 20, **options
    ).open()
    stream.prepare()
    stream.wait_start(None)
    return stream


def drained(stream):
    """Frames and validity of all pieces, put together by the specs of the sectors; and the end."""
    start = stream.source.known()
    image = np.full((start.n_frames, *start.sig_shape), -1)
    valid = np.zeros((start.n_frames, *start.sig_shape), bool)
    while True:
        item = stream.next_block(WAIT)
        if isinstance(item, AcquisitionEnd):
            return image, valid, item
        assert isinstance(item, Block)
        frames = slice(item.first_frame, item.first_frame + item.frames)
        for s, spec in enumerate(stream.sectors):
            for p in range(len(spec.pieces)):
                at = (frames, *spec.piece_slices(p))
                image[at] = item.data[s][p]
                valid[at] = item.valid[s][:, p, None, None]
        stream.release(item)


@pytest.mark.parametrize("receiver", ["thread", "process"])
def test_pieces_are_in_their_place(truth, receiver):
    stream = opened(SMALL, receiver=receiver)
    sender = Sender(stream, truth, first_id=2**32 - 7)  # and the id wraps around on the way
    try:
        for f in (-2, -1, 0):
            sender.frame(f, flag=0)
        for f in range(1, 20):
            sender.frame(f, lost=[(1, 8, 0), (0, 0, 16)] if f == 7 else ())
        for f in range(20, 60):  # closes what is incomplete
            sender.frame(f)
        image, valid, end = drained(stream)
        lost = ~valid
        assert lost[7, 8:, 32:48].all()
        assert lost[7, :8, 16:32].all()
        assert lost.sum() == 2 * 128
        np.testing.assert_array_equal(image[valid], truth[valid])
        assert (end.reason, end.last_frame, end.first_id) == ("n_frames", 19, 2**32 - 7)
        a, b = stream.stats()
        assert (a.expected, a.valid, a.lost, b.valid, b.lost) == (80, 79, 1, 79, 1)
        assert a.kernel_drops == b.kernel_drops == 0
        assert stream._ring.intact()
    finally:
        sender.close()
        stream.close()


def test_a_silent_sector_is_named(truth):
    stream = opened(SMALL, receiver="thread", start_timeout=0.2)
    sender = Sender(stream, truth)
    try:
        for y, x in PIECES:
            sender.raw(0, k2_packet(5, y, x, truth[0, y : y + 8, x : x + 16]))
            sender.raw(1, b"x" * 100)
        sender.wait()
        with pytest.raises(
            StreamError,
            match=r"sector 1 at udp://127.0.0.1:\d+: 4 datagrams, .* has 100 bytes, expected are 232",
        ):
            while True:
                assert stream.next_block(0.05) is None
    finally:
        sender.close()
        stream.close()


@pytest.mark.parametrize(
    "url, match",
    [
        ("k2is://225.1.1.1", "is a multicast group: name the interface"),
        ("k2is://127.0.0.1:0?piece=7x16", "do not fill a sector of 1860x256"),
        ("k2is://127.0.0.1:1-3?sectors=2", "2 sectors need as many ports, the URL gives 3"),
        ("k2is://127.0.0.1:0?mode=movie", "neither scan nor series"),
        ("k2is://127.0.0.1:0?piece=30", "is not rows x columns"),
        ("jungfrau://127.0.0.1:1-3?modules=2x1", "have 2 ports, the URL gives 3"),
        ("jungfrau://127.0.0.1:0?interfaces=3", "interfaces=3 is 1 or 2"),
        ("eiger-udp://127.0.0.1:0?packet_bytes=1000", "packet_bytes=1000 is no whole number of rows"),
        ("jungfrau://127.0.0.1:0?modules=2", r"modules=\(2,\) is not rows x columns"),
    ],
)
def test_impossible_descriptions(url, match):
    with pytest.raises(DataError, match=match):
        open_url(url)


def test_a_taken_port_is_named():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        url = f"k2is://127.0.0.1:{port}?width=32&height=16&piece=8x16&n_frames=1&ring_bytes=100000&receiver=thread"
        with pytest.raises(StreamError, match=f"cannot receive at udp://127.0.0.1:{port}: .*another program"):
            open_url(url).open().prepare()
