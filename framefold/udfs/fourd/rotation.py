"""How the detector is turned against the scan: the angle of least curl, in closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.com_fields import apply_correction, curl_2d, divergence

Float = npt.NDArray[np.floating[Any]]


class Rotation(NamedTuple):
    """Orientation of a detector, as arguments of the centre-of-mass UDFs, and how well it is known.

    Attributes
    ----------
    scan_rotation
        Degrees, -180 to 180.
    flip_y
        Whether y is reversed first (a transposed detector is a flipped and turned one).
    curl
        Share of the field's gradients that stays curl: 0 for a perfect gradient field.
    other_curl
        The same for the other `flip_y`; as small as `curl`: the field does not tell.
    """

    scan_rotation: float
    flip_y: bool
    curl: float
    other_curl: float


def least_curl(y: Float, x: Float, phase_positive: bool = True, valid: Any = None) -> Rotation:
    """Return the rotation that makes a field of beam shifts free of curl, as a phase gradient is.

    Turning the field by a mixes its curl c and divergence d to ``c cos a + d sin a``; the sum of squares is
    least at ``2 a = atan2(-2 sum c d, sum d^2 - sum c^2)``, modulo half a turn. Straight and flipped fields
    are tried, the smaller rest wins.

    Parameters
    ----------
    y, x
        Shifts over a 2-D scan, in the detector's axes; NaN where there are none.
    phase_positive
        Settle the half turn so that the strongest features have positive phase, as atoms have for electrons:
        the divergence has its longer tail below zero. False: the strongest features are phase retarding.
    valid
        Bool, scan shape: positions that count; None: all but the last row and column, which suffer from
        fly-back, where the scan has more than 4.

    Raises
    ------
    DataError
        If fewer than two rows or columns have values, or the field is constant.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-8:8, -8:8] / 4
    >>> fy, fx = -y * np.exp(-(x**2 + y**2)), -x * np.exp(-(x**2 + y**2))  # towards an atom
    >>> found = least_curl(*apply_correction(fy, fx, 33.25, False, forward=False))
    >>> round(found.scan_rotation, 1), found.flip_y
    (33.2, False)
    """
    if y.ndim != 2 or min(y.shape) < 2:
        raise DataError(f"a rotation needs a field over a 2-D scan of at least 2 x 2, got shape {y.shape}")
    use = np.ones(y.shape, dtype=bool)
    if valid is not None:
        use &= np.asarray(valid, dtype=bool)
    elif min(y.shape) > 4:
        use[-1] = use[:, -1] = False
    candidates = []
    for flip in (False, True):
        sign = -1.0 if flip else 1.0
        c, d = curl_2d(sign * y, x), divergence(sign * y, x)
        where = use & np.isfinite(c) & np.isfinite(d)
        cc, dd, cd = (float((u * v)[where].sum()) for u, v in ((c, c), (d, d), (c, d)))
        if cc + dd == 0:
            raise DataError(
                "the field of beam shifts does not vary over the scan: no rotation follows from it"
            )
        angle = np.arctan2(-2 * cd, dd - cc) / 2
        rest = (cc + dd) / 2 - np.hypot((dd - cc) / 2, cd)
        candidates.append((max(rest, 0.0) / (cc + dd), float(np.rad2deg(angle)), flip))
    (curl, angle, flip), other = sorted(candidates)
    div = divergence(*apply_correction(y, x, angle, flip))
    tail = float((div[use & np.isfinite(div)] ** 3).sum())
    if (tail > 0) == phase_positive:
        angle = angle - 180 if angle > 0 else angle + 180
    return Rotation(angle, flip, curl, other[0])


def curl_share(y: Float, x: Float) -> float:
    """Return the share of a field's gradients that is curl: 0 for a gradient field, NaN for a constant."""
    c, d = curl_2d(y, x), divergence(y, x)
    where = np.isfinite(c) & np.isfinite(d)
    cc, dd = float((c[where] ** 2).sum()), float((d[where] ** 2).sum())
    return cc / (cc + dd) if cc + dd else float("nan")
