"""Correlations after a run: sums, and the estimates that follow from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.udfs.fxs import convergence
from framefold.udfs.fxs.frame_masks import FrameMasks, divided, mean_mask_correlation
from framefold.udfs.fxs.frame_noise import mean_noise, sharing_rings
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.mask_effects import corrected, mask_correlation
from framefold.udfs.fxs.selfterm import SelfTerm, self_term

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2 import C2UDF

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Correlation:
    """Sums over frames, and the angular correlations that follow from them.

    Attributes
    ----------
    grid
        Polar bins.
    orders
        Angular orders that were kept.
    products
        ``(groups, orders, n_q (n_q + 1) / 2)``: sums of ``A_m conj(A_m)`` by group of frames, packed lower
        triangle.
    amplitudes
        ``(groups, orders, n_q)``: sums of A_m.
    frames
        ``(groups,)``: frames, or pairs of frames, in these sums.
    weight
        ``(n_q, P)``: weights of bins.
    saxs, saxs2
        ``(n_q,)``: mean over frames of the ring means, and of their squares; photons per nominal pixel.
    centred
        Whether ring means were subtracted.
    paired
        Whether differences of frames were correlated.
    halves
        Whether groups are halves: class c has the groups 2c and 2c + 1.
    self_term
        Photon self-term per frame, or None where it is not known.
    masks
        What is known of masks that differ from frame to frame; None: `weight` is that of all frames.
    wavelength
        In Angstrom, or None for polar frames without geometry.
    parameters
        Of the run, plain values.
    """

    grid: PolarGrid
    orders: npt.NDArray[np.int64]
    products: Array
    amplitudes: npt.NDArray[np.complex128]
    frames: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    saxs: Floats
    saxs2: Floats
    centred: bool = True
    paired: bool = False
    halves: bool = True
    self_term: SelfTerm | None = None
    masks: FrameMasks | None = None
    wavelength: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def q(self) -> Floats:
        """Centres of the rings in 1/Angstrom."""
        return self.grid.q

    @property
    def n_classes(self) -> int:
        """Classes of frames."""
        return len(self.frames) // (2 if self.halves else 1)

    @property
    def is_complex(self) -> bool:
        """Whether the imaginary part was kept."""
        return self.products.dtype.kind == "c"

    @cached_property
    def holes(self) -> bool:
        """Whether the mask has holes inside rings."""
        if self.masks is not None:
            return True
        rings = self.weight[(self.weight > 0).any(axis=1)]
        return bool((rings != rings[:, :1]).any())

    def groups(self, label: int | None, half: int | None) -> npt.NDArray[np.int64]:
        """Return the groups of a class (None: all) and a half (None: both)."""
        if half is not None and not self.halves:
            raise DataError("the run did not sum halves apart: run C2UDF with halves=True")
        if label is not None and not 0 <= label < self.n_classes:
            raise DataError(f"class {label}: there are 0 .. {self.n_classes - 1}")
        every = np.arange(len(self.frames)).reshape(self.n_classes, -1)
        chosen = every if label is None else every[label : label + 1]
        return (chosen if half is None else chosen[:, half : half + 1]).reshape(-1)

    def n_frames(self, label: int | None = None, half: int | None = None) -> int:
        """Return the frames (or pairs) in a class and half."""
        return int(self.frames[self.groups(label, half)].sum())

    def raw(self, label: int | None = None, half: int | None = None) -> tuple[Array, Array, int]:
        """Return sums of products ``(orders, n_q, n_q)`` and amplitudes ``(orders, n_q)``, and frames."""
        groups = self.groups(label, half)
        packed = self.products[groups].sum(axis=0)
        return (
            unpacked(packed, self.grid.n_q),
            self.amplitudes[groups].sum(axis=0),
            self.n_frames(label, half),
        )

    def c_m(
        self,
        label: int | None = None,
        half: int | None = None,
        *,
        covariance: bool = True,
        mask: bool = True,
        self_term: bool = True,
        pixel: float | None = None,
        min_pairs: float = 0.02,
    ) -> Array:
        """Return ``C_m(q, q')``, ``(orders, n_q, n_q)``, in (photons per nominal pixel)^2.

        Order 0 holds ``<A_0 A_0'>`` as it is: the fluctuations of pulses and concentration.

        Parameters
        ----------
        label, half
            Class and half; None: all.
        covariance
            Remove what is the same in all frames (not needed for pairs).
        mask
            Divide by the correlation of the mask, and undo the bias of centring.
        self_term
            Subtract photon noise that bins share, where it is known.
        pixel
            Size of a pixel in 1/Angstrom: undo the blurring by bins and pixels, ``sinc(m / P) sinc(m pixel
            / (2 pi q))`` in each ring.
        min_pairs
            See `mask_effects.corrected`.

        Raises
        ------
        DataError
            With less than 2 frames.
        """
        products, amplitudes, n = self.raw(label, half)
        if n < 2:
            raise DataError(f"{n} frames were correlated: at least 2 are needed")
        if mask and self.masks is not None:
            shared = covariance and not self.paired
            c = self._divided(products, amplitudes, label, half, shared, self_term, min_pairs)
            return c if pixel is None else c / self._window(pixel)
        plain = products[0] / n if self.orders[0] == 0 else None
        if covariance and not self.paired:
            outer = amplitudes[:, :, None] * amplitudes[:, None, :].conj()
            c = (products - (outer if self.is_complex else outer.real) / n) / (n - 1)
        else:
            c = products / n
        if self_term and self.self_term is not None:
            self.self_term.subtract(c, self.orders)
        if mask and self.holes:
            if len(self.orders) <= self.grid.n_phi // 2:
                raise DataError("the mask mixes orders: its correction needs a run with orders='all'")
            c = corrected(c.real, self.weight, centred=self.centred, min_pairs=min_pairs)[0]
        if plain is not None:
            c[0] = plain
        if pixel is not None:
            c /= self._window(pixel)
        return c

    def c2(
        self, label: int | None = None, half: int | None = None, *, mean: bool = False, **options: Any
    ) -> Floats:
        """Return ``C2(q, q', D)``, ``(n_q, n_q, P)``.

        Parameters
        ----------
        label, half, options
            As in `c_m`.
        mean
            Keep order 0; without it the mean over D is zero.
        """
        c = self.c_m(label, half, **options)
        full = np.zeros((self.grid.n_phi // 2 + 1, *c.shape[1:]), c.dtype)
        full[self.orders] = c
        if not mean:
            full[0] = 0
        return np.moveaxis(self.grid.n_phi * np.fft.irfft(full.conj(), self.grid.n_phi, axis=0), 0, 2)

    def cc_half(
        self, label: int | None = None, width: int = convergence.SHELL, **options: Any
    ) -> convergence.Convergence:
        """Return the agreement of the halves; options as in `c_m`."""
        a, b = (self.c_m(label, h, **options).real for h in (0, 1))
        n = float(self.n_frames(label, 0)), float(self.n_frames(label, 1))
        return convergence.compare(a, b, self.orders, self.q, n, width)

    def noise_ratio(self, label: int | None = None) -> Floats:
        """Return rms imaginary over rms real part per order: noise over signal, as ``1/sqrt(frames)``.

        Raises
        ------
        DataError
            If the run kept only the real part.
        """
        if not self.is_complex:
            raise DataError("only the real part was kept: run C2UDF with part='complex'")
        products = self.raw(label)[0]
        return np.sqrt((products.imag**2).mean(axis=(1, 2)) / (products.real**2).mean(axis=(1, 2)))

    def mask_correlation(self) -> Floats:
        """Return ``M(q, q', D)``, see `mask_effects.mask_correlation`; the mean over frames that differ."""
        if self.masks is None:
            return mask_correlation(self.weight)
        sums = unpacked(self.masks.products.sum(axis=0), self.grid.n_q)
        return mean_mask_correlation(sums, self.n_frames(), self.grid.n_phi)

    def odd_even(self, **options: Any) -> Floats:
        """Return the power of odd over that of even orders per ring, from rings 2 apart."""
        c = self.c_m(**options).real
        near = np.stack([np.diagonal(x, 2) for x in c])
        full = np.zeros((int(self.orders[-1]) + 1, near.shape[1]))
        full[self.orders] = near
        return convergence.odd_even(full)

    def to_paper(self) -> npt.NDArray[np.complex128]:
        """Return the array of Dujardin et al. (2020): ``sum_j A_j(q, m) conj(A_j(q', m))``, A the plain FFT.

        It is ``N P^2 C_m``, for all P orders, ``(n_q, n_q, P)``: the transform of C2 at -D.

        Raises
        ------
        DataError
            If the run did not keep complex products of all orders.
        """
        n_phi = self.grid.n_phi
        if not self.is_complex or len(self.orders) != n_phi // 2 + 1:
            raise DataError("to_paper needs a run with part='complex' and orders='all'")
        if self.paired or self.masks is not None or (self.centred and self.holes):
            raise DataError("to_paper needs whole frames: no pairing, and no mask or center='none'")
        products = self.raw()[0].astype(np.complex128) * n_phi**2
        out = np.empty((self.grid.n_q, self.grid.n_q, n_phi), np.complex128)
        out[:, :, : n_phi // 2 + 1] = np.moveaxis(products, 0, 2)
        out[:, :, n_phi // 2 + 1 :] = np.moveaxis(products[1:-1][::-1].conj(), 0, 2)
        return out

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, c2: bool = False) -> None:
        """Write an HDF5 (NeXus) file, see `framefold.udfs.fxs.c2_file.save`."""
        from framefold.udfs.fxs.c2_file import save  # noqa: PLC0415  # h5py; it needs this module

        save(self, path, overwrite=overwrite, c2=c2)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Correlation:
        """Read what `save` wrote: other corrections then need no data."""
        from framefold.udfs.fxs.c2_file import load  # noqa: PLC0415  # as above

        return load(path)

    @classmethod
    def from_result(cls, result: Any, udf: C2UDF) -> Correlation:
        """Return the correlations of a result of `udf`."""
        return from_result(result, udf)

    def _divided(
        self, products: Array, amplitudes: Array, label: int | None, half: int | None, covariance: bool,
        self_term: bool, min_pairs: float,
    ) -> Array:  # fmt: skip
        assert self.masks is not None
        groups = self.groups(label, half)
        sums = unpacked(self.masks.products[groups].sum(axis=0), self.grid.n_q)
        c = divided(
            products, amplitudes, sums, self.masks.amplitudes[groups].sum(axis=0),
            self.n_frames(label, half), self.weight, self.masks.patterns,
            centred=self.centred, covariance=covariance, noise=self.self_term if self_term else None,
            min_pairs=min_pairs,
        )  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            c[0] = np.where(sums[0] > 0, products[0].real / sums[0], np.nan)
        return c

    def _window(self, pixel: float) -> Floats:
        m = self.orders[:, None].astype(np.float64)
        one = np.sinc(m / self.grid.n_phi) * np.sinc(m * pixel / (2 * np.pi * self.q))
        return one[:, :, None] * one[:, None, :]


def unpacked(packed: Array, n_q: int) -> Array:
    """Return ``(orders, n_q, n_q)`` from packed lower triangles: symmetric, or Hermitian where complex."""
    out = np.empty((len(packed), n_q, n_q), np.result_type(packed.dtype, np.float64))
    i, j = np.tril_indices(n_q)
    out[:, j, i] = packed.conj()
    out[:, i, j] = packed
    return out


def from_result(result: Any, udf: C2UDF) -> Correlation:
    """Return the `Correlation` of a result of `udf`."""
    p = udf.params
    layout, operator = udf.layout(), udf.operator()
    noise = None
    if operator is not None and "variance_sum" in result:
        scale2, n = (float(x) for x in result["variance_scale"].data)
        if n > 0:
            model = udf.pixel_model()
            scaled = result["variance_sum"].data.reshape(-1) / n
            variance = model.variance(p.geometry, scaled, scale2 / n)
            noise = self_term(operator.matrix, layout.weight, variance, centred=layout.centre)
    masks = None
    if operator is not None and "noise_sum" in result:
        taken_frames = int(result["noise_frames"].data[0])
        noise = mean_noise(sharing_rings(operator), p.grid.n_q, result["noise_sum"].data, taken_frames)
    if layout.per_frame:
        taken = result["mask_taken"].data > 0
        masks = FrameMasks(
            result["mask_products"].data, result["mask_amplitudes"].data, result["mask_patterns"].data[taken]
        )
    plain = {
        k: v for k, v in udf._kwargs.items() if isinstance(v, (str, int, float, bool, type(None)))
    }  # fmt: skip
    return Correlation(
        grid=p.grid,
        orders=layout.orders,
        products=result["products"].data,
        amplitudes=result["amplitudes"].data,
        frames=result["product_frames"].data,
        weight=layout.weight,
        saxs=result["saxs"].data,
        saxs2=result["saxs2"].data,
        centred=layout.centre,
        paired=p.pairing is not None,
        halves=p.halves,
        self_term=noise,
        masks=masks,
        wavelength=p.wavelength if p.geometry is None else p.geometry.wavelength * 1e10,
        parameters=plain,
    )
