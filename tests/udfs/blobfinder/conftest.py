"""Single disks with known centre, their statistical bound, and small strained scans."""

import math

import numpy as np
import pytest

from framefold.sim import kernels_disk as kd
from framefold.udfs.blobfinder.correlate import CropCorrelation
from framefold.udfs.blobfinder.kernels_correlate import gather_crops
from framefold.udfs.blobfinder.meter import empty_peaks, make_meter
from framefold.udfs.blobfinder.patterns import as_pattern

SIZE = 60
MIDDLE = 30
STRUCTURES = {"uniform": 0.0, "tilt": 0.6, "half": 0.6, "fringes": 0.7}


def expected(cy, cx, radius, level, background, structure="uniform", angle=0.3, phase=0.0):
    """Return a frame of expected counts with one disk, pixel areas exact."""
    frame = np.full((SIZE, SIZE), float(background))
    ny, nx = math.sin(angle), math.cos(angle)
    strength = STRUCTURES[structure]
    if structure == "uniform":
        kd.add_disk(frame, cy, cx, radius, level, 0.0, 0.0)
    elif structure == "half":
        kd.add_disk(frame, cy, cx, radius, level * (1 - strength), 0.0, 0.0)
        kd.add_disk(frame, cy, cx, radius, level * 2 * strength, ny, nx)
    else:
        kind = kd.TILT if structure == "tilt" else kd.FRINGES
        kd.add_structured_disk(frame, cy, cx, radius, level, kind, ny, nx, strength, phase, 0.0, 0.0)
    return frame


def random_disks(n, radius=6.0, level=20.0, background=1.0, structure="uniform", seed=0, noise=True):
    """Return frames ``(n, SIZE, SIZE)`` and centres ``(n, 2)`` within 1.2 px of the middle."""
    rng = np.random.default_rng(seed)
    at = MIDDLE + rng.uniform(-1.2, 1.2, (n, 2))
    frames = np.stack(
        [
            expected(
                y,
                x,
                radius,
                level,
                background,
                structure,
                rng.uniform(0, 2 * np.pi),
                rng.uniform(0, 2 * np.pi),
            )
            for y, x in at
        ]
    )
    return (rng.poisson(frames).astype(np.uint16) if noise else frames.astype(np.float32)), at


def measured(frames, pattern=6.0, subpixel="auto", spacing=44.0, good=None, saturation=np.inf, **options):
    """Return the peaks of frames with one disk in the middle."""
    correlation = CropCorrelation(**{k: options.pop(k) for k in ("search", "scaling") if k in options})
    meter = make_meter(as_pattern(pattern), correlation, subpixel, spacing, **options)
    n = len(frames)
    corners = np.full((1, 1, 2), MIDDLE - meter.size // 2, np.int32)
    crops = np.empty((n, 1, meter.size, meter.size), np.float32)
    ok = np.ones((SIZE, SIZE), bool) if good is None else good
    plain = good is None and saturation == np.inf
    gather_crops(frames, 0, 0, plain, ok, saturation, corners, True, crops)
    peaks = empty_peaks(n, 1)
    meter(crops, np.empty((0, 0, 0), np.float32), corners, np.ones((1, 1), bool), peaks)
    return peaks


def bound(radius, level, background, structure="uniform"):
    """Return the Cramer-Rao bound of a coordinate, px: centre, height and background unknown.

    From finite differences of exactly rendered disks at several sub-pixel positions, nothing of ours.
    """
    step, found = 0.05, []
    for y, x in ((30.0, 30.0), (30.3, 29.8), (29.6, 30.45)):
        m = expected(y, x, radius, level, background, structure)
        dy = (expected(y + step, x, radius, level, background, structure)
              - expected(y - step, x, radius, level, background, structure)) / (2 * step)  # fmt: skip
        dx = (expected(y, x + step, radius, level, background, structure)
              - expected(y, x - step, radius, level, background, structure)) / (2 * step)  # fmt: skip
        shape = expected(y, x, radius, 1.0, 0.0, structure)
        at = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([y, x])[:, None, None])) < radius + 3
        J = np.stack([v[at] for v in (dy, dx, shape, np.ones_like(m))])
        C = np.linalg.inv((J / m[at]) @ J.T)
        found.append(0.5 * (C[0, 0] + C[1, 1]))
    return math.sqrt(np.mean(found))


@pytest.fixture(scope="session")
def inline():
    import framefold as ff

    return ff.Context(executor="inline")


@pytest.fixture(scope="session")
def disks():
    """Return the functions of this file."""
    from types import SimpleNamespace

    return SimpleNamespace(expected=expected, random=random_disks, measured=measured, bound=bound)
