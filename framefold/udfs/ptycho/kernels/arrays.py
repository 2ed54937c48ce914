"""The kernels as formulas on whole arrays of many frames: for graphics cards (CuPy), and for numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.counts import Seen
from framefold.udfs.ptycho.kernels.patches import Places, places_of
from framefold.udfs.ptycho.kernels.propagate import from_detector, to_detector
from framefold.udfs.ptycho.kernels.protocol import FrameSet, SweepStep, Window
from framefold.udfs.ptycho.kernels.shift_fit import solve_shifts

MOST_FRAMES = 512  # at a time
ARRAYS = 6  # of the size of the waves that live at a time
HOST_BYTES = 2**22  # of these: numpy is fastest while they stay in the cache
DEVICE_BYTES = 2**29


@dataclass(frozen=True)
class _Part:
    """Some frames: where they are in the set, on the object, and in which brightness."""

    at: Any  # a slice, or an index array of the namespace
    rows: npt.NDArray[np.int64]
    places: Places
    bank: Any
    power: Any


class ArrayKernels:
    """`KernelSet` on arrays of one namespace; `good`, `background` and the factors are of it, too.

    Frames may lie on the host: then parts of them travel to the device as they are needed.

    Parameters
    ----------
    xp
        Namespace: numpy, CuPy.
    shape
        Of the frames.
    waves
        Exit waves per frame: probe modes times object modes.
    factor
        Fresnel factor of near-field data, or None.
    double
        complex128 rather than complex64.
    repeatable
        Add overlapping frames in a fixed order, see `Places`; numpy is fastest that way.
    """

    def __init__(
        self,
        xp: Any,
        shape: tuple[int, int],
        waves: int,
        factor: Any = None,
        *,
        double: bool = False,
        repeatable: bool = True,
    ) -> None:
        self.xp = xp
        self.real: np.dtype[Any] = np.dtype(np.float64 if double else np.float32)
        self.complex: np.dtype[Any] = np.dtype(np.complex128 if double else np.complex64)
        self.shape = shape
        self.factor = None if factor is None else xp.asarray(factor.astype(self.complex))
        self.repeatable = repeatable
        frame = ARRAYS * waves * shape[0] * shape[1] * self.complex.itemsize
        self.batch = int(np.clip((HOST_BYTES if xp is np else DEVICE_BYTES) // frame, 1, MOST_FRAMES))
        self._known: tuple[Any, ...] = (None, None, None)
        self._held: tuple[Any, ...] = ()

    # --- frames and waves --------------------------------------------------------------------

    def parts(self, rows: Any) -> Iterator[Any]:
        """See `KernelSet.parts`: as many frames as are computed at a time."""
        return (rows[i : i + self.batch] for i in range(0, len(rows), self.batch))

    def _parts(self, data: FrameSet, rows: Any) -> Iterator[_Part]:
        return (self._part(data, part) for part in self.parts(rows))

    def _part(self, data: FrameSet, rows: Any) -> _Part:
        known = data.corner, data.bank, data.power
        if any(
            a is not b for a, b in zip(known, self._known, strict=True)
        ):  # stays on the device for as long as the same frames are asked for
            power = np.ones(len(data.corner)) if data.power is None else data.power
            held = data.corner, data.bank, power.astype(self.real)
            self._known, self._held = known, tuple(self.xp.asarray(a) for a in held)
        together = rows[-1] - rows[0] + 1 == len(rows)
        at = slice(int(rows[0]), int(rows[-1]) + 1) if together else self.xp.asarray(rows)
        corner, bank, power = (a[at] for a in self._held)
        places = places_of(self.xp, data.corner[rows], corner, self.shape, self.repeatable)
        return _Part(at, rows, places, bank, power[:, None, None])

    def _exit(self, part: _Part, probe: Any, obj: Any) -> tuple[Any, Any]:
        """Return P ``(n or 1, 1, M, ny, nx)`` and O ``(n, L, 1, ny, nx)``; psi is their product."""
        p = probe if len(probe) == 1 else probe[part.bank]
        return p[:, None], part.places.take(obj)[:, :, None]

    def _seen(self, data: FrameSet, part: _Part, wave: Any) -> Seen:
        """Return what was measured, beside the model for a wave on the detector."""
        return Seen(self.xp, *self._measured(data, part), self._model(data, part, wave), part.power)

    def _measured(self, data: FrameSet, part: _Part) -> tuple[Any, Any]:
        xp = self.xp
        frames = data.frames[part.rows if isinstance(data.frames, np.ndarray) else part.at]
        values = xp.asarray(frames).astype(self.real)
        valid = values < float(data.limit)
        return xp.where(valid, xp.maximum(values, 0), 0), xp.where(valid, data.good, 0)

    def _model(self, data: FrameSet, part: _Part, wave: Any) -> Any:
        return part.power * (wave.real**2 + wave.imag**2).sum(axis=(1, 2)) + data.background

    def _forward(self, wave: Any) -> Any:
        return to_detector(wave, self.factor, self.xp)

    def _backward(self, wave: Any) -> Any:
        return from_detector(wave, self.factor, self.xp)

    def _project(self, data: FrameSet, part: _Part, psi: Any, sums: Any) -> Any:
        """Return psi with the measured modulus."""
        wave = self._forward(psi)
        seen = self._seen(data, part, wave)
        sums += seen.sums()
        return self._backward(wave * seen.modulus_factor()[:, None, None])

    def _add(
        self, part: _Part, p: Any, o: Any, chi: Any, num_object: Window | None, num_probe: Any | None
    ) -> None:
        if num_object is not None:
            part.places.add((p.conj() * chi).sum(axis=2), num_object)
        if num_probe is None:
            return
        each = (o.conj() * chi).sum(axis=1)
        if len(num_probe) == 1:
            num_probe[0] += each.sum(axis=0)
        else:  # a product of matrices adds in an order of its own, but always the same
            entry = self.xp.arange(len(num_probe))[:, None] == part.bank
            num_probe += self.xp.tensordot(entry.astype(self.complex), each, axes=1)

    # --- see KernelSet -----------------------------------------------------------------------

    def add_residuals(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, num_object: Window, num_probe: Any | None,
        sums: Any,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_residuals`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            psi = p * o
            self._add(part, p, o, self._project(data, part, psi, sums) - psi, num_object, num_probe)

    def sweep(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, step: SweepStep, with_probe: bool, sums: Any
    ) -> None:
        """See `KernelSet.sweep`."""
        ny, nx = self.shape
        for row in rows.tolist():
            part = self._part(data, np.array([row]))
            y, x = data.corner[row].tolist()
            patch = obj[:, y : y + ny, x : x + nx]
            p, o = probe[None, None], patch[None, :, None]
            psi = p * o
            chi = self._project(data, part, psi, sums) - psi
            d_obj, d_probe = (p.conj() * chi).sum(axis=(0, 2)), (o.conj() * chi).sum(axis=(0, 1))
            d_obj = d_obj / self._mixed(probe, step.mix, step.top_probe)
            d_probe = d_probe / self._mixed(patch, step.mix, step.top_object)
            patch += step.alpha * d_obj
            if with_probe:
                probe += step.alpha * d_probe

    def _mixed(self, waves: Any, mix: float, top: Any) -> Any:
        power = (waves.real**2 + waves.imag**2).sum(axis=0)
        return ((1 - mix) * power + mix * top).astype(self.real)

    def relax(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, waves: Any, beta: float, gamma: float,
        num_object: Window, sums: Any,
    ) -> None:  # fmt: skip
        """See `KernelSet.relax`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            model = p * o
            psi = waves[part.at].reshape(model.shape)
            psi = beta * (psi + self._project(data, part, 2 * model - psi, sums)) + gamma * model
            waves[part.at] = psi.reshape(len(part.rows), -1, *self.shape)
            self._add(part, p, o, psi - model, num_object, None)

    def add_wave_numerators(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, waves: Any, num_object: Window | None,
        num_probe: Any | None,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_wave_numerators`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            model = p * o
            chi = waves[part.at].reshape(model.shape) - model
            self._add(part, p, o, chi, num_object, num_probe)

    def fill_waves(self, data: FrameSet, rows: Any, probe: Any, obj: Any, waves: Any) -> None:
        """See `KernelSet.fill_waves`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            waves[part.at] = (p * o).reshape(len(part.rows), -1, *self.shape)

    def add_slopes(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, num_object: Window, num_probe: Any, sums: Any,
        poisson: bool,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_slopes`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            wave = self._forward(p * o)
            seen = self._seen(data, part, wave)
            sums += seen.sums()
            slope = -part.power * seen.slopes(poisson)[0]
            self._add(part, p, o, self._backward(wave * slope[:, None, None]), num_object, num_probe)

    def add_line(
        self, data: FrameSet, rows: Any, probe: Any, obj: Any, step_probe: Any, step_obj: Any, sums: Any,
        poisson: bool,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_line`."""
        for part in self._parts(data, rows):
            p, o = self._exit(part, probe, obj)
            dp, do = self._exit(part, step_probe, step_obj)
            wave, step = self._forward(p * o), self._forward(p * do + dp * o)
            sums += self._seen(data, part, wave).line(wave, step, poisson)

    def measured(self, data: FrameSet, rows: Any) -> tuple[Any, Any]:
        """See `KernelSet.measured`."""
        return self._measured(data, self._part(data, rows))

    def position_steps(self, data: FrameSet, rows: Any, probe: Any, obj: Any, slopes: Any) -> Any:
        """See `KernelSet.position_steps`."""
        part = self._part(data, rows)
        bright = self.xp.sqrt(part.power)[:, None]
        waves = []
        for each in (obj, *slopes):
            p, o = self._exit(part, probe, each)
            waves.append(self._forward(p * o).reshape(len(rows), -1, *self.shape) * bright)
        seen = self._seen(data, part, waves[0][:, None])
        target = self.xp.sqrt(seen.counts)
        return solve_shifts(self.xp, waves[0], self.xp.stack(waves[1:]), target, seen.good, data.background)

    def intensity(self, data: FrameSet, rows: Any, probe: Any, obj: Any) -> Any:
        """See `KernelSet.intensity`."""
        part = self._part(data, rows)
        p, o = self._exit(part, probe, obj)
        return self._model(data, part, self._forward(p * o))
