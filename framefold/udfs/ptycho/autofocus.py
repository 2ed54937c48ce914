"""Finding the defocus of an unknown probe: short trials on neighbouring frames, the smallest error wins.

The mean frame gives the modulus of the pupil; of its phase the defocus matters most, for it decides how wide
the probe is on the sample. After six sweeps with the probe frozen the error has a clear minimum at the true
width and sign, which later iterations cannot find from a probe that is ten times too small.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import Pass
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.engines.ap import EPS_OBJECT
from framefold.udfs.ptycho.initial import more_modes, scaled

Array = npt.NDArray[Any]
FRAMES = 64
COUNTS = 2e6  # in all trial frames together: with fewer, noise hides the minimum
MOST_FRAMES = 400
SWEEPS = 6
REFINE = (1.3, 1.14, 1.07)


def find_defocus(job: Any) -> Iterator[Pass]:
    """Set the loop's probe to the best of a family of defocused ones; the object stays as it was.

    The family: geometric radius on the sample from 0 to 0.4 of the frame, both signs.
    """
    loop = job.loop
    start, begin = loop.object.copy(), to_host(loop.probe)
    probe_of = _family(begin)
    rows = middle(job)
    tried = yield from coarse(job, begin, start, rows)
    for factor in REFINE:
        best = min(tried, key=lambda r: tried[r])
        for radius in (best / factor, best * factor):
            if radius not in tried:
                tried[radius] = yield from trial(job, probe_of(radius), start, rows)
    best = min(tried, key=lambda r: tried[r])
    loop.object[...] = start
    loop.probe = job.xp.asarray(probe_of(best))
    job.probe_changed()
    job.say(
        "the defocus of the probe was searched for: its light spreads over a radius of about "
        f"{abs(best):.1f} px "
        f"on the sample (trial error {tried[best]:.3g}, without defocus {tried[0.0]:.3g})"
    )


def coarse(job: Any, begin: Array, start: Array, rows: Array) -> Generator[Pass, None, dict[float, float]]:
    """Return the trial error of each radius of a wide family of defocused probes."""
    probe_of, n = _family(begin), min(begin.shape[-2:])
    radii = [0.0, *(s * r for r in n * 0.025 * 1.6 ** np.arange(7) if r <= 0.45 * n for s in (1, -1))]
    tried: dict[float, float] = {}
    for radius in radii:
        tried[radius] = yield from trial(job, probe_of(radius), start, rows)
    return tried


def _family(begin: Array) -> Callable[[float], Array]:
    """Return the function from radius on the sample, px, to defocused probe."""
    ny, nx = begin.shape[-2:]
    spectrum = np.fft.fft2(np.fft.ifftshift(begin[0].astype(np.complex128)))
    q = _frequencies((ny, nx))
    power = np.abs(spectrum) ** 2
    # rms radius of an even disk is its radius / sqrt 2
    pupil2 = float(2 * (power * q).sum() / power.sum())
    n = min(ny, nx)

    def probe_of(radius: float) -> Array:
        phase = np.pi * radius * q / (n * np.sqrt(pupil2))
        wave = np.fft.fftshift(np.fft.ifft2(spectrum * np.exp(1j * phase)))
        total = float((np.abs(begin) ** 2).sum())
        return np.asarray(scaled(more_modes(wave, len(begin)), total).astype(begin.dtype))

    return probe_of


def trial(job: Any, probe: Array, start: Array, rows: Array) -> Generator[Pass, None, float]:
    """Return the error after a few sweeps over `rows` with a fixed probe."""
    loop = job.loop
    loop.probe = job.xp.asarray(probe)
    loop.object[...] = start
    job.probe_changed()
    loop.update_probe = False
    d_obj = job.histogram_of(rows).of_object(loop.bank)
    error = np.inf
    for _ in range(SWEEPS):
        yield Pass("residual", rows)
        misfit = to_host(job.sums.misfit)
        error = float(misfit[0] / misfit[1]) if misfit[1] > 0 else np.inf
        loop.object += job.sums.object / (d_obj + EPS_OBJECT * d_obj.max())
    return error


def middle(job: Any) -> npt.NDArray[np.int64]:
    """Return the rows of frames around the middle of the scan."""
    rows = job.lit
    corner = job.loop.corner[rows].astype(np.float64)
    distance = ((corner - np.median(corner, axis=0)) ** 2).sum(axis=1)
    wanted = int(np.clip(COUNTS / max(job.setup.counts, 1), FRAMES, MOST_FRAMES))
    return np.asarray(np.sort(rows[np.argsort(distance, kind="stable")[:wanted]]))


def _frequencies(shape: tuple[int, int]) -> Array:
    """Return the squared distance from the pupil's middle, in detector pixels of the shorter side."""
    n = min(shape)
    y, x = np.fft.fftfreq(shape[0], 1 / n), np.fft.fftfreq(shape[1], 1 / n)
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2)
