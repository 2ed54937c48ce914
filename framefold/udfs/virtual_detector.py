"""Integrating detectors by software: disks, rings, nested rings, segments, rectangles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from framefold import masks
from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.mask_container import MaskContainer, MaskEngine

Shape = Literal["disk", "ring", "annuli", "segments", "rectangle"]
SHAPES = get_args(Shape)


class VirtualDetectorUDF(UDF):
    """Sum the pixels of a disk, a ring, nested rings, ring segments or a rectangle of each frame.

    Result ``intensity``: navigation shape for a disk, a ring or a rectangle, + ``(n,)`` for annuli and
    segments; exact (int64) for integer data.

    Parameters
    ----------
    shape
        ``"disk"``: distance <= `r`; ``"ring"``: `ri` < distance <= `r`; ``"annuli"``: rings between
        neighbouring `radii`; ``"segments"``: the ring `ri` <= distance < `r` in `n` equal sectors;
        ``"rectangle"``: pixels not further from the centre than half of `height` and `width`.
    cy, cx
        Centre in pixels; None: ``rows // 2``, ``columns // 2``.
    r, ri
        Outer and inner radius, pixels.
    radii
        Growing radii of the annuli.
    n, rotation
        Number of segments, and the angle in degrees at which the first starts (from +x towards +y).
    height, width
        Of the rectangle, pixels; None: all rows, all columns.

    Examples
    --------
    >>> VirtualDetectorUDF("ring", r=40, ri=20)
    VirtualDetectorUDF(shape='ring', cy=None, cx=None, r=40, ri=20, radii=None, n=4, rotation=0.0,
                       height=None, width=None)
    """

    engine = EngineOptions(device=True)

    def __init__(
        self,
        shape: Shape = "disk",
        cy: float | None = None,
        cx: float | None = None,
        r: float = float("inf"),
        ri: float = 0.0,
        radii: Sequence[float] | None = None,
        n: int = 4,
        rotation: float = 0.0,
        height: float | None = None,
        width: float | None = None,
    ) -> None:
        if shape not in SHAPES:
            raise UDFError(f"shape={shape!r} is not one of {', '.join(map(repr, SHAPES))}")
        if shape == "annuli" and radii is None:
            raise UDFError("annuli need radii=(r0, r1, ...)")
        for name, size in (("height", height), ("width", width)):
            if size is not None and not size > 0:
                raise UDFError(f"{name}={size} of the rectangle must be above 0")
        if shape not in ("annuli", "rectangle") and not 0 <= ri < r:
            raise UDFError(f"the inner radius {ri} must be below the outer radius {r}")
        super().__init__(
            shape=shape, cy=cy, cx=cx, r=r, ri=ri, radii=radii, n=n, rotation=rotation, height=height,
            width=width,
        )  # fmt: skip

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the native dtype: sums are exact."""
        return self.USE_NATIVE_DTYPE

    def _container(self) -> MaskContainer:
        sig = tuple(self.meta.dataset_shape.sig)
        if len(sig) != 2:
            raise UDFError(f"virtual detectors need 2-D frames, the signal shape is {sig}")
        return MaskContainer(detector_masks(sig, **vars(self.params)))

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare ``intensity``."""
        p = self.params
        many = {"annuli": (len(p.radii) - 1,) if p.radii is not None else (), "segments": (p.n,)}
        kind = "b" if self.meta.input_dtype.kind in "biu" else self.meta.input_dtype.kind
        dtype = {"b": np.int64, "f": np.float64, "c": np.complex128}[kind]
        return {"intensity": self.buffer("nav", many.get(p.shape, ()), dtype, reduce="sum")}

    def get_worker_data(self) -> Mapping[str, Any]:
        """Return the masks as runs of pixels."""
        return {"engine": MaskEngine(self._container(), sparse=True)}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Add the sums of one part of the frames."""
        out = self.results.intensity
        self.worker_data.engine.add(self.meta, tile, out.reshape(len(tile), -1))

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw the image of the (first) detector."""
        return (PlotSpec("image", ("intensity",)),)


def detector_masks(
    sig: tuple[int, ...],
    shape: Shape,
    cy: float | None,
    cx: float | None,
    r: float,
    ri: float,
    radii: Sequence[float] | None = None,
    n: int = 4,
    rotation: float = 0.0,
    height: float | None = None,
    width: float | None = None,
) -> npt.NDArray[np.bool_]:
    """Return the bool masks of a detector as a stack, for frames of shape `sig`."""
    rows, cols = sig
    cy = rows // 2 if cy is None else cy
    cx = cols // 2 if cx is None else cx
    # a radius beyond every corner is the whole frame, and stays finite
    reach = float(np.hypot(max(abs(cy), abs(rows - cy)), max(abs(cx), abs(cols - cx)))) + 1
    if shape == "annuli":
        return masks.annuli(cx, cy, cols, rows, radii or ())
    if shape == "rectangle":
        high = np.abs(np.arange(rows) - cy) <= (reach if height is None else height / 2)
        wide = np.abs(np.arange(cols) - cx) <= (reach if width is None else width / 2)
        return (high[:, None] & wide)[None]
    outer = min(r, reach)
    if shape == "segments":
        return masks.segments(cx, cy, cols, rows, outer, ri, n, float(np.deg2rad(rotation)))
    disk = masks.circular(cx, cy, cols, rows, outer)
    if shape == "ring" and ri > 0:
        disk = masks.ring(cx, cy, cols, rows, outer, ri)
    return np.asarray(disk, dtype=bool)[None]
