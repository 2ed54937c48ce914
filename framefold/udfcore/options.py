"""What a UDF class tells the engine about itself, beyond its methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Set as the class attribute ``engine = EngineOptions(...)`` of a UDF.

    Attributes
    ----------
    merge_scope
        ``"head"``: `merge` sees one partition at a time on the head node (default).
        ``"any"``: `merge` may also join partials on a worker, in any grouping; it must then not read
        ``meta.get_valid_nav_mask``.
    partial_frames
        The author's promise that partials from different sectors of the same frames may be joined. For
        live streams; without effect on files, whose frames are whole.
    whole_frames
        `process_tile` needs tiles of the full signal shape.
    gil
        ``"bound"`` if the UDF holds the GIL most of the time, ``"free"`` if not, None: measure.
    corrections
        ``"engine"``: tiles arrive corrected. ``"self"``: tiles stay raw and ``meta.corrections`` holds
        the corrections, for UDFs that fold them into weights or masks. The engine still corrects, and
        ``meta.corrections`` is None, where they are not linear (gain stages) or transforms (``pre=``) follow.
    order
        ``"stream"``: merge in navigation order.
    lanes
        1: one fold lane per process, for UDFs that thread inside. None: one per core.
    effects
        `process_*` does more than fill buffers, such as writing files: it is not tried out on zeros before a
        live run, so that its compilation falls into the run.
    device
        The code takes arrays of a GPU as well as numpy's: `UDF.get_backends` adds ``"cupy"``, and there all
        numeric buffers, auxiliary data and tiles are CuPy arrays, ``self.xp`` is CuPy. Everything else
        (`merge`, `get_results`) sees numpy arrays.
    """

    merge_scope: Literal["head", "any"] = "head"
    partial_frames: bool = False
    whole_frames: bool = False
    gil: Literal["bound", "free"] | None = None
    corrections: Literal["engine", "self"] = "engine"
    order: Literal["stream"] | None = None
    lanes: Literal[1] | None = None
    effects: bool = False
    device: bool = False
