"""Where the probe stood for each frame: from motor positions to pixels of the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfcore.metadata import Metadata
from framefold.udfcore.units import MORE_LENGTHS

Float = npt.NDArray[np.float64]
Flip = Literal["none", "y", "x", "yx", "transpose", "transpose-y", "transpose-x", "transpose-yx"]
UNITS = ("m", "mm", "um", "nm", "px")
FLIPS: tuple[Flip, ...] = ("none", "y", "x", "yx", "transpose", "transpose-y", "transpose-x", "transpose-yx")


@dataclass(frozen=True, eq=False)
class ScanPositions:
    """Positions of the scan.

    Attributes
    ----------
    values
        ``(frames, 2)``: (y, x), or ``(frames, 3)`` as CXI gives them: (x, y, z). None: those of the data set.
    units
        Of the values, also of those in a file that states no unit: ``"m"``, ``"mm"``, ``"um"``, ``"nm"``, or
        ``"px"`` of the object.
    positions_of
        ``"probe"``: where the probe stands on the sample. ``"sample"``: where the sample stands, which moves
        the probe over it the other way. None: as the data set says, else ``"probe"``.
    rotation_deg
        Turns the positions counter-clockwise as seen with y downwards (from +x to -y).
    flip
        Applied before the rotation: which coordinates change sign, after exchanging them for
        ``"transpose..."``.
    step
        Distance (y, x) of a regular scan in m, where neither positions nor axes are stated.
    """

    values: npt.NDArray[Any] | None = None
    units: Literal["m", "mm", "um", "nm", "px"] = "m"
    positions_of: Literal["probe", "sample"] | None = None
    rotation_deg: float = 0.0
    flip: Flip = "none"
    step: tuple[float, float] | float | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("units", self.units, UNITS),
            ("positions_of", self.positions_of, ("probe", "sample", None)),
            ("flip", self.flip, FLIPS),
        ):
            if value not in allowed:
                raise DataError(f"positions: {name}={value!r} is not one of {', '.join(map(repr, allowed))}")

    def pixels(
        self, metadata: Metadata, nav: tuple[int, ...], pixel_size: tuple[float, float]
    ) -> tuple[Float, str]:
        """Return positions (y, x) in object pixels, float64 ``(frames, 2)``, and where they come from.

        Raises
        ------
        DataError
            If there are none, they are not finite, or their number is not that of the frames.
        """
        n = int(np.prod(nav))
        raw, units, source = self._values(metadata, nav)
        if len(raw) != n:
            raise DataError(
                f"{len(raw)} positions for {n} frames: give one position per frame (positions= ; "
                "--positions FILE)"
            )
        bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
        if bad.size:
            raise DataError(
                f"the positions of {bad.size} frames are not finite, the first is frame {bad[0]}: "
                "leave these frames out with roi="
            )
        of = self.positions_of or metadata.raw.get("positions_of") or "probe"
        out = -raw if of == "sample" else raw.copy()
        out = flipped(out, self.flip)
        angle = np.deg2rad(self.rotation_deg)
        c, s = np.cos(angle), np.sin(angle)
        out = np.stack([c * out[:, 0] - s * out[:, 1], s * out[:, 0] + c * out[:, 1]], axis=1)
        if units != "px":
            out = out * MORE_LENGTHS[units] / np.asarray(pixel_size)
        return out, f"{source}, taken as positions of the {of}"

    def _values(self, metadata: Metadata, nav: tuple[int, ...]) -> tuple[Float, str, str]:
        if self.values is not None:
            return _two_columns(np.asarray(self.values, np.float64), {}), self.units, "given positions"
        if metadata.positions is not None:
            return (
                _two_columns(np.asarray(metadata.positions, np.float64), metadata.raw), self.units,
                "positions of the file",
            )  # fmt: skip
        step = self.step
        if step is None and len(nav) == 2:
            axes = metadata.axes[:2] if len(metadata.axes) == 4 else ()
            scale = [a.scale * MORE_LENGTHS[a.units] for a in axes if a.units in MORE_LENGTHS]
            step = (scale[0], scale[1]) if len(scale) == 2 else None
        if step is None or len(nav) != 2:
            note = metadata.raw.get("positions_note")
            raise DataError(
                (f"{note}: " if note else "") + "the data do not state where the probe stood: give positions "
                "(ScanPositions(values) ; --positions FILE with two columns y, x in m), or for a regular "
                "scan "
                "its shape and step (nav_shape= and ScanPositions(step=...) ; --nav-shape 20,20 --step "
                "'50 nm')"
            )
        dy, dx = (step, step) if isinstance(step, (int, float)) else step
        grid = np.indices(nav).reshape(2, -1).T.astype(np.float64)
        return grid * [dy, dx], "px" if self.units == "px" else "m", f"a regular scan of {nav[0]} x {nav[1]}"


def typical_step(pixels: Float) -> float:
    """Return the median distance of each position to the nearest other one."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  # only where a run begins

    if len(pixels) < 2:
        return 0.0
    distances = np.asarray(cKDTree(pixels).query(pixels, k=2)[0])
    return float(np.median(distances[:, 1]))


def _two_columns(values: Float, raw: dict[str, Any]) -> Float:
    values = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise DataError(f"positions have the shape {values.shape}, expected (frames, 2): y, x")
    if values.shape[1] == 2:
        return values
    basis = raw.get("basis_vectors")
    if basis is not None:
        # the object's axes are those of the detector: psi(r) and its Fourier transform turn together
        unit = np.asarray(basis, np.float64)
        return np.asarray(values @ (unit / np.linalg.norm(unit, axis=0)))
    return values[:, 1::-1].copy()


def flipped(values: Float, flip: str) -> Float:
    """Return positions (y, x) after a flip, see `ScanPositions.flip`."""
    if flip.startswith("transpose"):
        values = values[:, ::-1]
        flip = flip.removeprefix("transpose").removeprefix("-")
    sign = [-1.0 if axis in flip and flip != "none" else 1.0 for axis in "yx"]
    return np.asarray(values * sign)


@dataclass(frozen=True, eq=False)
class Canvas:
    """The object's grid, and the frames on it.

    Attributes
    ----------
    shape
        Of the object.
    corner
        int64 ``(frames, 2)``: pixel of the object under the first pixel of the probe.
    bank
        int64 ``(frames,)``: which of `bank_shifts` the probe is shifted by.
    steps
        Shifts per pixel and axis; 1: whole pixels.
    origin
        (y, x): position in pixels of the object's first pixel.
    """

    shape: tuple[int, int]
    corner: npt.NDArray[np.int64]
    bank: npt.NDArray[np.int64]
    steps: int
    origin: tuple[float, float]


def make_canvas(pixels: Float, frame: tuple[int, int], steps: int = 1, margin: int = 8) -> Canvas:
    """Return the smallest grid with a fast FFT that holds all frames and `margin` pixels around them.

    Positions are rounded to multiples of ``1 / steps`` of a pixel.
    """
    from scipy.fft import next_fast_len  # noqa: PLC0415  # only where a run begins

    origin = np.floor(pixels.min(axis=0)) - margin
    corner, bank = place(pixels - origin, steps)
    extent = corner.max(axis=0) + np.asarray(frame) + margin
    shape = tuple(int(next_fast_len(int(n) + int(n) % 2, real=True)) for n in extent)
    return Canvas((shape[0], shape[1]), corner, bank, steps, (float(origin[0]), float(origin[1])))


def place(moved: Float, steps: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return integer positions, and the index of the remaining shift in a bank of ``steps x steps``.

    The remaining shift is in [-.5, .5) pixels, a multiple of ``1 / steps``; see `bank_shifts`.
    """
    ticks = np.floor(moved * steps + 0.5).astype(np.int64)
    corner = (ticks + steps // 2) // steps
    rest = ticks - corner * steps + steps // 2
    return corner, rest[:, 0] * steps + rest[:, 1]


def bank_shifts(steps: int) -> Float:
    """Return the shifts (y, x) in pixels of a bank of ``steps x steps`` entries, float64 ``(steps^2, 2)``.

    >>> bank_shifts(2).tolist()
    [[-0.5, -0.5], [-0.5, 0.0], [0.0, -0.5], [0.0, 0.0]]
    """
    values = (np.arange(steps) - steps // 2) / steps
    return np.stack(np.meshgrid(values, values, indexing="ij"), axis=-1).reshape(-1, 2)


def hilbert_order(corner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the frames in the order in which a Hilbert curve visits them: neighbours stay together.

    Wikipedia, "Hilbert curve", xy2d, on a grid of 1024 x 1024 over the extent of the scan.
    """
    bits = 10
    low = corner.min(axis=0)
    span = max(1, int((corner.max(axis=0) - low).max()))
    cell = ((corner - low) * ((1 << bits) - 1)) // span
    y, x = cell[:, 0].copy(), cell[:, 1].copy()
    key = np.zeros(len(corner), np.int64)
    s = 1 << (bits - 1)
    while s:
        ry, rx = ((y & s) > 0).astype(np.int64), ((x & s) > 0).astype(np.int64)
        key += s * s * ((3 * rx) ^ ry)
        turn = ry == 0
        mirror = turn & (rx == 1)
        x[mirror], y[mirror] = s - 1 - x[mirror], s - 1 - y[mirror]
        x[turn], y[turn] = y[turn], x[turn].copy()
        s >>= 1
    return np.argsort(key, kind="stable")
