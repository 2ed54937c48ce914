"""What a page may do to a run: stop it, and change parameters of its UDFs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from framefold.errors import FramefoldError


class Control:
    """The handle of a run that pages share.

    Parameters
    ----------
    run
        Has ``stop()`` or ``cancel()``, and may have ``update_parameters(patches)``.
    udfs
        Of the run, for their parameters.

    Attributes
    ----------
    values
        The parameters of each UDF as they are now.
    version
        Grows with every change.
    changeable
        Whether the run takes other parameters at all; iterations do not.
    over
        Whether the run has ended: nothing can be changed any more.
    stopped
        Whether a page asked the run to end.
    """

    def __init__(self, run: Any, udfs: Sequence[Any]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self.values: list[dict[str, Any]] = [dict(u._kwargs) for u in udfs]
        self.version = 0
        self.changeable = hasattr(run, "update_parameters")
        self.over = False
        self.stopped = False

    def change(self, index: int, patch: Mapping[str, Any]) -> None:
        """Use other parameters of UDF `index` for the frames that follow.

        Raises
        ------
        FramefoldError
            If the run is over. What the engine or the UDF refuses comes as their own errors.
        """
        with self._lock:
            if self.over:
                raise FramefoldError("the run is over: start it again with the new parameters")
            new = {k: v for k, v in patch.items() if self.values[index].get(k) != v}
            if not new:
                return
            patches: list[dict[str, Any]] = [{} for _ in self.values]
            patches[index] = new
            self._run.update_parameters(patches)
            self.values[index].update(new)
            self.version += 1

    def stop(self) -> None:
        """End the run in an orderly way."""
        if not self.over:
            self.stopped = True
            (self._run.stop if hasattr(self._run, "stop") else self._run.cancel)()
