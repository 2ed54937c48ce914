"""From values to colours: robust limits, and complex numbers as hue and brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = 65536  # enough for quantiles of an image that is redrawn ten times a second
QUANTILES = (0.001, 0.999)
INVALID = (0.55, 0.55, 0.55)  # neutral grey: no colour of a map, neither dark nor bright
# the largest lightness and chroma in OKLCH for which all hues lie inside sRGB
_LIGHTNESS, _CHROMA = 0.75, 0.124

Floats = npt.NDArray[np.float64]


def limits(
    values: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None = None,
    *,
    symmetric: bool = False,
    positive: bool = False,
) -> tuple[float, float]:
    """Return colour limits: the 0.1 % and 99.9 % quantiles of the valid, finite values.

    Parameters
    ----------
    values
        Real, any shape; every n-th is used where there are more than 65536.
    valid
        Bool, same shape.
    symmetric
        Limits ``(-m, m)``.
    positive
        Only values above zero count (for a logarithmic scale).

    Returns
    -------
    tuple of float
        Always two different numbers; (0, 1) if nothing counts.
    """
    # an odd step visits all columns of images whose width is a power of two
    step = 1 if values.size <= SAMPLES else (values.size // SAMPLES + 1) | 1
    sample = values.reshape(-1)[::step]
    keep = np.isfinite(sample)
    if valid is not None:
        keep &= valid.reshape(-1)[::step]
    if positive:
        keep &= sample > 0
    sample = sample[keep].astype(np.float64)
    if not sample.size:
        return (0.1, 1.0) if positive else (-1.0, 1.0) if symmetric else (0.0, 1.0)
    low, high = (float(q) for q in np.quantile(sample, QUANTILES))
    if low == high:  # nearly everything has one value: show what differs
        low, high = float(sample.min()), float(sample.max())
    if symmetric:
        high = max(abs(low), abs(high)) or 1.0
        return -high, high
    if low == high:
        return (low / 10, high) if positive else (low, low + (abs(low) or 1.0))
    return low, high


def hue_rgb(angle: npt.NDArray[Any], brightness: npt.NDArray[Any]) -> Floats:
    """Return colours of equal perceived lightness for `angle` (radians), faded to black by `brightness` 0..1.

    Hue runs through OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020), so that equal
    turns look equally different and no direction looks brighter than another.

    Returns
    -------
    ndarray
        float64, shape ``(*angle.shape, 3)``, sRGB in 0..1.
    """
    lightness = _LIGHTNESS * brightness
    chroma = _CHROMA * brightness
    hue = angle + np.deg2rad(29.0)  # angle 0 is red
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    linear = lms**3 @ _LMS_TO_RGB.T
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def hue_image(
    field: npt.NDArray[np.complexfloating[Any, Any]], valid: npt.NDArray[np.bool_], top: float
) -> Floats:
    """Return an RGB picture: angle as hue, modulus / `top` as brightness, invalid and NaN pixels grey."""
    good = valid & np.isfinite(field)
    safe = np.where(good, field, 0)
    rgb = hue_rgb(np.angle(safe), np.clip(np.abs(safe) / top, 0.0, 1.0))
    rgb[~good] = INVALID
    return rgb


def wheel(n: int = 64) -> Floats:
    """Return the legend of `hue_image`, RGBA: angle counter-clockwise from the right, row 0 on top."""
    y, x = np.mgrid[1 : -1 : n * 1j, -1 : 1 : n * 1j]
    r = np.hypot(x, y)
    alpha = np.clip((1 - r) * n / 2, 0.0, 1.0)
    return np.concatenate([hue_rgb(np.arctan2(y, x), np.minimum(r, 1.0)), alpha[..., None]], axis=-1)
