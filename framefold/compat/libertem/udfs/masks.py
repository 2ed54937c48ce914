"""LiberTEM's `ApplyMasksUDF`: products of frames with masks, shifted per frame if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.compat.libertem.arrays import rmatmul, to_dense
from framefold.compat.libertem.buffers import AuxBufferWrapper
from framefold.compat.libertem.maskstack import MaskContainer
from framefold.compat.libertem.udf import UDF
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.udf import UDFMethod


class ApplyMasksEngine:
    """Multiplies tiles with the masks of their part of the signal.

    Parameters
    ----------
    masks
        The stack.
    meta
        Of the UDF, for the current part of the signal.
    use_torch
        Accepted for LiberTEM's sake: numpy's products are used.
    """

    def __init__(self, masks: MaskContainer, meta: Any, use_torch: bool = True) -> None:
        self.masks = masks
        self.meta = meta

    def process_tile(self, tile: Any) -> Any:
        """Return ``(frames, masks)``."""
        flat = tile.reshape((tile.shape[0], -1))
        return self.process_flat(flat, self.masks.get_for_sig_slice(self.meta.sig_slice))

    def process_flat(self, flat: Any, masks: Any) -> Any:
        """Return the product of ``(frames, pixels)`` with ``(pixels, masks)``."""
        kind = self.masks.use_sparse
        if isinstance(flat, np.ndarray) and isinstance(kind, str) and kind.startswith("scipy"):
            return rmatmul(flat, masks)
        if not isinstance(flat, np.ndarray) and isinstance(kind, str) and kind.startswith("sparse"):
            return (masks.T @ flat.T).T  # pydata has to stand on the left to be asked
        return flat @ masks

    def process_frame_shifted(self, frame: Any, shifts: Sequence[int]) -> Any:
        """Return ``(masks,)`` for one frame with the masks moved by ``(dy, dx)``; what falls off is lost."""
        sig = tuple(self.meta.dataset_shape.sig)
        n = len(self.masks)
        dy, dx = (int(s) for s in shifts)
        if abs(dy) >= sig[0] or abs(dx) >= sig[1]:
            return np.zeros(n, dtype=np.float32)
        image = to_dense(frame).reshape(sig) if not isinstance(frame, np.ndarray) else frame.reshape(sig)
        masks = self.masks.get_for_sig_slice(self.meta.sig_slice).reshape((*sig, n))
        on_frame, on_mask = zip(
            *(_overlap(d, size) for d, size in zip((dy, dx), sig, strict=True)), strict=True
        )
        part = masks[(*on_mask, slice(None))].reshape((-1, n))
        return to_dense(self.process_flat(image[on_frame].reshape((1, -1)), part)).reshape(n)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Return the rows of frame and mask that meet when the mask moves by `shift`."""
    n = size - abs(shift)
    return slice(max(shift, 0), max(shift, 0) + n), slice(max(-shift, 0), max(-shift, 0) + n)


class ApplyMasksUDF(UDF):
    """Products of every frame with masks: ``intensity`` of shape ``(*nav, masks)``.

    Parameters
    ----------
    mask_factories
        A function that returns a stack, or functions that return a mask each.
    use_torch
        Accepted; not used.
    use_sparse
        See `MaskContainer`.
    mask_count, mask_dtype
        Where they should be known without making the masks.
    preferred_dtype
        Wanted dtype of the data, float32 by default.
    backends
        Restrict the array backends.
    shifts
        ``(dy, dx)`` in px, or aux data of them per frame: positive moves the masks down and right. Fractions
        are cut off.
    """

    def __init__(
        self, mask_factories: Any, use_torch: bool = True, use_sparse: Any = None,
        mask_count: int | None = None, mask_dtype: Any = None, preferred_dtype: Any = None,
        backends: Any = None, shifts: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        usable = tuple(b for b in self.BACKEND_ALL if not (b.startswith("scipy") and b.endswith("_array")))
        if shifts is not None:
            if isinstance(use_sparse, str) and use_sparse.startswith("scipy.sparse"):
                raise ValueError(f"use_sparse={use_sparse!r} cannot be shifted: use 'sparse.pydata'")
            if not isinstance(shifts, AuxBufferWrapper):
                shifts = np.asarray(shifts)
            usable = tuple(b for b in usable if "coo" not in b)  # matrices of this form cannot be cut
        chosen = usable if backends is None else tuple(b for b in backends if b in usable)
        if not chosen:
            raise ValueError(f"none of the backends {backends} can be used; there are: {', '.join(usable)}")
        self._stack: MaskContainer | None = None
        super().__init__(
            mask_factories=mask_factories, use_torch=use_torch, use_sparse=use_sparse, mask_count=mask_count,
            mask_dtype=mask_dtype, preferred_dtype=preferred_dtype, backends=chosen, shifts=shifts, **kwargs,
        )  # fmt: skip

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Return the parameter, float32 by default."""
        wanted = self.params.preferred_dtype
        return super().get_preferred_input_dtype() if wanted is None else wanted

    @property
    def masks(self) -> MaskContainer:
        """The stack of masks."""
        if self._stack is None:
            p = self.params
            cupy = self.meta.array_backend in self.CUPY_BACKENDS
            self._stack = MaskContainer(
                p.mask_factories, dtype=p.mask_dtype, use_sparse=p.use_sparse, count=p.mask_count,
                backend=self.BACKEND_CUPY if cupy else self.BACKEND_NUMPY,
                default_sparse="scipy.sparse" if p.shifts is None else "sparse.pydata",
            )  # fmt: skip
        return self._stack

    def get_mask_dtype(self) -> Any:
        """Return the dtype of the masks."""
        return self.masks.dtype if self.params.mask_dtype is None else self.params.mask_dtype

    def get_mask_count(self) -> int:
        """Return the number of masks."""
        return len(self.masks)

    def get_result_buffers(self) -> dict[str, BufferDecl]:
        """Declare ``intensity``."""
        dtype = np.result_type(self.meta.input_dtype, self.get_mask_dtype())
        return {"intensity": self.buffer("nav", (self.get_mask_count(),), dtype=dtype, where="device")}

    def get_backends(self) -> tuple[str, ...]:
        """Return the parameter."""
        return tuple(self.params.backends)

    def get_method(self) -> UDFMethod:
        """Shifts need whole frames."""
        return UDFMethod.TILE if self.params.shifts is None else UDFMethod.FRAME

    def get_task_data(self) -> dict[str, Any]:
        """Keep the engine."""
        return {"engine": ApplyMasksEngine(self.masks, self.meta, self.params.use_torch)}

    def process_tile(self, tile: Any) -> None:
        """Add the products of a part of the signal."""
        self.results.intensity += self.forbuf(
            self.task_data.engine.process_tile(tile), self.results.intensity
        )

    def process_frame(self, frame: Any) -> None:
        """Multiply a frame with shifted masks."""
        shifts = np.asarray(self.params.shifts).astype(int)
        found = self.task_data.engine.process_frame_shifted(frame, shifts)
        self.results.intensity += self.forbuf(found, self.results.intensity)
