"""The transforms that `pre=` takes: crop, bin, mask, log, threshold, blur, flip, rotate, any function.

All are values (frozen, hashable, equal by content). Regions and the protocol are explained in `pre`.
"""

# ruff: noqa: D102  # the methods are documented by the protocol in `pre`

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import wide

Array: TypeAlias = npt.NDArray[Any]
Region: TypeAlias = tuple[slice, ...]
Sig: TypeAlias = tuple[int, ...]
Dtype: TypeAlias = np.dtype[Any]
Scope: TypeAlias = Literal["pixel", "local", "frame"]


def _float_for(dtype: Dtype) -> Dtype:
    """Return the float (or complex) dtype in which functions of `dtype` keep its precision."""
    return np.result_type(dtype, np.float32)


class _Same:
    """Shape, dtype and region stay as they are; each pixel depends on itself only."""

    scope: ClassVar[Scope] = "pixel"

    def out_shape(self, sig: Sig) -> Sig:
        return sig

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return dtype

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        return out_slice


@dataclass(frozen=True)
class Crop(_Same):
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
class Bin(_Same):
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


class Mask(_Same):
    """Keep the pixels where `array` (bool, signal shape) is True, zero the others; or multiply by weights.

    Bool masks keep the dtype; weights give the joint dtype.
    """

    def __init__(self, array: npt.ArrayLike) -> None:
        self.array = np.array(array)
        if self.array.dtype.kind not in "biufc":
            raise UDFError(f"Mask needs bool or numbers, got {self.array.dtype}")
        self.array.flags.writeable = False
        content = (self.array.shape, self.array.dtype.str, np.ascontiguousarray(self.array).tobytes())
        self._digest = hashlib.sha256(repr(content[:2]).encode() + content[2]).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Mask, (self.array,))

    def __repr__(self) -> str:
        return f"Mask(<{self.array.dtype} {self.array.shape} {self._digest.hex()[:8]}>)"

    def out_shape(self, sig: Sig) -> Sig:
        if self.array.shape != tuple(sig):
            raise UDFError(f"the mask has shape {self.array.shape}, the frames {tuple(sig)}")
        return sig

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return dtype if self.array.dtype.kind == "b" else np.result_type(dtype, self.array.dtype)

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        part = self.array[out_slice]
        if self.array.dtype.kind == "b":
            np.copyto(out, tile)
            out[:, ~part] = 0  # also what is NaN
        else:
            np.multiply(tile, part, out=out)


@dataclass(frozen=True)
class Log(_Same):
    """Natural logarithm of the value plus `offset`, float; what is not positive then becomes NaN or -inf."""

    offset: float = 1.0

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return _float_for(dtype)

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.add(tile, out.dtype.type(self.offset), out=out)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.log(out, out=out)


@dataclass(frozen=True)
class Threshold(_Same):
    """Zero what is below `low` or above `high`; None: no limit. NaN stays."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UDFError(f"Threshold needs low <= high, got {self.low} and {self.high}")

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.copyto(out, tile)
        if self.low is not None:
            out[tile < self.low] = 0
        if self.high is not None:
            out[tile > self.high] = 0


@dataclass(frozen=True)
class Gaussian(_Same):
    """Gaussian blur as `scipy.ndimage.gaussian_filter` with ``truncate=4``, float.

    Parameters
    ----------
    sigma
        Pixels, one number or one per axis.
    mode
        Beyond the frame: ``"reflect"`` (about the pixel edge) or ``"constant"`` (zero).
    """

    sigma: float | tuple[float, ...]
    mode: Literal["reflect", "constant"] = "reflect"
    scope: ClassVar[Scope] = "local"

    def __post_init__(self) -> None:
        one = np.ndim(self.sigma) == 0
        sigmas = tuple(float(s) for s in np.atleast_1d(self.sigma))
        if not sigmas or any(not s >= 0 for s in sigmas):
            raise UDFError(f"Gaussian needs sigma >= 0, got {self.sigma!r}")
        if self.mode not in ("reflect", "constant"):
            raise UDFError(f"Gaussian mode is 'reflect' or 'constant', got {self.mode!r}")
        object.__setattr__(self, "sigma", sigmas[0] if one else sigmas)

    def _sigmas(self, sig: Sig) -> tuple[float, ...]:
        sigmas = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,) * len(sig)
        if len(sigmas) != len(sig):
            raise UDFError(f"Gaussian has {len(sigmas)} sigmas, the frames have the {len(sig)} axes {sig}")
        return sigmas

    def out_shape(self, sig: Sig) -> Sig:
        self._sigmas(sig)
        return sig

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return _float_for(dtype)

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        halo = [int(4 * s + 0.5) for s in self._sigmas(sig_shape)]  # scipy's radius for truncate=4
        return tuple(
            slice(max(0, s.start - h), min(n, s.stop + h))
            for s, h, n in zip(out_slice, halo, sig_shape, strict=True)
        )

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        from scipy.ndimage import gaussian_filter  # noqa: PLC0415  # keeps `import framefold` quick

        # at the border of the frame the region ends with it; elsewhere what is wrong lies in the halo
        blurred = gaussian_filter(
            tile.astype(out.dtype, copy=False), (0, *self._sigmas(sig_shape)), mode=self.mode, truncate=4.0
        )
        inner = (slice(o.start - i.start, o.stop - i.start) for o, i in zip(out_slice, in_slice, strict=True))
        np.copyto(out, blurred[(slice(None), *inner)])


@dataclass(frozen=True)
class Flip(_Same):
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
class Rot90(_Same):
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


@dataclass(frozen=True)
class Apply:
    """Call `f` with each whole frame; equal if `f` is the same object.

    Parameters
    ----------
    f
        Takes an array of the signal shape, returns an array; must be picklable for worker processes.
    shape
        Signal shape of what `f` returns; None: that of the frame.
    dtype
        dtype of what `f` returns; None: that of the frame.
    """

    f: Callable[[Array], Any]
    shape: tuple[int, ...] | None = None
    dtype: Any = None
    scope: ClassVar[Scope] = "frame"

    def __post_init__(self) -> None:
        if not callable(self.f):
            raise UDFError(f"Apply needs a function of a frame, got {type(self.f).__name__}")
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(int(n) for n in np.atleast_1d(self.shape)))
        if self.dtype is not None:
            object.__setattr__(self, "dtype", np.dtype(self.dtype))

    def out_shape(self, sig: Sig) -> Sig:
        return sig if self.shape is None else self.shape

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return dtype if self.dtype is None else np.dtype(self.dtype)

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        return tuple(slice(0, n) for n in sig_shape)

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        expected = self.out_shape(sig_shape)
        name = getattr(self.f, "__name__", type(self.f).__name__)
        for frame, target in zip(tile, out, strict=True):
            result = np.asarray(self.f(frame))
            if result.shape != tuple(expected):
                raise UDFError(
                    f"{name} returned shape {result.shape}, expected {expected}: pass "
                    f"Apply({name}, shape={result.shape})"
                )
            if not np.can_cast(result.dtype, target.dtype, "same_kind"):
                raise UDFError(
                    f"{name} returned {result.dtype}, expected {target.dtype}: pass "
                    f'Apply({name}, dtype="{result.dtype}")'
                )
            np.copyto(target, result[out_slice], casting="same_kind")
