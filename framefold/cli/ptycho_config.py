"""Configuration files of ``framefold ptycho``: TOML with the long options as keys."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefold.errors import FramefoldError, did_you_mean

if TYPE_CHECKING:
    from framefold.udfcore.dataset import Dataset


def apply_config(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Fill `args` from the TOML file ``args.file``; what stands on the command line wins.

    Raises
    ------
    FramefoldError
        If the file is not TOML, has no ``file``, or a key that is no option.
    """
    path = Path(args.file)
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise FramefoldError(f"{path}: {exc}") from exc
    if "file" not in values:
        raise FramefoldError(f"{path}: has no 'file', which names the scan")
    defaults = vars(parser.parse_args(["-"]))
    known = [k.replace("_", "-") for k in defaults if k != "rest"]
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in defaults or name == "rest":
            raise FramefoldError(f"{path}: no option {key!r}.{did_you_mean(key, known)}")
        if name == "file":
            data = Path(str(value))
            args.file = str(data if data.is_absolute() or data.exists() else path.parent / data)
        elif getattr(args, name) == defaults[name]:
            setattr(args, name, _as_option(value, defaults[name]))


def _as_option(value: Any, default: Any) -> Any:
    """Return a TOML value as the command line would give it: text, but for flags and numbers with a type."""
    if isinstance(value, bool) or (isinstance(value, (int, float)) and isinstance(default, (int, float))):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(default, int) or (isinstance(value, int) and default is None) else str(value)


def write_config(file: str, ds: Dataset) -> str:
    """Return a commented configuration with what the file states."""
    m = ds.metadata
    lines = [
        f"# ptychography of {ds.name}: run it by  framefold ptycho THIS_FILE",
        f"file = {_quoted(file)}",
        "",
        f"# {ds.shape.nav.size} frames of {tuple(ds.shape.sig)}, {ds.dtype}",
        "# geometry: what the file states stands behind '#'; take the '#' away to override it",
        _line("wavelength", m.wavelength, "m", "'0.1 nm'"),
        _line("distance", m.camera_length, "m", "'2 m'"),
        _line("detector-pixel", None if m.pixel_size is None else m.pixel_size[0], "m", "'75 um'"),
        "# near-field = true",
        '# focus-distance = "3.65 mm"',
        "# positions: "
        + (
            "the file has none; a file with two columns y, x in m, or a step and a scan shape"
            if m.positions is None
            else f"the file has {len(m.positions)} of the {m.raw.get('positions_of', 'probe')}"
        ),
        '# positions = "positions.csv"',
        '# step = "50 nm"',
        '# positions-of = "sample"',
        "",
        'recipe = "auto"        # or "15 RPIE; 40 AP"',
        "modes = 1              # of the probe: more for partial coherence and fly scans",
        "# iterations = 100",
        f'# mask = "bad.npy"     # beside the {0 if m.mask is None else int(m.mask.sum())} bad pixels '
        "of the file",
        "# background = 0.5",
        "",
        f"save = {_quoted(Path(file).stem + '_reconstruction.cxi')}",
        f"plot = {_quoted(Path(file).stem + '_reconstruction.png')}",
        "",
    ]
    return "\n".join(lines)


def _line(name: str, value: float | None, unit: str, example: str) -> str:
    if value is None:
        return f"# {name} = {example}    # the file does not state it: needed".replace("'", '"')
    return f'# {name} = "{value:.6g} {unit}"'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
