"""From lattice vectors to strain: pure functions, all definitions in one place.

Vectors of the detector are pairs (y, x); matrices here act on (x, y), x right and y down. ``G`` has the two
reciprocal lattice vectors as columns, ``T = G inverse(G0)`` maps undeformed to deformed ones, and
``F = inverse(T)^T`` is the deformation gradient of real space (equal to ``A inverse(A0)`` of real lattices).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.float64]
Definition = Literal["biot", "small"]
Axes = Literal["scan", "a"] | float


@dataclass(frozen=True, eq=False)
class Strain:
    """Strain maps of any common shape; dimensionless, theta in radians.

    Positive eps_xx: the crystal is longer along x than the reference. Positive theta: turned from +x towards
    +y, clockwise in a plotted picture, where y points down.

    Attributes
    ----------
    eps_xx, eps_yy, eps_xy, theta
        Strain and rotation.
    sigma_xx, sigma_yy, sigma_xy, sigma_theta
        Their standard deviations.
    """

    eps_xx: Float
    eps_yy: Float
    eps_xy: Float
    theta: Float
    sigma_xx: Float
    sigma_yy: Float
    sigma_xy: Float
    sigma_theta: Float


@dataclass(frozen=True)
class Frame:
    """How detector directions become the axes of the strain tensor.

    Attributes
    ----------
    scan_rotation
        Degrees from the detector's axes to those of the scan, as in `CoMUDF`.
    flip_y
        Reverse y of the detector first.
    ellipse
        Elliptic distortion to undo, ``(size, degrees)``: scale ``1 + size / 2`` along the angle from +x,
        ``1 - size / 2`` across.
    axes
        ``"scan"``: x along the fast scan; ``"a"``: x' along the reference vector a; or degrees from +x
        towards +y.
    definition
        ``"biot"``: ``F = R U``, ``eps = U - 1``, theta the angle of R. ``"small"``:
        ``eps = (F + F^T) / 2 - 1``, ``theta = (F_yx - F_xy) / 2``.
    aspect
        Height over width of a pixel: y of the detector is multiplied with it before anything else.
    """

    scan_rotation: float = 0.0
    flip_y: bool = False
    ellipse: tuple[float, float] = (0.0, 0.0)
    axes: Axes = "scan"
    definition: Definition = "biot"
    aspect: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 < self.aspect < 10:
            raise DataError(f"aspect is height over width of a pixel, about 1, got {self.aspect!r}")
        if self.definition not in ("biot", "small"):
            raise DataError(f"definition {self.definition!r} is neither 'biot' nor 'small'")
        if isinstance(self.axes, str) and self.axes not in ("scan", "a"):
            raise DataError(f"axes {self.axes!r}: 'scan', 'a', or an angle in degrees")
        if not abs(self.ellipse[0]) < 1:
            raise DataError(f"the ellipse {self.ellipse}: (size, degrees) with a size below 1")

    def detector_to_scan(self) -> Float:
        """Return the 2x2 matrix ``S inverse(E) P``: rotation, flip, ellipse undone, pixels square."""
        turn = rotation(math.radians(self.scan_rotation))
        flip = np.diag([1.0, -1.0 if self.flip_y else 1.0])
        size, angle = self.ellipse
        R = rotation(math.radians(angle))
        E = R @ np.diag([1 + size / 2, 1 - size / 2]) @ R.T
        return np.asarray(turn @ flip @ np.linalg.inv(E) @ np.diag([1.0, self.aspect]))


@dataclass(frozen=True)
class Spacings:
    """Reference of strain: plane spacings of the unstrained material; see `reference_of_spacings`.

    Attributes
    ----------
    d_a, d_b
        Of the planes that the lattice vectors a and b belong to.
    degrees
        Between a and b.
    step
        Reciprocal length per px of the detector along x (``1 / d``, no 2 pi), in the inverse unit of the
        spacings.
    """

    d_a: float
    d_b: float
    degrees: float
    step: float

    def __post_init__(self) -> None:
        self.vectors([(0.0, 1.0), (1.0, 0.0)], Frame())  # refuses what is no lattice

    def vectors(self, like: npt.ArrayLike, frame: Frame) -> Float:
        """Return a and b ``(2, 2)``, (y, x) px, turned as `like`."""
        return reference_of_spacings((self.d_a, self.d_b, self.degrees), self.step, like, frame)


def rotation(angle: float) -> Float:
    """Return the 2x2 rotation by `angle` (radians) from +x towards +y."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def lattice_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> Float:
    """Return G ``(..., 2, 2)``: columns a and b, rows x and y, from vectors ``(..., 2)`` as (y, x)."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.stack([first[..., ::-1], second[..., ::-1]], axis=-1)


def deformation_gradient(G: Float, G0: Float) -> Float:
    """Return ``F = inverse(T)^T`` with ``T = G inverse(G0)``; NaN where G is NaN or has no area."""
    T = G @ np.linalg.inv(G0)
    det = T[..., 0, 0] * T[..., 1, 1] - T[..., 0, 1] * T[..., 1, 0]
    det = np.where(np.abs(det) > 1e-12, det, np.nan)
    # inverse transposed of a 2x2 matrix: its cofactors over the determinant
    cofactors = np.stack(
        [np.stack([T[..., 1, 1], -T[..., 1, 0]], -1), np.stack([-T[..., 0, 1], T[..., 0, 0]], -1)], -2
    )
    return np.asarray(cofactors / det[..., None, None])


def decompose(F: Float, definition: Definition = "biot") -> tuple[Float, Float]:
    """Return the strain tensor ``(..., 2, 2)`` and the rotation in radians of a deformation gradient."""
    if definition == "small":
        return 0.5 * (F + F.swapaxes(-1, -2)) - np.eye(2), 0.5 * (F[..., 1, 0] - F[..., 0, 1])
    theta = np.arctan2(F[..., 1, 0] - F[..., 0, 1], F[..., 0, 0] + F[..., 1, 1])
    c, s = np.cos(theta), np.sin(theta)
    R_T = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    return R_T @ F - np.eye(2), theta


def axes_angle(frame: Frame, G0: Float) -> float:
    """Return the angle (radians) of x' from +x of the scan; G0 in scan coordinates."""
    if frame.axes == "scan":
        return 0.0
    if frame.axes == "a":
        return math.atan2(float(G0[1, 0]), float(G0[0, 0]))
    return math.radians(float(frame.axes))


def strain_of(a: npt.ArrayLike, b: npt.ArrayLike, cov: npt.ArrayLike, reference: Any, frame: Frame) -> Strain:
    """Return strain and errors of lattice vectors.

    Parameters
    ----------
    a, b
        ``(..., 2)``, (y, x), px of the detector.
    cov
        ``(..., 3)``: variance of a, covariance of a and b, variance of b (px^2, the same for y and x).
    reference
        ``(a0, b0)``, each (y, x), px of the detector.
    frame
        Axes and definition.

    Notes
    -----
    The rows of T have the covariance ``K = B^T C B``, ``B = inverse(G0)``; to first order
    ``var eps_xx = K_xx``, ``var eps_yy = K_yy``, ``var eps_xy = var theta = (K_xx + K_yy) / 4``. The error of
    the reference is not in it.
    """
    M = frame.detector_to_scan()
    G0 = M @ lattice_matrix(*reference)
    if abs(np.linalg.det(G0)) < 1e-3 * float((G0**2).sum()):
        raise DataError(f"the reference vectors {np.asarray(reference).tolist()} are parallel")
    F = deformation_gradient(M @ lattice_matrix(a, b), G0)
    Q = rotation(axes_angle(frame, G0))
    eps, theta = decompose(F, frame.definition)
    eps = Q.T @ eps @ Q
    packed = np.asarray(cov, dtype=np.float64)
    C = np.stack(
        [np.stack([packed[..., 0], packed[..., 1]], -1), np.stack([packed[..., 1], packed[..., 2]], -1)], -2
    )
    B = np.linalg.inv(G0) @ Q
    K = B.T @ C @ B
    var_xx, var_yy = K[..., 0, 0], K[..., 1, 1]
    mixed = np.sqrt((var_xx + var_yy) / 4)
    return Strain(
        eps[..., 0, 0], eps[..., 1, 1], eps[..., 0, 1], theta, np.sqrt(var_xx), np.sqrt(var_yy), mixed, mixed
    )


def strain_by_grain(
    a: Float, b: Float, cov: Float, valid: npt.NDArray[np.bool_], grain: npt.NDArray[Any], references: Float,
    frame: Frame,
) -> Strain:  # fmt: skip
    """Return `strain_of` each valid frame relative to the reference of its grain; NaN elsewhere.

    Parameters
    ----------
    a, b, cov
        ``(*shape, 2)`` and ``(*shape, 3)``.
    valid, grain
        Of that shape.
    references
        ``(g, 2, 2)``: the vectors a and b of each grain; NaN where there are none.
    frame
        Axes and definition.
    """
    maps = {name: np.full(valid.shape, np.nan) for name in Strain.__dataclass_fields__}
    for g, reference in enumerate(references):
        here = valid & (grain == g)
        if here.any() and np.isfinite(reference).all():
            found = strain_of(a[here], b[here], cov[here], reference, frame)
            for name, values in maps.items():
                values[here] = getattr(found, name)
    return Strain(**maps)


def reference_median(a: Float, b: Float, valid: npt.NDArray[np.bool_]) -> Float:
    """Return the median vectors ``(2, 2)`` of the valid frames; NaN where there is none."""
    return _reference(a, b, valid, np.median)


def reference_mean(a: Float, b: Float, valid: npt.NDArray[np.bool_]) -> Float:
    """Return the mean vectors ``(2, 2)`` of the valid frames; NaN where there is none."""
    return _reference(a, b, valid, np.mean)


def _reference(a: Float, b: Float, valid: npt.NDArray[np.bool_], average: Any) -> Float:
    if not valid.any():
        return np.full((2, 2), np.nan)
    return np.stack([average(v[valid], axis=0) for v in (a, b)]).astype(np.float64)


def reference_of_spacings(
    spacings: tuple[float, float, float], step: float, like: npt.ArrayLike, frame: Frame
) -> Float:
    """Return the vectors a and b ``(2, 2)``, (y, x) px, of a crystal with known plane spacings.

    Parameters
    ----------
    spacings
        ``(d_a, d_b, degrees)``: spacing of the planes that a and b belong to, and the angle between a and b.
    step
        Reciprocal length per px of the detector, in the inverse unit of the spacings (``1 / d``, no 2 pi).
    like
        Measured a and b, which tell the orientation: relative to the result their theta is 0.
    frame
        Of the strain: its ellipse is the detector's.

    Raises
    ------
    DataError
        If a number is not positive, or a and b would be parallel.
    """
    d_a, d_b, degrees = (float(v) for v in spacings)
    if not (d_a > 0 and d_b > 0 and step > 0 and math.isfinite(d_a + d_b + step)):
        raise DataError(
            f"spacings {(d_a, d_b)} and step {step}: positive lengths, and reciprocal length per px"
        )
    if not 3 < degrees < 177:
        raise DataError(f"the angle between a and b is between 3 and 177 degrees, got {degrees:g}")
    M = frame.detector_to_scan()
    measured = M @ lattice_matrix(*np.asarray(like, dtype=np.float64))
    turn = math.radians(degrees) * (1 if np.linalg.det(measured) > 0 else -1)
    K = np.array([[1.0, math.cos(turn)], [0.0, math.sin(turn)]]) / (np.array([d_a, d_b]) * step)
    # F = inverse(measured)^T (R K)^T is symmetric for the rotation R of inverse(measured)^T K^T
    A = np.linalg.inv(measured).T @ K.T
    R = rotation(math.atan2(A[1, 0] - A[0, 1], A[0, 0] + A[1, 1]))
    return np.ascontiguousarray((np.linalg.inv(M) @ R @ K)[::-1].T)


def good_fits(
    residual: npt.NDArray[Any], used: npt.NDArray[Any], least: int, limit: float | None
) -> npt.NDArray[np.bool_]:
    """Return which fits to trust: enough disks, residual below 3 medians and below `limit` px."""
    fine = np.isfinite(residual) & (used >= least)
    if limit is not None:
        fine &= residual <= limit
    if not fine.any():
        return fine
    # where all is perfect the median is rounding
    return np.asarray(fine & (residual <= max(3.0 * float(np.median(residual[fine])), 0.02)))
