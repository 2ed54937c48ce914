"""Transforms that move or join pixels: crop, bin, flip, rotate.

All are values (frozen, hashable, equal by content). Regions and the protocol are explained in `pre`.
"""

# ruff: noqa: D102  # the methods are documented by the protocol in `pre`

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from framefold.errors import UDFError
from framefold.udfcore.buffers import wide
from framefold.udfcore.transform_base import Array, Dtype, Pointwise, Region, Scope, Sig


@dataclass(frozen=True)
class Crop(Pointwise):
    """Keep a rectangle of the detector; only that part is read.

    Parameters
    ----------
    slices
        One per signal axis, as for numpy, step 1; or pairs ``(start, stop)``.
    """

    slices: Any
    scope: ClassVar[Scope] = "local"

    def __post_init__(self) -> None:
        given = self.slices if isinstance(self.slices, Sequence) else (self.slices,)
        if any(isinstance(s, slice) and s.step not in (None, 1) for s in given):
            raise UDFError(f"Crop takes slices of step 1, got {self.slices}: use Bin to make frames smaller")
        # slices are hashable from Python 3.12 on only
        pairs = tuple((s.start, s.stop) if isinstance(s, slice) else tuple(s) for s in given)
        object.__setattr__(self, "slices", pairs)

    def _bounds(self, sig: Sig) -> list[tuple[int, int]]:
        if len(self.slices) != len(sig):
            raise UDFError(f"Crop has {len(self.slices)} slices, the frames have the {len(sig)} axes {sig}")
        found = [slice(a, b).indices(n)[:2] for (a, b), n in zip(self.slices, sig, strict=True)]
        if any(a >= b for a, b in found):
            raise UDFError(f"Crop({self.slices}) of frames of shape {sig} is empty")
        return found

    def out_shape(self, sig: Sig) -> Sig:
        return tuple(b - a for a, b in self._bounds(sig))

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        bounds = self._bounds(sig_shape)
        return tuple(slice(s.start + a, s.stop + a) for s, (a, _) in zip(out_slice, bounds, strict=True))

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.copyto(out, tile)


@dataclass(frozen=True, repr=False)
class Bin(Pointwise):
    """Sum blocks of `n` pixels along each axis (or ``(ny, nx)``); what is left over at the end is dropped.

    Sums are exact: integers become 64-bit, floats float64.
    """

    n: int | tuple[int, ...]
    scope: ClassVar[Scope] = "local"

    def __post_init__(self) -> None:
        n: Any = self.n
        sizes = (n,) if np.ndim(n) == 0 else tuple(n)
        if not sizes or any(int(k) != k or k < 1 for k in sizes):
            raise UDFError(f"Bin needs integers >= 1, got {n!r}")
        object.__setattr__(self, "n", int(sizes[0]) if np.ndim(n) == 0 else tuple(int(k) for k in sizes))

    def _sizes(self, sig: Sig) -> tuple[int, ...]:
        sizes = (self.n,) * len(sig) if isinstance(self.n, int) else self.n
        if len(sizes) != len(sig):
            raise UDFError(f"{self!r} has {len(sizes)} factors, the frames have the {len(sig)} axes {sig}")
        if any(k > n for k, n in zip(sizes, sig, strict=True)):
            raise UDFError(f"{self!r} is larger than the frames of shape {sig}")
        return sizes

    def out_shape(self, sig: Sig) -> Sig:
        return tuple(n // k for n, k in zip(sig, self._sizes(sig), strict=True))

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return wide(dtype)

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        sizes = self._sizes(sig_shape)
        return tuple(slice(s.start * k, s.stop * k) for s, k in zip(out_slice, sizes, strict=True))

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        sizes = self._sizes(sig_shape)
        if len(sizes) == 2:
            # numba is not needed to import udfcore
            from framefold.kernels.bin import bin_frames  # noqa: PLC0415

            bin_frames(tile, sizes[0], sizes[1], out)
            return
        blocks = [tile.shape[0]]
        for extent, k in zip(out.shape[1:], sizes, strict=True):
            blocks += [extent, k]
        tile.reshape(blocks).sum(axis=tuple(range(2, len(blocks), 2)), dtype=out.dtype, out=out)

    def __repr__(self) -> str:
        return f"Bin({self.n!r})"


@dataclass(frozen=True)
class Flip(Pointwise):
    """Reverse the signal axes `axes` (a number or several; default: all)."""

    axes: int | tuple[int, ...] | None = None
    scope: ClassVar[Scope] = "local"

    def __post_init__(self) -> None:
        if self.axes is not None:
            object.__setattr__(self, "axes", tuple(int(a) for a in np.atleast_1d(self.axes)))

    def _flipped(self, sig: Sig) -> set[int]:
        if self.axes is None:
            return set(range(len(sig)))
        assert isinstance(self.axes, tuple)
        if any(not -len(sig) <= a < len(sig) for a in self.axes):
            raise UDFError(f"Flip axes {self.axes} do not exist in frames of shape {sig}")
        return {a % len(sig) for a in self.axes}

    def out_shape(self, sig: Sig) -> Sig:
        self._flipped(sig)
        return sig

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        axes = self._flipped(sig_shape)
        return tuple(
            slice(n - s.stop, n - s.start) if i in axes else s
            for i, (s, n) in enumerate(zip(out_slice, sig_shape, strict=True))
        )

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.copyto(out, np.flip(tile, axis=tuple(a + 1 for a in self._flipped(sig_shape))))


@dataclass(frozen=True)
class Rot90(Pointwise):
    """Rotate 2-D frames by `k` times 90 degrees, in the sense of `numpy.rot90` (from axis 0 to axis 1)."""

    k: int = 1
    scope: ClassVar[Scope] = "local"

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", int(self.k) % 4)

    def out_shape(self, sig: Sig) -> Sig:
        if len(sig) != 2:
            raise UDFError(f"Rot90 needs 2-D frames, got shape {tuple(sig)}")
        return sig if self.k % 2 == 0 else sig[::-1]

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        y, x = out_slice
        rows, cols = sig_shape
        if self.k == 1:  # out[y, x] = in[x, cols - 1 - y]
            return (x, slice(cols - y.stop, cols - y.start))
        if self.k == 2:
            return (slice(rows - y.stop, rows - y.start), slice(cols - x.stop, cols - x.start))
        if self.k == 3:  # out[y, x] = in[rows - 1 - x, y]
            return (slice(rows - x.stop, rows - x.start), y)
        return out_slice

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.copyto(out, np.rot90(tile, self.k, axes=(1, 2)))
