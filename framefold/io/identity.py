"""The text that identifies a file in results and caches: path, size, time, format, parameters."""

from __future__ import annotations

import os
from typing import Any

from framefold.errors import DataError


def file_identity(path: str, format_name: str, **parameters: Any) -> str:
    """Return the identity of a file; `parameters` that are None are left out.

    Raises
    ------
    DataError
        If the file is not there.
    """
    try:
        status = os.stat(path)
    except OSError as exc:
        raise DataError(f"cannot open {path}: {exc.strerror or exc}") from exc
    given = "".join(f":{k}={v}" for k, v in parameters.items() if v is not None)
    return f"{format_name}:{os.path.abspath(path)}:{status.st_size}:{status.st_mtime_ns}{given}"
