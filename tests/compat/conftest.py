"""The shim for tests that need it, and where LiberTEM itself may be found."""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from framefold.compat.libertem import shim


@pytest.fixture
def libertem():
    """The shim with framefold's own versions of the UDFs."""
    with shim():
        yield


@pytest.fixture
def ctx(libertem):
    from libertem.api import Context

    with Context.make_with("inline") as context:
        yield context


@pytest.fixture(scope="session")
def libertem_python():
    """An interpreter that has the real LiberTEM."""
    given = os.environ.get("FRAMEFOLD_LIBERTEM_PYTHON")
    if not given and PathFinder.find_spec("libertem") is not None:
        given = sys.executable
    if not given:
        pytest.skip("FRAMEFOLD_LIBERTEM_PYTHON does not name a Python with LiberTEM")
    return given


@pytest.fixture(scope="session")
def libertem_tests():
    """The folder ``tests`` of a LiberTEM checkout or source distribution."""
    given = os.environ.get("FRAMEFOLD_LIBERTEM_TESTS")
    if not given:
        pytest.skip("FRAMEFOLD_LIBERTEM_TESTS does not name the folder tests of LiberTEM's sources")
    return Path(given)
