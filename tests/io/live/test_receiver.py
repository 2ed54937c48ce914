"""The receiver's process dies with its session, and the session hears when it dies; memory, buffers, accounts."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from framefold.errors import DataError, StreamError
from framefold.io.live import core as core_module
from framefold.io.live import kernels_state, open_url, ring
from framefold.io.live import receiver as receiver_module
from framefold.io.live.accounting import Evidence, broken, require_balance
from framefold.io.live.sockets import buffer_advice, interface_address
from framefold.udfcore.live import AcquisitionEnd, SectorStats

WAIT = 30
URL = "k2is://127.0.0.1:0?sectors=2&width=32&height=16&piece=8x16&n_frames=9&ring_bytes=1000000"
pytestmark = pytest.mark.usefixtures("nothing_left")

SESSION = f"""
import sys, time
from framefold.io.live import open_url
stream = open_url({URL!r}).open()
stream.prepare()
stream.wait_start(None)
print(stream._receiver._process.pid, flush=True)
time.sleep(600)
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_session_leaves_no_process_and_no_memory():
    session = subprocess.Popen([sys.executable, "-c", SESSION], stdout=subprocess.PIPE)
    try:
        receiver = int(session.stdout.readline())
        assert is_running(receiver)
    finally:
        session.kill()
        session.wait(WAIT)
        session.stdout.close()
    until = time.monotonic() + WAIT
    while is_running(receiver) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(receiver)


def test_a_killed_receiver_is_an_error_not_silence():
    stream = open_url(URL).open()
    try:
        stream.prepare()
        stream.wait_start(None)
        os.kill(stream._receiver._process.pid, signal.SIGKILL)
        with pytest.raises(StreamError, match="the receiver process has ended with code -9"):
            while True:
                stream.next_block(1)
    finally:
        stream.close()


RAISE = "import os; os.setpriority(os.PRIO_PROCESS, 0, -10)"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count niceness their own way")
def test_the_receiver_runs_before_what_folds_where_the_system_lets_it():
    allowed = (
        subprocess.run([sys.executable, "-c", RAISE], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    stream = open_url(URL).open()
    try:
        stream.prepare()
        niceness = os.getpriority(os.PRIO_PROCESS, stream._receiver._process.pid)
    finally:
        stream.close()
    assert niceness == (-10 if allowed else own)


def test_a_receiver_that_was_stopped_does_not_take_that_for_silence(monkeypatch):
    """Steps of 50 ms by a clock of our own, one of them of a minute; two seconds of silence are an end."""
    told = []
    spec = open_url(URL, idle_timeout=2).open()._spec("pieces")
    memory = spec.ring()
    core = core_module.Core(spec, memory, told.append)
    try:
        core.open()
        core._state.run[kernels_state.PHASE] = kernels_state.RUNNING
        core._state.run[kernels_state.T_ANY] = now = 10**12
        core._state.counters[0, kernels_state.RECEIVED] = core._state.counters[0, kernels_state.FOREIGN] = 1
        core._once = lambda seconds: None
        steps = [1, 1, 1200, *[1] * 100]
        monkeypatch.setattr(core_module, "time", SimpleNamespace(monotonic_ns=lambda: now))
        taken = 0
        while not told:
            now += steps[taken] * 50_000_000
            taken += 1
            core.cycle()
    finally:
        core.close()
        memory.close()
        del core
    assert told[-1][:2] == (core_module.END, core_module.IDLE)
    assert sum(steps[:taken]) - 1200 == 41  # 2 s and the first step after them


def test_a_receiver_that_compiles_says_so(monkeypatch, caplog):
    monkeypatch.setattr(receiver_module, "_SILENT_SECONDS", 0.0)
    stream = open_url(URL).open()
    try:
        stream.prepare()
    finally:
        stream.close()
    assert [r.getMessage() for r in caplog.records] == [
        "starting what receives; the first time on a machine it is compiled, for up to half a minute"
    ]


@pytest.mark.parametrize("receiver", ["process", "thread"])
def test_a_stream_ends_when_it_is_stopped_before_anything_came(receiver):
    stream = open_url(URL, receiver=receiver).open()
    assert [s.received for s in stream.stats()] == [0, 0]
    with pytest.raises(StreamError, match=r"call prepare\(\) first"):
        stream.wait_start(None)
    stream.prepare()
    with pytest.raises(StreamError, match="prepared already"):
        stream.prepare()
    stream.wait_start(None)
    stream.stop()
    end = None
    while end is None:
        end = stream.next_block(1)
    assert isinstance(end, AcquisitionEnd)
    assert (end.reason, end.last_frame, end.first_id) == ("stopped", -1, None)
    stream.close()
    stream.close()


def test_some_sectors_of_a_detector():
    source = open_url(URL)
    stream = source.open((1,))
    try:
        assert [s.index for s in stream.prepare().sectors] == [1]
        assert len(stream.endpoints) == 1
    finally:
        stream.close()
    with pytest.raises(DataError, match="there is no sector 2"):
        source.open((2,))
    with pytest.raises(DataError, match="ring_bytes=1000 is too small"):
        open_url(URL.replace("1000000", "1000")).open().prepare()


def test_a_small_memory_file_system_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(ring.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ring.os, "statvfs", lambda path: os.statvfs_result((4096,) * 2 + (0,) * 8))
    with pytest.warns(UserWarning, match=r"has 0 MiB free, a live source needs .*docker run --shm-size"):
        memory = ring.Ring({"a": ((3,), np.int64)}, 2, 5000)
    memory.slot(1)[:] = 7
    assert memory.intact()
    memory.slot(0).base[int(memory.starts[0]) + 5000] = 1
    assert not memory.intact()
    memory.close()
    assert not list(tmp_path.iterdir())


def test_slots_do_not_overlap():
    memory = ring.Ring({"a": ((3,), np.int64), "b": ((2, 2), np.uint8)}, 3, 100)
    try:
        memory.arrays["a"][:] = -1
        memory.arrays["b"][:] = 255
        for i in range(3):
            memory.slot(i)[:] = i + 1
        assert memory.intact()
        assert [int(memory.slot(i).sum()) for i in (-1, 0, 1, 2)] == [0, 100, 200, 300]
    finally:
        memory.close()


GOOD = {
    "received": 10,
    "valid": 4,
    "duplicate": 1,
    "late": 2,
    "overrun": 1,
    "corrupt": 1,
    "foreign": 1,
    "expected": 6,
    "lost": 2,
}


@pytest.mark.parametrize(
    "change, evidence, law",
    [
        ({}, (4, 3, 2, 2), None),
        ({"received": 11}, (4, 3, 2, 0), "I1: received 11, fates 10"),
        ({"lost": 3}, (4, 3, 2, 0), r"I2: expected 6, valid 4 \+ lost 3"),
        ({}, (4, 4, 2, 0), "I2: expected 6, delivered 4 x 2"),
        ({}, (5, 3, 2, 0), "I3: valid 4, in the bitmaps 5"),
        ({}, (4, 3, 2, 3), "I4: lost 2, arrived but not used 3"),
    ],
)
def test_the_laws_of_the_accounts(change, evidence, law):
    stats = SectorStats(0, "udp://x", **{**GOOD, **change})
    if law is None:
        assert broken(stats, Evidence(*evidence)) == []
        require_balance([(stats, Evidence(*evidence))])
    else:
        with pytest.raises(StreamError, match=f"(?s)do not add up.*sector 0: {law}"):
            require_balance([(stats, Evidence(*evidence))])


def test_the_advice_about_buffers():
    """50 ms of 100 MB/s are 5 MB."""
    assert buffer_advice(10_000_000, 5_000_000, 1e8) == ""
    text = buffer_advice(10_000_000, 212_992, 1e8)
    assert "holds 208 KiB, 2.1 ms of data at 100 MB/s" in text
    assert "sysctl -w net.core.rmem_max=10000000" in text


def test_interfaces_by_name_and_address():
    assert interface_address("127.0.0.1") == "127.0.0.1"
    assert interface_address("lo") == "127.0.0.1"
    with pytest.raises(StreamError, match="joined on a named interface"):
        interface_address("")
