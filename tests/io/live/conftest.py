"""Nothing of a live stream is left behind: no shared memory, no socket, no child process, no thread."""

import os
import threading
import time

import pytest

WAIT = 30


def _open_files():
    """Sockets and memory files of this process, by their inode."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:") or "framefold-ring" in target:
            found.add(target)
    return found


def _mapped():
    with open("/proc/self/maps", encoding="utf-8") as file:
        return sum("framefold-ring" in line for line in file)


def _children():
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                found |= set(file.read().split())
        except OSError:
            continue
    return found


def _threads():
    return {t for t in threading.enumerate() if t.name.startswith("framefold-")}


def _rings():
    """Names of rings; other processes that run tests have theirs for an instant, too."""
    return {f for f in os.listdir("/dev/shm") if f.startswith("framefold-ring")}


@pytest.fixture
def nothing_left():
    """Compare what is open before and after a test."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("looks into /proc, which this system does not have")
    files, children, threads = _open_files(), _children(), _threads()
    yield
    until = time.monotonic() + WAIT
    while (
        left := (_open_files() - files) | (_children() - children) | (_threads() - threads) | _rings()
    ) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left
