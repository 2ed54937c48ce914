"""The kernels in plain numpy and float64: slow, short, the specification of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.propagate import from_detector, to_detector
from framefold.udfs.ptycho.kernels.protocol import FrameSet, SweepStep, Window
from framefold.udfs.ptycho.kernels.shift_fit import solve_shifts

Array = npt.NDArray[Any]
SOFT = 0.25  # counts: added to both measured and modelled ones in the Poisson likelihood
EPS = 1e-6  # counts^1/2: keeps the projection finite where the model is dark


class ReferenceKernels:
    """`KernelSet` in complex128; `factor` is the Fresnel factor of near-field data, or None."""

    real: np.dtype[Any] = np.dtype(np.float64)
    complex: np.dtype[Any] = np.dtype(np.complex128)

    def __init__(self, shape: tuple[int, int], waves: int, factor: Array | None = None) -> None:
        self.shape = shape
        self.factor = factor

    def _at(self, data: FrameSet, row: int) -> tuple[slice, slice]:
        y, x = data.corner[row]
        return slice(y, y + self.shape[0]), slice(x, x + self.shape[1])

    def _exit(self, data: FrameSet, row: int, probe: Array, obj: Array) -> tuple[Array, Array, Array]:
        """Return P ``(1, M, ...)``, O ``(L, 1, ...)`` and psi ``(L, M, ...)`` of a frame."""
        p = probe[data.bank[row] if len(probe) > 1 else 0][None]
        o = obj[(slice(None), *self._at(data, row))][:, None]
        return p, o, p * o

    def _project(self, data: FrameSet, row: int, psi: Array, sums: Array | None) -> Array:
        wave = to_detector(psi, self.factor)
        amplitude = np.sqrt(self._intensity(data, row, wave))
        counts, good = data.measured(row, self.real)
        if sums is not None:
            sums += [(good * v).sum() for v in ((amplitude - np.sqrt(counts)) ** 2, counts, amplitude**2)]
        factor = np.where(good > 0, np.sqrt(counts) / (amplitude + EPS), 1.0)
        return from_detector(wave * factor, self.factor)

    def _intensity(self, data: FrameSet, row: int, wave: Array) -> Array:
        modelled = (np.abs(wave) ** 2).sum(axis=(0, 1))
        return np.asarray(data.brightness(row) * modelled + data.background)

    def _place(self, data: FrameSet, row: int, target: Window) -> Array:
        ys, xs = self._at(data, row)
        return target.data[
            :, ys.start - target.y : ys.stop - target.y, xs.start - target.x : xs.stop - target.x
        ]

    def _add(
        self, data: FrameSet, row: int, p: Array, o: Array, chi: Array, num_object: Window | None,
        num_probe: Array | None,
    ) -> None:  # fmt: skip
        if num_object is not None:
            part = self._place(data, row, num_object)
            part += (p.conj() * chi).sum(axis=1)
        if num_probe is not None:
            num_probe[data.bank[row]] += (o.conj() * chi).sum(axis=0)

    def add_residuals(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, num_object: Window, num_probe: Array |
        None, sums: Array,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_residuals`."""
        for row in rows:
            p, o, psi = self._exit(data, row, probe, obj)
            self._add(data, row, p, o, self._project(data, row, psi, sums) - psi, num_object, num_probe)

    def sweep(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, step: SweepStep, with_probe: bool, sums:
        Array,
    ) -> None:  # fmt: skip
        """See `KernelSet.sweep`."""
        a = step.mix
        for row in rows:
            p, o, psi = self._exit(data, row, probe[None], obj)
            chi = self._project(data, row, psi, sums) - psi
            d_obj, d_probe = (p.conj() * chi).sum(axis=1), (o.conj() * chi).sum(axis=0)
            d_obj /= (1 - a) * (np.abs(p[0]) ** 2).sum(axis=0) + a * step.top_probe
            d_probe /= (1 - a) * (np.abs(o[:, 0]) ** 2).sum(axis=0) + a * step.top_object
            obj[(slice(None), *self._at(data, row))] += step.alpha * d_obj
            if with_probe:
                probe += step.alpha * d_probe

    def relax(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array, beta: float, gamma: float,
        num_object: Window, sums: Array,
    ) -> None:  # fmt: skip
        """See `KernelSet.relax`."""
        for row in rows:
            p, o, model = self._exit(data, row, probe, obj)
            psi = waves[row].reshape(model.shape)
            psi[...] = beta * (psi + self._project(data, row, 2 * model - psi, sums)) + gamma * model
            self._add(data, row, p, o, psi - model, num_object, None)

    def add_wave_numerators(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array, num_object: Window | None,
        num_probe: Array | None,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_wave_numerators`."""
        for row in rows:
            p, o, model = self._exit(data, row, probe, obj)
            self._add(data, row, p, o, waves[row].reshape(model.shape) - model, num_object, num_probe)

    def fill_waves(self, data: FrameSet, rows: Array, probe: Array, obj: Array, waves: Array) -> None:
        """See `KernelSet.fill_waves`."""
        for row in rows:
            psi = self._exit(data, row, probe, obj)[2]
            waves[row] = psi.reshape(waves[row].shape)

    def _slopes(self, data: FrameSet, row: int, wave: Array, poisson: bool) -> tuple[Array, Array, Array]:
        """Return dL/dI_m, d2L/dI_m2, and what a frame adds to the sums."""
        model = self._intensity(data, row, wave)
        counts, good = data.measured(row, self.real)
        amplitude, target = np.sqrt(model), np.sqrt(counts)
        sums = np.array([(good * v).sum() for v in ((amplitude - target) ** 2, counts, model)])
        if poisson:
            ratio = (counts + SOFT) / (model + SOFT)
            return good * (1 - ratio), good * ratio / (model + SOFT), sums
        ratio = target / (amplitude + EPS)
        return good * (1 - ratio), good * ratio * 0.5 / (model + EPS), sums

    def add_slopes(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, num_object: Window, num_probe: Array,
        sums: Array, poisson: bool,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_slopes`."""
        for row in rows:
            p, o, psi = self._exit(data, row, probe, obj)
            wave = to_detector(psi, self.factor)
            slope, _, found = self._slopes(data, row, wave, poisson)
            sums += found
            g = from_detector(-data.brightness(row) * slope * wave, self.factor)
            self._add(data, row, p, o, g, num_object, num_probe)

    def add_line(
        self, data: FrameSet, rows: Array, probe: Array, obj: Array, step_probe: Array, step_obj: Array, sums:
        Array, poisson: bool,
    ) -> None:  # fmt: skip
        """See `KernelSet.add_line`."""
        for row in rows:
            p, o, psi = self._exit(data, row, probe, obj)
            dp, do, _ = self._exit(data, row, step_probe, step_obj)
            wave, step = to_detector(psi, self.factor), to_detector(p * do + dp * o, self.factor)
            slope, curvature, _ = self._slopes(data, row, wave, poisson)
            power = data.brightness(row)
            b = 2 * power * (wave.conj() * step).real.sum(axis=(0, 1))
            c = power * (np.abs(step) ** 2).sum(axis=(0, 1))
            expected = data.measured(row, self.real)[1] * b**2 / (self._intensity(data, row, wave) + SOFT)
            sums += [(slope * b).sum(), (curvature * b**2 + 2 * slope * c).sum(), expected.sum()]

    def parts(self, rows: Array) -> Iterator[Array]:
        """See `KernelSet.parts`: a frame at a time."""
        return iter(rows[:, None])

    def measured(self, data: FrameSet, rows: Array) -> tuple[Array, Array]:
        """See `KernelSet.measured`."""
        return data.measured(rows, self.real)

    def position_steps(self, data: FrameSet, rows: Array, probe: Array, obj: Array, slopes: Array) -> Array:
        """See `KernelSet.position_steps`."""
        return np.stack([self._position_step(data, row, probe, obj, slopes) for row in rows.tolist()])

    def _position_step(self, data: FrameSet, row: int, probe: Array, obj: Array, slopes: Array) -> Array:
        p, _, psi = self._exit(data, row, probe, obj)
        waves = [to_detector(psi, self.factor)]
        waves += [
            to_detector(p * s[(slice(None), *self._at(data, row))][:, None], self.factor) for s in slopes
        ]
        flat = [np.sqrt(data.brightness(row)) * w.reshape(-1, *self.shape) for w in waves]
        counts, good = data.measured([row], self.real)
        slope = np.stack(flat[1:])[:, None]
        return np.asarray(solve_shifts(np, flat[0][None], slope, np.sqrt(counts), good, data.background)[0])

    def intensity(self, data: FrameSet, rows: Array, probe: Array, obj: Array) -> Array:
        """See `KernelSet.intensity`."""
        waves = [to_detector(self._exit(data, row, probe, obj)[2], self.factor) for row in rows.tolist()]
        return np.stack([self._intensity(data, *pair) for pair in zip(rows.tolist(), waves, strict=True)])
