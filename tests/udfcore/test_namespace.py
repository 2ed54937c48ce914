"""Every array knows its library, and CuPy can be stood in for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfcore.backend import backend_of, for_backend
from framefold.udfcore.namespace import (
    device_namespace,
    has_device,
    is_device,
    namespace,
    scipy_of,
    to_host,
    xp_of,
)


def test_arrays_know_their_library(xp):
    array = xp.asarray([1.0, 2.0])
    assert xp_of(array) is xp
    assert xp_of(1.0, array) is xp
    assert is_device(array) == (xp is not np)
    assert backend_of(array) == ("numpy" if xp is np else "cupy")
    assert namespace(backend_of(array)) is xp
    np.testing.assert_array_equal(to_host(array), [1, 2])
    blurred = scipy_of(xp, "ndimage").gaussian_filter(array, 1.0)
    assert xp_of(blurred) is xp


def test_arrays_go_to_the_device_and_back(device_xp):
    there = for_backend(np.arange(3.0), "cupy")
    assert is_device(there)
    assert for_backend(there, "cupy") is there
    np.testing.assert_array_equal(for_backend(there, "numpy"), [0, 1, 2])
    assert has_device()


def test_without_cupy_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not has_device()
    with pytest.raises(UDFError, match=r"\"cupy\" cannot be used: .* pip install 'framefold\[cuda\]'"):
        device_namespace()
