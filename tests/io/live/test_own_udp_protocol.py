"""The page about protocols of one's own does what it says."""

import re
import socket
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.io.live import registry

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-protocol.md"
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) <= 60
    exec(compile(code, str(PAGE), "exec"), names := {"__name__": "demo_page"})
    return names


def test_the_demo_detector_is_received(demo):
    truth = np.random.default_rng(3).integers(0, 2**16, (5, 128, 256)).astype("<u2")

    def send(ready):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for f, frame in enumerate(truth):
                for module, end in enumerate(ready.endpoints):
                    port = int(end.rpartition(":")[2])
                    for row in range(0, 64, 4):
                        head = struct.pack("<4sIHB5x", b"DEMO", f + 9, row, 1)
                        part = frame[64 * module + row : 64 * module + row + 4]
                        sock.sendto(head + part.tobytes(), ("127.0.0.1", port))
                pause.wait(0.002)

    pause = threading.Event()
    with ff.Context(executor="inline") as ctx:
        live = ctx.load(
            "demo://127.0.0.1:0?fps=100",
            nav_shape=(5,),
            receiver="thread",
            ring_bytes=1 << 23,
            idle_timeout=2,
        )
        result = ctx.run_udf(live, ff.udfs.SumUDF(), on_ready=send)
        lost = sum(s["lost"] for s in result.report["sectors"])
        dropped = sum(s["kernel_drops"] for s in result.report["sectors"])
        assert lost == dropped  # none, unless this machine was too busy to take them
        if not lost:
            np.testing.assert_array_equal(result["intensity"].data, truth.sum(axis=0, dtype=np.int64))
        assert result.report["first_id"] == 9


def test_its_options_are_checked(demo):
    with pytest.raises(DataError, match="demo:// has no option 'module'. Did you mean 'modules'"):
        ff.Context(executor="inline").load("demo://127.0.0.1:0?module=2", nav_shape=(5,))
