"""Fixtures and profiles that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse test ids with memory addresses: parallel workers could not agree on the list of tests."""
    random = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if random:
        raise pytest.UsageError(f"{random[0]}: give ids= to parametrize, this one differs in every process")
