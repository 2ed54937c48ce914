"""The array class of the stand-in: a numpy array inside, as strict outside as ``cupy.ndarray``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from framefold.testing.device.traffic import check_memory, traffic

_IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)
# methods by their parameters, as documented for cupy.ndarray
_METHODS = {
    **dict.fromkeys(("sum", "mean", "prod"), ("axis", "dtype", "out", "keepdims")),
    **dict.fromkeys(("std", "var"), ("axis", "dtype", "out", "ddof", "keepdims")),
    **dict.fromkeys(("max", "min", "all", "any"), ("axis", "out", "keepdims")),
    **dict.fromkeys(("argmax", "argmin"), ("axis", "out", "keepdims")),
    **dict.fromkeys(("cumsum", "cumprod"), ("axis", "dtype", "out")),
    **dict.fromkeys(("conj", "conjugate"), ()),
    **dict.fromkeys(("ravel", "flatten"), ("order",)),
    "argsort": ("axis", "kind"),
    "argpartition": ("kth", "axis"),
    "clip": ("min", "max", "out"),
    "diagonal": ("offset", "axis1", "axis2"),
    "dot": ("b", "out"),
    "partition": ("kth", "axis"),
    "repeat": ("repeats", "axis"),
    "round": ("decimals", "out"),
    "searchsorted": ("v", "side", "sorter"),
    "sort": ("axis", "kind"),
    "squeeze": ("axis",),
    "swapaxes": ("axis1", "axis2"),
    "take": ("indices", "axis", "out"),
    "trace": ("offset", "axis1", "axis2", "dtype", "out"),
}
_SCATTER = ("float16", "float32", "float64", "complex64", "complex128", "int32", "uint32", "uint64")


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801  # the name that CuPy's class has
    """An array "on the device": only `get` and ``asnumpy`` give its values back.

    Made by the functions of `framefold.testing.device`, never directly.
    """

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("_host",)

    def __init__(self, host: np.ndarray[Any, Any]) -> None:
        if host.dtype.kind not in "biufc" or host.dtype.itemsize > (16 if host.dtype.kind == "c" else 8):
            raise ValueError(f"Unsupported dtype {host.dtype}")
        check_memory(host)
        self._host = host

    # --- back to the host ---------------------------------------------------------------------

    def get(
        self,
        stream: Any = None,
        order: Any = "C",
        out: np.ndarray[Any, Any] | None = None,
        blocking: bool = True,
    ) -> np.ndarray[Any, Any]:
        """Return a copy of the values on the host, counted as a transfer."""
        traffic.copied_out(self._host.nbytes)
        if out is None:
            return np.array(self._host, order=order)
        if out.dtype != self._host.dtype or out.shape != self._host.shape:
            raise TypeError(
                f"out has {out.dtype} {out.shape}, the array {self._host.dtype} {self._host.shape}"
            )
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray[Any, Any], stream: Any = None) -> None:
        """Copy a host array of the same shape and dtype in, counted as a transfer."""
        if arr.dtype != self._host.dtype or arr.shape != self._host.shape:
            raise TypeError(f"cannot set {self._host.dtype} {self._host.shape} from {arr.dtype} {arr.shape}")
        traffic.copied_in(arr.nbytes)
        self._host[...] = arr

    def tolist(self) -> Any:
        """Return the values as lists, counted as a transfer."""
        return self.get().tolist()

    def tobytes(self, order: Any = "C") -> bytes:
        """Return the values as bytes, counted as a transfer."""
        return self.get().tobytes(order)

    def item(self) -> Any:
        """Return the only value; the host waits for it."""
        traffic.waited()
        return self._host.item()

    def __bool__(self) -> bool:
        traffic.waited()
        return bool(self._host)

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(_IMPLICIT)

    def __repr__(self) -> str:
        return repr(self._host)

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent, (self.get(),)

    # --- what is known without the values -----------------------------------------------------

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: wrapped(self._host.T))
    mT = property(lambda self: wrapped(self._host.mT))
    base = property(lambda self: None if self._host.base is None else wrapped(self._host.base))

    @property
    def real(self) -> ndarray:
        """The real part, a view."""
        return wrapped(self._host.real)

    @real.setter
    def real(self, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self) -> ndarray:
        """The imaginary part, a view where the array is complex."""
        return wrapped(self._host.imag)

    @imag.setter
    def imag(self, value: Any) -> None:
        self.imag[...] = value

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self._host)))

    # --- copies and views ---------------------------------------------------------------------

    def copy(self, order: Any = "C") -> ndarray:
        """Return a copy on the device."""
        return wrapped(self._host.copy(order))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def view(self, dtype: Any = None) -> ndarray:
        """Return a view of another dtype."""
        return wrapped(self._host.view() if dtype is None else self._host.view(dtype))

    def astype(self, dtype: Any, order: Any = "K", casting: Any = "unsafe", *, copy: bool = True) -> ndarray:
        """Return the values in another dtype."""
        converted = self._host.astype(dtype, order=order, casting=casting, copy=copy)
        return self if converted is self._host else wrapped(converted)

    def reshape(self, *shape: Any, order: Any = "C") -> ndarray:
        """Return the values in another shape, a view where possible."""
        return wrapped(self._host.reshape(*plain(shape), order=order))

    def transpose(self, *axes: Any) -> ndarray:
        """Return a view with other order of axes."""
        return wrapped(self._host.transpose(*plain(axes)))

    def fill(self, value: Any) -> None:
        """Set all elements to a scalar."""
        self._host.fill(operand(value))

    def nonzero(self) -> tuple[ndarray, ...]:
        """Return the indices of what is not zero; the host waits for their number."""
        traffic.waited()
        return tuple(wrapped(i) for i in self._host.nonzero())

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise AttributeError(f"'cupy.ndarray' has no attribute {name!r}, or its stand-in does not")
        return _Method(self, name)

    # --- elements -----------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> ndarray:
        return wrapped(self._host[index(key, waits=True)])

    def __setitem__(self, key: Any, value: Any) -> None:
        value = operand(value)
        plain_key = index(key)
        if np.size(value) > 1:
            _refuse_duplicates(self._host.shape, plain_key)
        self._host[plain_key] = value

    def scatter_add(self, slices: Any, value: Any) -> None:
        """Add values to elements; those named more than once get all of theirs (`cupyx.scatter_add`)."""
        if self.dtype.name not in _SCATTER:
            raise TypeError(f"cupyx.scatter_add only supports {', '.join(_SCATTER)}, not {self.dtype}")
        np.add.at(self._host, index(slices), operand(value))

    # --- functions of numpy -------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from framefold.testing.device.functions import array_ufunc  # noqa: PLC0415  # it makes arrays

        return array_ufunc(ufunc, method, *inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from framefold.testing.device.functions import array_function  # noqa: PLC0415  # it makes arrays

        return array_function(func, types, args, kwargs)


class _Method:
    """A method that numpy's arrays have alike, with CuPy's parameters."""

    def __init__(self, array: ndarray, name: str) -> None:
        self._array, self._name = array, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = _METHODS[self._name]
        wrong = [k for k in kwargs if k not in known]
        if wrong or len(args) > len(known):
            raise TypeError(f"cupy.ndarray.{self._name} takes ({', '.join(known)}), not {wrong or len(args)}")
        given = {**dict(zip(known, args, strict=False)), **kwargs}
        out = given.get("out")
        arrays = ("b", "v", "sorter", "indices", "min", "max", "out")
        converted = {k: v if v is None else operand(v) if k in arrays else plain(v) for k, v in given.items()}
        host: Any = self._array._host
        if self._name == "sort":
            host.sort(**converted)
            return None
        positional = [converted.pop(k) for k in ("b", "v", "indices", "kth", "repeats") if k in converted]
        result = getattr(host, self._name)(*positional, **converted)
        return out if out is not None else None if result is None else wrapped(result)


def wrapped(result: Any) -> Any:
    """Return numpy results as device arrays: scalars become arrays without axes."""
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(np.asarray(result))
    if isinstance(result, (tuple, list)):
        return type(result)(wrapped(r) for r in result) if type(result) in (tuple, list) else tuple(
            wrapped(r) for r in result
        )  # fmt: skip
    return result


def operand(value: Any) -> Any:
    """Return the host value behind what may stand beside a device array: another one, or a scalar.

    Raises
    ------
    TypeError
        For numpy arrays and everything else.
    """
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def plain(value: Any) -> Any:
    """Return what is no array as it is: axes, shapes, counts.

    Raises
    ------
    TypeError
        For device arrays, also inside tuples and lists: CuPy takes Python numbers there.
    """
    if isinstance(value, ndarray):
        raise TypeError("'cupy.ndarray' object cannot be interpreted as an integer")
    if isinstance(value, (tuple, list)):
        return type(value)(plain(v) for v in value)
    return value


def index(key: Any, waits: bool = False) -> Any:
    """Return an index of host arrays; numpy arrays and lists in it are copied to the device, and counted."""
    if isinstance(key, tuple):
        return tuple(index(k, waits) for k in key)
    if isinstance(key, ndarray):
        if waits and key.dtype == bool:
            traffic.waited()
        return key._host
    if isinstance(key, (list, np.ndarray)) and np.ndim(key):
        array = np.asarray([plain(k) for k in key] if isinstance(key, list) else key)
        traffic.copied_in(array.nbytes)
        return array
    return key


def _refuse_duplicates(shape: tuple[int, ...], key: Any) -> None:
    """CuPy leaves open which of several values for one element wins."""
    keys = key if isinstance(key, tuple) else (key,)
    if not any(isinstance(k, np.ndarray) and k.dtype != bool for k in keys):
        return
    touched = np.arange(int(np.prod(shape))).reshape(shape)[key].reshape(-1)
    if np.unique(touched).size != touched.size:
        raise ValueError(
            "the same element is assigned more than once; CuPy leaves open which value it gets: use "
            "xp.add.at, or make the indices unique"
        )


def sent(host: Any) -> ndarray:
    """Return a device array with a copy of host values, counted as a transfer."""
    copy = np.array(host)
    traffic.copied_in(copy.nbytes)
    return ndarray(copy)


_sent = sent
