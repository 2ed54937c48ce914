"""`Ptychography`: object and probe from overlapping diffraction patterns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.udfcore.iterative import DataInfo, History, IterativeUDF, Pass, PassBuffer, stratified
from framefold.udfcore.metadata import Axis
from framefold.udfcore.namespace import namespace, to_host
from framefold.udfcore.plotspec import PlotSpec
from framefold.udfs.ptycho import beginning, free_pixels, lane, progress, refine, report
from framefold.udfs.ptycho import modes as mixed
from framefold.udfs.ptycho.checks import check_parameters
from framefold.udfs.ptycho.denominators import Histogram
from framefold.udfs.ptycho.engines.known import as_recipe
from framefold.udfs.ptycho.frame_window import Centre, Crop
from framefold.udfs.ptycho.model import Geometry
from framefold.udfs.ptycho.orientation import oriented
from framefold.udfs.ptycho.positions import Flip, ScanPositions, bank_shifts, place
from framefold.udfs.ptycho.quality import half_of
from framefold.udfs.ptycho.recipe import Engine, Recipe
from framefold.udfs.ptycho.regularise import Constraint, as_constraints
from framefold.udfs.ptycho.schedule import Entry, moves
from framefold.udfs.ptycho.setup import Setup, prepare
from framefold.udfs.ptycho.shift import gather_bank, make_bank, phase_ramps
from framefold.udfs.ptycho.state import dtypes, loop_state, pass_buffers
from framefold.udfs.ptycho.unmeasured import Saturation

Array = npt.NDArray[Any]
ORTHOGONALISE_EVERY = 10


class Ptychography(IterativeUDF):
    """Object and probe from overlapping diffraction patterns, as a recipe of algorithms.

    Parameters
    ----------
    geometry
        What the data set does not state; None: everything from the data set.
    positions
        Where the probe stood: `ScanPositions`, or an array (y, x) in m; None: from the data set.
    probe
        Starting probe ``(ny, nx)`` or ``(M, ny, nx)``, centred; None: from the mean frame. Only its power is
        scaled.
    object
        ``"ones"``, ``"random"``, or an array of the canvas' shape.
    modes, object_modes
        Probe and object modes (partial coherence, vibration; a changing sample).
    recipe
        ``"auto"``, text (``"15 RPIE; 40 AP"``), an engine, or a product of engines.
    probe_update_start
        Iterations before the probe is refined.
    mask
        Bool, signal shape: True for bad pixels, beside those of the data set.
    background
        Known background in counts, a number or signal shape, added to the model; ``"estimate"``: found from
        the data, from iteration 10 on.
    crop, centre
        Window of the detector, see `choose_window`.
    subpixel
        Steps per pixel in which the probe is shifted; ``"auto"``: 4 unless positions are whole pixels, 8
        where they are refined from many counts; None: round positions to whole pixels.
    phase_positive
        Whether the sample advances the phase; settles the sign that no fit can tell. None: leave it.
    find_defocus
        Search for the defocus of the starting probe in the far field, if `probe` is not given.
    refine_positions
        Move each position from iteration 10 on, every fifth iteration; ``"affine"``: before, find the scale,
        rotation and shear that all positions have in common (up to 5 % or 3 degrees), by short trials. With
        few counts only the rotation.
    seed
        Of batches.
    schedule
        Entries ``(start, stop, what, moves)``: in iterations `start` to ``stop - 1``, counted from 0
        (`stop` None: to the end), ``"probe"``, ``"object"`` or ``"positions"`` are refined or not. Later
        entries win. Objects stand still in `AP` and `RPIE` only.
    free_pixels
        Share of the measured pixels that the fit does not see (0.02 is usual). The history then has
        ``llk_free`` every fifth iteration, the Poisson deviance per such pixel (about 1/2 for a true model at
        more than a few counts); once it has been 1 % above its minimum for 15 iterations, the run ends
        with the state of the minimum, which predicts counts best.
    half
        0 or 1: only one of two independent halves of the counts, dealt by a coin; see `frc`.
    orientation
        ``"auto"``: choose by short trials how the axes of the scan lie on the detector, among the flips and
        transpositions of the stated positions.
    saturation
        Counts from here on are not measured in their frame; ``"auto"``: the largest number of an integer
        type, or a value at which counts pile up; None: all are measured.
    refine_brightness
        Follow the brightness of the beam from frame to frame, from iteration 4 on, every other iteration.
    regularise
        What is known beside the data, imposed after each iteration: constraints of
        `framefold.udfs.ptycho.regularise`, or text, ``"clip(0, 1.05); tv(0.01); probe-support(20)"``.
    precision
        ``"double"``: the plain numpy kernels, for checks.
    backend
        ``"cpu"``: compiled loops, a lane per core. ``"cupy"``: a graphics card, where frames, object and
        probe stay while it runs. ``"numpy"``: the formulas of the card on the processor, for checks.
    repeatable
        With ``"cupy"``: add overlapping frames in a fixed order, so that every run gives the same bits;
        slower.

    Notes
    -----
    Phase Focus Ltd claims patents on PIE-type methods (`RPIE`, `EPIE`); `AP`, `DM`, `RAAR` and `ML` are
    complete alternatives.

    Results: ``object`` ``(Y, X)`` or ``(L, Y, X)``, ``probe`` ``(M, ny, nx)``, ``phase`` and ``modulus`` of
    the first object mode, ``probe_main``, ``error`` per iteration, ``positions`` (y, x) in object pixels,
    ``mode_powers``, ``pixel_size`` (y, x) in m, and with `free_pixels` ``llk_free`` per iteration, as it was
    when they were looked at last.
    """

    def __init__(
        self,
        geometry: Geometry | None = None,
        positions: ScanPositions | npt.ArrayLike | None = None,
        probe: npt.ArrayLike | None = None,
        object: Literal["ones", "random"] | npt.ArrayLike = "ones",  # noqa: A002  # the field's word
        modes: int = 1,
        object_modes: int = 1,
        recipe: str | Engine | Recipe = "auto",
        probe_update_start: int = 2,
        mask: npt.ArrayLike | None = None,
        background: float | npt.ArrayLike | Literal["estimate"] | None = None,
        crop: Crop = "auto",
        centre: Centre = "auto",
        subpixel: int | Literal["auto"] | None = "auto",
        phase_positive: bool | None = None,
        find_defocus: bool = True,
        refine_positions: bool | Literal["affine"] = False,
        seed: int = 0,
        precision: Literal["single", "double"] = "single",
        backend: Literal["cpu", "numpy", "cupy"] = "cpu",
        repeatable: bool = False,
        schedule: Sequence[Entry] = (),
        free_pixels: float = 0.0,
        half: Literal[0, 1] | None = None,
        orientation: Literal["given", "auto"] = "given",
        saturation: Saturation = "auto",
        refine_brightness: bool = False,
        regularise: str | Sequence[Constraint] = (),
    ) -> None:
        super().__init__(
            geometry=geometry, positions=positions, probe=probe, object=object, modes=modes,
            object_modes=object_modes, recipe=recipe, probe_update_start=probe_update_start, mask=mask,
            background=background, crop=crop, centre=centre, subpixel=subpixel, phase_positive=phase_positive,
            find_defocus=find_defocus, refine_positions=refine_positions, seed=seed, precision=precision,
            backend=backend, repeatable=repeatable,
            schedule=schedule, free_pixels=free_pixels, half=half, orientation=orientation,
            saturation=saturation, refine_brightness=refine_brightness, regularise=regularise,
        )  # fmt: skip
        self.constraints = as_constraints(regularise)
        self.recipe = as_recipe(recipe, modes)
        check_parameters(self.params, self.recipe)
        self.setup: Setup
        self.sums: Any = None
        self.iteration = 0
        self.fresh = np.zeros(0, np.int64)  # live frames without exit waves
        self._histogram: Histogram | None = None
        self._ramps: Array | None = None
        self.before: tuple[Array, Array] = (np.zeros(0), np.zeros(0))

    # --- where it computes -------------------------------------------------------------------

    @property
    def xp(self) -> Any:
        """The namespace of object, probe and sums: numpy or CuPy."""
        return namespace(self.params.backend)

    @property
    def on_arrays(self) -> bool:
        """Whether all is done by formulas on whole arrays, not by compiled loops."""
        return bool(self.params.backend != "cpu")

    # --- the data ----------------------------------------------------------------------------

    def resolve(self, info: DataInfo) -> Setup:
        """Return geometry, positions, canvas and starting values; see `prepare`."""
        if self.params.half is not None:
            info = replace(info, sample=half_of(info.sample, self.params.half, self.params.seed))
        setup = prepare(info, self.params)
        if self.params.half is not None and self.params.background != "estimate":
            rest = setup.background - setup.pedestal
            setup = replace(setup, background=rest / 2 + setup.pedestal)
        if self.params.free_pixels:
            free = free_pixels.hold_out(setup.good, self.params.free_pixels, self.rng(3))
            setup = replace(setup, free=free)
        self.notes = [*setup.notes, *(f"warning: {w}" for w in setup.warnings)]
        return setup

    def get_order(self) -> npt.NDArray[np.int64]:
        """Return the frames along a Hilbert curve, so that a lane's frames lie together."""
        return self.setup.order

    def keep(self, tile: Array) -> Array:
        """Return the window of the detector, as the transform wants it, in the raw type."""
        half, s, values = self.params.half, self.setup, tile
        if half is not None:
            values = half_of(tile, half, self.params.seed)
        if s.pedestal:
            values = values + values.dtype.type(s.pedestal)
        return s.window.cut(tile if values is tile else np.where(tile < s.limit, values, tile))

    @property
    def lit(self) -> npt.NDArray[np.int64]:
        """Rows of the frames that take part and got light."""
        return self.present[~self.loop.dark[self.present]]

    @property
    def searches_defocus(self) -> bool:
        """Whether the defocus of the starting probe is searched for."""
        far = self.setup.geometry.kind == "far" and not self.setup.geometry.defocus
        return bool(far and self.params.probe is None and self.params.find_defocus)

    @property
    def n_frames(self) -> int:
        """Frames that take part and got light."""
        return len(self.lit)

    def batches(self, n: int) -> list[npt.NDArray[np.int64]]:
        """Return `n` stratified batches of the frames that take part, others in every iteration."""
        lit = self.lit
        return [lit[rows] for rows in stratified(len(lit), n, self.rng(1, self.iteration))]

    # --- state -------------------------------------------------------------------------------

    def get_loop_state(self) -> Mapping[str, Any]:
        """Return probe, object, momenta and the place in the recipe."""
        return loop_state(self)

    def get_pass_buffers(self) -> Mapping[str, PassBuffer]:
        """Return the numerators of object and probe, and the misfit."""
        return pass_buffers(self)

    def get_partition_state(self) -> Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]]:
        """Return the exit waves, for the algorithms that keep them."""
        if not any(getattr(stage, "keeps_waves", False) for stage in self.recipe.stages):
            return {}
        loop = self.loop
        waves = len(loop.object) * len(loop.probe)
        return {"waves": ((waves, *self.setup.window.shape), dtypes(self.params)[0])}

    def window(self, name: str) -> tuple[slice, ...]:
        """Return the part of the object that the lane's frames cover."""
        low, high = lane.box(self)
        return (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))

    def get_task_data(self) -> Mapping[str, Any]:
        """Return the kernels of the lane, with their plans and scratch memory."""
        return lane.task_data(self)

    def _bank(self, probe: Array) -> Array:
        canvas = self.setup.canvas
        if canvas.steps == 1:
            return probe[None]
        if self._ramps is None:
            ramps = phase_ramps(self.setup.window.shape, bank_shifts(canvas.steps), probe.dtype)
            self._ramps = self.xp.asarray(ramps)
        return make_bank(probe, self._ramps)

    # --- passes ------------------------------------------------------------------------------

    def process_rows(self, frames: Array, rows: npt.NDArray[np.int64]) -> None:
        """Add what the phase asks for, over the frames `rows` of the lane."""
        lane.process(self, frames, rows)

    def plan(self, iteration: int) -> Iterator[Pass]:
        """Yield the passes of the stage that is due."""
        self.iteration = iteration
        loop = self.loop
        self.before = loop.object.copy(), loop.probe.copy()
        yield from beginning.take_in(self)
        if iteration == 0:
            yield from beginning.find_start(self)
        planned = self.params.schedule
        loop.update_probe = moves(planned, "probe", iteration, iteration >= self.params.probe_update_start)
        loop.update_object = moves(planned, "object", iteration)
        stage = self.recipe.stages[loop.stage]
        yield from stage.iterate(self, loop.stage_iteration)
        for constraint in self.constraints:
            constraint.apply(self)
        due = iteration >= refine.START and iteration % refine.EVERY == 0
        if due and self.params.refine_positions and moves(planned, "positions", iteration):
            yield from refine.refine_positions(self)
        if self.params.refine_brightness and iteration >= refine.BRIGHT and iteration % 2 == 0:
            yield from refine.refine_brightness(self)
        if iteration >= refine.START and iteration % 2 == 0 and self.params.background == "estimate":
            yield from refine.estimate_background(self)
        if self.setup.free is not None and (iteration + 1) % free_pixels.EVERY == 0:
            yield from free_pixels.measure(self)
        if len(loop.probe) > 1 and (iteration + 1) % ORTHOGONALISE_EVERY == 0:
            self.orthogonalise()

    def orient(self, flip: Flip) -> None:
        """Lay the positions onto the canvas flipped."""
        self.loop.flip = flip
        self.loop.corner, self.loop.bank_index = place(self.start_pixels, self.setup.canvas.steps)
        self.positions_changed()

    def step(self, phase: str, results: SimpleNamespace) -> None:
        """Hand the sums to the engine, which waits for them in `plan`."""
        self.sums = results

    # --- what engines use --------------------------------------------------------------------

    @property
    def histogram(self) -> Histogram:
        """The histogram of positions of all frames."""
        if self._histogram is None:
            self._histogram = self.histogram_of(self.lit)
        return self._histogram

    def histogram_of(self, rows: Any) -> Histogram:
        """Return the histogram of positions of some frames."""
        s, loop = self.setup, self.loop
        return Histogram(
            loop.corner[rows],
            loop.bank_index[rows],
            s.canvas.steps**2,
            s.canvas.shape,
            dtypes(self.params)[1],
            self.xp,
        )

    def object_denominator(self) -> Array:
        """Return D_O of all frames."""
        return self.histogram.of_object(self.loop.bank)

    def probe_denominator(self) -> Array:
        """Return D_P of all frames."""
        return self.histogram.of_probe(self.loop.object, self.setup.window.shape)

    def unshifted(self, sums: Array) -> Array:
        """Return the probe's numerator ``(M, ny, nx)`` from those of the bank."""
        return sums[0] if self._ramps is None else gather_bank(sums, self._ramps)

    def shifted(self, probe: Array) -> Array:
        """Return the bank of shifted copies of a probe ``(B, M, ny, nx)``."""
        return self._bank(probe)

    def probe_changed(self) -> None:
        """Make the shifted probes anew."""
        self.loop.bank = self._bank(self.loop.probe)

    def note_error(self, misfit: Array) -> float:
        """Record and return ``E = sum w (|F| - sqrt I)^2 / sum w I`` of the model before this iteration."""
        found = to_host(misfit)
        error = float(found[0] / found[1]) if found[1] > 0 else np.nan
        self.record(error=error)
        return error

    def orthogonalise(self) -> None:
        """Make the probe modes orthogonal; the momentum turns with them, exit waves are made anew."""
        loop = self.loop
        if not self.xp.isfinite(loop.probe).all():
            return  # the guard deals with that
        loop.refill = True
        loop.probe, u = mixed.orthogonalise(loop.probe)
        loop.v_probe = mixed.rotate(loop.v_probe, u)
        self.probe_changed()

    @property
    def start_pixels(self) -> npt.NDArray[np.float64]:
        """Positions on the canvas as the data set states them, in the order of `get_order`."""
        s = self.setup
        return np.asarray(self._stated[s.order] - np.asarray(s.canvas.origin))

    @property
    def _stated(self) -> npt.NDArray[np.float64]:
        """Positions in object pixels as the data set states them, flipped as chosen."""
        return oriented(self.setup.pixels, self.setup.pixel_size, self.loop.flip)

    def positions_changed(self) -> None:
        """Make the histogram anew when it is needed next."""
        self._histogram = None

    # --- frames that come while it runs ------------------------------------------------------

    def grew(self, fresh: npt.NDArray[np.int64]) -> None:
        """Take frames in; when the last one has come, the recipe begins anew from what has been found."""
        loop = self.loop
        self.fresh = np.union1d(self.fresh, fresh)
        self._histogram = None
        loop.best_error, loop.bad_iterations, loop.last_error, loop.momentum_age = np.inf, 0, np.inf, 0
        loop.free_best, loop.free_age = np.inf, 0
        if not self.growing:
            loop.stage, loop.stage_iteration = 0, 0
            self.say(f"{len(self.present)} of {len(self.setup.corner)} frames came")
        beginning.look_at_overlap(self)

    # --- the end of an iteration -------------------------------------------------------------

    def converged(self, history: History) -> bool | str:
        """Go on in the recipe; return why it is over."""
        return progress.converged(self, history)

    def resumed(self) -> None:
        """Exit waves are made anew; the histogram follows the positions; waves go where they are computed."""
        loop = self.loop
        for name, value in vars(loop).items():
            if isinstance(value, np.ndarray) and (value.dtype.kind == "c" or name == "background"):
                setattr(loop, name, self.xp.asarray(value))
        loop.refill = True
        self._histogram = None

    @property
    def refined_pixels(self) -> npt.NDArray[np.float64]:
        """Positions in object pixels as refined so far, in the order of the data set."""
        out = np.array(self._stated)
        out[self.setup.order] += self.loop.moves
        return out

    def finish(self) -> None:
        """Order the modes by power, and say what may be wrong."""
        if len(self.loop.probe) > 1:
            self.orthogonalise()
        for sentence in report.last_words(self):
            self.say(sentence)

    def publish(self) -> Mapping[str, Any]:
        """Return the results, ambiguities removed."""
        return report.results(self)

    def get_axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """Return the axes of the results."""
        return report.axes(self.setup)

    def get_plots(self) -> Sequence[PlotSpec]:
        """Return phase and modulus of the object, the probe, and the error."""
        return report.plots(self.params)
