"""Transforms of pixel values: mask, log, threshold, blur, any function.

All are values (frozen, hashable, equal by content). Regions and the protocol are explained in `pre`.
"""

# ruff: noqa: D102  # the methods are documented by the protocol in `pre`

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.transform_base import Array, Dtype, Pointwise, Region, Scope, Sig


def _float_for(dtype: Dtype) -> Dtype:
    """Return the float (or complex) dtype in which functions of `dtype` keep its precision."""
    return np.result_type(dtype, np.float32)


class Mask(Pointwise):
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
class Log(Pointwise):
    """Natural logarithm of the value plus `offset`, float; what is not positive then becomes NaN or -inf."""

    offset: float = 1.0

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return _float_for(dtype)

    def apply(self, tile: Array, in_slice: Region, out_slice: Region, out: Array, sig_shape: Sig) -> None:
        np.add(tile, out.dtype.type(self.offset), out=out)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.log(out, out=out)


@dataclass(frozen=True)
class Threshold(Pointwise):
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
class Gaussian(Pointwise):
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
