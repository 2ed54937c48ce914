"""Synthetic 4D-STEM: scans of convergent-beam patterns with known strain, dose and defects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.sim import kernels_disk as kd
from framefold.sim.deformation import Deformation, rotation, uniform
from framefold.sim.noise import Detector
from framefold.sim.scan import Cbed, CbedTruth

Float = npt.NDArray[np.float64]
Structure = Literal["uniform", "tilt", "half", "fringes", "dynamical"]

_KINDS: dict[str, int] = {
    "uniform": kd.UNIFORM,
    "tilt": kd.TILT,
    "half": kd.HALF,
    "fringes": kd.FRINGES,
    "dynamical": kd.DARK,
}
_STRENGTH = {"uniform": 0.0, "tilt": 0.6, "half": 0.6, "fringes": 0.7, "dynamical": 0.0}
#: grains are turned against one another by this angle, radians
GRAIN_TURN = math.radians(15.0)


def cbed(
    scan: tuple[int, ...] = (64, 64),
    sig: tuple[int, int] = (128, 128),
    lattice: Sequence[Sequence[float]] | None = None,
    radius: float | None = None,
    *,
    strain: Deformation | None = None,
    dose: float = 20_000.0,
    structure: Structure = "uniform",
    falloff: float = 1.0,
    missing: float = 0.0,
    bend: float = 0.0,
    grains: int = 1,
    ellipse: float = 0.0,
    ellipse_angle: float = 0.0,
    descan: float | npt.NDArray[np.float64] = 0.0,
    thickness: float = 0.8,
    thickness_wedge: float = 0.0,
    background: float | npt.NDArray[np.floating[Any]] = 0.0,
    gain: float | None = None,
    detector: Detector | None = None,
    noise: bool = True,
    dtype: npt.DTypeLike = np.uint16,
    seed: int = 0,
) -> Cbed:
    """Return a synthetic scan of convergent-beam diffraction patterns with known truth.

    Parameters
    ----------
    scan, sig
        Scan shape and detector shape (y, x).
    lattice
        ``(zero, a, b)``, each (y, x) in px: direct beam and the two reciprocal lattice vectors of undeformed
        crystal. Default: a square lattice of about 25 disks around the middle.
    radius
        Of the disks, px. Default: 0.27 of the shorter lattice vector.
    strain
        Deformation of the crystal, see `framefold.sim.deformation`.
    dose
        Electrons per frame in all disks together, were none missing.
    structure
        Inside of the disks. ``"uniform"``; ``"tilt"``: falls linearly by +-60 %; ``"half"``: one half has
        1/4 of the other's intensity; ``"fringes"``: 70 % modulation with a period of 5 px; ``"dynamical"``:
        two-beam rocking curves, for which `dose` is that of the incoming beam and part of it goes elsewhere.
    falloff
        Intensity of the reflections: ``exp(-falloff |g|^2 / g_max^2)``, g_max the outermost; 0: all alike.
    missing
        Share of the diffracted disks that are absent, drawn per frame.
    bend
        Bent specimen: the centre of the intensities moves by up to this many px over the scan, either way;
        positions stay.
    grains
        Number of grains, side by side along the fast axis, each turned by 15 degrees against its neighbour.
    ellipse, ellipse_angle
        Elliptic distortion around the direct beam: scale ``1 + ellipse / 2`` along the angle (radians from
        +x), ``1 - ellipse / 2`` across.
    descan
        Shift of the whole pattern: linear along both axes, up to this many px either way, or the shifts
        themselves ``(*scan, 2)``.
    thickness, thickness_wedge
        In extinction distances, and by how much it grows along the fast axis; for ``"dynamical"``.
    background
        Electrons per px, a number or a map of the signal shape.
    gain
        Short for ``detector=Detector(gain=gain)``: counts per electron.
    detector
        Gain map, offset, read-out noise, hot and dead pixels.
    noise
        False: store expected values (use a float `dtype`), no Poisson noise.
    dtype
        Of the stored frames.
    seed
        Of everything random; the same seed gives the same frames, however they are cut.

    Raises
    ------
    DataError
        Where options contradict one another, or no reflection fits on the detector.

    Examples
    --------
    >>> from framefold.sim.deformation import step
    >>> scan = cbed((8, 8), (64, 64), strain=step((8, 8), eps_xx=0.02), dose=5000)
    >>> scan.frames(0, 2).shape, scan.truth.centres.shape[0]
    ((2, 64, 64), 64)
    """
    options = dict(locals())
    scan, (height, width) = tuple(int(n) for n in scan), (int(sig[0]), int(sig[1]))
    if not scan or min(scan) < 1 or min(height, width) < 8:
        raise DataError(f"cbed needs a scan of at least one frame of at least 8x8 px, got {scan} and {sig}")
    if structure not in _KINDS:
        raise DataError(
            f"structure {structure!r}: one of {', '.join(_KINDS)}.{did_you_mean(structure, _KINDS)}"
        )
    if not 0 <= missing <= 1:
        raise DataError(f"missing is a share between 0 and 1, got {missing}")
    if grains < 1 or grains > scan[-1]:
        raise DataError(f"grains lie side by side along the fast axis: 1 to {scan[-1]}, got {grains}")
    if thickness_wedge and structure != "dynamical":
        raise DataError(f"thickness_wedge shows with structure='dynamical' only, not with {structure!r}")
    if gain is not None and detector is not None:
        raise DataError("give the gain within detector=Detector(gain=...), or gain= alone")
    if dose < 0 or np.min(background) < 0:
        raise DataError("dose and background are expected counts: they cannot be negative")
    camera = detector or Detector(gain=1.0 if gain is None else gain)
    camera.check((height, width))
    field = strain or uniform(scan)
    if field.scan != scan:
        raise DataError(f"the deformation has the scan shape {field.scan}, the scan is {scan}")

    zero, a, b = _lattice(lattice, (height, width))
    if radius is None:
        radius = 0.27 * min(math.hypot(*a), math.hypot(*b))
    indices = _reflections(zero, a, b, radius, (height, width), anywhere=grains > 1)
    n, m = math.prod(scan), len(indices)

    # x, y order within matrices; every array below is (frames, ...) until the truth is put together
    g = indices @ np.stack([a, b])[:, ::-1]
    along = np.broadcast_to(np.arange(scan[-1]), scan).reshape(-1)
    grain = along * grains // scan[-1]
    local = np.einsum("nij,mj->nmi", rotation(grain * GRAIN_TURN), g)
    local = np.einsum("nij,nmj->nmi", field.reciprocal.reshape(n, 2, 2), local)
    turn = rotation(ellipse_angle)
    distortion = turn @ np.diag([1 + ellipse / 2, 1 - ellipse / 2]) @ turn.T
    shift = _descan(descan, scan)
    centres = zero + shift.reshape(n, 1, 2) + (local @ distortion.T)[..., ::-1]

    rng = np.random.default_rng(seed)
    span = _ramp(scan)[..., ::-1].reshape(n, 1, 2)
    laue = bend * span
    weight = np.exp(-falloff * ((g - laue) ** 2).sum(-1) / max(1.0, float((g**2).sum(-1).max())))
    present = rng.random((n, m)) >= missing
    present[:, 0] = True
    density = dose * weight / weight.sum(1, keepdims=True) / (math.pi * radius**2) * present

    length = np.hypot(*g.T)
    direction = np.where(length[:, None] > 0, g[:, ::-1] / np.maximum(length, 1e-9)[:, None], [0.0, 1.0])
    kind = np.full(m, _KINDS[structure], dtype=np.int64)
    phase = np.broadcast_to(rng.uniform(0, 2 * math.pi, m), (n, m)).copy()
    slope = np.zeros(m)
    if structure == "dynamical":
        kind[0] = kd.BRIGHT
        # excitation error in units of 1 / extinction distance: changes by 2 across half of a first-order disk
        first = float(length[length > 0].min()) if m > 1 else 1.0
        slope = 2.0 * np.where(length > 0, length / first, 1.0)
        phase = rng.normal(0, 0.7, m) + slope * np.einsum("nik,mk->nm", laue, direction[:, ::-1]) / radius
    t = thickness + thickness_wedge * along / max(1, scan[-1] - 1)

    truth = CbedTruth(
        indices=indices,
        zero=zero,
        a=a,
        b=b,
        centres=centres,
        density=density,
        deformation=field,
        grain=grain.reshape(scan),
        shift=shift,
        thickness=t.reshape(scan),
    )
    return Cbed(
        options=options,
        rebuild=_rebuild,
        scan=scan,
        sig=(height, width),
        radius=float(radius),
        truth=truth,
        background=np.broadcast_to(np.asarray(background, dtype=np.float32), (height, width)),
        detector=camera,
        seed=int(seed),
        noise=noise,
        dtype=np.dtype(dtype),
        kind=kind,
        direction=np.ascontiguousarray(direction),
        strength=_STRENGTH[structure],
        phase=np.ascontiguousarray(phase),
        slope=slope,
    )


def _rebuild(options: dict[str, Any]) -> Cbed:
    return cbed(**options)


def _lattice(given: Sequence[Sequence[float]] | None, sig: tuple[int, int]) -> tuple[Float, Float, Float]:
    """Return zero, a and b as (y, x) arrays."""
    if given is None:
        length = 0.173 * min(sig)
        zero = np.array([sig[0] / 2, sig[1] / 2])
        return zero, length * np.array([0.06, 1.0]), length * np.array([1.0, -0.06])
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (3, 2):
        raise DataError(f"lattice is (zero, a, b), each (y, x): shape (3, 2), got {values.shape}")
    zero, a, b = values
    if abs(a[0] * b[1] - a[1] * b[0]) < 1e-3 * (a @ a + b @ b):
        raise DataError(f"the lattice vectors a={a.tolist()} and b={b.tolist()} are parallel")
    return zero, a, b


def _reflections(
    zero: Float, a: Float, b: Float, radius: float, sig: tuple[int, int], anywhere: bool
) -> npt.NDArray[np.int64]:
    """Return h and k of the disks that lie on the detector, the direct beam first.

    With `anywhere`, of those that stay on it however the crystal is turned.
    """
    reach = math.hypot(*sig)
    limit = math.ceil(reach * (math.hypot(*a) + math.hypot(*b)) / abs(a[0] * b[1] - a[1] * b[0])) + 1
    h, k = (v.reshape(-1) for v in np.mgrid[-limit : limit + 1, -limit : limit + 1])
    hk = np.stack([h, k], -1)
    at = hk @ np.stack([a, b])
    far = np.asarray(sig) - 1 - radius
    if anywhere:
        room = min((zero - radius).min(), (far - zero).min())
        fits = np.hypot(*at.T) <= room
    else:
        fits = np.all((zero + at >= radius) & (zero + at <= far), axis=1)
    hk, at = hk[fits], at[fits]
    order = np.lexsort((hk[:, 1], hk[:, 0], (at**2).sum(1).round(6)))
    if not len(hk) or np.any(hk[order[0]]):
        raise DataError(
            f"no disk of radius {radius:g} px around {zero.tolist()} fits on a detector of {sig}: "
            "move the direct beam or make the disks smaller"
        )
    return hk[order]


def _ramp(scan: tuple[int, ...]) -> Float:
    """Return -1..1 along the slow and the fast axis, ``(*scan, 2)`` as (y, x)."""
    axes = [np.linspace(-1, 1, s) if s > 1 else np.zeros(1) for s in scan]
    grids = np.meshgrid(*axes, indexing="ij")
    return np.stack([grids[0] if len(scan) > 1 else np.zeros(scan), grids[-1]], -1)


def _descan(given: float | npt.NDArray[np.float64], scan: tuple[int, ...]) -> Float:
    shift = np.asarray(given, dtype=np.float64)
    if shift.ndim == 0:
        return float(shift) * _ramp(scan)
    if shift.shape != (*scan, 2):
        raise DataError(f"descan is a number of px or shifts of shape {(*scan, 2)}, got {shift.shape}")
    return shift
