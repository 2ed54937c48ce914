"""Corrections worked out for one signal shape and dtype, applied to tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Array = npt.NDArray[Any]
Sig = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class PreparedCorrections:
    """Corrections for one signal shape and dtype, ready to be applied to tiles.

    Attributes
    ----------
    sig_shape, dtype
        Of the corrected frames.
    dark, gain
        Signal shape, or ``(3, *sig)`` with `stages`, in the real type of `dtype`.
    pixels, starts, sources
        Flat index of each excluded pixel, and of its good neighbours as a compressed table.
    stages
        Whether pixels switch their gain.
    mask_value
        What excluded pixels become instead, or None.
    """

    sig_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dark: Array
    gain: Array
    pixels: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    stages: bool
    mask_value: float | None
    # what a part needs, by its place: the same few parts come again for every block of frames
    _parts: dict[tuple[tuple[int, int], ...], _Part] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def needs_halo(self) -> bool:
        """Whether a tile may need pixels outside itself."""
        return self.sources.size > 0

    def halo_sig(self, tile_sig: Sig, sig_shape: Sequence[int] | None = None) -> Sig:
        """Return the rectangle that holds `tile_sig` and all pixels that its repairs read."""
        sig = self.sig_shape if sig_shape is None else tuple(sig_shape)
        wanted = self._inside(tile_sig)
        if not wanted.size or not self.needs_halo:
            return tile_sig
        axes = np.unravel_index(self._sources_of(wanted)[1], sig)
        return tuple(
            slice(min(s.start, int(a.min())), max(s.stop, int(a.max()) + 1))
            for s, a in zip(tile_sig, axes, strict=True)
        )

    def apply(self, raw: Array, read_sig: Sig, tile_sig: Sig, out: Array) -> None:
        """Correct the part `tile_sig` of `raw` into `out`.

        Parameters
        ----------
        raw
            ``(depth, *read part)``, covering the rectangle `read_sig` of the signal axes.
        read_sig
            At least `halo_sig` of the tile, slices with start and stop.
        tile_sig
            Rectangle inside `read_sig`.
        out
            ``(depth, *tile part)``, C-contiguous, of `dtype`; everything is written.
        """
        from framefold.kernels import correct as kernel  # noqa: PLC0415  # numba takes 0.3 s

        key = tuple((s.start, s.stop) for s in (*read_sig, *tile_sig))
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = self._part(read_sig, tile_sig)
        tile = raw if part.within is None else raw[(slice(None), *part.within)]
        if self.stages:
            if raw.dtype != np.uint16:
                raise DataError(
                    f"gain_stages needs uint16 data with the stage in bits 15..14, not {raw.dtype}"
                )
            kernel.correct_stages(tile, part.dark, part.gain, out)
        else:
            kernel.correct(tile, part.dark, part.gain, out)
        if not part.target.size:
            return
        if self.mask_value is not None:
            out.reshape(len(out), -1)[:, part.target] = self.mask_value
            return
        fix = kernel.repair_stages if self.stages else kernel.repair
        fix(raw, part.target, part.starts, part.sources, part.source_dark, part.source_gain, out)

    def _inside(self, tile_sig: Sig) -> npt.NDArray[np.int64]:
        """Return which excluded pixels lie in the part."""
        inside = np.ones(self.pixels.size, np.bool_)
        for axis, s in (
            zip(np.unravel_index(self.pixels, self.sig_shape), tile_sig, strict=True)
            if self.sig_shape
            else ()
        ):
            inside &= (axis >= s.start) & (axis < s.stop)
        return np.flatnonzero(inside)

    def _sources_of(
        self, wanted: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the table of neighbours (starts, sources) of some of the pixels."""
        first = self.starts[wanted]
        counts = self.starts[wanted + 1] - first
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        place = np.arange(starts[-1]) + np.repeat(first - starts[:-1], counts)
        return starts, self.sources[place]

    def _part(self, read_sig: Sig, tile_sig: Sig) -> _Part:
        wanted = self._inside(tile_sig)
        starts, sources = self._sources_of(wanted)
        lead = (slice(None),) if self.stages else ()
        # 0-d frames have one pixel and no axes
        shape = (3, -1) if self.stages else (-1,)
        return _Part(
            within=None if read_sig == tile_sig else _relative(tile_sig, read_sig),
            dark=np.ascontiguousarray(self.dark[(*lead, *tile_sig)]).reshape(shape),
            gain=np.ascontiguousarray(self.gain[(*lead, *tile_sig)]).reshape(shape),
            target=_moved(self.pixels[wanted], self.sig_shape, tile_sig),
            starts=starts,
            sources=_moved(sources, self.sig_shape, read_sig),
            source_dark=np.ascontiguousarray(self.dark.reshape(shape)[..., sources]),
            source_gain=np.ascontiguousarray(self.gain.reshape(shape)[..., sources]),
        )


@dataclass(frozen=True)
class _Part:
    """The arguments of the kernels for one part of the frame."""

    within: Sig | None
    dark: Array
    gain: Array
    target: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    source_dark: Array
    source_gain: Array


def _relative(inner: Sig, outer: Sig) -> Sig:
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))


def _moved(flat: npt.NDArray[np.int64], shape: tuple[int, ...], part: Sig) -> npt.NDArray[np.int64]:
    """Return flat indices of a frame as flat indices of its rectangle `part`."""
    if not shape or not flat.size:
        return flat.astype(np.int64)
    axes = np.unravel_index(flat, shape)
    inner = [a - s.start for a, s in zip(axes, part, strict=True)]
    return np.ravel_multi_index(inner, [s.stop - s.start for s in part]).astype(np.int64)
