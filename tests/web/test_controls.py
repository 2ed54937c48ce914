"""Parameters as text and back, detectors as outlines and back, and what reaches the run."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import FramefoldError, ParameterError
from framefold.udfcore.udf import UDF
from framefold.udfs.com import CoMUDF
from framefold.udfs.fem import FEMUDF
from framefold.udfs.radial_profile import RadialProfileUDF
from framefold.udfs.sum import SumUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF
from framefold.web.control import Control
from framefold.web.geometry import Outline, grip_of, outline_of, patch_of, sound
from framefold.web.parameters import Parameter, parameters_of, text_of


class Many(UDF):
    def __init__(
        self, flag: bool = True, n: int = 3, x: float = 0.5, mode: Literal["a", "b"] = "a", name: str = "hi",
        maybe: float | None = None, table=None, both: Literal["a"] | int = 2,
    ) -> None:  # fmt: skip
        super().__init__(flag=flag, n=n, x=x, mode=mode, name=name, maybe=maybe, table=np.zeros(3), both=both)


def test_scalars_are_parameters_and_arrays_are_not():
    found = {p.name: p for p in parameters_of(Many())}
    assert list(found) == ["flag", "n", "x", "mode", "name", "maybe", "both"]
    assert found["mode"].choices == ("a", "b")
    assert found["both"].choices == ()
    assert found["maybe"].optional
    assert not found["x"].optional


@pytest.mark.parametrize(
    ("value", "optional", "text", "wanted"),
    [
        (1.5, False, "2", 2.0),
        (1.5, False, "inf", math.inf),
        (3, False, "4", 4),
        (3, False, "4.5", 4.5),
        (None, True, "", None),
        (None, True, "7", 7),
        (True, False, "false", False),
        ("hi", False, " there ", " there "),
    ],
)
def test_text_becomes_a_value_of_the_same_kind(value, optional, text, wanted):
    got = Parameter("p", value, optional=optional).parse(text)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize(
    ("parameter", "text", "match"),
    [
        (Parameter("p", 1.0), "x", "p='x' is not a number"),
        (Parameter("p", 1.0), "", "p='' is not a number"),
        (Parameter("p", 1.0), "nan", "nan is not a value"),
        (Parameter("p", True), "1", "p='1' is neither true nor false"),
        (Parameter("p", "a", ("a", "b")), "c", "p='c' is not one of a, b"),
    ],
)
def test_other_text_is_refused(parameter, text, match):
    with pytest.raises(ParameterError, match=match):
        parameter.parse(text)


@given(st.one_of(st.floats(-1e6, 1e6, width=32), st.integers(-(10**9), 10**9), st.booleans()))
def test_values_survive_their_text(value):
    back = Parameter("p", value).parse(text_of(value))
    assert back == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("udf", "names"),
    [
        (VirtualDetectorUDF("ring", r=5, ri=2), ("cy", "cx", "r", "ri")),
        (CoMUDF(r=5), ("cy", "cx", "r", "ri")),
        (VirtualDetectorUDF("rectangle", height=5, width=2), ("cy", "cx", "height", "width")),
        (FEMUDF(center=(3, 4), rad_in=1, rad_out=2), ("center", "rad_out", "rad_in")),
        (RadialProfileUDF(center=(3, 4), r_max=5.0), ("center", "r_max")),
    ],
)
def test_detectors_are_found_by_the_names_of_their_parameters(udf, names):
    assert grip_of(udf).names() == names


@pytest.mark.parametrize("udf", [SumUDF(), VirtualDetectorUDF("annuli", radii=(1, 2))])
def test_others_cannot_be_dragged(udf):
    assert grip_of(udf) is None


def test_what_is_not_given_lies_in_the_middle_and_inside_the_frame():
    udf = CoMUDF()
    assert outline_of(grip_of(udf), udf._kwargs, (20, 31)) == Outline("round", 10, 15, 10.0, 0.0)


@given(*[st.floats(0, 100)] * 4)
def test_outlines_and_parameters_agree_to_a_hundredth_of_a_pixel(cy, cx, a, b):
    for udf in (CoMUDF(), FEMUDF(center=(3, 4), rad_in=1, rad_out=2)):
        grip = grip_of(udf)
        back = outline_of(grip, {**udf._kwargs, **patch_of(grip, Outline("round", cy, cx, a, b))}, (9, 9))
        assert [back.cy, back.cx, back.a, back.b] == pytest.approx([cy, cx, a, b], abs=0.00501)


@pytest.mark.parametrize(
    ("outline", "good"),
    [
        (Outline("round", 1, 1, 2, 0), True),
        (Outline("round", 1, 1, 2, 2), False),
        (Outline("round", 1, math.nan, 2, 0), False),
        (Outline("round", 1, math.inf, 2, 0), False),
        (Outline("box", 1, 1, 2, 5), True),
        (Outline("box", 1, 1, 0, 5), False),
    ],
)
def test_numbers_from_a_browser_are_checked(outline, good):
    assert sound(outline) is good


def test_a_change_reaches_the_run_and_only_what_differs(steps, run_of, data):
    run = run_of(data)
    sent = []
    run.update_parameters = sent.append
    control = Control(run, run.udfs)
    control.change(1, {"r": 3, "cy": 4})
    control.change(1, {"r": 3})
    assert sent == [[{}, {"r": 3}]]  # cy was 4, and r = 3 is known by then
    assert control.values[1]["r"] == 3
    assert control.version == 1


def test_the_engine_refuses_and_nothing_changes(run_of, data):
    run = run_of(data)
    control = Control(run, run.udfs)
    with pytest.raises(Exception, match="shape='square' is not one of"):
        control.change(1, {"shape": "square"})
    assert control.values[1]["shape"] == "disk"


def test_a_run_that_is_over_cannot_be_changed(run_of, data):
    run = run_of(data)
    control = Control(run, run.udfs)
    control.over = True
    with pytest.raises(FramefoldError, match="the run is over: start it again"):
        control.change(1, {"r": 3})
    control.stop()
    assert not run.feed.cancelled.is_set()


def test_stop_asks_the_run(run_of, data):
    run = run_of(data)
    control = Control(run, run.udfs)
    control.stop()
    assert run.feed.cancelled.is_set()
    assert control.stopped


def test_a_rectangle_without_a_size_is_the_frame():
    udf = VirtualDetectorUDF("rectangle", cy=2)
    assert outline_of(grip_of(udf), udf._kwargs, (20, 31)) == Outline("box", 2, 15, 20, 31)
