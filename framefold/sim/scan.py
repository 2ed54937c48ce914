"""A scan of Bragg disks that makes its frames when asked for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.counter import ReadCounter
from framefold.sim import kernels_disk as kd
from framefold.sim.deformation import Deformation
from framefold.sim.made import Made
from framefold.sim.noise import Detector, poisson
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.shapes import Shape

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CbedTruth:
    """What the frames were made from. Pairs are (y, x) in px; n frames, m reflections.

    Attributes
    ----------
    indices
        ``(m, 2)`` int: h and k of each reflection; the direct beam comes first.
    zero, a, b
        Lattice of undeformed crystal, grain 0, before distortion: pairs.
    centres
        ``(n, m, 2)``: where the disks are.
    density
        ``(n, m)``: expected electrons per px of each disk; 0 where it is missing.
    deformation
        The strain of the crystal.
    grain
        Scan shape, int.
    shift
        ``(*scan, 2)``: descan, where the direct beam is relative to `zero`.
    thickness
        Scan shape, in extinction distances (``structure="dynamical"``).
    """

    indices: npt.NDArray[np.int64]
    zero: Float
    a: Float
    b: Float
    centres: Float
    density: Float
    deformation: Deformation
    grain: npt.NDArray[np.int64]
    shift: Float
    thickness: Float


@dataclass(frozen=True, eq=False)
class Cbed(Made):
    """A scan of diffraction patterns: any range of frames on demand, the same however it is cut.

    It is a `framefold.udfcore.source.Source`: a run reads it like a file. Made by
    `framefold.sim.stem.cbed`; it pickles by the options given there.
    """

    what = "the synthetic scan"
    options: dict[str, Any]
    rebuild: Callable[[dict[str, Any]], Cbed]

    scan: tuple[int, ...]
    sig: tuple[int, int]
    radius: float
    truth: CbedTruth
    background: npt.NDArray[np.float32]
    detector: Detector
    seed: int
    noise: bool
    dtype: np.dtype[Any]
    kind: npt.NDArray[np.int64]
    direction: Float
    strength: float
    phase: Float
    slope: Float
    counter: ReadCounter = field(default_factory=lambda: ReadCounter("synthetic"))

    @property
    def shape(self) -> Shape:
        """Scan and signal shape."""
        return Shape((*self.scan, *self.sig), sig_dims=2)

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.rebuild, (self.options,))

    def expected(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the expected electrons of frames ``start .. stop`` (flat index), without any noise."""
        self._check(start, stop)
        out = np.empty((stop - start, *self.sig), dtype=np.float32)
        out[...] = self.background
        truth = self.truth
        kd.render(
            out,
            truth.centres[start:stop],
            truth.density[start:stop],
            self.radius,
            self.kind,
            self.direction,
            self.strength,
            self.phase[start:stop],
            truth.thickness.reshape(-1)[start:stop],
            self.slope,
        )
        return out

    def frames(self, start: int, stop: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return frames ``start .. stop`` (flat index) as the detector stores them, ``(n, *sig)``."""
        mean = self.expected(start, stop)
        if not self.noise:
            return self.detector.record(mean, self.dtype, self.seed, start, out)
        counts = np.empty(mean.shape, dtype=np.int64 if not self.detector.ideal else np.uint32)
        return self.detector.record(
            poisson(mean, self.seed, start, counts), self.dtype, self.seed, start, out
        )

    def array(self) -> npt.NDArray[Any]:
        """Return the whole scan, ``(*scan, *sig)``."""
        n = math.prod(self.scan)
        whole = np.empty((n, *self.sig), dtype=self.dtype)
        block = max(1, (1 << 23) // (8 * math.prod(self.sig)))
        for start in range(0, n, block):
            stop = min(n, start + block)
            self.frames(start, stop, out=whole[start:stop])
        return whole.reshape(*self.scan, *self.sig)

    # -- the rest of the source protocol

    @property
    def metadata(self) -> Metadata:
        """Bad pixels as a mask, gain and offset of the detector as a file would state them."""
        bad = self.detector.bad_pixels(self.sig)
        return Metadata(mask=bad if bad.any() else None, nav_shape=self.scan)

    @property
    def identity(self) -> str:
        """Shape, dtype and seed."""
        return f"cbed{self.shape} {self.dtype} seed={self.seed}"

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= math.prod(self.scan):
            raise DataError(f"frames {start}:{stop} of a scan of {math.prod(self.scan)} frames")
