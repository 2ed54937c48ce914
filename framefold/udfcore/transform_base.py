"""What most transforms share: shape, dtype and region stay, each pixel depends on itself."""

# ruff: noqa: D102  # the methods are documented by the protocol in `pre`

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Region: TypeAlias = tuple[slice, ...]
Sig: TypeAlias = tuple[int, ...]
Dtype: TypeAlias = np.dtype[Any]
Scope: TypeAlias = Literal["pixel", "local", "frame"]


class Pointwise:
    """Shape, dtype and region stay as they are; each pixel depends on itself only."""

    scope: ClassVar[Scope] = "pixel"

    def out_shape(self, sig: Sig) -> Sig:
        return sig

    def out_dtype(self, dtype: Dtype) -> Dtype:
        return dtype

    def input_slice(self, out_slice: Region, sig_shape: Sig) -> Region:
        return out_slice
