"""``libertem.masks``: framefold's masks under LiberTEM's argument names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from framefold import masks

_NAMES = {
    "centerX": "cx", "centerY": "cy", "imageSizeX": "size_x", "imageSizeY": "size_y",
    "offsetX": "offset_x", "offsetY": "offset_y", "stretchY": "stretch_y",
    "X": "x", "Y": "y", "Width": "width", "Height": "height",
}  # fmt: skip


def _named(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` taking LiberTEM's names for its arguments; their order is the same."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **{_NAMES.get(k, k): v for k, v in kwargs.items()})

    call.__module__ = __name__
    return call


circular = _named(masks.circular)
ring = _named(masks.ring)
rectangular = _named(masks.rectangular)
radial_bins = _named(masks.radial_bins)
polar_map = _named(masks.polar_map)
radial_gradient = _named(masks.radial_gradient)
radial_gradient_background_subtraction = masks.radial_gradient_background_subtraction
background_subtraction = _named(masks.background_subtraction)
balance = masks.balance
gradient_x = _named(masks.gradient_x)
gradient_y = _named(masks.gradient_y)
bounding_radius = _named(masks.bounding_radius)
sparse_circular_multi_stack = _named(masks.sparse_circular_multi_stack)
sparse_template_multi_stack = _named(masks.sparse_template_multi_stack)


def _make_circular_mask(
    centerX: float, centerY: float, imageSizeX: int, imageSizeY: int, radius: float, antialiased: bool = False
) -> Any:
    return masks.circular(centerX, centerY, imageSizeX, imageSizeY, radius, antialiased)
