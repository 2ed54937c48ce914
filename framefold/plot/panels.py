"""Which results are drawn, and how: from ``plots=`` and `UDF.get_plots` to a list of panels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError, did_you_mean
from framefold.udfcore.metadata import Axis
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.results import ResultBuffer, UDFResult

MAX_CHANNELS = 4  # a result with more entries per frame or pixel is drawn only when asked for by name
Function = Callable[[npt.NDArray[Any]], npt.ArrayLike]
KINDS = ("image", "line", "vectors", "hue-phase", "table")


@dataclass(frozen=True)
class Field:
    """Values to draw, with their valid mask, their axes (one each) and a label."""

    label: str
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes
    ----------
    udf
        Index of the UDF in the run.
    spec
        What is drawn.
    channel
        Index into the trailing axes of each result; empty: all of it.
    function
        Applied to the (first) result before it is drawn.
    prefix
        In front of the names of results: whose they are, where there are several UDFs.
    """

    udf: int
    spec: PlotSpec
    channel: tuple[int, ...] = ()
    function: Function | None = None
    prefix: str = ""

    @property
    def title(self) -> str:
        """Above the picture."""
        text = self.spec.title or f"{self.prefix}{', '.join(self.spec.results)}"
        return f"{text} {'.'.join(map(str, self.channel))}" if self.channel else text

    def fields(self, results: Sequence[Mapping[str, ResultBuffer]]) -> list[Field]:
        """Return what to draw, from the results of all UDFs."""
        result = results[self.udf]
        if self.spec.kind == "line" and self.function is None and not self.channel:
            found = [curve_of(result[name]) for name in self.spec.results]
        else:
            found = [field_of(result[name], self.channel, self.function) for name in self.spec.results]
        axes = self.spec.axes
        return [replace(f, axes=axes) if f.axes == (Axis(),) * len(axes) else f for f in found]


def field_of(buf: ResultBuffer, channel: tuple[int, ...] = (), function: Function | None = None) -> Field:
    """Return the values of a result with axes for each dimension.

    A `function` may change the shape; the valid mask and the axes stay as far as they still fit.
    """
    values, valid, axes = buf.data, buf.valid_mask, buf.axes
    if channel:
        part: Any = (Ellipsis, *channel)
        values, valid = values[part], valid[part]
    if function is not None:
        drawn = np.asarray(function(values))
        if drawn.shape != valid.shape:
            shared = drawn.ndim <= valid.ndim and drawn.shape == valid.shape[: drawn.ndim]
            trailing = tuple(range(drawn.ndim, valid.ndim))
            valid = np.asarray(valid.any(axis=trailing)) if shared else np.ones(drawn.shape, dtype=bool)
            axes = axes if shared else ()
        values = drawn
    if values.ndim < len(axes):
        axes = axes[: values.ndim]
    axes = (*axes, *(Axis() for _ in range(values.ndim - len(axes))))
    return _squeeze(Field(buf.name, values, valid, axes))


def curve_of(buf: ResultBuffer) -> Field:
    """Return the values of a result as curves; many entries per frame become their mean over the frames."""
    field = field_of(buf)
    extra = len(buf.extra_shape)
    if buf.kind != "nav" or extra != 1 or (field.values.ndim <= 2 and buf.extra_shape[0] <= MAX_CHANNELS):
        return field
    flat = buf.raw_masked_data.astype(np.result_type(buf.dtype, np.float32))
    mean = np.ma.masked_invalid(flat).mean(axis=0)
    valid = ~np.ma.getmaskarray(mean)
    return Field(f"mean {buf.name}", np.ma.filled(mean, np.nan), valid, (Axis(),))


def _squeeze(field: Field) -> Field:
    """Drop axes of length 1 where more than two are left; a scan of one row is drawn as a line."""
    keep = [i for i, n in enumerate(field.values.shape) if n != 1]
    if len(keep) == field.values.ndim or (field.values.ndim <= 2 and len(keep) != 1):
        return field
    shape = tuple(field.values.shape[i] for i in keep)
    axes = tuple(field.axes[i] for i in keep)
    return Field(field.label, field.values.reshape(shape), field.valid.reshape(shape), axes)


def panels_of(plots: Any, results: Sequence[UDFResult], udfs: Sequence[Any]) -> list[Panel]:
    """Return the panels for ``plots=``, with the UDF in their titles where there are several.

    Parameters
    ----------
    plots
        True: what each UDF recommends (`UDF.get_plots`), else all its 1-D and 2-D results.
        ``[name or (name, function) or PlotSpec, ...]``: looked for in all UDFs. A list of such lists: one
        per UDF.
    results
        Of each UDF, for names, shapes and dtypes.
    udfs
        The UDFs; empty when only results are at hand.

    Raises
    ------
    UDFError
        For a name that no result has, or something that cannot be drawn.
    """
    panels = _wanted(plots, results, udfs)
    if len(udfs) < 2:
        return panels
    names = [type(u).__name__.removesuffix("UDF") for u in udfs]
    panels = [replace(p, prefix=f"{names[p.udf]}: ") for p in panels]
    if plots is not True:  # titles are the user's
        return panels
    return [
        replace(p, spec=replace(p.spec, title=p.prefix + p.spec.title)) if p.spec.title else p for p in panels
    ]


def _wanted(plots: Any, results: Sequence[UDFResult], udfs: Sequence[Any]) -> list[Panel]:
    if plots is True:
        panels = []
        for i, result in enumerate(results):
            specs = _recommended(udfs[i]) if udfs else ()
            panels += (
                [p for s in specs for p in _of_spec(i, s, result)] if specs else default_panels(i, result)
            )
        return panels
    items = [plots] if isinstance(plots, (str, PlotSpec)) or _is_pair(plots) else list(plots)
    if items and all(isinstance(x, list) or (isinstance(x, tuple) and not _is_pair(x)) for x in items):
        if len(items) != len(results):
            raise UDFError(
                f"plots= has {len(items)} lists for {len(results)} UDFs: one list per UDF, [] for no plot"
            )
        return [p for i, part in enumerate(items) for item in part for p in _panels(item, [i], results)]
    return [p for item in items for p in _panels(item, range(len(results)), results)]


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and callable(item[1])


def _recommended(udf: Any) -> tuple[PlotSpec, ...]:
    specs = tuple(udf.get_plots())
    for spec in specs:
        if not isinstance(spec, PlotSpec):
            raise UDFError(f"{type(udf).__name__}.get_plots returned {spec!r}, expected PlotSpec objects")
    return specs


def _panels(item: Any, where: Sequence[int], results: Sequence[UDFResult]) -> list[Panel]:
    if isinstance(item, PlotSpec):
        i = _find(item.results[0] if item.results else "", where, results)
        return _of_spec(i, item, results[i])
    name, function = item if _is_pair(item) else (item, None)
    if not isinstance(name, str):
        raise UDFError(f"plots= cannot draw {item!r}: use a name, (name, function), a PlotSpec or True")
    i = _find(name, where, results)
    if function is None:
        found = _channels(i, results[i][name], limit=64)
        if not found:
            raise UDFError(
                f"plots=: {results[i][name]!r} is not a line or an image: "
                f"use ({name!r}, function) with a function that makes it 1-D or 2-D"
            )
        return found
    return [Panel(i, PlotSpec("image", (name,), title=_title(name, function)), function=function)]


def _title(name: str, function: Any) -> str:
    called = getattr(function, "__name__", "")
    return name if called in ("", "<lambda>") else f"{called}({name})"


def _find(name: str, where: Sequence[int], results: Sequence[UDFResult]) -> int:
    for i in where:
        if name in results[i]:
            return i
    known = list(dict.fromkeys(k for i in where for k in results[i]))
    raise UDFError(f"plots=: no result {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")


def _of_spec(index: int, spec: PlotSpec, result: UDFResult) -> list[Panel]:
    """Return the panels of a recommendation: one, or one per channel of a result with a short extra axis."""
    if spec.kind not in KINDS:
        raise UDFError(f"PlotSpec kind {spec.kind!r} is not one of {', '.join(map(repr, KINDS))}")
    for name in spec.results:
        _find(name, [0], [result])
    allowed = {"image": (1,), "vectors": (2,), "hue-phase": (1, 2)}.get(spec.kind)
    if allowed and len(spec.results) not in allowed:
        raise UDFError(
            f"PlotSpec kind {spec.kind!r} takes {' or '.join(map(str, allowed))} results, "
            f"got {', '.join(spec.results)}"
        )
    if spec.kind not in ("image", "hue-phase", "vectors"):
        return [Panel(index, spec)]
    extra = result[spec.results[0]].extra_shape
    if extra and field_of(result[spec.results[0]]).values.ndim <= 2:  # the entries are the picture
        return [Panel(index, spec)]
    channels = list(itertools.product(*map(range, extra))) if math.prod(extra) > 1 else [()]
    # of many channels (a spectrum per frame, many masks) the first stands for all
    return [Panel(index, spec, c) for c in (channels if len(channels) <= MAX_CHANNELS else channels[:1])]


def default_panels(index: int, result: UDFResult) -> list[Panel]:
    """Return panels for all 1-D and 2-D results of one UDF; if it has only numbers, a table."""
    found = [p for buf in result.values() for p in _channels(index, buf, limit=MAX_CHANNELS)]
    numbers = tuple(k for k, b in result.items() if math.prod(b.shape) == 1 and b.dtype.kind in "biufc")
    if not found and numbers:
        return [Panel(index, PlotSpec("table", numbers))]
    return found


def _channels(index: int, buf: ResultBuffer, limit: int) -> list[Panel]:
    """Return a panel per channel of a result whose entries are arrays, at most `limit` of them."""
    if buf.dtype.kind not in "biufc" or math.prod(buf.shape) <= 1:
        return []
    whole = field_of(buf).values
    grid = [n for n in buf.shape[: len(buf.shape) - len(buf.extra_shape)] if n != 1]
    if buf.extra_shape and len(grid) == 1 and whole.ndim == 2:  # a line per entry
        return [Panel(index, PlotSpec("line", (buf.name,)))] if whole.shape[1] <= limit else []
    if whole.ndim <= 2:
        return [Panel(index, PlotSpec(_kind(whole.ndim, whole.dtype), (buf.name,)))]
    extra = buf.extra_shape
    if math.prod(extra) > limit or len(buf.shape) - len(extra) > 2:
        return []
    kind = _kind(whole.ndim - len(extra), whole.dtype)
    return [Panel(index, PlotSpec(kind, (buf.name,)), i) for i in itertools.product(*map(range, extra))]


def _kind(ndim: int, dtype: np.dtype[Any]) -> Any:
    if ndim <= 1:
        return "line"
    return "hue-phase" if dtype.kind == "c" else "image"
