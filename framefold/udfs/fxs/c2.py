"""Angular correlations of all frames, `C2UDF`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.fxs import c2_setup as setup
from framefold.udfs.fxs.array_correlator import ArrayCorrelator
from framefold.udfs.fxs.build import build_operator
from framefold.udfs.fxs.c2_buffers import declared, live_results, pictures
from framefold.udfs.fxs.c2_items import BLOCK, items_of
from framefold.udfs.fxs.correlator import Correlator, Layout, Live, Sums
from framefold.udfs.fxs.frame_masks import MaskFold, left_out
from framefold.udfs.fxs.frame_noise import FrameNoise, sharing_rings
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.measured import Measured
from framefold.udfs.fxs.pixels import PixelModel
from framefold.udfs.fxs.regrid import PolarOperator, raw_rows
from framefold.udfs.fxs.shot_kernels import add_scaled, saturated_share
from framefold.udfs.fxs.shots import ShotScale, Veto, VetoCode, sampled, window_mean

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2_result import Correlation
    from framefold.udfs.fxs.scores import Accepts

Array = npt.NDArray[Any]


class C2UDF(UDF):
    """Sum the angular correlations ``C_m(q, q') = <A_m(q) conj(A_m(q'))>`` of all accepted frames.

    ``A_m(q) = 1/P sum_p I(q, p) exp(-2 pi i m p / P)`` are the angular orders of a polar frame of P bins. The
    correlation is then ``C2(q, q', D) = sum_m conj(C_m) exp(i m D)``. Corrections for masks, photon noise and
    static structure come afterwards: ``udf.correlation(result)`` returns a `Correlation`.

    Results: ``products`` (sums by group, order and packed lower triangle of (q, q')), ``amplitudes`` and
    ``product_frames`` (what belongs to them), ``score``, ``scale`` and ``veto_code`` per frame, ``saxs``,
    ``diagonal`` (C2(q, q, D) without m = 0), ``contrast`` (the same over SAXS^2), ``rows`` (C2(q0, q', D)),
    ``cc_half`` per shell, ``shots_needed``, ``odd_even`` and ``hit_rate``. What is drawn live is not
    corrected for masks.

    Parameters
    ----------
    geometry
        Of the detector; None: frames are polar already, of the shape of the grid.
    grid
        The polar bins.
    wavelength
        In Angstrom, of polar frames; inversion needs it.
    mask
        Bad pixels (True), of frame shape. With polar frames: bad bins. ``"per-frame"``: they differ from
        frame to frame. Pixels that are NaN, full (`saturation`) or lost on the way (a live run with
        ``missing="fill"``) are then left out of that frame only, and the products of the masks are summed
        too, at twice the cost; pixels that are always bad belong in `pixels`.
    pixels
        Dark, gain, photons, polarisation; `Corrections` of the run are added to it.
    scale
        Factor of each frame.
    veto
        Which frames are used.
    hit_window
        q range whose mean photons are the score; None: all.
    orders
        ``"all"``, ``"even"``, a slice, or a list of angular orders.
    diameter
        Largest extent of the particle in Angstrom: orders above ``q_max * diameter + 4`` are left out,
        where the mask does not need them.
    center
        ``"ring"`` subtracts the mean of each ring (much less noise); ``"none"`` does not.
    part
        ``"real"``: what orientation averaging leaves; ``"complex"`` keeps the imaginary part, which is noise.
    precision, accumulate
        ``"float32"`` or ``"float64"``.
    halves
        Sum two halves of the frames apart, by a hash of their index: needed for convergence.
    batch
        Frames per matrix product.
    classes
        Class of each frame (pumped and not, delays), small integers; negative: not used. Each class has
        sums of its own.
    pairing
        ``"consecutive"``: correlate differences of consecutive accepted frames: static and slowly drifting
        structure drops out.
    saturation
        Counts at which a pixel is full; frames with more than `max_saturated` of such pixels are refused.
    max_saturated
        Part of the good pixels.
    splitting, min_coverage, weight
        See `build_operator`.
    variance_every
        One frame in so many enters the mean frame of the photon self-term, more (256, or all) in short runs;
        of masks that differ it is 32 frames.
    memory_limit
        Bytes that sums and stacks may take in one process; None: half of the memory of the machine.
    threads
        None: all that the worker has.

    Examples
    --------
    >>> import framefold as ff, numpy as np
    >>> frames = np.random.default_rng(0).random((200, 4, 32)).astype("float32")
    >>> udf = C2UDF(None, PolarGrid(n_q=4, n_phi=32, q_min=0.1, q_max=0.2))
    >>> ctx = ff.Context(executor="inline")
    >>> res = ctx.run_udf(ctx.load(frames), udf)
    >>> udf.correlation(res).c_m().shape
    (17, 4, 4)
    """

    engine = EngineOptions(whole_frames=True, gil="free", lanes=1, corrections="self")

    def __init__(
        self,
        geometry: Geometry | None,
        grid: PolarGrid,
        *,
        wavelength: float | None = None,
        mask: Any = None,
        pixels: PixelModel | None = None,
        scale: ShotScale | None = None,
        veto: Veto | None = None,
        hit_window: tuple[float, float] | None = None,
        orders: Any = "all",
        diameter: float | None = None,
        center: str = "ring",
        part: str = "real",
        precision: str = "float32",
        accumulate: str = "float64",
        halves: bool = True,
        batch: int = 128,
        classes: Any = None,
        pairing: str | None = None,
        saturation: float | None = None,
        max_saturated: float = 0.001,
        splitting: str = "subpixel",
        min_coverage: float = 0.5,
        weight: str = "binary",
        variance_every: int = 8,
        memory_limit: float | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value, allowed in (
            ("center", center, ("ring", "none")),
            ("part", part, ("real", "complex")),
            ("precision", precision, ("float32", "float64")),
            ("accumulate", accumulate, ("float32", "float64")),
            ("pairing", pairing, (None, "consecutive")),
        ):
            if value not in allowed:
                raise UDFError(f"C2UDF({name}={value!r}): one of {', '.join(map(repr, allowed))} is needed")
        if isinstance(mask, str) and mask != "per-frame":
            raise UDFError(f"C2UDF(mask={mask!r}): an array, True where bad, or 'per-frame' is needed")
        if batch < 1 or variance_every < 1:
            raise UDFError(f"C2UDF(batch={batch}, variance_every={variance_every}): both are at least 1")
        super().__init__(
            geometry=geometry, grid=grid, wavelength=wavelength, mask=mask, pixels=pixels, scale=scale,
            veto=veto, hit_window=hit_window, orders=orders, diameter=diameter, center=center,
            part=part, precision=precision, accumulate=accumulate, halves=halves, batch=batch,
            classes=classes,
            pairing=pairing, saturation=saturation, max_saturated=max_saturated,
            splitting=splitting, min_coverage=min_coverage, weight=weight, variance_every=variance_every,
            memory_limit=memory_limit, threads=threads,
        )  # fmt: skip

    # --- what follows from the parameters ----------------------------------------------------

    def pixel_model(self) -> PixelModel:
        """Return what counts mean: the parameters, and the corrections of the run."""
        return setup.pixel_model(self.params, self.meta)

    def operator(self) -> PolarOperator | None:
        """Return the polar operator; None where frames are polar."""
        p = self.params
        if p.geometry is None:
            return None
        return build_operator(
            p.geometry, p.grid, self.pixel_model(), splitting=p.splitting, min_coverage=p.min_coverage,
            weight=p.weight,
        )  # fmt: skip

    def layout(self) -> Layout:
        """Return what is summed."""
        return setup.layout_of(self.params, self.operator(), self.n_classes)

    @property
    def n_classes(self) -> int:
        """Classes of frames."""
        return 1 if self.params.classes is None else int(np.max(self.params.classes, initial=0)) + 1

    def memory(self) -> tuple[int, int]:
        """Return the bytes that sums and stacks take in each process."""
        layout = self.layout()
        both = [x.nbytes for x in (layout, *layout.of_masks)]
        return sum(x[0] for x in both), sum(x[1] for x in both)

    def calibrated(self, ctx: Any, dataset: Any, n: int = 512, **options: Any) -> C2UDF:
        """Return a copy whose ``Veto.auto`` has its threshold, from `n` frames evenly spaced over the run.

        Parameters
        ----------
        ctx
            The context.
        dataset
            What will be run.
        n
            Frames of the calibration set.
        options
            Of the run, such as ``corrections=``.
        """
        veto = self.params.veto
        if veto is None or veto.kind != "auto":
            return self
        from framefold.udfs.fxs.scores import ScoreUDF  # noqa: PLC0415  # it needs this module

        frames = dataset.shape.nav.size
        roi = np.zeros(frames, bool)
        roi[np.unique(np.linspace(0, frames - 1, min(n, frames)).astype(int))] = True
        scorer = ScoreUDF(self._kwargs)
        res = ctx.run_udf(dataset, scorer, roi=roi.reshape(tuple(dataset.shape.nav)), **options)
        return type(self)(**{**self._kwargs, "veto": veto.calibrated(res["score"].raw_data)})

    def accepts(self) -> Accepts:
        """Return a function of frames and their indices that flags what this UDF would use.

        For ``RecordUDF(path, choose=udf.accepts())``: save what is worth it, while it is correlated.
        """
        from framefold.udfs.fxs.scores import Accepts  # noqa: PLC0415  # it needs this module

        return Accepts(self._kwargs)

    def correlation(self, result: Any) -> Correlation:
        """Return the `Correlation` of a result of this UDF, with what corrections need."""
        from framefold.udfs.fxs.c2_result import from_result  # noqa: PLC0415  # it needs this module

        return from_result(result, self)

    # --- the run -----------------------------------------------------------------------------

    def get_preferred_input_dtype(self) -> npt.DTypeLike:
        """Ask for raw data."""
        return self.USE_NATIVE_DTYPE

    def get_backends(self) -> Sequence[str]:
        """Take a device, too, with one mask for all frames, without `saturation` and ``adu_per_photon``."""
        there = not setup.per_frame(self.params) and self.params.saturation is None and not self._has_noise
        return (self.BACKEND_NUMPY, self.BACKEND_CUPY) if there else (self.BACKEND_NUMPY,)

    def get_tiling_preferences(self) -> Mapping[str, Any]:
        """Ask for whole blocks of frames: pairs lie inside them, kernels take 16 at a time."""
        return {
            "depth": BLOCK,
            "total_size": self.TILE_SIZE_MAX,
            "multiple": BLOCK if self.params.pairing else LANES,
        }

    def get_result_buffers(self) -> Mapping[str, BufferDecl]:
        """Declare the sums, and check everything that can be known before the run."""
        p = self.params
        layout = self.layout()
        self.check()
        (p.veto or Veto()).check(self.meta.dataset_shape.nav.size)
        setup.check_memory(layout, p.memory_limit)
        operator = self.operator() if self._has_noise and layout.per_frame else None
        pairs = 0 if operator is None else len(sharing_rings(operator))
        variance = self._has_noise and not layout.per_frame
        return declared(self.buffer, p.grid, layout, variance=variance, noise=pairs)

    @property
    def _has_noise(self) -> bool:
        return self.params.geometry is not None and self.pixel_model().adu_per_photon is not None

    def check(self) -> None:
        """Raise `DataError` where frames and parameters do not fit together."""
        setup.check_frames(self.params, self.meta)

    def get_worker_data(self) -> Mapping[str, Any]:
        """Prepare operator, stacks and threads, once per worker."""
        threads = self.params.threads or self.meta.threads_per_worker
        layout, operator = self.layout(), self.operator()
        if self.xp is not np:
            there = ArrayCorrelator(self.xp, layout, operator)
            return {"correlator": there, "good": None, "masks": [], "noise": None}
        good = None if operator is None else self.pixel_model().good(self.params.geometry)
        frames = self.meta.dataset_shape.nav.size
        masks = [MaskFold(Correlator(x, None, threads), layout.weight, frames) for x in layout.of_masks]
        noise = None
        if operator is not None and layout.per_frame and self._has_noise:
            noise = FrameNoise(operator, self.pixel_model(), self.params.geometry, centred=layout.centre,
                               n_frames=frames)  # fmt: skip
        correlator = Correlator(layout, operator, threads)
        return {"correlator": correlator, "good": good, "masks": masks, "noise": noise}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Regrid, decide, and stack the frames of a tile."""
        with self.worker_data.correlator.alone():  # threads of BLAS that spin take 0.6 ms a frame
            self._process(tile)

    def _process(self, tile: npt.NDArray[Any]) -> None:
        p, r = self.params, self.results
        correlator: Correlator | ArrayCorrelator = self.worker_data.correlator
        layout = correlator.layout
        ids = self.meta.frame_ids
        flat = raw_rows(tile, tile.ndim - 1) if self.xp is np else tile
        polar = correlator.regrid(tile)
        gone: list[Array | None] = []
        if layout.per_frame:
            gone = left_out(flat, self.meta.missing, p.saturation)
            polar = self._without(flat, gone, correlator.operator, polar)
        found = correlator.measure(polar)
        means = found.means
        score = window_mean(means, p.grid.q, found.weight_sums, p.hit_window)
        factors = (p.scale or ShotScale()).factors(ids, means, p.grid.q, found.weight_sums)
        code = self._decide(tile, ids, score, factors, found)
        r.score[...] = score
        r.scale[...] = np.where(np.isfinite(factors), factors, 0)
        items, groups = items_of(p, self.meta.slice.origin[0], ids, code)
        r.veto_code[...] = code
        r.codes += np.bincount(code, minlength=len(VetoCode))
        kept = np.flatnonzero(code == VetoCode.USED)
        rings = means[kept] * factors[kept, None]
        r.ring_sum += rings.sum(axis=0)
        r.ring_sum2 += (rings**2).sum(axis=0)
        r.ring_frames += len(kept) if found.valid is None else (found.weight_sums[kept] > 0).sum(axis=0)
        r.scale_sums += [factors[kept].sum(), (factors[kept] ** 2).sum()]
        r.used += np.bincount(groups, minlength=layout.groups)
        if self._has_noise and not layout.per_frame:
            self._add_variance(flat, ids, kept, factors)
        sums = Sums(r.products, r.amplitudes, r.product_frames)
        live = Live(r.live_diagonals, r.live_rows)
        correlator.add(found.polar, items, groups, factors, sums, live, found.valid)
        for masks in self.worker_data.masks:
            masks.add(found.valid, items, groups, ids, self._mask_sums(), r.mask_patterns, r.mask_taken)
        noise: FrameNoise | None = self.worker_data.noise
        if noise is not None and found.valid is not None:
            noise.add(flat, gone, items, found.valid, factors, ids, r.noise_sum, r.noise_frames)

    def _mask_sums(self) -> Sums:
        r = self.results
        return Sums(r.mask_products, r.mask_amplitudes, r.mask_frames)

    def _without(
        self, flat: Array, gone: list[Array | None], operator: PolarOperator | None, polar: Array
    ) -> Array:
        """Return polar frames without the pixels that are `gone`: such frames are regridded again."""
        if operator is None and any(pixels is not None for pixels in gone):
            polar = polar.copy()  # it may be the data
        for i, pixels in enumerate(gone):
            if pixels is None:
                continue
            if operator is None:
                polar[i][pixels.reshape(polar[i].shape)] = np.nan
            else:
                polar[i] = operator.repaired(np.where(pixels, np.nan, flat[i]))
        return polar

    def _decide(self, tile: Array, ids: Array, score: Array, factors: Array, found: Measured) -> Array:
        """Return the veto code of each frame."""
        p = self.params
        code = np.zeros(len(ids), np.uint8)
        scores: dict[str, Array] = {"score": score, "saturated": np.zeros(len(ids))}
        if p.saturation is not None:
            flat, good = raw_rows(tile, tile.ndim - 1), self.worker_data.good
            scores["saturated"] = np.array([saturated_share(f, good, p.saturation) for f in flat])
        accepted, why = (p.veto or Veto()).accepts(ids, scores)
        code[~accepted] = why
        code[scores["saturated"] > p.max_saturated] = VetoCode.SATURATED
        if p.classes is not None:
            code[np.asarray(p.classes).reshape(-1)[ids] < 0] = VetoCode.USER
        code[~np.isfinite(factors)] = VetoCode.NO_AUX
        code[~found.complete] = VetoCode.INCOMPLETE
        if self.meta.missing is not None and found.valid is None:
            lost = self.meta.missing.reshape(len(ids), -1)
            code[lost.any(axis=1)] = VetoCode.INCOMPLETE  # what fills them is no measurement
        return code

    def _add_variance(self, flat: Array, ids: Array, kept: Array, factors: Array) -> None:
        r = self.results
        total = r.variance_sum.reshape(-1)
        n_frames = self.meta.dataset_shape.nav.size
        for i in kept[sampled(ids[kept], self.params.variance_every, n_frames)]:
            add_scaled(flat[i], factors[i] ** 2, total)
            r.variance_scale += [factors[i] ** 2, 1.0]

    def before_shipping(self) -> None:
        """Multiply what waits in the stacks."""
        r = self.results
        self.worker_data.correlator.flush(Sums(r.products, r.amplitudes, r.product_frames))
        for masks in self.worker_data.masks:
            masks.correlator.flush(self._mask_sums())

    # --- results -----------------------------------------------------------------------------

    def get_results(self) -> Mapping[str, Any]:
        """Return sums, and what is worth watching during a run."""
        r, grid = self.results, self.params.grid
        n = int(r.used.sum())
        given: dict[str, Any] = {k: getattr(r, k) for k in r if r.get_buffer(k).use is None}
        seen = int(r.codes.sum())
        valid = self.meta.get_valid_nav_mask()
        if seen and not n and valid is not None and valid.all():
            counts = ", ".join(f"{VetoCode(c).name.lower()} {k}" for c, k in enumerate(r.codes) if k)
            raise UDFError(f"no frame of {seen} was used ({counts}): check veto, scale, mask and geometry")
        return given | live_results(r, grid, n, seen, halves=self.params.halves)

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw what says whether the run is worth going on with."""
        return pictures(self.params.grid)
