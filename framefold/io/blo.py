"""NanoMEGAS block files (.blo): precession diffraction scans, 8 bit, a few bytes before each frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from framefold.io.fields import read_bytes, unpack
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.udfcore.metadata import Axis, Metadata, electron_wavelength

_FRAME_HEADER = 6  # 55 AA and a counter
_FIELDS = (
    ("id", "6s"), ("version", "H"), ("vbf_offset", "I"), ("frames_offset", "I"), ("flags", "I"),
    ("frame_size", "H"), ("frame_rotation", "H"), ("nx", "H"), ("ny", "H"), ("scan_rotation", "H"),
    ("step_x_nm", "d"), ("step_y_nm", "d"), ("voltage", "I"), ("pixels_per_m", "H"), ("camera_length", "I"),
    ("acquisition_time", "d"),
)  # fmt: skip
_SIZE = 64
_Q_E = 1.602176634e-19


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not a block file."""
    return None if head.startswith(b"IMGBLO") else "does not begin with IMGBLO"


def open_blo(path: str, *, strict: bool = False) -> MemmapSource:
    """Open a block file.

    Parameters
    ----------
    path
        The file.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If the header is damaged or no frame is there.
    """
    head = dict(unpack(read_bytes(path, 0, _SIZE), _FIELDS, path))
    n = head["frame_size"]
    nav = checked_shape(path, (head["ny"], head["nx"]), "the scan")
    sig = checked_shape(path, (n, n), "frames of")
    stride = _FRAME_HEADER + n * n
    offset = head["frames_offset"] + _FRAME_HEADER
    _, present = frames_present(path, offset, stride, n * n, nav[0] * nav[1], strict=strict)
    head["id"] = head["id"].decode("ascii", errors="replace")
    voltage = head["voltage"]
    metadata = Metadata(raw=head)
    if 0 < head["step_x_nm"] < 1e9 and 0 < head["step_y_nm"] < 1e9:
        # the calibration of the diffraction plane depends on conventions of its program: it stays raw
        scan = (Axis("y", head["step_y_nm"], units="nm"), Axis("x", head["step_x_nm"], units="nm"))
        metadata = replace(metadata, axes=(*scan, Axis("ky"), Axis("kx")))
    if 0 < voltage < 10**7:
        metadata = replace(metadata, energy=voltage * _Q_E, wavelength=electron_wavelength(voltage))
    layout = FrameLayout(path, nav, sig, np.dtype("u1"), offset, stride, present)
    return MemmapSource(layout, metadata, file_identity(path, "blo"))


FORMAT = Format("blo", "NanoMEGAS block file", sniff, open_blo, (".blo",))
