"""``framefold info``: what a file holds, and how it would be read."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli.command import Command
from framefold.cli.source_arguments import add_dataset, open_dataset
from framefold.errors import DataError
from framefold.plot.calibration import ruler
from framefold.udfcore.inspection import size
from framefold.udfcore.metadata import Axis

if TYPE_CHECKING:
    from framefold.udfcore.dataset import Dataset


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--json", action="store_true", help="all of it as JSON")


def _run(args: argparse.Namespace) -> int:
    from framefold.context import Context  # noqa: PLC0415

    with Context(executor="inline") as ctx:
        facts = {"format": _format_of(args), **describe(open_dataset(ctx, args))}
    print(json.dumps(facts, indent=2, allow_nan=False) if args.json else "\n".join(_lines(facts)))
    return 0


def _format_of(args: argparse.Namespace) -> str:
    from framefold.io.registry import detect  # noqa: PLC0415

    if args.format:
        return str(args.format)
    try:
        return detect(args.file).name
    except DataError:  # a raw file, a series of files, an address
        return ""


def describe(ds: Dataset) -> dict[str, Any]:
    """Return what is known about a dataset as plain values, as JSON takes them."""
    stats = ds.source.stats()
    meta = ds.metadata
    known = {f.name: getattr(meta, f.name) for f in fields(meta) if f.name not in ("axes", "raw")}
    return {
        "name": ds.name,
        "identity": ds.identity,
        "nav_shape": list(ds.shape.nav),
        "sig_shape": list(ds.shape.sig),
        "dtype": str(ds.dtype),
        "bytes": ds.shape.size * ds.dtype.itemsize,
        "frames_missing": 0 if ds.valid is None else int((~ds.valid).sum()),
        "read_path": stats.path,
        "read_reason": stats.reason,
        "natural_chunks": list(ds.source.natural_chunks),
        "axes": [
            {"name": a.name, "scale": _plain(a.scale), "offset": _plain(a.offset), "units": a.units}
            for a in ds.axes
        ],
        "metadata": {k: _plain(v) for k, v in known.items() if v is not None},
        "candidates": [_candidate(c) for c in ds.candidates],
        "raw": _plain(meta.raw),
    }


def _lines(facts: Mapping[str, Any]) -> list[str]:
    shape = f"({', '.join(map(str, facts['nav_shape']))} | {', '.join(map(str, facts['sig_shape']))})"
    rows = [
        ("file", facts["name"]),
        *([("format", facts["format"])] if facts["format"] else []),
        ("shape", f"{shape}  scan | frame"),
        ("dtype", facts["dtype"]),
        ("size", size(facts["bytes"])),
    ]
    if facts["frames_missing"]:
        rows.append(("missing", f"{facts['frames_missing']} frames"))
    path = facts["read_path"] or "not read yet"
    rows.append(("read by", f"{path} ({facts['read_reason']})" if facts["read_reason"] else path))
    for axis, n in zip(facts["axes"], (*facts["nav_shape"], *facts["sig_shape"]), strict=True):
        r = ruler(Axis(**axis), n)
        rows.append((f"axis {r.name}", f"{r.scale:.6g} {r.units} per step, from {r.offset:.6g}"))
    rows += [(k.replace("_", " "), _text(v, k)) for k, v in facts["metadata"].items()]
    rows += [("--key", _candidate_text(c)) for c in facts["candidates"]]
    if facts["raw"]:
        rows.append(("more", f"{len(facts['raw'])} entries of the file's own: --json shows them"))
    width = max(len(k) for k, _ in rows)
    return [f"{k:<{width}}  {v}" for k, v in rows]


# factor from SI, and what it is called then
_UNITS = {
    "energy": (1 / 1.602176634e-16, "keV"),
    "wavelength": (1e12, "pm"),
    "camera_length": (1.0, "m"),
    "pixel_size": (1e6, "um"),
    "dwell_time": (1e3, "ms"),
}


def _text(value: Any, name: str) -> str:
    if name in _UNITS and isinstance(value, float):
        factor, unit = _UNITS[name]
        return f"{value * factor:.6g} {unit}"
    if isinstance(value, list):
        factor, unit = _UNITS.get(name, (1.0, ""))
        return (
            ", ".join(f"{v * factor:.6g}" if isinstance(v, float) else str(v) for v in value)
            + f" {unit}".rstrip()
        )
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _candidate(value: Any) -> dict[str, Any]:
    """Return what tells an array in a file from the others."""
    known = {
        k: _plain(getattr(value, k)) for k in ("key", "shape", "layout", "note") if getattr(value, k, None)
    }
    known["dtype"] = str(getattr(value, "dtype", ""))
    return known if "key" in known else {"key": str(value)}


def _candidate_text(c: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, c.get("shape", ())))
    about = " ".join(str(w) for w in (shape, c.get("dtype", ""), c.get("layout", ""), c.get("note", "")) if w)
    return f"{c['key']}  {about}".rstrip()


def _plain(value: Any) -> Any:
    """Return what JSON takes: arrays by shape and dtype unless short, numbers that are not finite as text."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.size <= 16 else f"array {value.shape} {value.dtype}"
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return str(value)


COMMAND = Command("info", "what a file holds: shape, dtype, axes, metadata, arrays inside", _arguments, _run)
