"""Transforms between the data and the UDFs: the protocol, and chains of them.

A transform says which region of its input a region of its output needs, so that tiles stay tiles: a crop
reads only its part, a filter takes a halo, and only `Apply` needs whole frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.transform_geometry import Bin, Crop, Flip, Rot90
from framefold.udfcore.transforms import Apply, Gaussian, Log, Mask, Threshold

__all__ = [
    "Apply",
    "Bin",
    "Crop",
    "Flip",
    "Gaussian",
    "Log",
    "Mask",
    "PreChain",
    "Rot90",
    "Scope",
    "Threshold",
    "Transform",
]

Region: TypeAlias = tuple[slice, ...]
Scope: TypeAlias = Literal["pixel", "local", "frame"]


@runtime_checkable
class Transform(Protocol):
    """A map of frames to frames; a value: frozen, hashable, picklable, equal if it does the same."""

    @property
    def scope(self) -> Scope:
        """``"pixel"``: each pixel from itself; ``"local"``: from a region; ``"frame"``: from everything."""
        ...

    def out_shape(self, sig: tuple[int, ...]) -> tuple[int, ...]:
        """Return the signal shape after the transform; raises `UDFError` where it does not fit `sig`."""
        ...

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype after the transform."""
        ...

    def input_slice(self, out_slice: Region, sig_shape: tuple[int, ...]) -> Region:
        """Return the region of frames of `sig_shape` that `out_slice` needs, clipped to the frame."""
        ...

    def apply(
        self,
        tile: npt.NDArray[Any],
        in_slice: Region,
        out_slice: Region,
        out: npt.NDArray[Any],
        sig_shape: tuple[int, ...],
    ) -> None:
        """Write the region `out_slice` of the transformed frames to `out`, ``(depth, *out region)``.

        `tile`, ``(depth, *in region)``, holds the region `in_slice` = ``input_slice(out_slice, sig_shape)``
        of frames of `sig_shape`; it is not changed.
        """
        ...


@dataclass(frozen=True)
class PreChain:
    """Transforms in order, for frames of one shape and dtype.

    Thread-safe: each `apply` allocates what it needs between the steps.

    Attributes
    ----------
    transforms
        First is applied first.
    sig_shape, dtype
        Of the frames that enter.
    out_shape, out_dtype
        Of the frames that leave.

    Raises
    ------
    UDFError
        If a transform does not fit the frames that reach it.

    Examples
    --------
    >>> chain = PreChain((Crop((slice(2, 10), slice(0, 8))), Bin(2)), (16, 16), "uint16")
    >>> chain.out_shape, chain.out_dtype, chain.input_slice((slice(1, 3), slice(0, 4)))
    ((4, 4), dtype('uint64'), (slice(4, 8, None), slice(0, 8, None)))
    """

    transforms: tuple[Transform, ...]
    sig_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    out_shape: tuple[int, ...] = field(init=False, compare=False, repr=False)
    out_dtype: np.dtype[Any] = field(init=False, compare=False, repr=False)
    _steps: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shape, dtype = tuple(int(n) for n in self.sig_shape), np.dtype(self.dtype)
        steps = [(shape, dtype)]
        for t in self.transforms:
            if not isinstance(t, Transform):
                raise UDFError(
                    f"pre= takes transforms such as Crop, Bin or Apply(function), got {type(t).__name__}"
                )
            shape, dtype = t.out_shape(shape), np.dtype(t.out_dtype(dtype))
            steps.append((shape, dtype))
        for name, value in (
            ("transforms", tuple(self.transforms)),
            ("sig_shape", steps[0][0]),
            ("dtype", steps[0][1]),
            ("out_shape", shape),
            ("out_dtype", dtype),
            ("_steps", tuple(steps)),
        ):
            object.__setattr__(self, name, value)

    @property
    def scope(self) -> Scope:
        """The widest scope of the transforms; ``"pixel"`` without any."""
        scopes = {t.scope for t in self.transforms}
        return "frame" if "frame" in scopes else "local" if "local" in scopes else "pixel"

    def _regions(self, out_slice: Region) -> list[Region]:
        """Return the region of each step's input, and `out_slice` last."""
        regions = [tuple(out_slice)]
        for t, (shape, _) in zip(self.transforms[::-1], self._steps[-2::-1], strict=True):
            regions.append(t.input_slice(regions[-1], shape))
        return regions[::-1]

    def input_slice(self, out_slice: Region) -> Region:
        """Return the region of the source frames that the region `out_slice` of the result needs."""
        return self._regions(out_slice)[0]

    def apply(self, tile: npt.NDArray[Any], out_slice: Region, out: npt.NDArray[Any]) -> None:
        """Write the region `out_slice` of the transformed frames to `out`.

        Parameters
        ----------
        tile
            ``(depth, *input_slice(out_slice))``; not changed.
        out
            ``(depth, *out_slice)`` in `out_dtype`.
        """
        regions = self._regions(out_slice)
        if not self.transforms:
            np.copyto(out, tile)
            return
        data = tile
        last = len(self.transforms) - 1
        for i, t in enumerate(self.transforms):
            shape = tuple(s.stop - s.start for s in regions[i + 1])
            target = out if i == last else np.empty((len(tile), *shape), dtype=self._steps[i + 1][1])
            t.apply(data, regions[i], regions[i + 1], target, self._steps[i][0])
            data = target
