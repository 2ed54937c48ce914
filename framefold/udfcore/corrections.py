"""What is wrong with the detector: dark frame, gain, excluded pixels, as a value."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.badpixels import BadPixels
from framefold.udfcore.prepared import PreparedCorrections

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Corrections:
    """Linear detector corrections: ``(raw - dark) * gain``, then excluded pixels are replaced.

    Equal values are equal: two objects made from the same arrays have the same `identity`.

    Attributes
    ----------
    dark
        Number or array of signal shape, in counts.
    gain
        Number or array of signal shape. It **multiplies**: flat-field counts have to be inverted
        (`from_flatfield` does). Dark and gain are finite wherever a pixel is not excluded.
    excluded_pixels
        Bool array, True where a pixel is bad; integer pixel mask, bad where not zero; scipy or pydata sparse
        array; or a list of coordinates. Bad pixels become the mean of their good neighbours in the 3 x 3
        surround, or the smallest larger one (5 x 5, ...) that has any; NaN if no pixel is good.
    gain_stages
        Pair ``(pedestal, gain)`` of arrays ``(3, *sig)`` for detectors that switch gain per pixel and frame
        (Jungfrau): raw uint16, bits 15..14 = 0, 1, 3 for stage 0, 1, 2. The code 2 is an invalid pixel: NaN.
        Replaces `dark` and `gain`.
    mask_value
        What excluded pixels become instead of the mean of their neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> c = Corrections(dark=np.full((4, 4), 10.0), gain=2.0, excluded_pixels=[(0, 0)])
    >>> c.correct(np.full((1, 4, 4), 13, "uint16"))[0, 0]
    array([6., 6., 6., 6.], dtype=float32)
    """

    dark: Any = None
    gain: Any = None
    excluded_pixels: Any = None
    gain_stages: Any = None
    mask_value: float | None = None

    def __post_init__(self) -> None:
        for name in ("dark", "gain"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _frozen(value, name))
        if self.gain_stages is not None:
            if self.dark is not None or self.gain is not None:
                raise DataError(
                    "gain_stages holds pedestals and gains: dark= and gain= cannot be given beside it"
                )
            stages = self.gain_stages
            if not isinstance(stages, (tuple, list)) or len(stages) != 2:
                raise DataError("gain_stages is a pair (pedestal, gain) of arrays of shape (3, *sig)")
            pair = tuple(_frozen(a, f"gain_stages[{i}]") for i, a in enumerate(stages))
            if pair[0].shape != pair[1].shape or pair[0].ndim < 1 or pair[0].shape[0] != 3:
                raise DataError(
                    f"gain_stages needs two arrays of shape (3, *sig), not "
                    f"{pair[0].shape} and {pair[1].shape}"
                )
            object.__setattr__(self, "gain_stages", pair)
        if self.excluded_pixels is not None:
            object.__setattr__(self, "excluded_pixels", BadPixels.of(self.excluded_pixels))

    @classmethod
    def from_flatfield(
        cls, flat: npt.ArrayLike, dark: Any = None, excluded_pixels: Any = None
    ) -> Corrections:
        """Return corrections with ``gain = mean(flat) / flat`` over good pixels.

        Parameters
        ----------
        flat
            Response of every pixel to the same dose, signal shape, dark frame subtracted. Pixels that are not
            finite or not positive count as excluded.
        dark, excluded_pixels
            As in `Corrections`.
        """
        counts = np.asarray(flat, dtype=np.float64)
        bad = ~(np.isfinite(counts) & (counts > 0))
        if excluded_pixels is not None:
            bad |= BadPixels.of(excluded_pixels).mask(counts.shape)
        if bad.all():
            raise DataError(
                f"the flat field of shape {counts.shape} has no good pixel: all are excluded, 0 or NaN"
            )
        gain = np.ones_like(counts)
        gain[~bad] = counts[~bad].mean() / counts[~bad]
        return cls(dark=dark, gain=gain, excluded_pixels=bad if bad.any() else None)

    @functools.cached_property
    def identity(self) -> str:
        """Hash of the contents: equal corrections have equal identities, in any process."""
        h = hashlib.sha256()
        pixels = self.excluded_pixels
        arrays = (
            self.dark,
            self.gain,
            *(self.gain_stages or (None, None)),
            None if pixels is None else pixels.data,
        )
        for a in arrays:
            h.update(
                b"-" if a is None else f"{a.dtype.str}{a.shape}".encode() + np.ascontiguousarray(a).tobytes()
            )
        h.update(repr(self.mask_value).encode())
        return h.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corrections) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def check(self, sig_shape: Sequence[int]) -> None:
        """Raise `DataError` if the arrays do not fit frames of `sig_shape`."""
        sig = tuple(sig_shape)
        named = [("dark", self.dark), ("gain", self.gain)]
        if self.gain_stages is not None:
            named = [(f"gain_stages[{i}]", a[0]) for i, a in enumerate(self.gain_stages)]
        bad = self.excluded_mask(sig)
        for name, value in named:
            if value is None:
                continue
            if value.ndim and value.shape != sig:
                raise DataError(f"{name} has shape {value.shape}, the frames have {sig}")
            wrong = ~np.isfinite(value) & ~bad
            if wrong.any():
                first = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise DataError(
                    f"{name} is not finite in {int(wrong.sum())} pixels, first {first}: exclude these pixels "
                    "(excluded_pixels=) or give numbers"
                )

    def excluded_mask(self, sig_shape: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return a bool array of `sig_shape`, True where a pixel is excluded."""
        sig = tuple(sig_shape)
        return np.zeros(sig, np.bool_) if self.excluded_pixels is None else self.excluded_pixels.mask(sig)

    def prepare(self, sig_shape: Sequence[int], dtype: npt.DTypeLike) -> PreparedCorrections:
        """Return what the kernels need to correct frames of `sig_shape` to `dtype` (float or complex)."""
        from framefold.kernels.correct import good_neighbours  # noqa: PLC0415  # numba takes 0.3 s

        sig, dt = tuple(sig_shape), np.dtype(dtype)
        if dt.kind not in "fc":
            raise DataError(f"corrected frames are float or complex, not {dt}: ask for float32 or float64")
        self.check(sig)
        real = np.dtype(f"f{dt.itemsize // 2}") if dt.kind == "c" else dt
        bad = self.excluded_mask(sig)
        stages = self.gain_stages
        if stages is None:
            dark = np.broadcast_to(0.0 if self.dark is None else self.dark, sig)
            gain = np.broadcast_to(1.0 if self.gain is None else self.gain, sig)
        else:
            dark, gain = stages
        # a pixel that will be replaced may have any dark and gain, also NaN
        dark, gain = np.where(bad, 0.0, dark).astype(real), np.where(bad, 1.0, gain).astype(real)
        if self.mask_value is None:
            pixels, starts, sources = good_neighbours(bad)
        else:
            pixels = np.flatnonzero(bad).astype(np.int64)
            starts, sources = np.zeros(len(pixels) + 1, np.int64), np.zeros(0, np.int64)
        return PreparedCorrections(
            sig, dt, dark, gain, pixels, starts, sources, stages is not None, self.mask_value
        )

    def correct(self, frames: Array, dtype: npt.DTypeLike | None = None) -> Array:
        """Return whole frames ``(n, *sig)`` corrected, to the result type with float32 if `dtype` is None."""
        out = np.empty(frames.shape, np.result_type(frames, np.float32) if dtype is None else dtype)
        whole = tuple(slice(0, n) for n in frames.shape[1:])
        self.prepare(frames.shape[1:], out.dtype).apply(frames, whole, whole, out)
        return out

    def correct_sum(self, total: Array, count: npt.ArrayLike) -> Array:
        """Return the sum of corrected frames from the sum of raw ones.

        It is ``(total - count * dark) * gain``, then repaired: corrections without gain stages are linear,
        so that nothing is lost by correcting once at the end.

        Parameters
        ----------
        total
            Signal shape.
        count
            Frames inside, per pixel or for all.

        Returns
        -------
        float64, or complex128 for complex data.
        """
        if self.gain_stages is not None:
            raise DataError("gain_stages is not linear: correct each frame")
        p = self.prepare(total.shape, np.result_type(total.dtype, np.float64))
        frames = np.broadcast_to(count, total.shape)
        out = np.ascontiguousarray((total - frames * p.dark) * p.gain).astype(p.dtype, copy=False)
        flat = out.reshape(-1)
        if self.mask_value is not None:
            flat[p.pixels] = self.mask_value * frames.reshape(-1)[p.pixels]
        elif p.sources.size:
            flat[p.pixels] = np.add.reduceat(flat[p.sources], p.starts[:-1]) / np.diff(p.starts)
        else:
            flat[p.pixels] = np.nan
        return out

    def pixel_weights(self, sig_shape: Sequence[int]) -> tuple[Array, Array]:
        """Return weights w and offsets o: a corrected frame sums to the sum of ``w * raw - o``.

        An excluded pixel has weight 0; its good neighbours carry what it is replaced by. Both float64 of
        `sig_shape`; offsets are NaN where a pixel cannot be replaced.
        """
        if self.gain_stages is not None:
            raise DataError("gain_stages is not linear: correct each frame")
        p = self.prepare(sig_shape, np.float64)
        share = np.ones(p.gain.size)
        share[p.pixels] = 0
        n = np.diff(p.starts)
        np.add.at(share, p.sources, np.repeat(1 / np.maximum(n, 1), n))
        weights = share * p.gain.reshape(-1)
        offsets = weights * p.dark.reshape(-1)
        if self.mask_value is not None:
            offsets[p.pixels] = -self.mask_value
        else:
            offsets[p.pixels[n == 0]] = np.nan
        return weights.reshape(p.sig_shape), offsets.reshape(p.sig_shape)


def _frozen(value: Any, name: str) -> Array:
    a = np.array(value)
    if a.dtype.kind not in "buif":
        raise DataError(f"{name} of dtype {a.dtype}: real numbers are needed")
    a.flags.writeable = False
    return a


__all__ = ["Corrections", "PreparedCorrections"]
