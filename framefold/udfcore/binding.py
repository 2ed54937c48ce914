"""Auxiliary data as the head node sees them: whole, and compressed by the ROI."""

from __future__ import annotations

from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.roi import RowMap
from framefold.udfcore.udf import UDF


def bind_aux_whole(udf: UDF, rows: RowMap, sig: tuple[int, ...]) -> None:
    """Bind the whole, ROI-compressed auxiliary data to ``udf.params`` (the view of the head node)."""
    for key, value in udf._kwargs.items():
        if isinstance(value, AuxData):
            flat = value.flat(rows.n_nav, sig)
            if value.kind == "nav" and rows.ids is not None:
                flat = flat[rows.ids]
            vars(udf.params)[key] = flat
