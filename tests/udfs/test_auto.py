"""Functions per frame against the plain call."""

import functools
import warnings

import numpy as np
import pytest

from framefold.errors import UDFError
from framefold.udfcore.udf import UDFMethod
from framefold.udfs.auto import AutoUDF, as_value, known_reduction


def frames(dtype="u2"):
    rng = np.random.default_rng(12)
    data = rng.normal(size=(4, 5, 6, 7)) * 50
    return (data + (1j * rng.normal(size=data.shape) if np.dtype(dtype).kind == "c" else 0)).astype(dtype)


@pytest.mark.parametrize("dtype", ["?", "u2", "i1", "f4", "f8", "c8", "f2"])
@pytest.mark.parametrize("f", [np.sum, np.mean, np.std, np.var, np.max, np.min])
def test_numpy_reductions_equal_the_plain_call(run, dtype, f):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # casts of negative numbers, overflow of float16
        data = frames(dtype)
        got = run(AutoUDF(f), data, tile=None)["result"]
        plain = f(data[0, 0]) if dtype != "f2" else f(data[0, 0].astype("f4"))
        expected = f(data.astype("f4") if dtype == "f2" else data, axis=(2, 3))
    assert got.dtype == plain.dtype
    np.testing.assert_allclose(got.data, expected, rtol=3e-6, atol=1e-4)  # numpy itself rounds in single


def test_recognised_reductions_take_any_tile(run):
    data = frames()
    for f in (np.sum, np.std, np.max):
        np.testing.assert_allclose(
            run(AutoUDF(f), data, tile=(3, 2, 3))["result"].data, f(data, axis=(2, 3)), rtol=1e-12
        )


def test_what_is_recognised():
    assert known_reduction(np.sum) == "sum"
    assert known_reduction(functools.partial(np.max, axis=None)) == "max"
    assert known_reduction(functools.partial(np.max, axis=0)) is None
    assert known_reduction(functools.partial(np.max, initial=3)) is None
    assert known_reduction(np.median) is None
    assert known_reduction(functools.partial(np.median)) is None


def test_any_function(run):
    data = frames()
    seen = []

    def edge(frame):
        seen.append(frame.dtype)
        return frame[0], frame[-1]

    got = run(AutoUDF(edge), data)["result"]
    assert got.data.shape == (4, 5, 2, 7)
    assert set(seen) == {np.dtype("f4")}
    np.testing.assert_array_equal(got.data, data[:, :, [0, -1]])
    np.testing.assert_array_equal(
        run(AutoUDF(lambda f: float(f[2, 3])), data)["result"].data, data[:, :, 2, 3]
    )


def test_objects(run):
    data = frames()
    got = run(AutoUDF(lambda f: {"max": float(f.max())}), data)["result"].data
    assert got.shape == (4, 5)
    assert got[1, 2] == {"max": data[1, 2].max()}
    ragged = run(AutoUDF(lambda f: [np.zeros(int(f[0, 0]) % 3), f[0]]), data)["result"].data
    assert len(ragged[0, 0]) == 2
    assert run(AutoUDF(lambda f: None), data)["result"].data[0, 0] is None
    assert run(AutoUDF(lambda f: "name"), data)["result"].data[3, 4] == "name"


def test_monitor(run):
    data = frames()
    got = run(AutoUDF(lambda f: f[0], monitor=True), data)
    np.testing.assert_array_equal(got["monitor"].data, data[3, 4, 0])
    got = run(AutoUDF(np.sum, monitor=True), data, roi=np.eye(4, 5, dtype=bool))
    np.testing.assert_array_equal(got["monitor"].data, [data[3, 3].sum()])
    none = run(AutoUDF(np.max, monitor=True), data, roi=np.zeros((4, 5), bool))
    assert not none["monitor"].valid_mask.any()


def test_results_that_change_are_refused_with_the_frame(run):
    data = frames()
    with pytest.raises(
        UDFError, match=r"returned shape \(2,\) for frame \(0, 0\), but \(3,\) for a frame of ones"
    ):
        run(AutoUDF(lambda f: np.zeros(3 if f.min() == 1 else 2)), data)
    with pytest.raises(UDFError, match=r"returned complex64 for frame \(0, 0\), but float32"):
        run(AutoUDF(lambda f: f[0] if f.min() == 1 else f[0] * np.complex64(1j)), data)
    with pytest.raises(UDFError, match="AutoUDF needs a function of one frame, got int"):
        AutoUDF(3)


def test_the_function_learns_once_per_dtype(run):
    calls = []
    udf = AutoUDF(lambda f: calls.append(1) or 1.0)
    udf.meta = None
    run(udf, frames())
    assert len(calls) == 20 + 1


def test_method_follows_the_function(run):
    for f, method in ((np.sum, UDFMethod.TILE), (np.median, UDFMethod.FRAME)):
        udf = AutoUDF(f)
        run(udf, frames())
        assert udf.get_method() is method


def test_values():
    assert as_value(3).dtype == np.int64
    assert as_value((1.0, 2)).shape == (2,)
    assert as_value({"a": 1}).dtype == object
    assert as_value([[1], [1, 2]]).dtype == object
