"""Values on the command line, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.cli.values import (
    load_array,
    parse_assignment,
    parse_roi,
    parse_shape,
    parse_slices,
    parse_value,
)
from framefold.errors import FramefoldError

_numbers = st.none() | st.integers(-99, 99)


@given(
    st.lists(st.integers(-99, 99) | st.tuples(_numbers, _numbers, _numbers), min_size=1, max_size=4),
    st.booleans(),
)
def test_slices_come_back(index, brackets):
    words = [
        str(i) if isinstance(i, int) else ":".join("" if n is None else str(n) for n in i) for i in index
    ]
    text = ", ".join(words)
    expected = tuple(i if isinstance(i, int) else slice(*i) for i in index)
    assert parse_slices(f"[{text}]" if brackets else text) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "1;2", "[__import__('os')]", "1:2:3:4", "1,,2", "1.5", "[1][2]", "...,"]
)
def test_other_slices_are_refused(text):
    with pytest.raises(FramefoldError, match="is not a slice"):
        parse_slices(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        st.lists,
        max_leaves=5,
    )
)
def test_literals_come_back(value):
    assert parse_value(repr(value)) == value


@pytest.mark.parametrize(
    "text, value",
    [
        ("ring", "ring"),
        ("1e3", 1e3),
        ("__import__('os')", "__import__('os')"),
        ("a b", "a b"),
        ("-inf", -np.inf),
    ],
)
def test_everything_else_is_text(text, value):
    assert parse_value(text) == value


def test_arrays_from_files(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3))
    key, value = parse_assignment(f"masks=@{tmp_path}/a.npy")
    assert key == "masks"
    assert np.array_equal(value, np.eye(3))


def test_objects_in_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FramefoldError, match=r"cannot read an array from .*a\.npy: Object arrays"):
        load_array(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("text", ["3", "=3", "a-b=3", "1a=2"])
def test_assignments_need_a_name(text):
    with pytest.raises(FramefoldError, match="-p takes key=value, got"):
        parse_assignment(text)


@pytest.mark.parametrize("text", ["", "a", "0,4", "-1", "1.5", "64,"])
def test_shapes(text):
    if text == "64,":
        assert parse_shape(text) == (64,)
        return
    with pytest.raises(FramefoldError, match="is not a shape"):
        parse_shape(text)


def test_roi_of_slices_and_of_files(tmp_path):
    expected = np.zeros((4, 6), bool)
    expected[1:, ::2] = True
    assert np.array_equal(parse_roi("[1:, ::2]", (4, 6)), expected)
    np.save(tmp_path / "m.npy", expected.astype("uint8"))
    assert np.array_equal(parse_roi(str(tmp_path / "m.npy"), (4, 6)), expected)
    np.save(tmp_path / "f.npy", np.ones(3))
    with pytest.raises(FramefoldError, match="holds float64, a region of interest is a bool mask"):
        parse_roi(str(tmp_path / "f.npy"), (4, 6))
    with pytest.raises(FramefoldError, match=r"does not fit the navigation shape \(4, 6\): "):
        parse_roi("[1, 2, 3]", (4, 6))
