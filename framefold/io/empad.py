"""EMPAD scans: float32 frames of 130 rows, 128 of them pixels, and an XML file with the scan."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from framefold.errors import DataError
from framefold.io.fields import read_bytes
from framefold.io.format import Format
from framefold.io.identity import file_identity
from framefold.io.memmap import FrameLayout, MemmapSource, checked_shape, frames_present
from framefold.udfcore.metadata import Metadata

_SIG, _ROWS = (128, 128), 130
_FRAME = 128 * 128 * 4
_STRIDE = _ROWS * 128 * 4
_MAX_XML = 2**22


def sniff(path: str, head: bytes) -> str | None:
    """Tell why a file is not EMPAD: XML that names a raw file, or raw frames of the detector's size."""
    if b"<raw_file" in head:
        return None
    if path.lower().endswith(".raw") and os.path.getsize(path) % _STRIDE == 0 and _xml_beside(path):
        return None
    return "neither XML with <raw_file>, nor frames of 130 x 128 float32 with such a file beside them"


def open_empad(path: str, *, mode: str = "acquire", strict: bool = False) -> MemmapSource:
    """Open an EMPAD scan.

    Parameters
    ----------
    path
        The XML file, or the raw file that it names.
    mode
        Which scan parameters of the XML file hold, ``"acquire"`` or ``"search"``.
    strict
        A truncated file is an error.

    Raises
    ------
    DataError
        If the XML file is damaged, the raw file is not beside it, or is too short.
    """
    xml = _xml_beside(path) if not _is_xml(path) else path
    nav: tuple[int, ...] | None = None
    raw: dict[str, Any] = {}
    if xml is not None:
        raw, name, nav = _parse(xml, mode)
        if _is_xml(path):
            path = os.path.join(os.path.dirname(xml), name)
            if not os.path.isfile(path):
                raise DataError(f"{xml} names the raw file {name}, which is not beside it")
    declared = None if nav is None else int(np.prod(nav, dtype=object))
    frames, present = frames_present(
        path, 0, _STRIDE, _FRAME, declared, strict=strict, footer=_STRIDE - _FRAME
    )
    layout = FrameLayout(path, nav or (frames,), _SIG, np.dtype("<f4"), 0, _STRIDE, present)
    return MemmapSource(layout, Metadata(nav_shape=nav, raw=raw), file_identity(path, "empad", mode=mode))


def _is_xml(path: str) -> bool:
    return b"<raw_file" in read_bytes(path, 0, min(8192, max(1, os.path.getsize(path))))


def _xml_beside(path: str) -> str | None:
    """Return the XML file that names this raw file."""
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    for candidate in (f"{stem}.xml", f"{stem.removeprefix('scan_')}.xml", "acquisition.xml"):
        full = os.path.join(folder, candidate)
        if os.path.isfile(full) and name.encode() in read_bytes(full, 0, min(8192, os.path.getsize(full))):
            return full
    return None


def _parse(path: str, mode: str) -> tuple[dict[str, Any], str, tuple[int, ...]]:
    """Return the text of all elements, the name of the raw file, and the scan shape."""
    data = read_bytes(path, 0, min(_MAX_XML, os.path.getsize(path)))
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise DataError(f"{path}: XML with entities is refused")
    try:
        root = ET.fromstring(data)  # without entities there is nothing to expand
    except ET.ParseError as exc:
        raise DataError(f"{path}: damaged XML: {exc}") from exc
    raw = {e.tag: (e.text or "").strip() for e in root.iter() if (e.text or "").strip()}
    file = root.find("raw_file")
    # the name is a full path of the computer that wrote it
    name = "" if file is None else file.attrib.get("filename", "").replace("\\", "/").rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        raise DataError(f"{path} names no raw file")
    kind = (root.findtext("type") or "scan").strip()
    try:
        if kind == "series":
            nav: tuple[int, ...] = (int(root.findtext("count") or ""),)
        else:
            scan = next(e for e in root.findall("scan_parameters") if e.attrib.get("mode") == mode)
            nav = tuple(int(scan.findtext(f"scan_resolution_{a}") or "") for a in "yx")
    except (ValueError, StopIteration) as exc:
        raise DataError(f"{path} states no scan size for mode={mode!r} (acquire or search)") from exc
    return raw, name, checked_shape(path, nav, "the scan")


FORMAT = Format("empad", "EMPAD: XML and raw file", sniff, open_empad, (".xml", ".raw"))
