"""Angular correlations of all frames, `C2UDF`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError, UDFError
from framefold.udfcore.buffers import BufferDecl
from framefold.udfcore.options import EngineOptions
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfcore.udf import UDF
from framefold.udfs.fxs import convergence
from framefold.udfs.fxs.correlator import Correlator, Layout, Live, Sums, diagonal_shape, row_shape
from framefold.udfs.fxs.geometry import Geometry
from framefold.udfs.fxs.grid import PolarGrid
from framefold.udfs.fxs.lanes import LANES
from framefold.udfs.fxs.orders import choose_orders
from framefold.udfs.fxs.regrid import PixelModel, PolarOperator, build_operator, raw_rows
from framefold.udfs.fxs.shot_kernels import add_scaled, saturated_share
from framefold.udfs.fxs.shots import ShotScale, Veto, VetoCode, check_window, half_of, sampled, window_mean

if TYPE_CHECKING:
    from framefold.udfs.fxs.c2_result import Correlation
    from framefold.udfs.fxs.scores import Accepts

Array = npt.NDArray[Any]
BLOCK = 64  # frames: pairs lie inside such blocks, and tiles hold whole ones


class C2UDF(UDF):
    """Sum the angular correlations ``C_m(q, q') = <A_m(q) conj(A_m(q'))>`` of all accepted frames.

    ``A_m(q) = 1/P sum_p I(q, p) exp(-2 pi i m p / P)`` are the angular orders of a polar frame of P bins. The
    correlation is then ``C2(q, q', D) = sum_m conj(C_m) exp(i m D)``. Corrections for masks, photon noise and
    static structure come afterwards: ``udf.correlation(result)`` returns a `Correlation`.

    Results: ``products`` (sums by group, order and packed lower triangle of (q, q')), ``amplitudes`` and
    ``product_frames`` (what belongs to them), ``score``, ``scale`` and ``veto_code`` per frame, ``saxs``,
    ``diagonal`` (C2(q, q, D) without m = 0), ``rows`` (C2(q0, q', D)), ``cc_half`` per shell,
    ``shots_needed``, ``odd_even`` and ``hit_rate``. What is drawn live is not corrected for masks.

    Parameters
    ----------
    geometry
        Of the detector; None: frames are polar already, of the shape of the grid.
    grid
        The polar bins.
    wavelength
        In Angstrom, of polar frames; inversion needs it.
    mask
        Bad pixels (True), of frame shape. With polar frames: bad bins.
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
        One frame in so many enters the mean frame of the photon self-term.
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
        p = self.params
        model = p.pixels or PixelModel()
        mask = p.mask if p.mask is not None else model.mask
        given = self.meta.corrections if self.meta is not None else None
        if given is not None:
            if given.excluded_pixels is not None:
                bad = _frame_of(given.excluded_mask(tuple(self.meta.dataset_shape.sig)), p.geometry.shape)
                mask = bad if mask is None else (np.asarray(mask) != 0) | bad
            model = replace(
                model,
                dark=model.dark if given.dark is None else _frame_of(given.dark, p.geometry.shape),
                gain=model.gain if given.gain is None else _frame_of(given.gain, p.geometry.shape),
            )
        return replace(model, mask=None if mask is None else _frame_of(mask, p.geometry.shape))

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
        p = self.params
        operator = self.operator()
        if operator is not None:
            weight = operator.weight
        elif p.mask is not None:
            bad = np.asarray(p.mask) != 0
            if bad.shape != p.grid.shape:
                raise DataError(f"the mask has shape {bad.shape}, polar frames {p.grid.shape}")
            weight = (~bad).astype(np.float32)
        else:
            weight = np.ones(p.grid.shape, np.float32)
        rings = weight[(weight > 0).any(axis=1)]
        holes = bool((rings != rings[:, :1]).any())
        orders = choose_orders(p.orders, p.grid, p.diameter, holes=holes)
        rows = tuple(sorted({p.grid.n_q // 4, p.grid.n_q // 2, 3 * p.grid.n_q // 4}))
        return Layout(
            weight, orders, self.n_classes * (2 if p.halves else 1), p.center == "ring", p.part, p.precision,
            p.accumulate, p.batch, rows,
        )  # fmt: skip

    @property
    def n_classes(self) -> int:
        """Classes of frames."""
        return 1 if self.params.classes is None else int(np.max(self.params.classes, initial=0)) + 1

    def memory(self) -> tuple[int, int]:
        """Return the bytes that sums and stacks take in each process."""
        return self.layout().nbytes

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
        self._check_memory(layout)
        grid, n_rows = p.grid, len(layout.live_rows)
        shells = len(convergence.shells(grid.n_q))
        single, only = self.buffer, "result_only"
        buffers = {
            "products": single("single", layout.sum_shape, layout.sum_dtype, reduce="sum", large=True),
            "amplitudes": single(
                "single", (*layout.sum_shape[:2], grid.n_q), "complex128", reduce="sum", large=True
            ),
            "product_frames": single("single", (layout.groups,), "int64", reduce="sum", large=True),
            "ring_sum": single("single", (grid.n_q,), "float64", use="private", reduce="sum"),
            "ring_sum2": single("single", (grid.n_q,), "float64", use="private", reduce="sum"),
            "used": single("single", (layout.groups,), "int64", use="private", reduce="sum"),
            "codes": single("single", (len(VetoCode),), "int64", use="private", reduce="sum"),
            "scale_sums": single("single", (2,), "float64", use="private", reduce="sum"),
            "live_diagonals": single(
                "single", diagonal_shape(layout), "float64", use="private", reduce="sum"
            ),
            "live_rows": single("single", row_shape(layout), "float64", use="private", reduce="sum"),
            "score": single("nav", dtype="float32"),
            "scale": single("nav", dtype="float32"),
            "veto_code": single("nav", dtype="uint8"),
            "saxs": single("single", (grid.n_q,), "float64", use=only),
            "saxs2": single("single", (grid.n_q,), "float64", use=only),
            "diagonal": single("single", (grid.n_phi, grid.n_q), "float64", use=only),
            "rows": single("single", (n_rows, grid.n_phi, grid.n_q), "float64", use=only),
            "cc_half": single("single", (shells,), "float64", use=only),
            "cc_map": single("single", (diagonal_shape(layout)[1], shells), "float64", use=only),
            "shots_needed": single("single", (2, shells), "float64", use=only),
            "odd_even": single("single", (grid.n_q,), "float64", use=only),
            "hit_rate": single("single", (1,), "float64", use=only),
        }
        if self._has_variance:
            buffers |= {
                "variance_sum": single("sig", dtype="float64", reduce="sum", large=True),
                "variance_scale": single("single", (2,), "float64", reduce="sum", large=True),
            }
        return buffers

    @property
    def _has_variance(self) -> bool:
        return self.params.geometry is not None and self.pixel_model().adu_per_photon is not None

    def check(self) -> None:
        """Raise `DataError` where frames and parameters do not fit together."""
        p = self.params
        n_frames = self.meta.dataset_shape.nav.size
        sig = tuple(self.meta.dataset_shape.sig)
        expected = p.grid.shape if p.geometry is None else p.geometry.shape
        if _bare(sig) != _bare(expected):
            what = "the polar grid" if p.geometry is None else "the geometry"
            raise DataError(f"frames have shape {sig}, {what} has {expected}")
        if p.geometry is None and self.meta.corrections is not None:
            raise DataError("corrections= are for detector frames; polar frames are corrected already")
        if p.geometry is None and p.saturation is not None:
            raise DataError("saturation= is for detector frames, not for polar ones")
        if self.meta.input_dtype.kind == "c":
            raise DataError("frames are complex: correlations are made of intensities")
        (p.scale or ShotScale()).check(n_frames, p.grid.q)
        if p.hit_window is not None:
            check_window(p.hit_window, p.grid.q, "hit_window")
        if p.classes is not None and np.size(p.classes) != n_frames:
            raise DataError(f"classes has {np.size(p.classes)} values, the dataset {n_frames} frames")

    def _check_memory(self, layout: Layout) -> None:
        p = self.params
        need = sum(layout.nbytes)
        limit = 0.5 * _memory() if p.memory_limit is None else p.memory_limit
        if need > limit:
            raise UDFError(
                f"C2UDF needs {need / 1e6:.0f} MB in each process ({layout.nbytes[0] / 1e6:.0f} sums, "
                f"{layout.nbytes[1] / 1e6:.0f} stacks), allowed are {limit / 1e6:.0f}: use fewer rings, "
                "fewer orders (orders=, diameter=), halves=False, or raise memory_limit="
            )

    def get_worker_data(self) -> Mapping[str, Any]:
        """Prepare operator, stacks and threads, once per worker."""
        threads = self.params.threads or self.meta.threads_per_worker
        layout, operator = self.layout(), self.operator()
        good = None if operator is None else self.pixel_model().good(self.params.geometry)
        return {"correlator": Correlator(layout, operator, threads), "good": good}

    def process_tile(self, tile: npt.NDArray[Any]) -> None:
        """Regrid, decide, and stack the frames of a tile."""
        with self.worker_data.correlator.alone():  # threads of BLAS that spin take 0.6 ms a frame
            self._process(tile)

    def _process(self, tile: npt.NDArray[Any]) -> None:
        p, r = self.params, self.results
        correlator: Correlator = self.worker_data.correlator
        layout = correlator.layout
        ids = self.meta.frame_ids
        polar = correlator.regrid(tile)
        means = correlator.measure(polar)
        score = window_mean(means, p.grid.q, correlator.weight_sums, p.hit_window)
        factors = (p.scale or ShotScale()).factors(ids, means, p.grid.q, correlator.weight_sums)
        code = self._decide(tile, ids, score, factors, means)
        r.score[...] = score
        r.scale[...] = np.where(np.isfinite(factors), factors, 0)
        items, groups = self._items(ids, code, layout)
        r.veto_code[...] = code
        r.codes += np.bincount(code, minlength=len(VetoCode))
        kept = np.flatnonzero(code == VetoCode.USED)
        rings = means[kept] * factors[kept, None]
        r.ring_sum += rings.sum(axis=0)
        r.ring_sum2 += (rings**2).sum(axis=0)
        r.scale_sums += [factors[kept].sum(), (factors[kept] ** 2).sum()]
        r.used += np.bincount(groups, minlength=layout.groups)
        if self._has_variance:
            self._add_variance(raw_rows(tile, tile.ndim - 1), ids, kept, factors)
        sums = Sums(r.products, r.amplitudes, r.product_frames)
        correlator.add(polar, items, groups, factors, sums, Live(r.live_diagonals, r.live_rows))

    def _decide(self, tile: Array, ids: Array, score: Array, factors: Array, means: Array) -> Array:
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
        code[~np.isfinite(means).all(axis=1)] = VetoCode.INCOMPLETE
        return code

    def _items(self, ids: Array, code: Array, layout: Layout) -> tuple[list[tuple[int, int]], Array]:
        """Return what is correlated, frames or pairs, and the group of each; leftover frames are marked."""
        p = self.params
        kept = np.flatnonzero(code == VetoCode.USED)
        label = np.zeros(len(ids), np.int64)
        if p.classes is not None:
            label = np.asarray(p.classes).reshape(-1)[ids].astype(np.int64)
        if p.pairing is None:
            items, first = [(int(i), -1) for i in kept], kept
        else:
            row = self.meta.slice.origin[0]
            items = _pairs(kept, row, label, len(ids))
            first = np.array([i for i, _ in items], np.int64)
            partners = np.array([j for _, j in items], np.int64)
            alone = np.setdiff1d(kept, np.concatenate([first, partners]))
            code[alone] = VetoCode.UNPAIRED
        groups = label[first]
        if p.halves:
            groups = 2 * groups + half_of(ids[first])
        return items, groups

    def _add_variance(self, flat: Array, ids: Array, kept: Array, factors: Array) -> None:
        r = self.results
        total = r.variance_sum.reshape(-1)
        for i in kept[sampled(ids[kept], self.params.variance_every)]:
            add_scaled(flat[i], factors[i] ** 2, total)
            r.variance_scale += [factors[i] ** 2, 1.0]

    def before_shipping(self) -> None:
        """Multiply what waits in the stacks."""
        r = self.results
        self.worker_data.correlator.flush(Sums(r.products, r.amplitudes, r.product_frames))

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
        with np.errstate(divide="ignore", invalid="ignore"):
            saxs, saxs2 = np.nan_to_num(r.ring_sum / n), np.nan_to_num(r.ring_sum2 / n)
        halves = convergence.halves_of(r.live_diagonals, r.used, self.params.halves)
        cc_map, curve, needed = convergence.live_curves(*halves, grid.n_q)
        spectrum = r.live_diagonals.sum(axis=0) / max(n, 1)
        return given | {
            "saxs": saxs,
            "saxs2": saxs2,
            "diagonal": convergence.to_angles(spectrum[:, 0], grid.n_phi),
            "rows": convergence.to_angles(np.moveaxis(r.live_rows, 1, 0) / max(n, 1), grid.n_phi).swapaxes(
                0, 1
            ),
            "cc_half": curve,
            "cc_map": cc_map,
            "shots_needed": needed,
            "odd_even": convergence.odd_even(spectrum[:, min(1, spectrum.shape[1] - 1)]),
            "hit_rate": np.array([n / seen if seen else 0.0]),
        }

    def get_plots(self) -> Sequence[PlotSpec]:
        """Draw what says whether the run is worth going on with."""
        return (
            PlotSpec("line", ("saxs",), title="SAXS", scale="log"),
            PlotSpec("image", ("diagonal",), title="C2(q, q, D), D downwards", symmetric=True),
            PlotSpec("line", ("cc_half",), title="CC1/2 per shell"),
            PlotSpec("image", ("cc_map",), title="CC1/2, order by shell"),
            PlotSpec("line", ("odd_even",), title="odd / even orders"),
            PlotSpec("line", ("score",), title="score of frames"),
        )


def _frame_of(value: Any, shape: tuple[int, ...]) -> Array:
    """Return a frame in the shape of the geometry; streams of one module have an axis of length 1 more."""
    array = np.asarray(value)
    return array.reshape(shape) if array.ndim and array.squeeze().shape == _bare(shape) else array


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1."""
    return tuple(n for n in shape if n != 1)


def _pairs(kept: Array, row: int, label: Array, n: int) -> list[tuple[int, int]]:
    """Return pairs of consecutive frames of the same class inside blocks of `BLOCK` rows."""
    pairs: list[tuple[int, int]] = []
    waiting: dict[tuple[int, int], int] = {}
    for i in kept:
        key = ((row + int(i)) // BLOCK, int(label[i]))
        if key in waiting:
            pairs.append((waiting.pop(key), int(i)))
        else:
            waiting[key] = int(i)
    return pairs


def _memory() -> float:
    """Return the memory of the machine in bytes."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
