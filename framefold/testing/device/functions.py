"""The functions of the stand-in: numpy's, with CuPy's parameters, for device arrays and scalars only."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from framefold.testing.device.array import index, ndarray, operand, plain, sent, wrapped
from framefold.testing.device.table import UFUNC, VALUE, cupy_names, parameters
from framefold.testing.device.traffic import traffic

CREATES = frozenset({"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"})
# their results have shapes that depend on values, or are read by CuPy itself
WAITS = frozenset(
    {"argwhere", "extract", "flatnonzero", "nonzero", "compress", "bincount", "trim_zeros", "setdiff1d"}
    | {"unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "intersect1d", "union1d"}
)
ANSWERS = frozenset({"allclose", "array_equal", "array_equiv"})  # Python bool in numpy, an array in CuPy
# parameters that no device array may stand for
PLAIN = frozenset(
    {"shape", "axis", "axes", "axis1", "axis2", "newshape", "n", "s", "k", "N", "M", "num", "dtype", "start"}
    | {"stop", "step", "ndim", "repeats", "decimals", "minlength", "offset", "order", "norm", "dimensions"}
    | {"keepdims", "ddof", "reps", "source", "destination", "pad_width", "kth", "deg"}
)


class Ufunc:
    """A universal function with the arguments that CuPy's have: no ``where=``, no numpy arrays."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc
        self.__name__ = ufunc.__name__
        self.nin, self.nout, self.nargs = ufunc.nin, ufunc.nout, ufunc.nargs

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: Any = "same_kind") -> Any:
        """Apply to device arrays and scalars."""
        if self._ufunc.nin < len(args) <= self._ufunc.nargs and out is None:
            args, out = args[: self._ufunc.nin], args[self._ufunc.nin :]
        outs = out if isinstance(out, tuple) else (out,) * (out is not None)
        kwargs = {"out": tuple(_device(o)._host for o in outs)} if outs else {}
        if dtype is not None:
            kwargs["dtype"] = dtype
        result = self._ufunc(*(operand(a) for a in args), casting=casting, **kwargs)
        if not outs:
            return wrapped(result)
        return outs[0] if len(outs) == 1 else outs

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        """Apply to elements in place; those named twice are treated twice."""
        if self.__name__ not in ("add", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        if self.__name__ == "add":
            _device(a).scatter_add(indices, b)
        else:
            self._ufunc.at(_device(a)._host, index(indices), operand(b))

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False
    ) -> Any:
        """Reduce along axes."""
        return self._along("reduce", array, out, axis=plain(axis), dtype=dtype, keepdims=keepdims)

    def accumulate(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        """Accumulate along an axis."""
        return self._along("accumulate", array, out, axis=plain(axis), dtype=dtype)

    def outer(self, a: Any, b: Any) -> Any:
        """Apply to all pairs of elements."""
        return wrapped(self._ufunc.outer(operand(a), operand(b)))

    def _along(self, method: str, array: Any, out: Any, **kwargs: Any) -> Any:
        if out is not None:
            kwargs["out"] = _device(out)._host
        result = getattr(self._ufunc, method)(_device(array)._host, **kwargs)
        return wrapped(result) if out is None else out


class Function:
    """A function with the parameters that CuPy's has."""

    def __init__(self, function: Any, name: str, signature: str) -> None:
        self._function, self.__name__ = function, name
        self._parameters = parameters(signature)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call numpy's function with what is behind the device arrays."""
        given = self._named(args, kwargs)
        out = kwargs.get("out")
        name = self.__name__
        converted_args = [_argument(name, p, v) for p, v in given[: len(args)]]
        converted = {p: _argument(name, p, v) for p, v in given[len(args) :]}
        if name in WAITS or (name == "where" and len(args) + len(kwargs) == 1):
            traffic.waited()
        result = self._function(*converted_args, **converted)
        if out is not None:
            return out
        return wrapped(np.bool_(result) if name in ANSWERS else result)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return pairs of parameter and value, positional ones first.

        Raises
        ------
        TypeError
            If CuPy's function has no such parameter.
        """
        names = self._parameters
        star = next((i for i, p in enumerate(names) if p.startswith("*") and not p.startswith("**")), None)
        if star is None and len(args) > len([p for p in names if not p.startswith("**")]):
            raise TypeError(f"cupy's {self.__name__} takes ({', '.join(names)}), not {len(args)} positional")
        pairs = [
            (names[i].lstrip("*") if star is None or i < star else names[star].lstrip("*"), value)
            for i, value in enumerate(args)
        ]
        if not any(p.startswith("**") for p in names):
            wrong = [k for k in kwargs if k not in names]
            if wrong:
                raise TypeError(f"cupy's {self.__name__} takes ({', '.join(names)}), not {', '.join(wrong)}")
        return pairs + list(kwargs.items())


def create(name: str, obj: Any, dtype: Any = None, copy: Any = None, order: Any = None) -> ndarray:
    """Return a device array of host values, lists of numbers or other device arrays."""
    if isinstance(obj, (list, tuple)) and any(isinstance(o, ndarray) for o in obj):
        host: Any = np.stack([operand(o) for o in obj])
    elif isinstance(obj, ndarray):
        converted = np.asarray(obj._host, dtype=dtype)
        if name == "ascontiguousarray":
            converted = np.ascontiguousarray(converted)
        elif name == "asfortranarray":
            converted = np.asfortranarray(converted)
        if copy is True or (name == "array" and copy is not False):
            converted = converted.copy()
        return obj if converted is obj._host else ndarray(converted)
    else:
        return sent(np.array(obj, dtype=dtype, order=order))
    return ndarray(np.asarray(host, dtype=dtype))


def lookup(module: str, ours: Any, name: str) -> Any:
    """Return what stands for ``module.name`` of CuPy.

    Raises
    ------
    AttributeError
        If CuPy has no such name, or one that neither numpy nor scipy has.
    """
    what = cupy_names().get(module, {}).get(name)
    if what is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}, or its stand-in does not")
    thing = getattr(ours, name)
    if module == "cupy" and name in CREATES:
        return functools.partial(create, name)
    if what == VALUE:
        return thing
    if isinstance(thing, np.ufunc):
        return Ufunc(thing)
    if what == UFUNC:  # a ufunc of CuPy that is a plain function in numpy
        return Function(thing, name, "(x, out)")
    return Function(thing, name, what)


def array_ufunc(ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Answer a numpy ufunc that was called with a device array, as ``cupy.ndarray`` does."""
    if method != "__call__" or ufunc.__name__ not in cupy_names()["cupy"]:
        return NotImplemented
    out = kwargs.pop("out", None)
    if out is not None and len(out) == 1:
        kwargs["out"] = out[0]
    return Ufunc(ufunc)(*inputs, **kwargs)


def array_function(func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Answer a numpy function that was called with a device array (NEP 18), as ``cupy.ndarray`` does."""
    module = "cupy" + func.__module__.removeprefix("numpy")
    if func.__name__ not in cupy_names().get(module, {}):
        return NotImplemented
    if not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
        return NotImplemented
    ours = importlib.import_module(func.__module__)
    return lookup(module, ours, func.__name__)(*args, **kwargs)


def _argument(function: str, name: str, value: Any) -> Any:
    if name in PLAIN:
        return plain(value)
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"{function}: Unsupported type {type(value)} for {name!r}")
    if isinstance(value, (list, tuple)):
        return type(value)(_argument(function, name, v) for v in value)
    return value


def _device(array: Any) -> ndarray:
    if not isinstance(array, ndarray):
        raise TypeError(f"expected a cupy.ndarray, not {type(array)}")
    return array
