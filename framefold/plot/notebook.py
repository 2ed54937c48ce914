"""The one place that talks to IPython: a cell output that is replaced in place."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from typing import Any


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook; imports nothing.

    A kernel has imported IPython long before us, and only kernels have one with a ``kernel``.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


class Display:
    """An output under one display id: shown where the cell is, then replaced."""

    def __init__(self) -> None:
        self._id = f"framefold-{uuid.uuid4().hex}"
        self._shown = False

    def show(self, bundle: Mapping[str, Any]) -> None:
        """Show `bundle` (MIME type -> data) in place of what was there."""
        from IPython.display import display, update_display  # noqa: PLC0415  # only in a kernel

        if self._shown:
            update_display(dict(bundle), raw=True, display_id=self._id)
        else:
            display(dict(bundle), raw=True, display_id=self._id)
            self._shown = True
