"""What is wrong is said before anything is read, with the cause and the mend."""

import numpy as np
import pytest

from framefold.errors import (
    DataError,
    InvalidMaskError,
    MissingMergeError,
    ParameterError,
    UDFError,
    UnknownBufferError,
)
from framefold.executor.drive import Run
from framefold.executor.follow import to_end
from framefold.executor.inline import InlineExecutor
from framefold.executor.local import LocalExecutor
from framefold.udfcore.plan import RunOptions
from framefold.udfcore.udf import UDF

DATA = np.ones((3, 4, 5, 6), "float32")


class Base(UDF):
    def get_result_buffers(self):
        return {"intensity": self.buffer("nav"), "count": self.buffer("nav", dtype="int64")}

    def process_frame(self, frame):
        self.results.intensity[:] = frame.sum()


@pytest.fixture
def run(dataset):
    def go(udf, executor=None, data=DATA, options=None, **kwargs):
        return to_end(
            Run(executor or InlineExecutor(), dataset(data), [udf], options or RunOptions(), **kwargs)
        ).buffers[0]

    return go


def test_missing_merge_names_buffer_and_mend(run):
    class MyUDF(Base):
        def get_result_buffers(self):
            return {"hist": self.buffer("single", dtype="int64")}

    with pytest.raises(
        MissingMergeError,
        match=r"MyUDF: buffer 'hist' \(kind='single'\) needs a merge. Declare reduce=\"sum\"",
    ):
        run(MyUDF())
    with pytest.raises(NotImplementedError):
        run(MyUDF())


@pytest.mark.filterwarnings("ignore:Misspelt uses self.results.intensty")
def test_misspelt_buffer_names_the_nearest(run):
    class Misspelt(Base):
        def process_frame(self, frame):
            self.results.intensty[:] = 1

    with pytest.raises(
        UnknownBufferError,
        match=r"no result buffer 'intensty'; declared: intensity, count. Did you mean 'intensity'\?",
    ):
        run(Misspelt())
    with pytest.raises(AttributeError):
        run(Misspelt())


def test_misspelt_buffer_is_warned_about_beforehand(dataset):
    class Warned(Base):
        def process_frame(self, frame):
            self.results.intensti[:] = 1

    with pytest.warns(
        UserWarning, match="uses self.results.intensti, which get_result_buffers does not declare"
    ):
        Run(InlineExecutor(), dataset(DATA), [Warned()], RunOptions()).release()


@pytest.mark.parametrize("executor", [InlineExecutor(), LocalExecutor(2)], ids=["inline", "threads"])
def test_exception_in_a_frame_keeps_its_type_and_says_where(run, executor):
    class Boom(Base):
        def process_frame(self, frame):
            if self.meta.frame_ids[0] == 7:
                raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        run(Boom(), executor, options=RunOptions(partition_frames=4))
    note = "\n".join(caught.value.__notes__)
    assert "in Boom.process_frame, frame (1, 3) [flat 7], partition 1 (rows 4..7)" in note
    assert caught.value.framefold["frames"] == [7]
    assert caught.value.framefold["udf"] == "Boom"


@pytest.mark.parametrize("stage", ["preprocess", "postprocess", "get_task_data", "merge", "get_results"])
def test_exception_in_any_hook_says_where(run, stage):
    def boom(self, *args, **kwargs):
        raise KeyError(stage)

    broken = type("Broken", (Base,), {stage: boom})
    with pytest.raises(KeyError, match=stage) as caught:
        run(broken())
    assert f"in Broken.{stage}" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "declared, text",
    [
        ({"x": 3}, r"get_result_buffers: 'x' is a int, expected self.buffer\(...\)"),
        ({"_x": Base().buffer("nav")}, "'_x' is not a public identifier"),
        ([], "returned list, expected a dict"),
    ],
)
def test_declarations_are_checked(run, declared, text):
    class Odd(Base):
        def get_result_buffers(self):
            return declared

    with pytest.raises(UDFError, match=text):
        run(Odd())


def test_kinds_are_checked():
    with pytest.raises(UDFError, match="buffer kind='navigation' is not one of 'nav', 'sig', 'single'"):
        Base().buffer("navigation")
    with pytest.raises(UDFError, match="'float33' is not a numpy dtype"):
        Base().buffer("nav", dtype="float33")
    with pytest.raises(UDFError, match='reduce="mean" needs a float'):
        Base().buffer("sig", dtype="int32", reduce="mean").resolve("int32")


def test_constructor_must_take_its_own_parameters(run):
    class Closed(Base):
        def __init__(self, a):
            super().__init__(b=a)

    with pytest.raises(ParameterError, match="Closed.__init__ does not accept its own parameters"):
        run(Closed(1))


@pytest.mark.parametrize(
    "returned, text",
    [
        (lambda s: {"phase": np.zeros(12)}, "returned 'phase', which get_result_buffers does not declare"),
        (
            lambda s: {"intensity": np.zeros(5, "float32")},
            r"returned 'intensity' with shape \(5,\), declared nav \(12,\)",
        ),
        (
            lambda s: {"intensity": np.zeros(12, "complex64")},
            r"returned 'intensity' as complex64, declared float32. Declare dtype=\"complex64\", or return a real array",
        ),
        (lambda s: [1], "returned list, expected a dict"),
        (
            lambda s: {"intensity": s.with_mask(np.zeros(12), np.zeros(12))},
            "the mask has dtype float64, expected bool",
        ),
    ],
)
def test_results_are_held_against_declarations(run, returned, text):
    class Wrong(Base):
        def get_results(self):
            return returned(self)

    with pytest.raises((UDFError, InvalidMaskError), match=text):
        run(Wrong())


def test_private_buffers_stay_private(run):
    class Private(Base):
        def get_result_buffers(self):
            return {"a": self.buffer("nav"), "p": self.buffer("nav", use="private")}

        def process_frame(self, frame):
            self.results.p[:] = 2

        def get_results(self):
            return {"a": self.results.p * 2} if self.params.get("legal", True) else {"p": self.results.p}

    result = run(Private())
    assert list(result) == ["a"]
    assert (result["a"].data == 4).all()
    with pytest.raises(UDFError, match="returned 'p', which is declared private"):
        run(Private(legal=False))


def test_result_only_needs_get_results(run):
    class Only(Base):
        def get_result_buffers(self):
            return {"o": self.buffer("nav", use="result_only")}

        def process_frame(self, frame):
            assert self.results.o is None

    with pytest.raises(UDFError, match="buffer 'o' is result_only, so get_results"):
        run(Only())


def test_method_must_exist(run):
    class Nothing(UDF):
        def get_result_buffers(self):
            return {"a": self.buffer("nav")}

    class Declared(Nothing):
        def get_method(self):
            return self.UDF_METHOD.TILE

    class Text(Declared):
        def get_method(self):
            return "tile"

    with pytest.raises(TypeError, match="no process_tile, process_frame or process_partition"):
        run(Nothing())
    with pytest.raises(UDFError, match="returned UDFMethod.TILE, but there is no process_tile"):
        run(Declared())
    with pytest.raises(UDFError, match="returned 'tile', expected one of"):
        run(Text())


def test_roi_and_aux_of_wrong_shape_name_both_shapes(run):
    from framefold.udfcore.roi import as_roi

    with pytest.raises(
        DataError, match=r"roi has shape \(3, 5\), the navigation shape of scan.mib is \(3, 4\)"
    ):
        as_roi(np.ones((3, 5), bool), (3, 4), "scan.mib")

    class Aux(Base):
        pass

    with pytest.raises(
        DataError, match=r"aux data of kind 'nav' has shape \(5,\), the dataset needs \(12,\)"
    ):
        run(Aux(w=UDF.aux_data(np.zeros(5), "nav")))


def test_the_same_object_cannot_run_twice_at_once(dataset):
    udf = Base()
    first = Run(InlineExecutor(), dataset(DATA), [udf], RunOptions())
    with pytest.raises(UDFError, match=r"already part of a run: use udf.copy\(\)"):
        Run(InlineExecutor(), dataset(DATA), [udf], RunOptions())
    to_end(first)
    to_end(Run(InlineExecutor(), dataset(DATA), [udf], RunOptions()))


def test_class_instead_of_object_is_explained(dataset):
    with pytest.raises(UDFError, match=r"pass Base\(\)"):
        Run(InlineExecutor(), dataset(DATA), [Base], RunOptions())


def test_memory_is_checked_before_it_is_asked_for(run):
    class Huge(Base):
        def get_result_buffers(self):
            return {"h": self.buffer("single", extra_shape=(2**42,), reduce="sum")}

    with pytest.raises(UDFError, match=r"the result buffers need .* GB in 1 lanes .*Huge.h: 3 x"):
        run(Huge())


def test_numpy_warnings_inside_a_fold_are_counted_not_printed(dataset):
    class Divides(Base):
        def process_frame(self, frame):
            self.results.intensity[:] = np.float32(1) / (frame.sum() * 0)

    result = to_end(
        Run(LocalExecutor(2), dataset(DATA), [Divides()], RunOptions(partition_frames=3))
    ).buffers[0]
    assert result.report["numpy_warnings"] == {"divide by zero": 12}


def test_read_errors_name_frames_and_source(dataset):
    ds = dataset(DATA, decode=True)

    def broken(tile, out=None):
        raise OSError("stale file handle")

    ds.source.read = broken
    with pytest.raises(DataError, match=r"cannot read frames 0\.\.\d+ of array: stale file handle"):
        to_end(Run(InlineExecutor(), ds, [Base()], RunOptions()))
