"""Which arrays a kernel takes: numpy's go through its compiled loop, those of a device through a formula."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def or_formula(formula: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a kernel: where its first argument is no numpy array, `formula` does the same.

    Formulas call numpy functions, which CuPy answers for its arrays (NEP 18), and methods of the arrays;
    they use nothing that CuPy lacks.
    """

    def decorate(kernel: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(kernel)
        def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
            if isinstance(args[0], np.ndarray):
                return kernel(*args, **kwargs)
            return formula(*args, **kwargs)

        return chosen

    return decorate


def flat_frames(tile: Any) -> Any:
    """Return a tile as ``(depth, pixels)``, also where it has no frame or no pixel."""
    return tile.reshape(tile.shape[0], math.prod(tile.shape[1:]))
