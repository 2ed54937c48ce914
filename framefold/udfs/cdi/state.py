"""The state of a coherent diffraction reconstruction: measured intensities, object, support."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.namespace import is_device, namespace, to_host, xp_of

# what a detector pixel is to the reconstruction
MASKED, MEASURED, FREE = 0, 1, 2
Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Diffraction:
    """Measured intensities with the origin of frequencies at index 0, as transforms have it.

    Attributes
    ----------
    intensity
        Counts, float32 or float64; 0 where nothing was measured, unless interpolated.
    code
        uint8: `MASKED`, `MEASURED`, or `FREE`, measured but held out of the reconstruction.
    """

    intensity: npt.NDArray[np.floating[Any]]
    code: npt.NDArray[np.uint8]

    @cached_property
    def amplitude(self) -> npt.NDArray[np.floating[Any]]:
        """Square root of the intensity, computed once for all states that share the data."""
        return xp_of(self.intensity).sqrt(self.intensity)

    @property
    def counts(self) -> float:
        """Sum of all measured counts."""
        return float((self.intensity * (self.code != MASKED)).sum(dtype=np.float64))

    def on(self, backend: str) -> Diffraction:
        """Return the same in arrays of a backend."""
        return Diffraction(_moved(self.intensity, backend), _moved(self.code, backend))


@dataclass(frozen=True, eq=False)
class CDI:
    """A reconstruction at some point: a value, of which ``operator * cdi`` makes the next.

    States share the arrays that did not change; nothing is ever written into them.

    Parameters
    ----------
    iobs
        Measured intensities, counts, 2-D or 3-D, the direct beam at ``n // 2`` of each axis. NaN and negative
        values count as not measured.
    support
        Bool, where the object may be; None: everywhere (then begin with `AutoCorrelationSupport`).
    obj
        Start object, complex; None: random in the support, by `seed`, with the measured counts.
    mask
        Bool, True where the detector did **not** measure.
    pixel_size
        Of the object, m; for resolutions.
    seed
        Of everything random.
    precision
        ``"single"`` or ``"double"``.
    threads
        Of each transform; 0: all cores for large arrays, else 1.

    Attributes
    ----------
    data
        The intensities as operators use them.
    space
        ``"object"`` or ``"fourier"``: what `obj` holds, after `FT` the transform (origin at index 0).
    cycle
        Iterations done so far.
    psf
        Blur of the intensities by partial coherence (origin at index 0, sum 1), or None.
    history
        Figures that `LLK` and others recorded, ``(cycle, {name: value})``.
    """

    iobs: npt.NDArray[Any]
    support: npt.NDArray[np.bool_] | None = None
    obj: npt.NDArray[np.complexfloating[Any, Any]] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    pixel_size: float | None = None
    seed: int = 0
    precision: Literal["single", "double"] = "single"
    threads: int = 0
    data: Diffraction = None  # type: ignore[assignment]  # made from iobs and mask
    space: Literal["object", "fourier"] = "object"
    cycle: int = 0
    psf: npt.NDArray[np.floating[Any]] | None = field(default=None, repr=False)
    history: tuple[tuple[int, Figures], ...] = ()

    def __post_init__(self) -> None:
        if self.data is not None:
            return
        put = object.__setattr__
        put(self, "iobs", to_host(self.iobs))
        put(self, "data", _diffraction(self.iobs, self.mask, self.real_dtype))
        shape = self.data.intensity.shape
        support = np.ones(shape, dtype=bool) if self.support is None else np.asarray(self.support, dtype=bool)
        if support.shape != shape:
            raise DataError(f"the support has shape {support.shape}, the intensities have shape {shape}")
        if not support.any():
            raise DataError("the support is empty")
        put(self, "support", support)
        if self.obj is None:
            put(self, "obj", random_object(self.data, support, self.seed, self.complex_dtype))
        else:
            obj = np.asarray(self.obj).astype(self.complex_dtype)
            if obj.shape != shape:
                raise DataError(f"the object has shape {obj.shape}, the intensities have shape {shape}")
            if not np.isfinite(obj).all():
                raise DataError("the start object has values that are not finite")
            put(self, "obj", obj)

    @property
    def real_dtype(self) -> np.dtype[Any]:
        """Of intensities and figures."""
        if self.precision not in ("single", "double"):
            raise DataError(f"precision={self.precision!r} is not 'single' or 'double'")
        return np.dtype(np.float64 if self.precision == "double" else np.float32)

    @property
    def complex_dtype(self) -> np.dtype[Any]:
        """Of the object."""
        return np.result_type(self.real_dtype, np.complex64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the object and the intensities."""
        return self.data.intensity.shape

    @property
    def solution(self) -> npt.NDArray[np.complexfloating[Any, Any]]:
        """The object within its support: what the reconstruction says at this point.

        Outside, algorithms such as HIO keep feedback that is no density.
        """
        obj, support = self.parts
        return xp_of(obj).where(support, obj, 0)

    @property
    def parts(self) -> tuple[npt.NDArray[np.complexfloating[Any, Any]], npt.NDArray[np.bool_]]:
        """Object and support.

        Raises
        ------
        DataError
            If the state holds the transform of the object.
        """
        if self.space != "object":
            raise DataError(
                "the state is in Fourier space: apply IFT() before operators that need the object"
            )
        assert self.obj is not None
        assert self.support is not None
        return self.obj, self.support

    def on(self, backend: Literal["numpy", "cupy"]) -> CDI:
        """Return the state with its arrays on the host (``"numpy"``) or on a device (``"cupy"``).

        Operators compute where the arrays are. Those that fill gaps, draw or save do it on the host.
        """
        if is_device(self.obj) == (backend == "cupy"):
            return self
        names = ("obj", "support", "psf")
        moved = {n: None if getattr(self, n) is None else _moved(getattr(self, n), backend) for n in names}
        return self.new(data=self.data.on(backend), **moved)

    def new(self, **changes: Any) -> CDI:
        """Return a state with some attributes replaced."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        assert self.support is not None
        share = 100 * float(self.support.mean())
        return f"<CDI {self.shape}, {self.space}, cycle {self.cycle}, support {share:.3g} %>"


def _diffraction(iobs: Any, mask: Any, dtype: np.dtype[Any]) -> Diffraction:
    if iobs.ndim not in (2, 3):
        raise DataError(f"intensities are 2-D or 3-D, got shape {iobs.shape}")
    if iobs.dtype.kind not in "biuf":
        raise DataError(f"intensities are real numbers, got {iobs.dtype}")
    if min(iobs.shape) < 4:
        raise DataError(f"intensities of shape {iobs.shape} are too small: 4 pixels along each axis at least")
    bad = ~np.isfinite(iobs) | (iobs < 0)
    if mask is not None:
        if np.shape(mask) != iobs.shape:
            raise DataError(f"the mask has shape {np.shape(mask)}, the intensities have shape {iobs.shape}")
        bad |= np.asarray(mask, dtype=bool)
    values = np.where(bad, 0, iobs).astype(dtype)
    if not values.any():
        raise DataError("no measured pixel has counts: is the mask inverted (True: not measured)?")
    code = np.where(bad, MASKED, MEASURED).astype(np.uint8)
    return Diffraction(np.fft.ifftshift(values), np.fft.ifftshift(code))


def random_object(
    data: Diffraction, support: npt.NDArray[np.bool_], seed: int, dtype: np.dtype[Any]
) -> npt.NDArray[np.complexfloating[Any, Any]]:
    """Return an object of random modulus and phase in the support, with the counts of the data.

    It is the same on host and device: random numbers come from the host.
    """
    rng = np.random.default_rng(seed)
    modulus, phase = rng.random(support.shape), rng.uniform(-np.pi, np.pi, support.shape)
    obj = np.where(to_host(support), modulus * np.exp(1j * phase), 0)
    obj *= np.sqrt(data.counts / np.vdot(obj, obj).real)
    return xp_of(support).asarray(obj.astype(dtype))


def _moved(array: Any, backend: str) -> Any:
    return to_host(array) if backend == "numpy" else namespace(backend).asarray(array)
