"""The report of a run that was only planned."""

from __future__ import annotations

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfcore.inspection import inspect_run, size
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF


class Mixed(UDF):
    def __init__(self, mask=None, limit=3):
        super().__init__(mask=mask, limit=limit)

    def get_result_buffers(self):
        return {
            "total": self.buffer("sig", dtype="wide", reduce="sum"),
            "com": self.buffer("nav", (2,), dtype="float64"),
            "hist": self.buffer("single", (7,), dtype="int32", use="private"),
            "peak": self.buffer("single", use="result_only"),
            "big": self.buffer("single", (10,), reduce="sum", large=True),
        }

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def process_tile(self, tile):
        raise AssertionError("inspection must not run anything")

    def merge(self, dest, src):
        raise AssertionError("inspection must not run anything")

    def get_results(self):
        raise AssertionError("inspection must not run anything")


class Frame(UDF):
    def get_result_buffers(self):
        return {"x": self.buffer("nav")}

    def process_frame(self, frame):
        raise AssertionError("inspection must not run anything")


@pytest.fixture
def ds(dataset):
    return dataset(np.zeros((4, 6, 16, 8), dtype="uint16"), decode=True, chunk=(1, 16, 8))


def test_buffers_methods_and_memory(ds):
    report = inspect_run(ds, [Mixed(mask=np.ones((16, 8))), Frame()], RunOptions(partition_frames=8), lanes=2)
    mixed, frame = report.udfs
    by_name = {b.name: b for b in mixed.buffers}
    assert by_name["total"].shape == (16, 8)
    assert by_name["total"].dtype == "uint64"
    assert by_name["total"].nbytes == 16 * 8 * 8
    assert by_name["com"].shape == (24, 2)
    assert [by_name[k].merge for k in ("total", "com", "hist", "peak")] == [
        "sum",
        "merge()",
        "merge()",
        "get_results()",
    ]
    assert by_name["peak"].nbytes == 0
    assert by_name["big"].travels == "as deltas"
    assert by_name["hist"].use == "private"
    assert (mixed.method, mixed.input_dtype, mixed.lane) == ("process_tile", "uint16", 0)
    assert (frame.method, frame.input_dtype, frame.lane) == ("process_frame", "float32", 1)
    assert frame.tile[1:] == (16, 8)
    # of a partition of 8 frames: total, com, hist, big
    assert mixed.lane_bytes == 16 * 8 * 8 + 8 * 2 * 8 + 7 * 4 + 10 * 4
    assert report.head_bytes == 16 * 8 * 8 + 24 * 2 * 8 + 7 * 4 + 10 * 4 + 24 * 4
    assert not ds.source.reads


def test_roi_shrinks_navigation_buffers(ds):
    roi = np.zeros((4, 6), bool)
    roi[0] = True
    report = inspect_run(ds, [Frame()], RunOptions(roi=roi), lanes=1)
    assert report.frames == 6
    assert report.udfs[0].buffers[0].shape == (6,)


def test_text_and_html_say_the_same(ds):
    report = inspect_run(ds, [Mixed(mask=np.ones((16, 8)), limit="<b>")], RunOptions(), lanes=4)
    text = repr(report)
    for word in (
        "ArraySource: (4, 6 | 16, 8) uint16",
        "24",
        "Mixed(mask=<ndarray 16x8>, limit='<b>')",
        "total",
        "16x8",
    ):
        assert word in text
    page = report._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<table>") == 3


def test_mistakes_are_reported_as_in_a_run(ds):
    class Wrong(UDF):
        def get_result_buffers(self):
            return ["x"]

        def process_frame(self, frame):
            pass

    with pytest.raises(UDFError, match="returned list, expected a dict"):
        inspect_run(ds, [Wrong()], RunOptions(), lanes=1)


@pytest.mark.parametrize("n, text", [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (5 * 2**40, "5 TiB")])
def test_sizes(n, text):
    assert size(n) == text
