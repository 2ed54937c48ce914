"""Auxiliary data: arrays that travel with the frames, sliced like the buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfcore.buffers import KINDS


class AuxData:
    """An array given to a UDF as parameter, of which each unit of work sees its part.

    Parameters
    ----------
    data
        Any shape whose size is that of the kind: all frames, all pixels, or one entry.
    kind
        ``"nav"``: one entry per frame of the dataset; ``"sig"``: one per pixel; ``"single"``: one.
    extra_shape
        Axes of each entry.
    dtype
        The data are cast to it if that is safe.

    Raises
    ------
    UDFError
        If the cast would lose information.
    """

    def __init__(
        self,
        data: npt.ArrayLike,
        kind: str,
        extra_shape: tuple[int, ...] | int = (),
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        if kind not in KINDS:
            raise UDFError(f"aux data kind {kind!r} is not one of {', '.join(map(repr, KINDS))}")
        target = np.dtype(dtype)
        given = np.asarray(data)
        if not _castable(given, target):
            raise UDFError(
                f"aux data of dtype {given.dtype} cannot be cast safely to {target}: "
                f"pass dtype={given.dtype!s}"
            )
        self.kind = kind
        self.extra_shape: tuple[int, ...] = tuple(
            int(n) for n in np.atleast_1d(np.asarray(extra_shape, dtype=int))
        )
        self.dtype = target
        self.array = np.ascontiguousarray(given, dtype=target)
        self.array.flags.writeable = False

    def flat(self, n_nav: int, sig: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the data as ``(n_nav, *extra)``, ``(*sig, *extra)`` or ``extra or (1,)``.

        Raises
        ------
        DataError
            If the size does not fit, with both shapes.
        """
        base = {"nav": (n_nav,), "sig": tuple(sig), "single": ()}[self.kind]
        shape = (*base, *self.extra_shape)
        if self.kind == "single" and not self.extra_shape:
            shape = (1,)
        if self.array.size != int(np.prod(shape, dtype=np.int64)):
            raise DataError(
                f"aux data of kind {self.kind!r} has shape {self.array.shape}, "
                f"the dataset needs {shape} (extra_shape {self.extra_shape})"
            )
        return self.array.reshape(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return (AuxData, (self.array, self.kind, self.extra_shape, self.dtype))

    def __repr__(self) -> str:
        return f"<AuxData {self.kind} {self.array.shape} {self.dtype}>"


def _castable(given: npt.NDArray[Any], target: np.dtype[Any]) -> bool:
    # int64 -> float32 and the like is what users pass (lists of Python numbers): same kind is enough
    return given.dtype == object or np.can_cast(given.dtype, target, casting="same_kind")
