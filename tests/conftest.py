"""Fixtures and profiles that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# numba compiles inside the first example, so no deadline; CI shares two cores, so few examples
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", max_examples=15, derandomize=True, **_COMMON)
settings.register_profile("dev", max_examples=15, **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with real detector files; the test is skipped where there is none."""
    given = os.environ.get("FRAMEFOLD_TEST_DATA")
    if not given:
        pytest.skip("FRAMEFOLD_TEST_DATA is not set: it names a folder with real detector files")
    folder = Path(given)
    if not folder.is_dir():
        pytest.fail(f"FRAMEFOLD_TEST_DATA={given} is not a folder")
    return folder


@pytest.fixture(params=["numpy", "stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Array namespace: numpy, the strict stand-in for CuPy, and CuPy itself where there is a device."""
    if request.param == "numpy":
        yield np
    elif request.param == "stand-in":
        with _stand_in() as module:
            yield module
    else:
        yield _cupy()


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def device_xp(request: pytest.FixtureRequest) -> Iterator[Any]:
    """As `xp`, but only what takes the place of a device: the backend "cupy" can be asked for."""
    if request.param == "stand-in":
        with _stand_in() as module:
            yield module
    else:
        yield _cupy()


@contextmanager
def _stand_in() -> Iterator[Any]:
    from framefold.testing import device
    from framefold.udfcore.namespace import standing_in

    with standing_in(device):
        device.traffic.reset()
        yield device


def _cupy() -> Any:
    from framefold.udfcore.namespace import has_device

    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if not has_device():
        pytest.skip("CuPy sees no CUDA device")
    return cupy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse test ids with memory addresses: parallel workers could not agree on the list of tests."""
    random = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if random:
        raise pytest.UsageError(f"{random[0]}: give ids= to parametrize, this one differs in every process")
