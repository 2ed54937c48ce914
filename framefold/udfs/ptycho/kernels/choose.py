"""Which kernels compute, by the parameters of a reconstruction."""

from __future__ import annotations

from typing import Any

from framefold.udfcore.namespace import namespace
from framefold.udfs.ptycho.kernels.protocol import KernelSet


def make_kernels(params: Any, shape: tuple[int, int], waves: int, factor: Any, frames: int) -> KernelSet:
    """Return the kernels of one lane, with their plans and scratch memory.

    Parameters
    ----------
    params
        ``backend``, ``precision`` and ``repeatable`` of `Ptychography`.
    shape, waves, factor
        Of the frames, exit waves of each, and the Fresnel factor of near-field data or None.
    frames
        In each iteration, of all lanes.
    """
    double = params.precision == "double"
    if params.backend != "cpu":
        from framefold.udfs.ptycho.kernels.arrays import ArrayKernels  # noqa: PLC0415

        xp = namespace(params.backend)
        repeatable = params.repeatable or params.backend == "numpy"
        return ArrayKernels(xp, shape, waves, factor, double=double, repeatable=repeatable)
    if double:
        from framefold.udfs.ptycho.kernels.reference import ReferenceKernels  # noqa: PLC0415

        return ReferenceKernels(shape, waves, factor)
    from framefold.udfs.ptycho.kernels.fftw import FFTWKernels  # noqa: PLC0415  # numba only where it runs
    from framefold.udfs.ptycho.kernels.wisdom import WORTH_IT  # noqa: PLC0415

    return FFTWKernels(shape, waves, factor, patient=frames * waves >= WORTH_IT)
