"""Defocus and astigmatism of the probe, from the interference of its own side bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from framefold.errors import DataError, UDFError
from framefold.kernels.rows import as_rows
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.udf import UDF
from framefold.udfs.field_results import check_real_2d
from framefold.udfs.fourd.optics import Aberrations
from framefold.udfs.fourd.sidebands import Geometry, used_frequencies
from framefold.udfs.fourd.ssb import SSBUDF

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Points = tuple[tuple[int, int], ...]


class TrottersUDF(UDF):
    """Transform of bright-field pixels over the scan at a few frequencies: ``G(K, Q)``.

    Result ``trotters``: single, complex128 ``(frequencies, pixels of geometry.bright_field())``.

    Parameters
    ----------
    geometry
        Of the scan and the bright field.
    points
        Indices (y, x) of the frequencies, as `numpy.fft.fft2` counts them.
    """

    def __init__(self, geometry: Geometry, points: Sequence[tuple[int, int]]) -> None:
        super().__init__(geometry=geometry, points=tuple((int(y), int(x)) for y, x in points))

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: only bright-field pixels are converted."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the transform."""
        check_real_2d(self)
        geometry: Geometry = self.params.geometry
        shape = self.meta.dataset_shape
        if tuple(shape.nav) != geometry.scan or tuple(shape.sig) != geometry.sig:
            raise UDFError(f"the geometry is of {geometry.scan} x {geometry.sig}, the data are {shape}")
        n = int(geometry.bright_field().sum())
        return {"trotters": self.buffer("single", (len(self.params.points), n), "complex128", reduce="sum")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return number of each bright-field pixel, -1 elsewhere."""
        inside = self.params.geometry.bright_field()
        number = np.full(inside.shape, -1, dtype=np.int64)
        number[inside] = np.arange(int(inside.sum()))
        return {"number": number}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the frames of one part, with their phases."""
        here = self.worker_data.number[self.meta.sig_slice.get()].reshape(-1)
        inside = np.flatnonzero(here >= 0)
        if not len(inside):
            return
        values = as_rows(tile)[:, inside].astype(np.float64)
        scan, points = self.params.geometry.scan, np.array(self.params.points)
        turns = (points / scan) @ self.meta.coordinates.T
        self.results.trotters[:, here[inside]] += np.exp(-2j * np.pi * turns) @ values


def strongest(spectrum: Complex, geometry: Geometry, n: int) -> Points:
    """Return the strongest frequencies of a phase, one of each pair, without the mean."""
    q_y, _, used, n_x = used_frequencies(geometry)
    power = np.zeros((len(q_y), n_x))
    power[used] = np.abs(spectrum[used][:, :n_x]) ** 2
    power[len(q_y) // 2 + 1 :, 0] = 0  # mates of positive ones
    power[0, 0] = 0
    order = np.argsort(power, axis=None)[::-1][:n]
    rows, cols = np.unravel_index(order, power.shape)
    # below 1e-7 rad is rounding
    floor = (1e-7 * spectrum.size) ** 2
    return tuple((int(y), int(x)) for y, x in zip(rows, cols, strict=True) if power[y, x] > floor)


def explained(trotters: Complex, points: Points, geometry: Geometry) -> float:
    """Return how much of the trotters the geometry's aberrations explain, 0 to 1.

    ``sum_Q |sum_K conj(W) G|^2 / sum_K |W|^2`` over ``sum |G|^2`` where W is not 0: 1 for a weak phase object
    and the right aberrations.
    """
    inside = geometry.bright_field()
    ky, kx = (k[inside] for k in geometry.frequencies())
    (rows, cols), step = geometry.scan, geometry.optics.scan_step
    at = np.array(points)
    q_y = np.fft.fftfreq(rows, step[0])[at[:, 0], None]
    q_x = np.fft.fftfreq(cols, step[1])[at[:, 1], None]

    def aperture(y: Any, x: Any) -> Complex:
        open_ = y**2 + x**2 <= geometry.optics.aperture_frequency**2
        wavelength = geometry.optics.wavelength
        chi = geometry.aberrations.chi(y * wavelength, x * wavelength, wavelength)
        return np.where(open_, np.exp(-1j * chi), 0)

    center, minus, plus = aperture(ky, kx), aperture(ky - q_y, kx - q_x), aperture(ky + q_y, kx + q_x)
    w = center.conj() * minus - center * plus.conj()
    if geometry.mode == "ssb":
        w = np.where((minus != 0) != (plus != 0), w, 0)
    norm = (np.abs(w) ** 2).sum(axis=1)
    good = norm > 0
    share = np.abs((w.conj() * trotters).sum(axis=1)[good]) ** 2 / norm[good]
    total = (np.abs(trotters) ** 2 * (w != 0)).sum()
    return float(share.sum() / total) if total else 0.0


def fit_aberrations(
    trotters: Complex, points: Points, geometry: Geometry, reach: float = 12.0
) -> tuple[Aberrations, float]:
    """Return the aberrations with C1 and A1 that explain trotters best, and how much they do.

    Parameters
    ----------
    trotters, points
        Of `TrottersUDF`.
    geometry
        Higher aberrations are taken from it.
    reach
        Defoci tried, in depths of field ``wavelength / semiangle^2`` to either side.
    """
    unit = geometry.optics.wavelength / geometry.optics.semiangle**2
    start = geometry.aberrations

    def at(values: Any) -> Aberrations:
        c1, re, im = (float(v) * unit for v in values)
        return replace(start, C1=start.C1 + c1, A1=start.A1 + complex(re, im))

    def loss(values: Any) -> float:
        return -explained(trotters, points, replace(geometry, aberrations=at(values)))

    coarse = np.arange(-reach, reach + 0.125, 0.25)
    losses = [loss((c, 0.0, 0.0)) for c in coarse]
    # astigmatism splits the maximum in two: begin at the best few
    starts = [(float(coarse[i]), re, im) for i in np.argsort(losses)[:2]
              for re, im in ((0.0, 0.0), (0.7, 0.0), (-0.7, 0.0), (0.0, 0.7), (0.0, -0.7))]  # fmt: skip
    best = min(starts, key=loss)
    simplex = best + 0.3 * np.vstack([np.zeros(3), np.eye(3)])
    options: Any = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-9}
    found = optimize.minimize(loss, best, method="Nelder-Mead", options=options)
    return at(found.x), -float(found.fun)


def find_aberrations(ctx: Any, dataset: Any, udf: SSBUDF, n: int = 20) -> tuple[Aberrations, float]:
    """Return defocus and astigmatism of the probe from two passes over a scan, and how well they explain it.

    Parameters
    ----------
    ctx, dataset
        The context and the scan.
    udf
        With optics, orientation, and what is known of the aberrations.
    n
        Scan frequencies used, the strongest.

    Raises
    ------
    DataError
        If the phase has no frequency but the mean.

    Examples
    --------
    >>> import framefold as ff
    >>> from framefold.sim.phase_scan import phase_scan
    >>> y, x = 2 * np.pi * np.mgrid[:32, :32] / 32
    >>> phase = 0.01 * (np.cos(y + 2 * x) + np.cos(3 * y - x) + np.sin(4 * x) + np.cos(y + 5 * x))
    >>> scan = phase_scan(phase, 0.3e-10, aberrations=Aberrations(C1=5e-9))
    >>> o = scan.optics
    >>> udf = SSBUDF(80e3, o.semiangle, o.radius, o.scan_step)
    >>> found, explained = find_aberrations(ff.Context(executor="inline"), scan.frames, udf)
    >>> round(found.C1 * 1e9, 1)
    5.0
    """
    if n < 3:
        raise DataError(f"three aberration coefficients need 3 frequencies or more, got n={n}")
    result = ctx.run_udf(dataset, udf)
    geometry = udf.geometry_of(result["phase"].dataset_shape)
    points = strongest(result["spectrum"].data, geometry, n)
    if len(points) < 3:
        raise DataError("the phase has no structure from which aberrations follow")
    trotters = ctx.run_udf(dataset, TrottersUDF(geometry, points))["trotters"].data
    return fit_aberrations(trotters, points, geometry)
