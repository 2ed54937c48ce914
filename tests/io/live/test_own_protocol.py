"""A protocol of a user's own: the example runs, and its reader of bytes keeps its limits."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

from framefold.errors import StreamError
from framefold.io.live import Closed, TcpReader

HERE = Path(__file__).parent


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = load(HERE / "wire.py", "live_wire")


def test_the_example(capsys):
    names = runpy.run_path(str(HERE.parents[2] / "examples" / "live_own_protocol.py"))
    assert np.flatnonzero(~np.asarray(names["result"].damage).ravel()).tolist() == [100, 500, 501]
    assert "lost" in capsys.readouterr().out


@pytest.mark.parametrize("sizes", [(1, 3, 40, 4), (2**20, 2**20 + 5, 3), (1,) * 200, (4 * 2**20, 1)])
def test_bytes_come_in_order_whatever_is_asked_for(sizes):
    data = np.random.default_rng(0).bytes(sum(sizes))
    with wire.tcp_server(wire.sending(data)) as port:
        reader, got = TcpReader("127.0.0.1", port), []
        reader.connect()
        for n in sizes:
            got.append(bytes(reader.peek(n, wire.WAIT)))
            reader.skip(n)
        assert b"".join(got) == data
        with pytest.raises(Closed):
            reader.peek(1, wire.WAIT)
        reader.close()


def test_limits():
    reader = TcpReader("127.0.0.1", 1, limit=100)
    with pytest.raises(StreamError, match=r"127\.0\.0\.1:1: 101 bytes in one piece, at most 100 are allowed"):
        reader.peek(101, 0)
    with pytest.raises(StreamError, match="cannot connect"):
        reader.connect()
