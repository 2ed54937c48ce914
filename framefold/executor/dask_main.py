"""The program of a local worker process: ``python -m framefold.executor.dask_main ADDRESS NAME THREADS``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Any


async def serve(address: str, name: str, threads: int) -> None:
    """Be a worker until its scheduler goes."""
    from distributed import Worker  # noqa: PLC0415  # heavy

    worker: Any = Worker(
        address,
        nthreads=threads,
        name=name,
        memory_limit=0,  # counts mapped files, which cost nothing
        dashboard=False,
        host="127.0.0.1",
        death_timeout=10,
    )
    await worker
    # while the head starts: the first fold needs it
    import framefold.executor.dask_worker  # noqa: F401, PLC0415

    await worker.finished()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches all its processes: what it means is for the head to say
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError, OSError):
        asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    os._exit(0)  # folds in threads have nobody to report to
