"""Who iterates: this process alone, or workers that a head steers; the same few calls for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framefold.executor.iterate_host import HostLoop
from framefold.executor.iterate_replicas import hosted

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Standing:
    """How far an iteration has come.

    Attributes
    ----------
    iteration
        Iterations done.
    history
        Figures by name, one number per iteration.
    why
        Whether, or why, it is over.
    overhead
        Seconds of the last iteration in which no lane computed.
    notes
        What the UDF said.
    frames
        Frames that took part.
    counted
        Iterations that count for the most that were asked for.
    """

    iteration: int
    history: Mapping[str, Array]
    why: bool | str
    overhead: float
    notes: tuple[str, ...] = ()
    frames: int = 0
    counted: int = 0


@dataclass(frozen=True)
class LoopState:
    """What an iteration goes on from.

    Attributes
    ----------
    loop
        The loop state.
    history
        Figures by name.
    iteration
        Iterations done.
    """

    loop: Mapping[str, Any]
    history: Mapping[str, Array]
    iteration: int


class Team(Protocol):
    """Those who hold the frames and iterate in step."""

    def begin(self, state: LoopState | None) -> None:
        """Make the loop, from the start or from a state."""
        ...

    def advance(self, seconds: float, limit: int) -> Standing:
        """Do at least one iteration, then others for so long, up to so many in all."""
        ...

    @property
    def present(self) -> npt.NDArray[np.int64] | None:
        """Flat dataset indices of the frames that take part; None: all."""
        ...

    def publish(self) -> dict[str, Array]:
        """Return copies of the results as they are."""
        ...

    def state(self) -> LoopState:
        """Return what a checkpoint needs."""
        ...

    def finish(self) -> None:
        """Put the last touches to the loop state."""
        ...

    def report(self) -> Mapping[str, Any]:
        """Return what the user should know about the run, as plain values."""
        ...

    def close(self) -> None:
        """Let the frames go."""
        ...


class LocalTeam:
    """One process, the caller's: its threads are the lanes.

    Parameters
    ----------
    make
        Makes the loop.
    """

    def __init__(self, make: Callable[[], HostLoop]) -> None:
        self._make = make
        self._loop: HostLoop | None = None

    @property
    def loop(self) -> HostLoop:
        """The loop, which `begin` made."""
        assert self._loop is not None
        return self._loop

    def begin(self, state: LoopState | None) -> None:
        """Make the loop."""
        self._loop = self._make()
        if state is not None:
            self._loop.restore(state.loop, state.history, state.iteration)

    def advance(self, seconds: float, limit: int) -> Standing:
        """Do one iteration: here it costs nothing to be asked again."""
        return standing(self.loop, self.loop.iterate())

    def publish(self) -> dict[str, Array]:
        """Return copies of the results."""
        return self.loop.publish()

    def state(self) -> LoopState:
        """Return what a checkpoint needs; it shares memory with the loop where that lies on the host."""
        loop = self.loop
        return LoopState(hosted(vars(loop.udf.loop)), loop.history.table(), loop.iteration)

    def finish(self) -> None:
        """Put the last touches to the loop state."""
        self.loop.udf.finish()

    @property
    def present(self) -> npt.NDArray[np.int64] | None:
        """None: all frames take part."""
        return None

    def report(self) -> Mapping[str, Any]:
        """Return nothing more than is known."""
        return {}

    def close(self) -> None:
        """End the threads."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None


def standing(loop: HostLoop, why: bool | str) -> Standing:
    """Return how far a loop has come."""
    return Standing(
        loop.iteration,
        loop.history.table(),
        why,
        loop.overhead,
        tuple(loop.udf.notes),
        len(loop.udf.present),
        loop.iteration,
    )


def copied(loop: HostLoop) -> LoopState:
    """Return the state of a loop, sharing nothing with it."""
    kept = hosted(vars(loop.udf.loop))
    values = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in kept.items()}
    return LoopState(values, loop.history.table(), loop.iteration)
