"""Small runs on arrays in memory; nothing of a server may survive a test."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from framefold.executor.drive import Run
from framefold.executor.follow import by_merge
from framefold.executor.inline import InlineExecutor
from framefold.io.memory import ArraySource
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.plan import RunOptions
from framefold.udfs.sum import SumUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF

pytest.importorskip("bokeh", reason="the browser view needs bokeh")


@pytest.fixture
def data():
    """24 frames whose values tell where they are."""
    nav, sig = np.arange(24).reshape(4, 6, 1, 1), np.arange(10 * 8).reshape(10, 8)
    return (nav + sig).astype("uint16")


@pytest.fixture
def run_of():
    """A run in this thread that is not started yet."""

    def make(data, *udfs, partition_frames=6, roi=None):
        return Run(
            InlineExecutor(),
            Dataset(ArraySource(np.ascontiguousarray(data))),
            udfs or (SumUDF(), VirtualDetectorUDF("disk", cy=4, cx=3, r=2)),
            RunOptions(partition_frames=partition_frames, roi=roi),
        )

    return make


@pytest.fixture
def steps(run_of, data):
    """Run, and all of its snapshots, the empty one first."""
    run = run_of(data)
    return run, [run.snapshot(final=False), *by_merge(run)]


def sockets() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def web_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("framefold-web")]


@pytest.fixture
def nothing_left():
    """Threads and sockets of the view are gone after the test."""
    before = sockets()
    yield
    deadline = time.monotonic() + 30
    while (web_threads() or sockets() - before) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert web_threads() == []
    assert sockets() - before == set()
