"""Datagrams from a socket through receiver, ring and fold to results: the whole way."""

import socket
import struct

import numpy as np
import pytest

import framefold as ff

URL = "k2is://127.0.0.1:0?sectors=2&width=32&height=16&piece=8x16&deadline=30&idle_timeout=30&first_frame=100"
PIECES = [(y, x) for y in (0, 8) for x in (16, 0)]
DATA = np.random.default_rng(1).integers(0, 4096, (24, 16, 64)).astype(np.uint16)


def packet(frame, y, x, pixels):
    """The packet table written out: two pixels in three bytes, low bits first."""
    head = bytearray(40)
    struct.pack_into(">I", head, 0, 0xFFFF0055)
    head[9] = 1
    struct.pack_into(">HHIHHHHI", head, 20, 32, 16, frame, x, y, x + 15, y + 7, 40 + 192)
    low, high = pixels.astype(int).reshape(-1, 2).T
    return bytes(head) + b"".join(
        struct.pack("<I", a | b << 12)[:3] for a, b in zip(low.tolist(), high.tolist())
    )


class Whole(ff.UDF):
    def get_result_buffers(self):
        return {"total": self.buffer("nav", dtype="float64")}

    def process_frame(self, frame):
        self.results.total[:] = frame.sum(dtype="float64")


@pytest.mark.parametrize("receiver", ["thread", "process"])
@pytest.mark.parametrize("udfs", ["both", "whole"])
def test_known_loss(receiver, udfs):
    lost = {(7, 1, 8, 0), (7, 0, 0, 16), (20, 0, 8, 16)}

    def send(info):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            ports = [int(e.rpartition(":")[2]) for e in info.endpoints]
            for f in range(len(DATA) + 40):  # what comes after the last frame closes what is incomplete
                for s in range(2):
                    for y, x in PIECES:
                        if (f, s, y, x) not in lost:
                            part = DATA[f % 24, y : y + 8, 32 * s + x : 32 * s + x + 16]
                            sock.sendto(packet(100 + f, y, x, part), ("127.0.0.1", ports[s]))

    wanted = [ff.udfs.SumUDF(), Whole()] if udfs == "both" else [Whole()]
    with ff.Context(executor="threads", workers=2) as ctx:
        live = ctx.load(URL, nav_shape=(4, 6), receiver=receiver)
        *first, whole = ctx.run_udf(live, wanted, on_ready=send)
    here = np.ones(DATA.shape, dtype=bool)
    for f, s, y, x in lost:
        here[f, y : y + 8, 32 * s + x : 32 * s + x + 16] = False
    complete = here.all(axis=(1, 2))
    for res in first:
        np.testing.assert_array_equal(res["intensity"].data, np.where(here, DATA, 0).sum(axis=0))
        np.testing.assert_array_equal(res.coverage, here.sum(axis=0))
    np.testing.assert_array_equal(whole.damage.reshape(-1), complete)
    np.testing.assert_array_equal(whole["total"].data.reshape(-1)[complete], DATA[complete].sum(axis=(1, 2)))
    assert whole.report["first_id"] == 100
    assert [s["lost"] for s in whole.report["sectors"]] == [2, 1]
