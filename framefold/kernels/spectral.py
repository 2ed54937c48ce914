"""Rings and peaks in the Fourier amplitude of frames.

Only the columns up to the outer radius are transformed along y: the rest is never looked at.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from framefold.kernels.formula import or_formula


@dataclass(frozen=True, eq=False)
class HalfRing:
    """Frequencies ``inner < |k| <= outer`` (cycles per frame) in the half plane ``kx >= 0``.

    Attributes
    ----------
    shape
        Rows, columns of a frame.
    columns
        How many columns of the half spectrum are needed.
    mask
        Bool ``(rows, columns)``, in the order of `numpy.fft.rfft2`.
    """

    shape: tuple[int, ...]
    columns: int
    mask: npt.NDArray[np.bool_]


def half_ring(shape: tuple[int, ...], inner: float, outer: float) -> HalfRing:
    """Return the ring of a frame of `shape`; radii in cycles per frame, which are pixels of the spectrum."""
    ky = np.fft.fftfreq(shape[0], 1 / shape[0])[:, None]
    kx = np.arange(shape[1] // 2 + 1)[None, :]
    k2 = ky**2 + kx**2
    mask = (k2 <= outer**2) & (k2 > inner**2)
    used = np.flatnonzero(mask.any(axis=0))
    columns = int(used[-1]) + 1 if len(used) else 0
    return HalfRing(shape, columns, np.ascontiguousarray(mask[:, :columns]))


class HalfTransform:
    """Transforms frames of one shape, one at a time; belongs to one thread.

    Measured for 256 x 256 frames: 116 us, `half_spectrum` 148 us. Measured plans would take 75 us, but they
    differ from run to run, and results would no longer repeat bitwise.

    Parameters
    ----------
    ring
        Which frequencies are needed.
    double
        Calculate in float64 instead of float32.
    """

    def __init__(self, ring: HalfRing, double: bool = False) -> None:
        import pyfftw  # noqa: PLC0415  # 50 ms that `import framefold` need not pay

        rows, cols = ring.shape
        real, cplx = ("float64", "complex128") if double else ("float32", "complex64")
        self._in = pyfftw.empty_aligned((rows, cols), real)
        middle = pyfftw.empty_aligned((rows, cols // 2 + 1), cplx)
        self._out = pyfftw.empty_aligned((rows, ring.columns), cplx)
        with _PLANNING:  # FFTW's planner has global state
            self._along_x = pyfftw.FFTW(self._in, middle, axes=(1,), flags=("FFTW_ESTIMATE",))
            self._along_y = pyfftw.FFTW(
                middle[:, : ring.columns], self._out, axes=(0,), flags=("FFTW_ESTIMATE",)
            )

    def __call__(
        self, frame: npt.NDArray[Any], window: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[Any]:
        """Return the first columns of ``rfft2(frame * window)``; overwritten by the next call."""
        if window is None:
            np.copyto(self._in, frame, casting="same_kind" if frame.dtype.kind == "f" else "unsafe")
        else:
            np.multiply(frame, window, out=self._in, casting="unsafe", dtype=self._in.dtype)
        self._along_x.execute()
        self._along_y.execute()
        return np.asarray(self._out)


_PLANNING = threading.Lock()


def half_spectrum(
    tile: npt.NDArray[Any], ring: HalfRing, window: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[Any]:
    """Return the first columns of ``rfft2(tile * window)``: what `HalfTransform` gives, with scipy."""
    import scipy.fft  # noqa: PLC0415  # 30 ms that `import framefold` need not pay

    real = np.float64 if tile.dtype == np.float64 else np.float32
    frames: Any = tile.astype(real, copy=False) if window is None else np.multiply(tile, window, dtype=real)
    rows = scipy.fft.rfft(frames, axis=-1, workers=1)[..., : ring.columns]
    return np.asarray(scipy.fft.fft(rows, axis=-2, workers=1))


def ring_amplitude_by_fft(
    tile: npt.NDArray[Any], ring: HalfRing, window: Any = None, transform: Any = None
) -> npt.NDArray[np.float64]:
    """Return what `ring_amplitude` returns, of all frames at once; ``ring.mask`` lies where `tile` does."""
    frames = tile.astype(np.float64 if tile.dtype == np.float64 else np.float32)
    spectrum = np.fft.rfft2(frames if window is None else frames * window)[..., : ring.columns]
    amplitude: npt.NDArray[np.float64] = (np.abs(spectrum) * ring.mask).sum(axis=(1, 2), dtype=np.float64)
    return amplitude


@or_formula(ring_amplitude_by_fft)
def ring_amplitude(
    tile: npt.NDArray[Any],
    ring: HalfRing,
    window: npt.NDArray[np.float32] | None = None,
    transform: HalfTransform | None = None,
) -> npt.NDArray[np.float64]:
    """Return the sum of the Fourier amplitude over `ring` for each frame ``(depth, rows, columns)``.

    `window`, float32 of the frame's shape, multiplies the frames first. `transform` was made for `ring`;
    None: make one. Real frames only.
    """
    out = np.zeros(len(tile))
    if not ring.columns or not tile.size:
        return out
    transform = HalfTransform(ring, tile.dtype == np.float64) if transform is None else transform
    index = np.flatnonzero(ring.mask)
    for f, frame in enumerate(tile):
        amplitude_sum(transform(frame, window).reshape(1, -1), index, out[f : f + 1])
    return out


@numba.njit(nogil=True, cache=True)
def amplitude_sum(spectrum: Any, index: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Add the amplitudes at the flat positions `index` of each row of `spectrum` to `out`."""
    for f in range(out.shape[0]):
        s = 0.0
        for i in index:
            v = spectrum[f, i]
            s += np.sqrt(v.real * v.real + v.imag * v.imag)
        out[f] += s


@numba.njit(nogil=True, cache=True)
def strongest_peaks(power: Any, mask: Any, position: Any, height: Any) -> int:  # pragma: no cover - compiled
    """Find the strongest local maxima of one half spectrum.

    Parameters
    ----------
    power
        ``(rows, columns)`` in the order of rfft2, rows periodic.
    mask
        Bool, where to look. A pixel counts if no neighbour in the mask is larger.
    position, height
        Outputs ``(n, 2)`` int64 (row, column) and ``(n,)``, strongest first.

    Returns
    -------
    int
        How many were found, at most `n`.
    """
    rows, cols = power.shape
    n = height.shape[0]
    found = 0
    for y in range(rows):
        for x in range(cols):
            if not mask[y, x]:
                continue
            v = power[y, x]
            top = v > 0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    yy, xx = (y + dy) % rows, x + dx
                    if xx == -1:  # the other half plane is this one, mirrored
                        yy, xx = (-yy) % rows, 1
                    if (dy == 0 and dx == 0) or xx >= cols or not mask[yy, xx]:
                        continue
                    w = power[yy, xx]
                    # of equal neighbours the first in reading order counts
                    if w > v or (w == v and (yy, xx) < (y, x)):
                        top = False
            if x == 0 and y > rows // 2:  # mirror image of row rows - y
                top = False
            if not top or (found == n and v <= height[n - 1]):
                continue
            at = min(found, n - 1)
            while at > 0 and height[at - 1] < v:
                height[at] = height[at - 1]
                position[at] = position[at - 1]
                at -= 1
            height[at] = v
            position[at, 0] = y
            position[at, 1] = x
            found = min(found + 1, n)
    return found


def ring_amplitude_reference(
    tile: npt.NDArray[Any], inner: float, outer: float, window: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.float64]:
    """Return what `ring_amplitude` returns, with numpy in float64."""
    frames = tile.astype(np.float64) * (1.0 if window is None else window)
    ky, kx = np.fft.fftfreq(tile.shape[1], 1 / tile.shape[1]), np.arange(tile.shape[2] // 2 + 1)
    k = np.hypot(ky[:, None], kx[None, :])
    return np.asarray((np.abs(np.fft.rfft2(frames)) * ((k <= outer) & (k > inner))).sum(axis=(1, 2)))
