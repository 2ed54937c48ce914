"""Small servers on loopback for the tests of live protocols, and a consumer that drains a stream."""

import contextlib
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest

from framefold.udfcore.live import AcquisitionEnd, Block

WAIT = 30


@contextlib.contextmanager
def tcp_server(*scripts):
    """Serve one connection after the other: each script is called with the socket, which is closed then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for script in scripts:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    script(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(WAIT)
    assert not thread.is_alive()


def sending(data, *, until=None):
    """Return a script that sends `data` and then waits for the event before it closes."""

    def script(connection):
        connection.sendall(data)
        if until is not None:
            assert until.wait(WAIT)

    return script


@contextlib.contextmanager
def zmq_server(kind, messages):
    """Bind a PUSH or PUB socket to a free port and send the messages; yield the port."""
    zmq = pytest.importorskip("zmq", reason="pyzmq is not installed")
    context = zmq.Context()
    sock = context.socket(kind)
    sock.linger = 0
    sock.sndhwm = 100_000
    sock.bind("tcp://127.0.0.1:*")
    port = sock.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
    stop = threading.Event()

    def serve():
        for parts in messages:
            while not stop.is_set():  # a PUSH socket waits until somebody is there
                if sock.poll(50, zmq.POLLOUT):
                    sock.send_multipart(parts)
                    break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        stop.set()
        thread.join(WAIT)
        sock.close(0)
        context.term()
    assert not thread.is_alive()


def drain(stream, start):
    """Return the frames (zero where missing), which pieces are valid, the blocks' layout and the end."""
    frames, valid, spans = {}, {}, []
    while True:
        got = stream.next_block(WAIT)
        assert got is not None, "nothing came"
        if isinstance(got, AcquisitionEnd):
            break
        assert isinstance(got, Block)
        assert got.index == len(spans)
        assert got.first_frame == (spans[-1][1] if spans else 0)
        spans.append((got.first_frame, got.first_frame + got.frames))
        held, got = got, decoded(got, start)
        for i in range(got.frames):
            frame = np.zeros(start.sig_shape, start.dtype)
            flags = []
            for k, sector in enumerate(start.sectors):
                ok = bool(got.valid[k][i, 0])
                flags.append(ok)
                if ok and len(got.data) == 1 and got.data[0].shape[1:] == start.sig_shape:
                    frame[sector.part] = got.data[0][i][sector.part]
                elif ok:
                    frame[sector.part] = got.data[k][0, i]
            frames[got.first_frame + i], valid[got.first_frame + i] = frame, flags
        stream.release(held)
    n = len(frames)
    stack = np.array([frames[i] for i in range(n)]).reshape(n, *start.sig_shape)
    return stack, np.array([valid[i] for i in range(n)]).reshape(n, -1), spans, got


def decoded(block, start):
    """Return the block with arrays as data; frames that cannot be decoded are not valid there."""
    if isinstance(block.data[0], np.ndarray):
        return block
    out = np.empty((block.frames, *start.sig_shape), start.dtype)
    here = np.flatnonzero(block.valid[0][:, 0])
    bad = block.data[0].decode(here, out[: len(here)]) if len(here) else None
    whole = np.zeros_like(out)
    good = block.valid[0].copy()
    whole[good[:, 0]] = out[: np.count_nonzero(good)]
    if bad is not None:
        good[np.flatnonzero(good[:, 0])[bad]] = False
    return replace(block, data=(whole[np.newaxis],), valid=(good,))


def accounts_hold(stats, valid=None):
    """Check that every piece has one fate, and that what was expected came or is lost."""
    for k, s in enumerate(stats):
        assert s.received == s.valid + s.duplicate + s.late + s.overrun + s.corrupt + s.foreign
        assert s.expected == s.valid + s.lost
        if valid is not None:
            assert s.valid == np.count_nonzero(valid[:, k])
            assert s.expected == len(valid)
