"""The inline executor: what it is the specification of, and its suspicious mode."""

import threading

import numpy as np
import pytest

from framefold.errors import ParameterError, UDFError
from framefold.executor.debug import check_disjoint
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.udf import UDF

DATA = np.arange(30 * 12, dtype="float32").reshape(5, 6, 3, 4)


class Total(UDF):
    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="float64", reduce="sum"),
            "big": self.buffer("sig", dtype="float64", reduce="sum", large=True),
            "value": self.buffer("nav", dtype="float64"),
        }

    def process_tile(self, tile):
        self.results.total += tile.sum(axis=0)
        self.results.big += tile.sum(axis=0)
        self.results.value[:] += tile.sum(axis=(1, 2))


class Keeper(Total):
    """Looks at a tile after it was given back: on a scratch buffer it sees other frames."""

    def get_task_data(self):
        return {"kept": []}

    def process_tile(self, tile):
        self.task_data.kept.append(tile)

    def postprocess(self):
        self.results.total[...] = sum(t.sum(axis=0) for t in self.task_data.kept)


class Writer(Total):
    def process_tile(self, tile):
        tile -= 1


class Stuck(Total):
    def __init__(self, lock):
        super().__init__(lock=lock)


def run(udf, ds, executor, **options):
    return to_end(Run(executor, ds, [udf], RunOptions(**options), validate=False)).buffers[0]


def test_debug_changes_nothing_for_good_udfs(dataset):
    plain = run(Total(), dataset(DATA), InlineExecutor(), partition_frames=7)
    debug = run(Total(), dataset(DATA), InlineExecutor(debug=True), partition_frames=7)
    for name in plain:
        np.testing.assert_array_equal(plain[name].data, debug[name].data)
    np.testing.assert_array_equal(debug["big"].data, DATA.sum(axis=(0, 1)))


def test_debug_shows_who_keeps_tiles(dataset):
    result = run(Keeper(), dataset(DATA), InlineExecutor(debug=True), partition_frames=7)
    assert np.isnan(result["total"].data).all()


def test_debug_refuses_writes_to_tiles(dataset):
    with pytest.raises(ValueError, match="read-only"):
        run(Writer(), dataset(DATA), InlineExecutor(debug=True))


def test_debug_names_what_cannot_travel(dataset):
    with pytest.raises(
        ParameterError, match=r"the plan \(UDF parameters, dataset, corrections\) cannot be sent"
    ):
        run(Stuck(threading.Lock()), dataset(DATA), InlineExecutor(debug=True))


def test_overlapping_tiles_are_found(dataset):
    from dataclasses import replace

    plan = make_plan(dataset(DATA), [Total()], RunOptions())
    check_disjoint(plan)
    lane = plan.lanes[0]
    twice = replace(plan, lanes=(replace(lane, parts_of=lane.parts_of * 2),))
    with pytest.raises(UDFError, match="2 to 2 times"):
        check_disjoint(twice)


def test_a_changed_parameter_is_used_by_the_next_partition(dataset):
    class Scaled(UDF):
        def __init__(self, factor):
            super().__init__(factor=factor)

        def get_result_buffers(self):
            return {"value": self.buffer("nav", dtype="float64")}

        def process_frame(self, frame):
            self.results.value[:] = self.params.factor

    job = Run(InlineExecutor(), dataset(DATA), [Scaled(1)], RunOptions(partition_frames=10))
    for n, _ in enumerate(job.partials()):
        job.update_parameters([{"factor": n + 2}])
    values = job.snapshot(final=True)["value"].data.reshape(-1)
    assert values[[0, 9, 10, 19, 20, 29]].tolist() == [1, 1, 2, 2, 3, 3]
