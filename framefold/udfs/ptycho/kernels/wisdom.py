"""Plans of FFTW: measured quickly, or sought patiently once per machine and kept in the user's cache.

Patient plans are 10 % (128 x 128) to 25 % (256 x 256) faster and take 2 to 8 s to find.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy.typing as npt

WORTH_IT = 1000  # waves per iteration: from here on a run earns the time back, or the next one does
LARGEST = 512 * 512  # pixels of all waves of a frame: beyond, the search takes minutes
_PLANNER = threading.Lock()  # FFTW's planner is not thread-safe


def plan_pair(wave: npt.NDArray[Any], patient: bool) -> list[Any]:
    """Return the plans forward and backward over the last two axes of `wave`, in place; overwrites it.

    Parameters
    ----------
    wave
        complex64 ``(waves, ny, nx)``, aligned.
    patient
        Search for the best plan, unless this machine knows it already.
    """
    with _PLANNER:
        _recall()
        known = _plans(wave, "FFTW_PATIENT", "FFTW_WISDOM_ONLY")
        if known is not None:
            return known
        if patient and wave.size <= LARGEST:
            found = _plans(wave, "FFTW_PATIENT")
            _keep()
        else:
            found = _plans(wave, "FFTW_MEASURE")
        assert found is not None
        return found


def cache_file() -> Path:
    """Return where plans of this kind of processor are kept."""
    home = Path.home()
    roots = {"darwin": home / "Library/Caches", "win32": home / "AppData/Local"}
    root = Path(os.environ.get("XDG_CACHE_HOME") or roots.get(sys.platform, home / ".cache"))
    return root / "framefold" / f"fftw-{_machine()}.wisdom"


def _plans(wave: npt.NDArray[Any], *flags: str) -> list[Any] | None:
    import pyfftw  # noqa: PLC0415  # loads slowly

    try:
        return [
            pyfftw.FFTW(wave, wave, axes=(1, 2), direction=d, flags=flags, threads=1)
            for d in ("FFTW_FORWARD", "FFTW_BACKWARD")
        ]
    except RuntimeError:
        if "FFTW_WISDOM_ONLY" in flags:
            return None  # nothing is known
        raise


@functools.cache
def _recall() -> None:
    """Read what former runs found, once per process."""
    import pyfftw  # noqa: PLC0415

    try:
        stored = cache_file().read_bytes()
    except (OSError, RuntimeError):  # no file, or no home
        return
    pyfftw.import_wisdom((b"", stored, b""))  # FFTW ignores what it cannot read


def _keep() -> None:
    """Write all that is known; a cache that cannot be written is none."""
    import pyfftw  # noqa: PLC0415

    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / path.name
            new.write_bytes(pyfftw.export_wisdom()[1])
            new.replace(path)  # others read either the old file or the new one
    except (OSError, RuntimeError):
        return


def _machine() -> str:
    import pyfftw  # noqa: PLC0415

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line for line in lines if line.startswith("model name")), "")
    except OSError:
        cpu = platform.processor()
    words = f"{platform.machine()} {cpu} {pyfftw.fftw_version}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]
