"""
Live: a detector with a protocol of its own
===========================================

A laboratory's detector sends frames over TCP in its own way. What framefold must be told is a class of four
methods and a name; blocks, validity, memory limits, timeouts, stop, restart, plots and reports come with it.

The protocol here: 16 bytes ``LAB1``, number of frames, height, width, then frames, each behind its number in
8 bytes, as little-endian uint16.
"""

import functools
import socket
import struct
import threading

import numpy as np

import framefold as ff
from framefold.errors import StreamError
from framefold.io.live import (
    Closed,
    Over,
    SequentialSource,
    TcpReader,
    checked_shape,
    register_protocol,
    whole_frames,
)
from framefold.udfcore.live import AcquisitionStart

HEAD, NUMBER, PIXEL = struct.Struct("<4s3I"), struct.Struct("<Q"), np.dtype("uint16")

# %%
# The feed is used by one thread. ``begin`` waits for the next acquisition, ``receive`` hands its frames over;
# both return after about `timeout` seconds at the latest. Sizes from the wire are checked before use.


class LabFeed:
    def __init__(self, host, port):
        self.endpoint = f"lab://{host}:{port}"
        self.tcp = TcpReader(host, port)

    def connect(self):
        self.tcp.connect()

    def begin(self, timeout, *, wanted):
        try:
            head = self.tcp.peek(HEAD.size, timeout)
        except Closed:
            if wanted:
                self.tcp.connect()
            return None
        if head is None:
            return None
        magic, n_frames, height, width = HEAD.unpack(head)
        if magic != b"LAB1":
            raise StreamError(f"{self.endpoint}: {magic!r} is not LAB1: is this the right port?")
        self.shape = checked_shape([height, width], PIXEL)
        self.tcp.skip(HEAD.size)
        sectors = whole_frames(self.shape, self.endpoint)
        return AcquisitionStart(n_frames, self.shape, PIXEL, None, sectors, first_id=0)

    def receive(self, assembly, timeout):
        size = NUMBER.size + self.shape[0] * self.shape[1] * PIXEL.itemsize
        try:
            while not assembly.complete:
                data = self.tcp.peek(size, timeout)
                if data is None:
                    return None
                (number,) = NUMBER.unpack_from(data)
                rows = assembly.rows(0, number)  # None: not wanted, and counted as what it is
                if rows is not None:
                    rows[0] = np.frombuffer(data, "<u2", offset=NUMBER.size).reshape(self.shape)
                    assembly.filled(0, number)
                self.tcp.skip(size)
        except Closed:
            return Over("end-message", "the detector closed the connection")
        return None

    def heard(self):
        return "Connected, but no LAB1 came."

    def close(self):
        self.tcp.close()


@register_protocol("lab")
def open_lab(request):
    make = functools.partial(LabFeed, request.address.host, request.address.port(7000))
    return SequentialSource(request.url, request.options, request.nav_shape, request.sync_offset, make)


# %%
# A detector to try it with: it leaves out three frames.
frames = np.random.default_rng(1).poisson(20, (32 * 32, 64, 64)).astype("uint16")
left_out = {100, 500, 501}


def detector(listener):
    connection, _ = listener.accept()
    with connection:
        connection.sendall(HEAD.pack(b"LAB1", *frames.shape))
        for i, frame in enumerate(frames):
            if i not in left_out:
                connection.sendall(NUMBER.pack(i) + frame.tobytes())


with socket.create_server(("127.0.0.1", 0)) as listener:
    threading.Thread(target=detector, args=(listener,), daemon=True).start()
    ctx = ff.Context()
    live = ctx.load(f"lab://127.0.0.1:{listener.getsockname()[1]}", nav_shape=(32, 32))
    result = ctx.run_udf(live, ff.udfs.SumUDF())

print(result.report)
there = np.ones(len(frames), bool)
there[list(left_out)] = False
assert np.array_equal(result["intensity"].data, frames[there].sum(axis=0))
