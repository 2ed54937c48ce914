"""Deformation fields over a scan, in closed form: the strain truth of synthetic crystals.

x points right and y down, as in a plotted picture. ``F`` maps undeformed to deformed real-space vectors;
diffraction vectors follow ``T = inverse(F)^T``. Strain is read off the polar decomposition ``F = R U``:
``eps = U - I``, theta the angle of ``R``, positive from +x towards +y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.float64]
Scan = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Deformation:
    """The deformation gradient at every scan position.

    Attributes
    ----------
    F
        ``(*scan, 2, 2)``, rows and columns in the order x, y.
    """

    F: Float

    def __post_init__(self) -> None:
        if self.F.ndim < 2 or self.F.shape[-2:] != (2, 2):
            raise DataError(f"a deformation gradient has the shape (*scan, 2, 2), got {self.F.shape}")
        if not np.all(np.linalg.det(self.F) > 0):
            raise DataError("the deformation turns the crystal inside out: det F must be positive everywhere")

    @property
    def scan(self) -> Scan:
        """The scan shape."""
        return self.F.shape[:-2]

    @property
    def reciprocal(self) -> Float:
        """``T = inverse(F)^T``: what diffraction vectors are multiplied with, ``(*scan, 2, 2)``."""
        return np.asarray(np.linalg.inv(self.F), dtype=np.float64).swapaxes(-1, -2)

    @property
    def theta(self) -> Float:
        """Rotation in radians, ``arctan2(F_yx - F_xy, F_xx + F_yy)``."""
        F = self.F
        return np.arctan2(F[..., 1, 0] - F[..., 0, 1], F[..., 0, 0] + F[..., 1, 1])

    @property
    def eps(self) -> Float:
        """Biot strain ``R^T F - I``, symmetric, ``(*scan, 2, 2)``."""
        return rotation(self.theta).swapaxes(-1, -2) @ self.F - np.eye(2)

    @property
    def eps_xx(self) -> Float:
        """Stretch along x."""
        return self.eps[..., 0, 0]

    @property
    def eps_yy(self) -> Float:
        """Stretch along y."""
        return self.eps[..., 1, 1]

    @property
    def eps_xy(self) -> Float:
        """Shear."""
        return self.eps[..., 0, 1]


def rotation(theta: npt.ArrayLike) -> Float:
    """Return rotation matrices in x, y order, positive from +x towards +y; shape ``(*theta, 2, 2)``."""
    angle = np.asarray(theta, dtype=np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def from_strain(
    eps_xx: npt.ArrayLike, eps_yy: npt.ArrayLike, eps_xy: npt.ArrayLike, theta: npt.ArrayLike
) -> Deformation:
    """Return ``F = R(theta) (I + eps)`` for fields of any common scan shape; theta in radians."""
    given = (np.asarray(v, dtype=np.float64) for v in (eps_xx, eps_yy, eps_xy, theta))
    xx, yy, xy, angle = np.broadcast_arrays(*given)
    U = np.stack([np.stack([1 + xx, xy], -1), np.stack([xy, 1 + yy], -1)], -2)
    return Deformation(rotation(angle) @ U)


def uniform(
    scan: Scan, eps_xx: float = 0.0, eps_yy: float = 0.0, eps_xy: float = 0.0, theta: float = 0.0
) -> Deformation:
    """Return the same strain everywhere."""
    return _scaled(np.ones(scan), eps_xx, eps_yy, eps_xy, theta)


def step(
    scan: Scan,
    eps_xx: float = 0.0,
    eps_yy: float = 0.0,
    eps_xy: float = 0.0,
    theta: float = 0.0,
    at: float = 0.5,
) -> Deformation:
    """Return no strain left of the fraction `at` of the fast axis, the given one right of it."""
    return _scaled(np.broadcast_to(_fast(scan) >= at, scan), eps_xx, eps_yy, eps_xy, theta)


def wedge(
    scan: Scan, eps_xx: float = 0.0, eps_yy: float = 0.0, eps_xy: float = 0.0, theta: float = 0.0
) -> Deformation:
    """Return strain that grows linearly along the fast axis, from nothing to the given values."""
    return _scaled(np.broadcast_to(_fast(scan), scan), eps_xx, eps_yy, eps_xy, theta)


def smooth_random(scan: Scan, amplitude: float = 0.01, length: float = 12.0, seed: int = 0) -> Deformation:
    """Return four independent Gaussian random fields for the strains and the rotation.

    Parameters
    ----------
    scan
        Scan shape.
    amplitude
        Standard deviation of each field (strain, radians) around a mean of zero.
    length
        Correlation length in scan steps: white noise is filtered with a Gaussian of this sigma.
    seed
        Of the random numbers.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(4):
        field = gaussian_filter(rng.standard_normal(scan), length, mode="wrap")
        field -= field.mean()
        spread = float(field.std())
        fields.append(field * (amplitude / spread) if spread else field)
    return from_strain(*fields)


def dislocation(
    scan: tuple[int, int],
    burgers: float = 1.0,
    poisson_ratio: float = 0.3,
    centre: tuple[float, float] | None = None,
    core: float = 2.0,
) -> Deformation:
    """Return the field around an edge dislocation with its Burgers vector along x.

    Isotropic elasticity (Hirth and Lothe, Theory of Dislocations, 3-3), with
    ``u_x = b / 2 pi [atan2(y, x) + x y / (2 (1 - nu) r^2)]`` and
    ``u_y = -b / 2 pi [(1 - 2 nu) / (4 (1 - nu)) ln r^2 + (x^2 - y^2) / (4 (1 - nu) r^2)]``.

    Parameters
    ----------
    scan
        Scan shape (y, x).
    burgers
        Length of the Burgers vector in scan steps.
    poisson_ratio
        nu.
    centre
        Position (y, x) of the line in scan steps; default: the middle.
    core
        The field is held at its value on this radius (scan steps) nearer to the line, where elasticity fails.
    """
    y0, x0 = centre if centre is not None else ((scan[0] - 1) / 2, (scan[1] - 1) / 2)
    y, x = np.mgrid[: scan[0], : scan[1]].astype(np.float64)
    y, x = y - y0, x - x0
    r = np.hypot(x, y)
    # on the line itself every direction is as good: take +x
    x = np.where(r == 0, 1.0, x)
    r = np.where(r == 0, 1.0, r)
    stretch = np.maximum(r, core) / r
    x, y = x * stretch, y * stretch
    r2 = x * x + y * y
    nu, scale = poisson_ratio, burgers / (2 * math.pi)
    k = 1 / (2 * (1 - nu))
    xx = scale * (-y / r2 + k * y * (y * y - x * x) / r2**2)
    xy = scale * (x / r2 + k * x * (x * x - y * y) / r2**2)
    yx = -scale * ((1 - 2 * nu) * k * x / r2 + 2 * k * x * y * y / r2**2)
    yy = -scale * ((1 - 2 * nu) * k * y / r2 - 2 * k * x * x * y / r2**2)
    return Deformation(np.eye(2) + np.stack([np.stack([xx, xy], -1), np.stack([yx, yy], -1)], -2))


def _fast(scan: Scan) -> Float:
    """Return 0..1 along the last scan axis."""
    return np.linspace(0.0, 1.0, scan[-1]) if scan[-1] > 1 else np.ones(1)


def _scaled(field: npt.NDArray[np.generic], xx: float, yy: float, xy: float, theta: float) -> Deformation:
    f = np.asarray(field, dtype=np.float64)
    return from_strain(f * xx, f * yy, f * xy, f * theta)
