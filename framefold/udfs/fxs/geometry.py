"""Where the pixels of a detector are, and which scattering vector, solid angle and polarisation they see."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
HC = 1.239841984332e-06  # eV m
MAX_PIXELS = 2**26  # no detector has more: files that state more are damaged


@dataclass(frozen=True, eq=False)
class Geometry:
    """Detector geometry in metres and radians; scattering vectors come in 1/Angstrom.

    Pixel ``(i, k)`` covers ``i .. i+1`` along axis 1 (rows) and ``k .. k+1`` along axis 2 (columns). With
    ``a = (i + 1/2) p1 - poni1`` and ``b = (k + 1/2) p2 - poni2`` it lies at ``R (a, b, distance)``, R the
    rotations of the PONI convention. The azimuth runs from axis 2 towards axis 1, ``chi = atan2(t1, t2)``.

    Attributes
    ----------
    distance
        From the sample to the point of normal incidence, in m.
    pixel_size
        ``(p1, p2)`` in m; one number for square pixels.
    wavelength
        In m; `photon_energy` in eV may be given instead.
    centre
        Point of normal incidence ``(row, column)`` in pixels; without rotation the beam centre.
    rotation
        ``(rot1, rot2, rot3)`` in rad.
    shape
        Of a frame.
    pixel_map
        ``(3, *shape)``: x (along axis 2), y (along axis 1) and z (along the beam) of pixel centres in m.
        Panels need not be parallel. Replaces `distance`, `centre` and `rotation`. The last two axes are
        one panel.
    photon_energy
        In eV.
    pixel_edges
        ``(2, 3, *shape)``: edges of each pixel along axes 1 and 2, x y z in m, for maps that hold several
        panels side by side; None: differences between neighbours of `pixel_map`.
    absent
        Bool of frame shape, True where an array of a map holds no pixel, or one that must not count.

    Examples
    --------
    >>> g = Geometry(distance=0.2, pixel_size=75e-6, wavelength=2e-10, centre=(64, 64), shape=(128, 128))
    >>> round(float(g.q().max()), 4)
    0.1058
    """

    distance: float = 0.0
    pixel_size: Any = None
    wavelength: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shape: tuple[int, ...] = ()
    pixel_map: Array | None = field(default=None, repr=False)
    photon_energy: float | None = None
    pixel_edges: Array | None = field(default=None, repr=False)
    absent: Array | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.photon_energy is not None and not self.wavelength:
            object.__setattr__(self, "wavelength", HC / self.photon_energy)
        if not (np.isfinite(self.wavelength) and self.wavelength > 0):
            raise DataError("the geometry has no wavelength: give wavelength= in m or photon_energy= in eV")
        if self.wavelength > 1e-6:
            raise DataError(f"wavelength {self.wavelength} m is not that of X-rays: 1 Angstrom is 1e-10 m")
        object.__setattr__(self, "photon_energy", HC / self.wavelength)
        if self.pixel_map is not None:
            self._set_map(self.pixel_map)
            return
        if self.pixel_edges is not None or self.absent is not None:
            raise DataError("pixel_edges and absent belong to pixel_map=: give it, or mask= for bad pixels")
        size = np.broadcast_to(np.asarray(0.0 if self.pixel_size is None else self.pixel_size, float), (2,))
        if not (size > 0).all():
            raise DataError(f"pixel_size {self.pixel_size} is not positive: give it in m, for instance 75e-6")
        if not self.distance > 0:
            raise DataError(f"distance {self.distance} is not positive: give it in m")
        if len(self.shape) != 2 or min(self.shape, default=0) < 1:
            raise DataError(f"shape {self.shape} is not (rows, columns); several panels need pixel_map=")
        object.__setattr__(self, "pixel_size", (float(size[0]), float(size[1])))
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))

    def _set_map(self, given: Array) -> None:
        xyz = np.array(given, dtype=np.float64)
        if xyz.ndim < 3 or xyz.shape[0] != 3 or min(xyz.shape[-2:]) < 2:
            raise DataError(
                f"pixel_map has shape {xyz.shape}; needed is (3, ..., rows, columns) in m, x y z first"
            )
        if not np.isfinite(xyz).all():
            raise DataError("pixel_map has values that are not finite: give every pixel a place, and mask it")
        xyz.flags.writeable = False
        object.__setattr__(self, "pixel_map", xyz)
        object.__setattr__(self, "shape", xyz.shape[1:])
        object.__setattr__(self, "distance", float(xyz[2].mean()))
        if self.pixel_edges is not None and np.shape(self.pixel_edges) != (2, *xyz.shape):
            raise DataError(
                f"pixel_edges has shape {np.shape(self.pixel_edges)}, needed is {(2, *xyz.shape)}"
            )
        if self.absent is not None and np.shape(self.absent) != self.shape:
            raise DataError(f"absent has shape {np.shape(self.absent)}, the map {self.shape}")
        steps = [np.linalg.norm(e, axis=0) for e in self._edges(xyz)]
        object.__setattr__(self, "pixel_size", tuple(float(np.median(s)) for s in steps))

    @classmethod
    def from_poni(cls, path: str | os.PathLike[str], shape: Sequence[int] | None = None) -> Geometry:
        """Read a pyFAI ``.poni`` file, see `framefold.udfs.fxs.geometry_files.read_poni`."""
        from framefold.udfs.fxs.geometry_files import read_poni  # noqa: PLC0415  # it imports this module

        return read_poni(path, shape)

    @classmethod
    def from_pixel_map(
        cls, xyz: Any, *, wavelength: float = 0.0, photon_energy: float | None = None, key: str | None = None
    ) -> Geometry:
        """Return the geometry of any number of panels.

        Parameters
        ----------
        xyz
            Array ``(3, *sig)`` in m, or a file: ``.npy``, or HDF5 with the dataset `key`.
        wavelength, photon_energy
            In m, or in eV.
        key
            Path inside an HDF5 file.
        """
        from framefold.udfs.fxs.geometry_files import load_map  # noqa: PLC0415

        array = load_map(xyz, key) if isinstance(xyz, (str, os.PathLike)) else np.asarray(xyz)
        return cls(wavelength=wavelength, photon_energy=photon_energy, pixel_map=array)

    @classmethod
    def from_geom(
        cls,
        path: str | os.PathLike[str],
        *,
        clen: float | None = None,
        photon_energy: float | None = None,
        shape: Sequence[int] | None = None,
    ) -> Geometry:
        """Read a CrystFEL ``.geom`` file, see `framefold.udfs.fxs.geometry_crystfel.read_geom`."""
        from framefold.udfs.fxs.geometry_crystfel import read_geom  # noqa: PLC0415  # it imports this module

        return read_geom(path, clen=clen, photon_energy=photon_energy, shape=shape)

    def _edges(self, xyz: Floats) -> tuple[Floats, Floats]:
        if self.pixel_edges is not None:
            return np.asarray(self.pixel_edges[0], np.float64), np.asarray(self.pixel_edges[1], np.float64)
        return np.gradient(xyz, axis=-2), np.gradient(xyz, axis=-1)

    def with_centre(self, row: float, column: float) -> Geometry:
        """Return the same geometry with another point of normal incidence, in pixels."""
        if self.pixel_map is not None:
            raise DataError("a geometry from a pixel map has no centre to set: shift the map")
        return replace(self, centre=(float(row), float(column)))

    # --- positions ---------------------------------------------------------------------------

    def rotation_matrix(self) -> Floats:
        """Return R, with which ``(t1, t2, t3) = R (a, b, distance)``."""
        c1, c2, c3 = np.cos(self.rotation)
        s1, s2, s3 = np.sin(self.rotation)
        return np.array(
            [
                [c2 * c3, c3 * s1 * s2 - c1 * s3, -(c1 * c3 * s2 + s1 * s3)],
                [c2 * s3, c1 * c3 + s1 * s2 * s3, -(c1 * s2 * s3 - c3 * s1)],
                [s2, -c2 * s1, c1 * c2],
            ]
        )

    def frames_of_pixels(self) -> tuple[Floats, Floats, Floats]:
        """Return centres ``(3, pixels)`` and the edges along axes 1 and 2, ``(3, pixels)`` or ``(3, 1)``.

        Rows are t1 (along axis 1), t2 (along axis 2) and t3 (along the beam), in m.
        """
        if self.pixel_map is not None:
            parts = (self.pixel_map, *self._edges(self.pixel_map))
            flat = [np.ascontiguousarray(x[[1, 0, 2]].reshape(3, -1)) for x in parts]
            return flat[0], flat[1], flat[2]
        p1, p2 = self.pixel_size
        a = (np.arange(self.shape[0]) + 0.5 - self.centre[0]) * p1
        b = (np.arange(self.shape[1]) + 0.5 - self.centre[1]) * p2
        r = self.rotation_matrix()
        t = (
            r[:, 0, None, None] * a[:, None]
            + r[:, 1, None, None] * b
            + (r[:, 2] * self.distance)[:, None, None]
        )
        return t.reshape(3, -1), r[:, :1] * p1, r[:, 1:2] * p2

    def two_theta(self) -> Floats:
        """Return the scattering angle of each pixel centre in rad."""
        t = self.frames_of_pixels()[0]
        return np.arctan2(np.hypot(t[0], t[1]), t[2]).reshape(self.shape)

    def q(self) -> Floats:
        """Return ``4 pi sin(theta) / wavelength`` of each pixel centre in 1/Angstrom."""
        return 4 * np.pi * np.sin(self.two_theta() / 2) / (self.wavelength * 1e10)

    def chi(self) -> Floats:
        """Return the azimuth of each pixel centre in rad, -pi .. pi."""
        t = self.frames_of_pixels()[0]
        return np.arctan2(t[0], t[1]).reshape(self.shape)

    def solid_angle(self) -> Floats:
        """Return the solid angle of each pixel, relative to one at normal incidence at `distance`.

        ``(L/R)^3`` on a flat detector, otherwise ``cos(incidence) (L/R)^2``.
        """
        t, e1, e2 = self.frames_of_pixels()
        r = np.sqrt((t**2).sum(axis=0))
        if self.pixel_map is None:
            return ((self.distance / r) ** 3).reshape(self.shape)
        normal = np.cross(e2, e1, axis=0)
        normal /= np.linalg.norm(normal, axis=0)
        cos = np.abs((normal * t).sum(axis=0)) / r
        return (cos * (self.distance / r) ** 2).reshape(self.shape)

    def polarisation(self, factor: float) -> Floats:
        """Return ``1/2 (1 + cos^2 2theta - f cos 2chi sin^2 2theta)``; f = 1 for horizontal polarisation."""
        tt = self.two_theta()
        return 0.5 * (1 + np.cos(tt) ** 2 - factor * np.cos(2 * self.chi()) * np.sin(tt) ** 2)

    @property
    def identity(self) -> str:
        """Hash of the contents."""
        h = hashlib.sha256(repr((self.distance, self.pixel_size, self.wavelength, self.centre,
                                 self.rotation, self.shape)).encode())  # fmt: skip
        if self.pixel_map is not None:
            for array in (self.pixel_map, self.pixel_edges, self.absent):
                h.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return h.hexdigest()[:16]
