"""A result without its run: plain arrays with kind, mask and axes, as files hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, did_you_mean
from framefold.udfcore.metadata import Axis

_MOST_LISTED = 10_000  # a longer array in the provenance is described, not listed


@dataclass(frozen=True, eq=False)
class SavedBuffer:
    """One result array.

    Attributes
    ----------
    name
        As the UDF declared it.
    data
        In navigation or signal shape, `extra_shape` last.
    valid_mask
        Bool, the shape of `data`: True where the value rests on data.
    kind
        ``"nav"``, ``"sig"`` or ``"single"``.
    axes
        Calibrated axes of the first axes of `data`; empty where unknown.
    extra_shape
        As the UDF declared it.
    """

    name: str
    data: npt.NDArray[Any]
    valid_mask: npt.NDArray[np.bool_]
    kind: str = "single"
    axes: tuple[Axis, ...] = ()
    extra_shape: tuple[int, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the values."""
        return self.data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    @property
    def masked_data(self) -> np.ma.MaskedArray[Any, Any]:
        """`data` as a numpy masked array, masked where invalid."""
        return np.ma.MaskedArray(self.data, mask=~self.valid_mask)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def describe(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON can hold it."""
        return {
            "kind": self.kind,
            "dtype": str(self.dtype),
            "extra_shape": list(self.extra_shape),
            "axes": [asdict(a) for a in self.axes],
        }


@dataclass(frozen=True, eq=False)
class SavedResult(Mapping[str, SavedBuffer]):
    """The results of one UDF by name, as `load_results` gives them.

    Attributes
    ----------
    buffers
        The results.
    damage
        Bool, navigation shape: frames that are inside; None where the file does not say.
    provenance
        Versions, parameters, dataset, ROI and corrections of the run.
    report
        Times, bytes, warnings of the run.
    """

    buffers: Mapping[str, SavedBuffer]
    damage: npt.NDArray[np.bool_] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> SavedBuffer:
        try:
            return self.buffers[name]
        except KeyError:
            raise KeyError(
                f"no result {name!r}; there are: {', '.join(self.buffers)}.{did_you_mean(name, self.buffers)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.buffers)

    def __len__(self) -> int:
        return len(self.buffers)


def detach(result: Mapping[str, Any]) -> SavedResult:
    """Return `result` (a ``UDFResult``, or any mapping of names to arrays) as a `SavedResult`.

    Raises
    ------
    DataError
        If there is nothing in it, or an array of Python objects.
    """
    if not isinstance(result, Mapping) or not result:
        raise DataError(
            f"saving takes one result at a time, a mapping of names to arrays; got {type(result).__name__}"
            + (" without entries" if isinstance(result, Mapping) else "")
        )
    buffers = {str(name): _buffer(str(name), value) for name, value in result.items()}
    damage = getattr(result, "damage", None)
    return SavedResult(
        buffers,
        None if damage is None else np.asarray(damage, dtype=bool),
        plain(getattr(result, "provenance", {})),
        plain(getattr(result, "report", {})),
    )


def _buffer(name: str, value: Any) -> SavedBuffer:
    data = np.asarray(getattr(value, "data", value) if hasattr(value, "kind") else value)
    if data.dtype.kind == "O" or data.dtype.hasobject:
        raise DataError(
            f"result {name!r} holds Python objects, which no file format here can keep: "
            "save numbers, for instance one array per attribute"
        )
    mask = getattr(value, "valid_mask", None)
    valid = np.ones(data.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask, bool), data.shape)
    return SavedBuffer(
        name,
        data,
        valid,
        str(getattr(value, "kind", "single")),
        tuple(getattr(value, "axes", ()) or ()),
        tuple(int(n) for n in getattr(value, "extra_shape", ()) or ()),
    )


def restored(
    name: str, described: Mapping[str, Any], data: npt.NDArray[Any], valid: npt.NDArray[Any] | None
) -> SavedBuffer:
    """Return the buffer that `SavedBuffer.describe` and its stored arrays belong to."""
    dtype = np.dtype(str(described.get("dtype", data.dtype)))
    axes = tuple(
        Axis(str(a["name"]), float(a["scale"]), float(a["offset"]), str(a["units"]))
        for a in described.get("axes", ())
    )
    return SavedBuffer(
        name,
        data.view(bool) if dtype.kind == "b" and data.dtype == np.uint8 else data,
        np.ones(data.shape, bool) if valid is None else valid.astype(bool),
        str(described.get("kind", "single")),
        axes,
        tuple(int(n) for n in described.get("extra_shape", ())),
    )


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: arrays as lists, what is unknown as its repr."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "iufb" and value.size <= _MOST_LISTED:
            return value.tolist()
        return f"array {value.shape} {value.dtype}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


def to_json(value: Any) -> str:
    """Return the JSON text of plain values."""
    return json.dumps(plain(value), ensure_ascii=False)


def from_json(content: str | bytes, where: str) -> dict[str, Any]:
    """Return the object in a JSON text.

    Raises
    ------
    DataError
        If it is no JSON object; `where` names the file.
    """
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise DataError(f"{where}: its description is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise DataError(f"{where}: its description is not a JSON object")
    return value
