"""Iteration over the snapshots of a run, in plain and in asynchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from framefold.executor.drive import Run
from framefold.udfcore.results import Snapshot


class ResultGenerator:
    """Iterates over the snapshots of a run; closing it cancels what is left."""

    def __init__(self, run: Run, steps: Iterator[Snapshot]) -> None:
        self._run = run
        self._steps: Any = steps

    def __iter__(self) -> ResultGenerator:
        return self

    def __next__(self) -> Snapshot:
        return next(self._steps)

    def close(self) -> None:
        """End the run; the context is usable at once."""
        self._steps.close()
        self._run.release()

    def throw(self, exc: BaseException) -> Any:
        """Raise `exc` where the run waits for the next snapshot; it ends the run."""
        return self._steps.throw(exc)

    def cancel(self) -> None:
        """Stop the run; the next step raises `UDFRunCancelled`."""
        self._run.cancel()

    def update_parameters(self, patches: Sequence[Mapping[str, Any]]) -> None:
        """Change UDF parameters on the fly: one dict per UDF, with the names that change."""
        self._run.update_parameters(patches)

    update_parameters_experimental = update_parameters

    def __enter__(self) -> ResultGenerator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncResultGenerator:
    """The asynchronous twin of `ResultGenerator`; the event loop is never blocked."""

    def __init__(self, generator: ResultGenerator) -> None:
        self._generator = generator

    def __aiter__(self) -> AsyncIterator[Snapshot]:
        return self

    async def __anext__(self) -> Snapshot:
        step = await asyncio.to_thread(next, self._generator, None)
        if step is None:
            raise StopAsyncIteration
        return step

    async def aclose(self) -> None:
        """End the run."""
        await asyncio.to_thread(self._generator.close)

    async def athrow(self, exc: BaseException) -> Any:
        """Raise `exc` where the run waits for the next snapshot."""
        return await asyncio.to_thread(self._generator.throw, exc)

    async def update_parameters(self, patches: Sequence[Mapping[str, Any]]) -> None:
        """Change UDF parameters on the fly."""
        await asyncio.to_thread(self._generator.update_parameters, patches)

    update_parameters_experimental = update_parameters

    def cancel(self) -> None:
        """Stop the run."""
        self._generator.cancel()
