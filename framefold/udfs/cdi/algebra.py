"""Operators that multiply like the operators of a formula: values, applied from right to left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

from framefold.errors import DataError

if TYPE_CHECKING:
    from framefold.udfs.cdi.state import CDI

OnStep = Callable[["CDI"], Any]


class Operator:
    """Something that takes a `CDI` to another: ``A * B * x`` applies B first, ``A ** n`` n times.

    Derive a frozen dataclass and define `apply`; the algebra, printing, equality and hashing follow. Products
    and powers are new values: nothing that was multiplied ever changes.

    Examples
    --------
    >>> from framefold.udfs.cdi import ER, HIO, SupportUpdate
    >>> ER()**50 * (SupportUpdate() * HIO(beta=0.8)**20)**3
    ER**50*(SupportUpdate*HIO(beta=0.8)**20)**3
    """

    def apply(self, cdi: CDI) -> CDI:
        """Return the new state."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(cdi)")

    def repeat(self, cdi: CDI, n: int) -> CDI:
        """Return the state after n applications; algorithms share buffers between them."""
        for _ in range(n):
            cdi = self.apply(cdi)
        return cdi

    @property
    def iterates(self) -> bool:
        """Whether one application is an iteration that a view of the run may look at."""
        return False

    @overload
    def __mul__(self, other: Operator) -> Operator: ...
    @overload
    def __mul__(self, other: CDI) -> CDI: ...
    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Operator):
            return product(self, other)
        from framefold.udfs.cdi.state import CDI  # noqa: PLC0415  # the state does not know operators

        return run(self, other) if isinstance(other, CDI) else NotImplemented

    def __pow__(self, n: int) -> Operator:
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise DataError(f"{self}**{n!r}: the power of an operator is how often it is applied, 0 or more")
        if isinstance(self, Power):
            return Power(self.base, self.n * n) if self.n * n != 1 else self.base
        return self if n == 1 else Power(self, n)

    def __repr__(self) -> str:
        if not dataclasses.is_dataclass(self):
            return type(self).__name__
        given = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return type(self).__name__ + (f"({', '.join(given)})" if given else "")


@dataclasses.dataclass(frozen=True, repr=False)
class Product(Operator):
    """Factors in the order they are written; the last is applied first. Without factors: the identity."""

    factors: tuple[Operator, ...] = ()

    def apply(self, cdi: CDI) -> CDI:
        """Apply all factors, the last first."""
        for op in reversed(self.factors):
            cdi = op.apply(cdi)
        return cdi

    def __repr__(self) -> str:
        return "*".join(map(repr, self.factors)) if self.factors else "Identity"


@dataclasses.dataclass(frozen=True, repr=False)
class Power(Operator):
    """An operator applied n times."""

    base: Operator
    n: int

    def apply(self, cdi: CDI) -> CDI:
        """Apply the base n times."""
        return self.base.repeat(cdi, self.n)

    def __repr__(self) -> str:
        base = f"({self.base!r})" if isinstance(self.base, Product) and self.base.factors else repr(self.base)
        return f"{base}**{self.n}"


def product(*ops: Operator) -> Operator:
    """Return the product of operators, nested products flattened."""
    flat: list[Operator] = []
    for op in ops:
        flat += op.factors if isinstance(op, Product) else (op,)
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def simplify(op: Operator) -> Operator:
    """Return an operator that does the same with less: neighbours that undo each other are dropped.

    Powers of one algorithm that meet are joined, so that they share buffers and plans.

    Examples
    --------
    >>> from framefold.udfs.cdi import ER, FT, IFT
    >>> simplify(ER()**3 * IFT() * FT() * ER()**2)
    ER**5
    """
    if isinstance(op, Power):
        base = simplify(op.base)
        return Product() if base == Product() or not op.n else base**op.n
    if not isinstance(op, Product):
        return op
    kept: list[Operator] = []
    for factor in op.factors:
        one = simplify(factor)
        for part in one.factors if isinstance(one, Product) else (one,):
            base, n = (part.base, part.n) if isinstance(part, Power) else (part, 1)
            if kept:
                last, m = (kept[-1].base, kept[-1].n) if isinstance(kept[-1], Power) else (kept[-1], 1)
                if last == base:
                    kept[-1] = base ** (n + m)
                    continue
                if n == m == 1 and _undoes(last, base):
                    kept.pop()
                    continue
            if n:
                kept.append(part)
    return product(*kept) if kept else Product()


def _undoes(left: Operator, right: Operator) -> bool:
    return getattr(left, "inverse_of", None) is type(right)


def steps(op: Operator, every: int | None = None) -> Iterator[tuple[Operator, int]]:
    """Yield single operators with how often they are applied, in the order of application.

    Parameters
    ----------
    every
        Cut repetitions of iterating operators into pieces of at most this many.
    """
    if isinstance(op, Product):
        for factor in reversed(op.factors):
            yield from steps(factor, every)
    elif isinstance(op, Power) and isinstance(op.base, Product):
        for _ in range(op.n):
            yield from steps(op.base, every)
    else:
        base, n = (op.base, op.n) if isinstance(op, Power) else (op, 1)
        size = max(1, n if every is None or not base.iterates else every)
        for start in range(0, n, size):
            yield base, min(size, n - start)


def run(op: Operator, cdi: CDI, *, on_step: OnStep | None = None, every: int | None = None) -> CDI:
    """Return ``op * cdi``, looking at it on the way.

    Parameters
    ----------
    on_step
        Called with the state after every `every` iterations and at the end of each algorithm. Returning False
        (not None) ends the run there.
    every
        Iterations between two calls; None: only where algorithms end.
    """
    from framefold.udfs.cdi.engine import shared_engines  # noqa: PLC0415  # loads pyfftw

    with shared_engines():
        for step, n in steps(simplify(op), every):
            cdi = step.repeat(cdi, n)
            if on_step is not None and step.iterates and on_step(cdi) is False:
                break
    return cdi
