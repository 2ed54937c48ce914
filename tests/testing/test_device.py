"""The stand-in for CuPy refuses what CuPy refuses, and otherwise gives numpy's answers."""

from __future__ import annotations

import copy
import pickle

import numba
import numpy as np
import pytest

from framefold.testing import device as xp
from framefold.testing.device.list_cupy_names import MODULES, names_of
from framefold.testing.device.table import cupy_names


@pytest.fixture
def x():
    return xp.asarray(np.arange(12.0).reshape(3, 4))


@numba.njit
def first(a):
    return a[0]


HOST = np.ones(4)
REFUSED = {
    "asarray": (lambda x: np.asarray(x), TypeError, "Implicit conversion to a NumPy array is not allowed"),
    "host array assigned to": (lambda x: HOST.__setitem__(..., x[0]), TypeError, "Implicit conversion"),
    "operator": (lambda x: x * HOST, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "operator, other side": (lambda x: HOST * x, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "in place on the host": (lambda x: np.add(HOST, x[0], out=HOST), TypeError, "expected a cupy.ndarray"),
    "assignment": (lambda x: x.__setitem__(0, HOST), TypeError, "Unsupported type"),
    "function": (lambda x: xp.concatenate([x[0], HOST]), TypeError, "Unsupported type"),
    "function of numpy": (lambda x: np.concatenate([x[0], HOST]), TypeError, "Unsupported type"),
    "list": (lambda x: x + [1.0], TypeError, "Unsupported type <class 'list'>"),
    "where=": (lambda x: xp.add(x, 1, where=x > 0), TypeError, "where"),
    "where= of a reduction": (lambda x: x.sum(where=True), TypeError, "where"),
    "initial=": (lambda x: xp.max(x, initial=0), TypeError, "initial"),
    "unknown function": (lambda x: xp.isclose_to(x), AttributeError, "has no attribute 'isclose_to'"),
    "numpy only": (lambda x: xp.poly1d_roots, AttributeError, "has no attribute"),
    "numpy only, dispatched": (lambda x: np.spacing(x), TypeError, "NotImplemented"),
    "unknown method": (lambda x: x.ptp(), AttributeError, "ptp"),
    "shape": (lambda x: xp.zeros(x[0, 1]), TypeError, "cannot be interpreted as an integer"),
    "range": (lambda x: range(x[0, 1]), TypeError, "cannot be interpreted as an integer"),
    "numba": (lambda x: first(x), numba.TypingError, "Cannot determine Numba type"),
    "duplicates": (lambda x: x.__setitem__([0, 0], x[:2]), ValueError, "assigned more than once"),
    "int64 scatter": (lambda x: xp.add.at(x.astype(int), 0, 1), TypeError, "only supports"),
    "object": (lambda x: xp.asarray([object()]), ValueError, "Unsupported dtype object"),
    "hash": (lambda x: hash(x), TypeError, "unhashable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_cupy_refuses(x, name):
    call, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        call(x)


A = np.arange(12.0).reshape(3, 4)
ANSWERS = {
    "operators": lambda xp, x: (2 - x * 3) ** 2 / (x + 1) @ x.T,
    "comparison": lambda xp, x: (x > 3) & ~(x == 5),
    "reductions": lambda xp, x: x.sum(axis=0) + xp.max(x, axis=0) + x.mean(axis=0, dtype="float32"),
    "views": lambda xp, x: x.reshape(2, 6).T[1:3, None].transpose(1, 0, 2),
    "fancy": lambda xp, x: x[xp.asarray([2, 0, 2])][:, xp.asarray([True, False, True, True])],
    "fft": lambda xp, x: xp.fft.irfft2(xp.fft.rfft2(x, axes=(0, 1)), s=(3, 4)),
    "linalg": lambda xp, x: xp.linalg.solve(xp.eye(3) + x[:, :3], x),
    "einsum": lambda xp, x: xp.einsum("ij,kj->ik", x, x),
    "where": lambda xp, x: xp.where(x > 4, x, -1),
    "take": lambda xp, x: xp.take_along_axis(x, xp.argsort(-x, axis=1), axis=1),
    "ufunc out": lambda xp, x: xp.sqrt(x, out=xp.empty_like(x)),
    "stack": lambda xp, x: xp.stack([x, x[::-1]], axis=1),
    "complex": lambda xp, x: xp.abs(xp.exp(1j * x)) + (x + 2j).imag + xp.angle(x * 1j),
    "interp": lambda xp, x: xp.interp(x, xp.arange(12.0), xp.cumsum(x.ravel())),
    "numpy's function": lambda xp, x: np.add(np.roll(x, 1), np.median(x)),
    "numpy's scalar": lambda xp, x: np.float64(2) * x,
    "methods": lambda xp, x: x.clip(1, 5).cumsum(axis=1).round(1).take(xp.asarray([1]), axis=1),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_as_numpy(x, name):
    want, got = ANSWERS[name](np, A), ANSWERS[name](xp, x)
    assert isinstance(got, xp.ndarray)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got.get(), want, rtol=1e-12, atol=1e-12)


def test_reductions_give_arrays_without_axes_and_change_in_place(x):
    total = xp.sum(x)
    assert isinstance(total, xp.ndarray)
    assert total.shape == ()
    total += 1
    assert total.item() == 67
    assert isinstance(x[0, 1], xp.ndarray)
    assert isinstance(xp.allclose(x, x), xp.ndarray)


def test_writes_reach_the_array_through_views(x):
    x[1][2] = 100
    x.T[0, 0] += 5
    xp.add.at(x, (xp.asarray([2, 2]), xp.asarray([3, 3])), 1.5)
    z = x + 0j
    z.real[:] = 1
    z.imag = x
    assert (x.get()[1, 2], x.get()[0, 0], x.get()[2, 3]) == (100, 5, 14)
    np.testing.assert_array_equal(z.get(), 1 + 1j * x.get())


def test_scipy_stands_beside():
    from scipy import ndimage

    x = xp.asarray(A)
    np.testing.assert_array_equal(
        xp.scipy.ndimage.gaussian_filter(x, 1.0).get(), ndimage.gaussian_filter(A, 1.0)
    )


def test_counts_what_crosses_and_what_waits():
    xp.traffic.reset()
    x = xp.asarray(A)
    y = (x * 2).sum()
    assert (xp.traffic.to_device, xp.traffic.to_host, xp.traffic.syncs) == (1, 0, 0)
    float(y), bool(y > 3), x[x > 2], xp.nonzero(x)
    assert xp.traffic.syncs == 4
    x[[0, 1]], xp.asnumpy(x), x.tolist()
    assert (xp.traffic.to_device, xp.traffic.to_host) == (2, 2)
    assert xp.traffic.bytes_to_host == 2 * A.nbytes
    with xp.traffic.none_allowed():
        x[1:] += xp.arange(4) * xp.ones((2, 4))
    counts = "0 copies to the device, 1 to the host, 1 synchronisations"
    with pytest.raises(AssertionError, match=counts), xp.traffic.none_allowed():
        float(x.sum())
        x.get()


def test_copies_and_pickles(x):
    for twin in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x)), x.copy()):
        twin += 1
    np.testing.assert_array_equal(x.get(), A)
    out = np.empty_like(A)
    assert x.get(out=out) is out
    x.set(A + 1)
    np.testing.assert_array_equal(x.get(), A + 1)


def test_a_full_device_says_so():
    with xp.traffic.limited(1000), pytest.raises(MemoryError, match="Out of memory allocating 8,000 bytes"):
        xp.zeros(1000)
    assert xp.zeros(1000).nbytes == 8000


def test_the_table_has_no_function_that_cupy_lacks():
    """A few that CuPy documents as missing (comparison table), and some that it has."""
    names = cupy_names()["cupy"]
    assert {"einsum", "fft", "where", "interp", "bincount", "matmul", "linalg"} - set(names) == {
        "fft",
        "linalg",
    }
    assert not {"spacing", "nditer", "vdot_", "isnat", "emath", "geomspace"} & set(names)


@pytest.mark.gpu
def test_the_table_is_that_of_the_cupy_installed():
    import importlib

    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    for theirs, ours in MODULES.items():
        have = names_of(importlib.import_module(theirs), importlib.import_module(ours), cupy.ufunc)
        assert set(cupy_names()[theirs]) <= set(have), theirs


def test_sparse_matrices_multiply_arrays_of_the_device_only():
    from scipy.sparse import csr_matrix

    given = csr_matrix(np.array([[0.0, 2.0], [1.0, 0.0]]))
    parts = tuple(xp.asarray(p) for p in (given.data, given.indices, given.indptr))
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    for matrix in (xp.scipy.sparse.csr_matrix(parts, shape=(2, 2)), xp.scipy.sparse.csc_matrix(given)):
        np.testing.assert_array_equal((matrix @ x).get(), [[6, 8], [1, 2]])
        np.testing.assert_array_equal((x @ matrix).get(), [[2, 2], [4, 6]])
        with pytest.raises(TypeError, match="unsupported type"):
            matrix @ np.ones((2, 2))
    with pytest.raises(TypeError, match="Unsupported types"):
        xp.scipy.sparse.csr_matrix((given.data, given.indices, given.indptr), shape=(2, 2))
