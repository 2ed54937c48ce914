"""Values on the command line: numbers, slices, shapes, arrays in files; nothing is evaluated as code."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import FramefoldError


def parse_value(text: str) -> Any:
    """Return the value of ``key=value``.

    A Python literal (number, ``None``, ``True``, list, tuple, quoted text) is itself, ``@file.npy`` the array
    in that file, anything else its text.

    >>> parse_value("3.5"), parse_value("[1, 2]"), parse_value("ring"), parse_value("inf")
    (3.5, [1, 2], 'ring', inf)
    """
    if text.startswith("@"):
        return load_array(text[1:])
    if re.fullmatch(r"[+-]?(inf|nan)", text):
        return float(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``.

    Raises
    ------
    FramefoldError
        If there is no ``=``, or the key is no name.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip().isidentifier():
        raise FramefoldError(
            f"-p takes key=value, got {text!r}: for instance -p r=12.5 or -p masks=@masks.npy"
        )
    return key.strip(), parse_value(value.strip())


def parse_shape(text: str) -> tuple[int, ...]:
    """Return a shape such as ``64,64`` or ``64x64``.

    >>> parse_shape("64,32"), parse_shape("64x32"), parse_shape("(10,)")
    ((64, 32), (64, 32), (10,))
    """
    words = [w for w in re.split(r"[,x\s]+", text.strip().strip("()[]")) if w]
    if not words or not all(w.isdigit() and int(w) for w in words):
        raise FramefoldError(f"{text!r} is not a shape: write positive numbers such as 64,64")
    return tuple(int(w) for w in words)


def parse_dtype(text: str) -> np.dtype[Any]:
    """Return a dtype such as ``uint16`` or ``>u2``."""
    try:
        return np.dtype(text)
    except TypeError as exc:
        raise FramefoldError(f"{text!r} is not a dtype: write for instance uint16, float32 or >u2") from exc


def parse_slices(text: str) -> tuple[int | slice, ...]:
    """Return the index that ``[:, 2:64:2]`` stands for.

    >>> parse_slices("[:, :64]"), parse_slices("3, -1:")
    ((slice(None, None, None), slice(None, 64, None)), (3, slice(-1, None, None)))
    """
    inner = re.sub(r"^\s*\[|\]\s*$", "", text)
    found: list[int | slice] = []
    for part in inner.split(","):
        numbers = [n.strip() for n in part.split(":")]
        if len(numbers) > 3 or not all(re.fullmatch(r"[+-]?\d*", n) for n in numbers) or part.strip() == "":
            raise FramefoldError(
                f"{text!r} is not a slice: write for instance '[:, :64]', or name a .npy file with a mask"
            )
        if len(numbers) == 1:
            found.append(int(numbers[0]))
        else:
            found.append(slice(*(int(n) if n else None for n in numbers)))
    return tuple(found)


def parse_roi(text: str, nav: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the mask of a region of interest: slices of the scan, or a ``.npy`` file with a bool mask.

    Raises
    ------
    FramefoldError
        If the slices do not fit the scan, or the file holds something else.
    """
    if text.endswith(".npy"):
        mask = load_array(text)
        if mask.dtype.kind not in "bui":
            raise FramefoldError(f"{text} holds {mask.dtype}, a region of interest is a bool mask")
        return mask.astype(bool)
    index = parse_slices(text)
    roi = np.zeros(nav, dtype=bool)
    try:
        roi[index] = True
    except IndexError as exc:
        raise FramefoldError(f"--roi {text!r} does not fit the navigation shape {nav}: {exc}") from exc
    return roi


def load_array(path: str) -> npt.NDArray[Any]:
    """Return the array in a ``.npy`` file; Python objects in it are refused.

    Raises
    ------
    FramefoldError
        If it cannot be read.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise FramefoldError(f"cannot read an array from {path}: {exc}") from exc
