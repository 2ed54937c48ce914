"""Vector fields of beam shifts: rotate, flatten, differentiate, and guess the detector's orientation.

Fields are pairs of arrays (y, x) over the scan; the last two axes are scan rows and columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.floating[Any]]


def center_shifts(
    img_sum: Float, img_y: Float, img_x: Float, ref_y: float, ref_x: float
) -> tuple[Float, Float]:
    """Return centres of mass relative to a reference, from sums and first moments of the frames.

    Empty frames (sum 0) give 0.
    """
    filled = img_sum != 0
    divisor = np.where(filled, img_sum, 1)
    y = np.where(filled, img_y / divisor - ref_y, 0)
    x = np.where(filled, img_x / divisor - ref_x, 0)
    return y, x


def detector_matrix(scan_rotation: float, flip_y: bool) -> npt.NDArray[np.float64]:
    """Return the matrix that takes (y, x) on the detector to the scan: flip first, then rotate.

    ``y' = y cos a + x sin a``, ``x' = x cos a - y sin a`` with `scan_rotation` a in degrees.
    """
    a = np.deg2rad(scan_rotation)
    rotation = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    return rotation @ np.diag([-1.0 if flip_y else 1.0, 1.0])


def apply_correction(
    y_centers: Float, x_centers: Float, scan_rotation: float, flip_y: bool, forward: bool = True
) -> tuple[Float, Float]:
    """Return the field in scan coordinates; `forward` False goes back to the detector."""
    m = detector_matrix(scan_rotation, flip_y)
    if not forward:
        m = m.T  # orthogonal
    return m[0, 0] * y_centers + m[0, 1] * x_centers, m[1, 0] * y_centers + m[1, 1] * x_centers


def _slope(values: Float, axis: int) -> Float:
    """Return central differences, one-sided at the edges; 0 along an axis of one sample."""
    if values.shape[axis] < 2:
        return np.zeros_like(values)
    return np.asarray(np.gradient(values, axis=axis))


def divergence(y_centers: Float, x_centers: Float) -> Float:
    """Return dFy/dy + dFx/dx per scan step."""
    return _slope(y_centers, -2) + _slope(x_centers, -1)


def curl_2d(y_centers: Float, x_centers: Float) -> Float:
    """Return dFy/dx - dFx/dy per scan step."""
    return _slope(y_centers, -1) - _slope(x_centers, -2)


def magnitude(y_centers: Float, x_centers: Float) -> Float:
    """Return the length of the vectors."""
    return np.hypot(y_centers, x_centers)


def scan_coordinates(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return ``(*shape, 3)``: 1, scan row and scan column of each position."""
    out = np.ones((*shape, 3))
    out[..., 1] = np.arange(shape[-2])[:, None]
    out[..., 2] = np.arange(shape[-1])
    return out


def fit_background(field: Float, valid: npt.NDArray[np.bool_], order: int) -> npt.NDArray[np.float64]:
    """Return the field's background as ``[[y, x], [dy/dy, dx/dy], [dy/dx, dx/dx]]``.

    Parameters
    ----------
    field
        ``(rows, columns, 2)``.
    valid
        Which positions count.
    order
        -1: nothing; 0: mean; 1: mean and slopes, by least squares.
    """
    result = np.zeros((3, 2))
    if order >= 0 and valid.any():
        basis = scan_coordinates(field.shape[:-1])[..., : 1 if order == 0 else 3]
        solution = np.linalg.lstsq(basis[valid], field[valid], rcond=None)[0]
        result[: len(solution)] = solution
    return result


class GuessResult(NamedTuple):
    """Detector orientation and centre, as keyword arguments of `CoMUDF`."""

    scan_rotation: int
    flip_y: bool
    cy: float
    cx: float


def coordinate_check(
    y_centers: Float, x_centers: Float, roi: Any = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the RMS curl for rotations of 0 to 359 degrees, straight and with `flip_y`.

    Rotation by a mixes the curl c and divergence d of a field to ``c cos a + d sin a``, so that three means
    give all angles.

    Parameters
    ----------
    y_centers, x_centers
        The field over a 2-D scan.
    roi
        Index of the positions that count; None: all but the last row and column.
    """
    where = (slice(0, -1), slice(0, -1)) if roi is None else roi
    a = np.deg2rad(np.arange(360))
    found = []
    for sign in (1, -1):
        c = curl_2d(sign * y_centers, x_centers)[where]
        d = divergence(sign * y_centers, x_centers)[where]
        cc, dd, cd = np.nanmean(c * c), np.nanmean(d * d), np.nanmean(c * d)
        mean = cc * np.cos(a) ** 2 + dd * np.sin(a) ** 2 + 2 * cd * np.cos(a) * np.sin(a)
        found.append(np.sqrt(np.maximum(mean, 0)))
    return found[0], found[1]


def guess_corrections(y_centers: Float, x_centers: Float, roi: Any = None) -> GuessResult:
    """Guess `scan_rotation`, `flip_y` and the centre from a field, to the degree.

    Assumes what holds for atomic resolution without magnetism: the field is free of curl, its mean is zero,
    and the strongest divergence is negative, at the nuclei. The guess is relative to corrections that the
    field already has.

    Parameters
    ----------
    y_centers, x_centers
        Centres or shifts over a 2-D scan; NaN where there are none.
    roi
        Index of the positions that count; None: all but the last row and column, which suffer from fly-back.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-8:8, -8:8] / 4
    >>> fy, fx = -y * np.exp(-(x**2 + y**2)), -x * np.exp(-(x**2 + y**2))  # towards an atom
    >>> guess = guess_corrections(*apply_correction(fy, fx, 30, False, forward=False))
    >>> guess.scan_rotation, guess.flip_y
    (30, False)
    """
    where = (slice(0, -1), slice(0, -1)) if roi is None else roi
    straight, flipped = coordinate_check(y_centers, x_centers, where)
    flip_y = bool(flipped.min() < straight.min())
    angle = int(np.argmin(flipped if flip_y else straight))
    # half a turn leaves the curl and changes the sign of the divergence: look at its tails
    div = divergence(*apply_correction(y_centers, x_centers, angle, flip_y))[where]
    limit = 0.6 * np.nanmax(np.abs(div))
    if np.count_nonzero(div < -limit) < np.count_nonzero(div > limit):
        angle += 180
    angle = (angle + 179) % 360 - 179  # -179 .. 180
    return GuessResult(
        angle, flip_y, float(np.nanmean(y_centers[where])), float(np.nanmean(x_centers[where]))
    )
