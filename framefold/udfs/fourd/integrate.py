"""From a field of beam shifts to the phase whose gradient it is: integrated centre of mass."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError

Float = npt.NDArray[np.floating[Any]]
Boundary = Literal["mirror", "periodic"]


def integrate_field(
    c_y: Float,
    c_x: Float,
    scan_step: tuple[float, float] = (1.0, 1.0),
    boundary: Boundary = "mirror",
    highpass: float = 0.0,
) -> npt.NDArray[np.float64]:
    """Return the phase with gradient ``2 pi c``, least squares, of mean zero.

    ``Phi = (Q . C) / (i (Q^2 + eps))`` with the transforms Phi, C of phase and field and the scan frequency Q
    in cycles per length; for c the mean momentum transfer of a thin object, the result is the object's phase
    correlated with the probe's intensity (Lazic, Bosch, Lazar, Ultramicroscopy 160 (2016) 265).

    Parameters
    ----------
    c_y, c_x
        The field over a 2-D scan, cycles per length; NaN where there is none (counts as the mean).
    scan_step
        Distance of scan positions (y, x), in the same length.
    boundary
        ``"periodic"``: the scan repeats; ``"mirror"``: it is continued by its mirror image, so that opposite
        edges need not match.
    highpass
        Length, in that of `scan_step`, above which features are suppressed, where slow drifts of the field
        would dominate: ``eps = 1 / highpass^2``. 0: none.

    Returns
    -------
    float64, scan shape, rad.

    Raises
    ------
    DataError
        Where the field is not 2-D or has no finite value.
    """
    if c_y.ndim != 2 or c_y.shape != c_x.shape:
        raise DataError(f"the field needs two components over a 2-D scan, got {c_y.shape} and {c_x.shape}")
    if boundary not in ("mirror", "periodic"):
        raise DataError(f"boundary={boundary!r} is not 'mirror' or 'periodic'")
    y, x = (_filled(c) for c in (c_y, c_x))
    rows, cols = y.shape
    if boundary == "mirror":  # the phase continues evenly, so the component across an edge changes sign
        y = np.block([[y, y[:, ::-1]], [-y[::-1], -y[::-1, ::-1]]])
        x = np.block([[x, -x[:, ::-1]], [x[::-1], -x[::-1, ::-1]]])
    q_y = np.fft.fftfreq(y.shape[0], scan_step[0])[:, None]
    q_x = np.fft.rfftfreq(y.shape[1], scan_step[1])
    # the Nyquist frequency has no sign: it cannot carry a gradient
    q_y = np.where(2 * np.arange(y.shape[0])[:, None] == y.shape[0], 0.0, q_y)
    q_x = np.where(2 * np.arange(len(q_x)) == y.shape[1], 0.0, q_x)
    square = q_y**2 + q_x**2 + (1 / highpass**2 if highpass else 0.0)
    square[0, 0] = np.inf  # the mean of a phase has no gradient
    inverse = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
    spectrum = -1j * inverse * (q_y * np.fft.rfft2(y) + q_x * np.fft.rfft2(x))
    phase: npt.NDArray[np.float64] = np.fft.irfft2(spectrum, y.shape)[:rows, :cols]
    return phase - phase.mean()


def _filled(c: Float) -> npt.NDArray[np.float64]:
    known = np.isfinite(c)
    if not known.any():
        raise DataError("the field of beam shifts has no finite value")
    mean = float(c[known].mean())
    return np.where(known, c, mean)
