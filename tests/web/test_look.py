"""From numbers to bytes: scales, limits and marks on the colour bar, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.web.look import Look, limits_of, ticks, to_bytes

_FORMS = {
    "linear": lambda v, lo, hi: (v - lo) / (hi - lo),
    "sqrt": lambda v, lo, hi: math.sqrt(max((v - lo) / (hi - lo), 0)),
    "log": lambda v, lo, hi: math.log(max(v, lo) / lo) / math.log(hi / lo),
}


@pytest.mark.parametrize("scale", list(_FORMS))
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_bytes_follow_the_closed_form(scale, dtype):
    values = np.arange(0, 200, dtype=dtype)
    low, high = 3.0, 150.0
    out = to_bytes(values, np.ones(200, bool), low, high, scale)
    wanted = [1 + 254 * min(max(_FORMS[scale](float(v), low, high), 0), 1) for v in values]
    assert np.abs(out - np.array(wanted)).max() <= 0.5 + 1e-3  # rounded to a level; float32 inside


def test_pixels_without_a_value_are_zero_and_no_other():
    values = np.array([-np.inf, -5.0, 0.0, 5.0, np.nan])
    valid = np.isfinite(values) & np.array([True, True, True, False, True])
    assert to_bytes(values, valid, 0.0, 1.0, "linear").tolist() == [0, 1, 1, 0, 0]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    st.sampled_from(["linear", "log", "sqrt"]),
    st.sampled_from(["auto", "percentile", "manual"]),
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_limits_are_always_usable(values, scale, mode, manual):
    array = np.array(values)
    look = Look(scale, mode, manual=manual)
    low, high = limits_of(array, np.ones(len(values), bool), look)
    assert low < high
    assert scale != "log" or low > 0
    out = to_bytes(array, np.ones(len(values), bool), low, high, scale)
    assert out.min() >= 1


def test_chosen_limits_hold():
    values, valid = np.arange(101.0), np.ones(101, bool)
    assert limits_of(values, valid, Look(mode="manual", manual=(7, 9))) == (7, 9)
    assert limits_of(values, valid, Look(mode="percentile", percent=(10, 75))) == (10, 75)
    assert limits_of(values - 50, valid, Look(symmetric=True)) == pytest.approx((-50, 50), rel=0.01)
    # for a logarithm only what is positive counts
    assert limits_of(values - 50, valid, Look("log", "percentile", percent=(0, 100))) == (1, 50)


@given(
    low=st.floats(-1e5, 1e5),
    span=st.floats(1e-3, 1e6),
    scale=st.sampled_from(["linear", "sqrt"]),
)
def test_marks_lie_where_their_labels_say(low, span, scale):
    high = low + span
    found = ticks(low, high, scale)
    assert 2 <= len(found) <= 13
    for place, label in found:
        assert 0 <= place <= 1
        form = _FORMS[scale](min(max(float(label), low), high), low, high)
        # labels have 6 digits or more: enough to tell one mark from the next
        assert place == pytest.approx(form, abs=0.03)


def test_marks_of_a_logarithmic_bar_are_powers_of_ten():
    assert ticks(0.5, 2000, "log")[0] == (pytest.approx(math.log(2) / math.log(4000)), "1")
    assert [label for _, label in ticks(0.5, 2000, "log")] == ["1", "10", "100", "1000"]
    assert len(ticks(1e-12, 1e12, "log")) <= 8
