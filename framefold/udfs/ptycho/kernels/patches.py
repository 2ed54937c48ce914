"""Where many frames lie on the object: parts of it as one array, and sums over parts that overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfs.ptycho.kernels.protocol import Window


@dataclass(frozen=True)
class Places:
    """Where some frames lie.

    Attributes
    ----------
    xp
        Namespace of the arrays.
    corner
        int64 ``(n, 2)``, on the host: row and column of each frame on the object.
    ys, xs
        int64 ``(n, ny, 1)`` and ``(n, 1, nx)``, of the namespace: rows and columns of all pixels.
    repeatable
        Whether `add` adds in the order of the frames, always the same, with a step for each; otherwise all at
        once, in an order that a device chooses, and which shows in the last digits.
    """

    xp: Any
    corner: npt.NDArray[np.int64]
    ys: Any
    xs: Any
    repeatable: bool

    def take(self, obj: Any) -> Any:
        """Return the parts of an object ``(L, Y, X)`` under the frames: ``(n, L, ny, nx)``."""
        return self.xp.moveaxis(obj[:, self.ys, self.xs], 0, 1)

    def add(self, parts: Any, target: Window) -> None:
        """Add ``(n, L, ny, nx)`` where the frames lie."""
        if not self.repeatable:
            at = (slice(None), self.ys - target.y, self.xs - target.x)
            parts = self.xp.moveaxis(parts, 1, 0)
            # part by part: not every CuPy adds complex numbers
            self.xp.add.at(target.data.real, at, parts.real)
            self.xp.add.at(target.data.imag, at, parts.imag)
            return
        ny, nx = parts.shape[-2:]
        for part, (y, x) in zip(parts, self.corner.tolist(), strict=True):
            target.data[:, y - target.y :, x - target.x :][:, :ny, :nx] += part


def places_of(
    xp: Any, corner: npt.NDArray[np.int64], on_device: Any, shape: tuple[int, int], repeatable: bool
) -> Places:
    """Return the places of frames of `shape` from their corners, which are given on host and device."""
    ys = on_device[:, 0, None, None] + xp.arange(shape[0])[:, None]
    xs = on_device[:, 1, None, None] + xp.arange(shape[1])
    return Places(xp, corner, ys, xs, repeatable)
