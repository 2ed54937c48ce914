"""The plan of a job on its way to the workers: once to each, with large changed parameters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from framefold.errors import ExecutorError
from framefold.executor import dask_worker
from framefold.executor.dask_answers import CannotLoad
from framefold.executor.dask_connected import Connected
from framefold.executor.dask_payload import dumps, modules_for
from framefold.executor.dask_worker import Payload
from framefold.udfcore.plan import Plan
from framefold.udfcore.task import Task

LARGE_PATCH = 64 * 1024  # changed parameters below this travel with each task


class PlanSender:
    """Makes a plan known to workers; `arrays` goes with each task."""

    def __init__(self, plan: Plan, cluster: Connected) -> None:
        self._plan = plan
        self._cluster = cluster
        self._payload: Payload | None = None
        self._patches: dict[int, bytes] = {}
        self.arrays: Any = None

    @property
    def key(self) -> str:
        """Under which workers know the plan; another one after it was packed again."""
        assert self._payload is not None
        return self._payload.key

    def send(self, addresses: Collection[str]) -> None:
        """Make the plan known to these workers."""
        cluster, plan = self._cluster, self._plan
        if self._payload is None:
            buffers: list[Any] = []
            header = dumps(plan, cluster.by_value, buffers)
            shared, self.arrays = cluster.ship(buffers)
            threads = max([1, *cluster.workers().values()]) if plan.max_lanes == 1 else 1
            self._payload = Payload(f"{plan.run_id}/{len(cluster.by_value)}", header, threads, shared)
        cluster.on_workers(dask_worker.register, self._payload, workers=list(addresses))
        for version in self._patches:
            self._send_patches(version, addresses)

    def _send_patches(self, version: int, addresses: Collection[str]) -> None:
        self._cluster.on_workers(
            dask_worker.add_patches, self.key, version, self._patches[version], workers=list(addresses)
        )

    def without_large_patches(self, task: Task, addresses: Collection[str]) -> Task:
        """Send large changed parameters to all workers at once rather than with every task."""
        version = task.params_version
        if task.patches and version not in self._patches:
            pickled = dumps(task.patches, self._cluster.by_value)
            if len(pickled) < LARGE_PATCH:
                return task
            self._patches[version] = pickled
            self._send_patches(version, addresses)
        return replace(task, patches=()) if version in self._patches else task

    def send_by_value(self, key: str, answer: CannotLoad, addresses: Collection[str]) -> None:
        """Pack the plan again, with the code of modules that workers cannot load.

        Raises
        ------
        ExecutorError
            If all of that code is on the workers already.
        """
        if key != self.key:
            return  # happened already
        have = self._cluster.by_value
        modules = [m for m in modules_for(answer.module, [p.cls for p in self._plan.udfs]) if m not in have]
        if not modules:
            raise ExecutorError(
                f"workers cannot load the UDF or the dataset: {answer.text}. Is it installed there?"
            )
        have.extend(modules)
        self._payload = None
        self.send(addresses)

    def forget(self, addresses: Collection[str]) -> None:
        """Leave nothing on the workers."""
        if self._payload is not None and addresses and not self._cluster.lost():
            # not waited for long: one that computes without releasing the interpreter hears it afterwards
            self._cluster.on_workers(dask_worker.forget, self.key, workers=list(addresses), patience=1.0)
