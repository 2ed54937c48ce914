"""Operators multiply, print, parse, compare and simplify as formulas do, and never change."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.udfs.cdi import (
    CDI,
    ER,
    FT,
    HIO,
    IFT,
    ApplyAmplitude,
    ERProj,
    FourierApplyAmplitude,
    Operator,
    SupportUpdate,
    parse,
    run,
)  # fmt: skip
from framefold.udfs.cdi.algebra import Product, simplify, steps


@dataclass(frozen=True, repr=False)
class Note(Operator):
    """Writes its name into the history."""

    name: str

    def apply(self, cdi):
        return cdi.new(history=(*cdi.history, self.name))


def order(op):
    return "".join((op * CDI(np.ones((4, 4)))).history)


A, B, C = Note("A"), Note("B"), Note("C")


def test_the_last_factor_acts_first():
    assert order(A * B * C) == "CBA"
    assert order(A * (B * C) ** 2) == "CBCBA"
    assert order((A**2 * B) ** 2) == "BAABAA"
    assert order(A**0 * B) == "B"


def test_products_are_new_values():
    a = ER()
    b = a * HIO()
    assert a == ER()
    assert repr(a) == "ER"
    assert repr(b) == "ER*HIO"
    both = (A * B) ** 3
    assert order(both) == order(both) == "BABABA"  # nothing is shared that a run could change


def test_composites_are_values():
    one, two = ER() ** 3 * (SupportUpdate() * HIO(0.8)), (ER() ** 3 * SupportUpdate()) * HIO(beta=0.8)
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != ER() ** 3 * SupportUpdate() * HIO(0.7)
    assert (ER() ** 2) ** 3 == ER() ** 6
    assert (ER() ** 1) == ER()


atoms = st.sampled_from(
    ["ER", "SF", "HIO", "HIO(beta=0.7, positivity=True)", "RAAR", "DM(beta=1.0, gs=0.5)", "ASR", "HPR", "ChargeFlip",
     "ML", "SupportUpdate(sigma=(3.0, 1.0, 50))", "FreePixels(fraction=0.1)", "Save(path='a b.npz')", "LLK",
     "SupportUpdate(relative_to='max', border=2)", "Detwin", "FT", "IFT"]
)  # fmt: skip
recipes = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: f"({t[0]})*({t[1]})"),
        st.tuples(inner, st.integers(0, 300)).map(lambda t: f"({t[0]})**{t[1]}"),
    ),
    max_leaves=8,
)


@given(recipes)
def test_text_and_operator_stand_for_each_other(text):
    op = parse(text)
    assert parse(repr(op)) == op


@given(recipes)
def test_simplified_recipes_do_the_same_steps(text):
    def plain(op):
        return [(base, 1) for base, n in steps(op) for _ in range(n)]

    def without_pairs(found):
        kept = []
        for base, _ in found:
            if kept and {type(kept[-1]), type(base)} == {FT, IFT}:
                kept.pop()
            else:
                kept.append(base)
        return kept

    op = parse(text)
    assert without_pairs(plain(simplify(op))) == without_pairs(plain(op))


def test_simplify():
    assert simplify(IFT() * FT()) == Product()
    assert simplify(IFT() * FT() * ER()) == ER()
    assert (
        simplify(ERProj() * IFT() * ApplyAmplitude() * FT() * IFT() * FT())
        == ERProj() * FourierApplyAmplitude
    )
    assert simplify((IFT() * FT()) ** 5) == Product()
    assert simplify(ER() ** 2 * ER() * ER() ** 3) == ER() ** 6
    assert simplify(ER() ** 0) == Product()


def test_steps_are_cut_where_a_view_wants_to_look():
    op = ER() ** 5 * (SupportUpdate() * HIO() ** 4) ** 2
    found = [(repr(base), n) for base, n in steps(op, every=3)]
    once = [("HIO", 3), ("HIO", 1), ("SupportUpdate", 1)]
    assert found == [*once, *once, ("ER", 3), ("ER", 2)]


def test_a_view_sees_iterations_and_may_stop():
    rng = np.random.default_rng(0)
    cdi = CDI(rng.random((8, 8)), support=np.eye(8) > 0)
    seen = []
    end = run(
        ER() ** 7 * SupportUpdate(threshold=1e-6) * HIO() ** 5,
        cdi,
        on_step=lambda c: seen.append(c.cycle),
        every=3,
    )
    assert seen == [3, 5, 8, 11, 12]
    assert end.cycle == 12
    stopped = run(ER() ** 100, cdi, on_step=lambda c: c.cycle < 20, every=10)
    assert stopped.cycle == 20


@pytest.mark.parametrize(
    "text, message",
    [
        ("ER**", "not readable at column"),
        ("HIOO**3", r"no operator 'HIOO'\. Did you mean 'HIO'"),
        ("HIO(bet=1)", "no parameter 'bet'. Did you mean 'beta'"),
        ("HIO(0.9)", "parameters of HIO go by name"),
        ("ER**2.5", "'2.5' is not a whole number"),
        ("ER**n", "'n' is not a whole number"),
        ("ER+SF", "is not an operator, a product or a power"),
        ("3*ER", "'3' is not an operator"),
        ("Save", "missing 1 required positional argument: 'path'"),
        ("Save(path=open('x'))", "is not a number, quoted text"),
        ("__import__('os')", "go by name"),
        ("ER.apply", "is not an operator"),
        ("FourierApplyAmplitude(a=1)", "has no parameters"),
        ("HIO(beta=3)", "beta=3 is not within"),
        ("ER**-1", "not a whole number"),
    ],
)
def test_wrong_recipes(text, message):
    with pytest.raises(DataError, match=message):
        parse(text)


def test_wrong_powers_and_operands():
    with pytest.raises(DataError, match="how often it is applied"):
        ER() ** -1
    with pytest.raises(TypeError):
        ER() * 3
    with pytest.raises(NotImplementedError, match="must define apply"):
        Operator().apply(None)
