"""Whether the compiled loops are worth loading yet."""

from __future__ import annotations

import sys

# numba and its first call take 0.5 s in a fresh process, numpy sums this much in 0.1 s
BUDGET = 48 * 1024**2
_spent = 0


def by_numpy(nbytes: int) -> bool:
    """Tell whether numpy should do a job of `nbytes`: numba is not loaded, and there was little to do so far.

    For integers, of which both give the same sums: this only decides how soon the first result is there.
    """
    global _spent
    if "numba" in sys.modules:
        return False
    _spent += nbytes
    return _spent <= BUDGET
