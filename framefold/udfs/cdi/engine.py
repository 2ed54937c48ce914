"""Transforms and fused passes on the buffers of one array shape, kept while a recipe runs."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.udfcore.namespace import is_device, to_host, xp_of
from framefold.udfs.cdi import kernels, kernels_ml, reference
from framefold.udfs.cdi.state import CDI

Array = npt.NDArray[Any]
_LOCAL = threading.local()
_PLANNING = threading.Lock()
# below this many pixels FFTW's own threads cost more than they bring; above, measuring plans takes minutes
LARGE, HUGE = 2**19, 2**21


@dataclass(frozen=True)
class Line:
    """The likelihood along a line of transforms ``F + a D``, at any step a.

    Attributes
    ----------
    slopes
        Slope, curvature, and the part of the curvature that is never negative.
    change
        By how much it differs from that at 0.
    """

    slopes: Callable[[float], tuple[float, float, float]]
    change: Callable[[float], float]


class Engine(Protocol):
    """What algorithms compute with; arrays keep the namespace of the engine.

    ``forward`` returns the unnormalised transform, in a buffer that the next call overwrites.
    """

    def forward(self, obj: Any) -> Any: ...  # noqa: D102
    def backward(self, wave: Any) -> Any: ...  # noqa: D102
    def project(self, obj: Any, cdi: CDI) -> Any: ...  # noqa: D102
    def combine(  # noqa: D102
        self, rho: Any, m: Any, support: Any, rule: int, coefficients: tuple[float, ...], positive: bool
    ) -> Any: ...
    def gradient(self, wave: Any, cdi: CDI, scale: float) -> Any: ...  # noqa: D102
    def line(self, wave: Any, along: Any, cdi: CDI) -> Line: ...  # noqa: D102


class FFTWEngine:
    """pyfftw in place on one aligned buffer, and numba kernels.

    FFTW measures which plan is fastest (4 to 9 times faster than its guess at 256 x 256), so that rounding
    may differ from process to process, and with it, after hundreds of iterations, the end of a start.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], threads: int) -> None:
        import pyfftw  # noqa: PLC0415  # planned only where something runs

        self.scale = float(1 / np.sqrt(np.prod(shape)))
        self._work = pyfftw.empty_aligned(shape, dtype=dtype)
        self._real = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
        effort = "FFTW_ESTIMATE" if self._work.size > HUGE else "FFTW_MEASURE"
        axes = tuple(range(len(shape)))
        with _PLANNING:  # FFTW's planner is not thread-safe
            self._forward, self._backward = (
                pyfftw.FFTW(
                    self._work, self._work, axes=axes, direction=way, threads=threads, flags=(effort,)
                )
                for way in ("FFTW_FORWARD", "FFTW_BACKWARD")
            )

    def forward(self, obj: Array) -> Array:
        """Return the unnormalised transform of `obj`."""
        if obj is not self._work:
            self._work[...] = obj
        self._forward.execute()
        return self._work

    def backward(self, wave: Array) -> Array:
        """Return the unnormalised back transform of `wave`."""
        if wave is not self._work:
            self._work[...] = wave
        self._backward.execute()
        return self._work

    def project(self, obj: Array, cdi: CDI) -> Array:
        """Return the object nearest to `obj` that has the measured amplitudes."""
        wave = self.forward(obj)
        amplitude = cdi.data.amplitude
        if cdi.psf is not None:  # blurred model: amplitudes that give the measured ones when blurred
            amplitude = _unblurred(wave, cdi, self.scale)
        kernels.impose_amplitude(
            self._flat(wave), amplitude.reshape(-1), cdi.data.code.reshape(-1), self._real.type(self.scale)
        )
        return self.backward(wave)

    def combine(
        self, rho: Array, m: Array, support: Array, rule: int, coefficients: tuple[float, ...], positive: bool
    ) -> Array:
        """Return the next object, written into `rho`."""
        p, a, b, c, d = (self._real.type(v) for v in coefficients)
        kernels.next_object(
            self._flat(rho),
            self._flat(m),
            support.reshape(-1),
            rule,
            p,
            a,
            b,
            c,
            d,
            positive,
            self._flat(rho),
        )
        return rho

    def gradient(self, wave: Array, cdi: CDI, scale: float) -> Array:
        """Return `scale` times half the gradient of the likelihood by conj(F), of a unitary transform."""
        out = np.empty_like(wave)
        kernels_ml.gradient(
            self._flat(wave), cdi.data.intensity.reshape(-1), cdi.data.code.reshape(-1),
            self._real.type(scale), self._flat(out),
        )  # fmt: skip
        return out

    def line(self, wave: Array, along: Array, cdi: CDI) -> Line:
        """Return the likelihood along a line of unitary transforms."""
        given = (
            self._flat(wave),
            self._flat(along),
            cdi.data.intensity.reshape(-1),
            cdi.data.code.reshape(-1),
        )
        return Line(
            functools.partial(kernels_ml.line_slopes, *given),
            functools.partial(kernels_ml.line_change, *given),
        )

    def _flat(self, arr: Array) -> Array:
        return arr.reshape(-1).view(self._real)


class ArrayEngine:
    """The same as formulas on whole arrays: numpy for tests, CuPy for graphics cards."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def forward(self, obj: Any) -> Any:
        """Return the unnormalised transform of `obj`."""
        return self._xp.fft.fftn(obj).astype(obj.dtype)

    def backward(self, wave: Any) -> Any:
        """Return the unnormalised back transform of `wave`."""
        return self._xp.fft.ifftn(wave, norm="forward").astype(wave.dtype)

    def project(self, obj: Any, cdi: CDI) -> Any:
        """Return the object nearest to `obj` that has the measured amplitudes."""
        scale = obj.size**-0.5
        wave = self.forward(obj)
        amplitude = cdi.data.amplitude if cdi.psf is None else _unblurred(wave, cdi, scale)
        return self.backward(reference.impose_amplitude(self._xp, wave, amplitude, cdi.data.code, scale))

    def combine(
        self, rho: Any, m: Any, support: Any, rule: int, coefficients: tuple[float, ...], positive: bool
    ) -> Any:
        """Return the next object."""
        return reference.next_object(self._xp, rho, m, support, rule, coefficients, positive)

    def gradient(self, wave: Any, cdi: CDI, scale: float) -> Any:
        """Return `scale` times half the gradient of the likelihood by conj(F), of a unitary transform."""
        found = reference.gradient(self._xp, wave, cdi.data.intensity, cdi.data.code) * scale
        return found.astype(wave.dtype)

    def line(self, wave: Any, along: Any, cdi: CDI) -> Line:
        """Return the likelihood along a line of unitary transforms; each step waits for its numbers."""
        given = (self._xp, wave, along, cdi.data.intensity, cdi.data.code)
        return Line(
            lambda a: tuple(to_host(reference.line_slopes(*given, a)).tolist()),
            lambda a: float(reference.line_change(*given, a)),
        )


def _unblurred(wave: Any, cdi: CDI, scale: float) -> Any:
    """Return ``|F| sqrt(I / (|F|^2 blurred))``: what the modulus becomes under partial coherence.

    Clark et al., Nature Communications 3 (2012) 993, eq. 3.
    """
    from framefold.udfs.cdi.coherence import blur  # noqa: PLC0415  # only with partial coherence

    xp = xp_of(wave)
    model = xp.abs(wave) ** 2 * scale**2
    blurred = xp.maximum(blur(model, cdi.psf), 1e-12)
    return (xp.sqrt(model / blurred) * cdi.data.amplitude).astype(cdi.real_dtype)


@contextmanager
def shared_engines() -> Iterator[None]:
    """Keep engines of this thread until the end of the block."""
    if getattr(_LOCAL, "engines", None) is not None:
        yield
        return
    _LOCAL.engines = {}
    try:
        yield
    finally:
        _LOCAL.engines = None


def engine_for(cdi: CDI) -> Engine:
    """Return the engine for the arrays of a state: a shared one inside `shared_engines`."""
    if is_device(cdi.obj):
        return ArrayEngine(xp_of(cdi.obj))
    threads = cdi.threads
    if not threads:
        threads = (os.cpu_count() or 1) if np.prod(cdi.shape) >= LARGE else 1
    key = (cdi.shape, cdi.complex_dtype, threads)
    engines: dict[Any, Engine] | None = getattr(_LOCAL, "engines", None)
    if engines is None:
        return FFTWEngine(*key)
    if key not in engines:
        engines[key] = FFTWEngine(*key)
    return engines[key]
