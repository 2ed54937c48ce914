"""``framefold ptycho``: object and probe from a ptychographic scan."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli.command import Command
from framefold.cli.ptycho_config import apply_config, write_config
from framefold.cli.run import INTERRUPTED, _check_target, _ctrl_c, _keep_window, _listening, live_picture
from framefold.cli.source_arguments import (
    add_dataset,
    add_place,
    add_progress,
    add_selection,
    make_context,
    open_dataset,
    selection,
    wants_progress,
)
from framefold.cli.values import load_array, parse_shape
from framefold.errors import FramefoldError, StreamError
from framefold.udfcore.live_dataset import LiveDataset
from framefold.udfcore.units import LENGTHS

if TYPE_CHECKING:
    from framefold.udfcore.dataset import Dataset
    from framefold.udfs.ptycho.ptychography import Ptychography

PLAIN_EV = 50  # --energy 8 means keV

DESCRIPTION = """Reconstruct object and probe from overlapping diffraction patterns or near-field holograms.

  framefold ptycho scan.cxi --save out.cxi --plot=out.png
  framefold ptycho scan.cxi --modes 3 --recipe "15 RPIE; 40 AP" --save out.nxs
  framefold ptycho scan.h5 --energy '8 keV' --distance '2 m' --detector-pixel '75 um' --positions xy.csv
  framefold ptycho scan.cxi --near-field --focus-distance '3.65 mm' --plot=out.png
  framefold ptycho init scan.cxi > scan.toml      everything found in the file, to edit
  framefold ptycho scan.toml
  framefold ptycho k2is://... --nav-shape 20,20 --step '50 nm' ...   while the scan runs; Ctrl-C ends the scan

Lengths take units (m, mm, um, nm; plain numbers are m), so do energies (keV; plain numbers are eV)."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    # "framefold ptycho init FILE": the word takes the place of the file
    parser.add_argument("rest", nargs="?", help=argparse.SUPPRESS)
    _geometry_arguments(parser.add_argument_group("geometry, where the file does not state it"))
    _model_arguments(parser.add_argument_group("reconstruction"))
    add_selection(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--save", metavar="FILE", help="write results: .cxi, .nxs, .npz")
    group.add_argument("--checkpoint", metavar="FILE", help="write the state every minute and at the end")
    group.add_argument("--resume", action="store_true", help="go on from the checkpoint, if it is there")
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")
    group.add_argument(
        "--plot",
        nargs="?",
        const=True,
        metavar="FILE",
        help="live picture in a window, or in a file: --plot=view.png",
    )
    group.add_argument(
        "--frc",
        nargs="?",
        const="thin",
        choices=("thin", "scan"),
        help="resolution: reconstruct two halves of the counts (thin), or of the scan points, as well",
    )
    add_progress(group)  # type: ignore[arg-type]  # groups take arguments as parsers do
    group.add_argument(
        "--dry-run", action="store_true", help="say what was found and what would be done, then stop"
    )
    add_place(parser)


def _geometry_arguments(group: Any) -> None:
    add = group.add_argument
    add("--energy", metavar="E", help="energy of the photons: '8 keV'; plain numbers are eV")
    add("--wavelength", metavar="L", help="instead of the energy: '0.15 nm'")
    add("--voltage", metavar="V", help="instead of the energy, for electrons: '200 kV'")
    add("--distance", metavar="Z", help="from sample to detector: '2 m'")
    add("--detector-pixel", metavar="P", help="size of a detector pixel: '75 um'")
    add("--angle-per-pixel", metavar="A", help="instead of distance and pixel: for instance '0.5 mrad'")
    add("--near-field", action="store_true", help="the detector sees a Fresnel hologram")
    add("--far-field", action="store_true", help="it sees the Fourier transform, even if it does not look so")
    add(
        "--focus-distance",
        metavar="Z",
        help="near field: from the focus to the sample, inf for a parallel beam",
    )
    add(
        "--defocus",
        metavar="Z",
        help="of the starting probe: '2 um' (default: searched for in the far field)",
    )
    add("--positions", metavar="FILE", help=".npy, .csv or .txt: y, x of each frame in m")
    add(
        "--position-units",
        default="m",
        choices=("m", "mm", "um", "nm", "px"),
        help="of the positions given, or of the file's where it states none; px: of the object (default: m)",
    )
    add("--step", metavar="S", help="step of a regular scan: '50 nm' (with --nav-shape)")
    add(
        "--positions-of",
        choices=("probe", "sample"),
        help="whose positions they are: the probe's, or the sample's, which moves the other way (default: as "
        "the file says, else probe)",
    )
    add(
        "--rotation",
        type=float,
        default=0.0,
        metavar="DEG",
        help="turns the positions, counter-clockwise as seen (default: 0)",
    )
    add(
        "--flip",
        default="none",
        choices=("none", "y", "x", "yx", "transpose", "transpose-y", "transpose-x", "transpose-yx"),
        help="of the positions: which change sign, after exchanging y and x for transpose... (default: none)",
    )

    add(
        "--orientation",
        default="given",
        choices=("given", "auto"),
        help="auto: try which flip of the positions fits (default: given)",
    )


def _model_arguments(group: Any) -> None:
    add = group.add_argument
    add("--recipe", default="auto", help="for instance '15 RPIE; 40 AP' (default: until it converges)")
    add("-n", "--iterations", type=int, metavar="N", help="iterations at most (default: as the recipe says)")
    add(
        "--modes",
        type=int,
        default=1,
        metavar="M",
        help="modes of the probe: partial coherence, vibration (default: 1)",
    )
    add("--object-modes", type=int, default=1, metavar="M", help="modes of the object (default: 1)")
    add("--probe", metavar="FILE", help=".npy: complex starting probe (default: from the mean frame)")
    add("--object", metavar="FILE", help=".npy: complex starting object (default: 1 everywhere)")
    add("--mask", metavar="FILE", help=".npy: True for bad pixels, beside those of the file")
    add("--background", metavar="COUNTS", help="known background: a number, FILE.npy, or 'estimate'")
    add(
        "--regularise",
        default="",
        metavar="LIST",
        help="of clip, phase-only, smooth, tv, flat-outside, probe-support: 'clip(0, 1.05); tv(0.01)'",
    )
    add(
        "--saturation",
        default="auto",
        metavar="COUNTS|none",
        help="counts from here on are not measured (default: found in the frames)",
    )
    add("--refine-brightness", action="store_true", help="follow the brightness of an unsteady beam")
    add(
        "--refine-positions",
        nargs="?",
        const="yes",
        choices=("yes", "affine"),
        help="correct each position from iteration 10 on; affine: before, find the scale, rotation and "
        "shear that all have in common",
    )
    add(
        "--crop",
        default="auto",
        metavar="N|none",
        help="window of N or Y,X pixels of the detector (default: all of it, cut to a fast length)",
    )
    add(
        "--centre",
        default="auto",
        metavar="Y,X|com|middle|corner",
        help="of the beam on the detector; corner: frames as an FFT leaves them (default: auto)",
    )
    add(
        "--subpixel",
        default="auto",
        metavar="N|none",
        help="steps per object pixel that positions are rounded to (default: 4, none where they are whole)",
    )
    add(
        "--free-pixels",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="keep so many pixels from the fit, 0.02 for instance, and stop when it fits noise (default: 0)",
    )
    add("--seed", type=int, default=0, help="seed of the random batches (default: 0)")
    add("--double", action="store_true", help="double precision, slow: for checks")
    add(
        "--backend",
        choices=("cpu", "cupy", "numpy"),
        default="cpu",
        help="where to compute: cupy: a graphics card; numpy: its formulas on the processor, for checks "
        "(default: cpu, all cores)",
    )
    add("--repeatable", action="store_true", help="with --backend cupy: the same bits in every run; slower")


def _run(args: argparse.Namespace) -> int:
    if args.file == "init":
        return _init(args)
    if args.rest is not None:
        raise FramefoldError(f"{args.rest!r} is too much: framefold ptycho takes one file")
    if Path(args.file).suffix == ".toml":
        parser = argparse.ArgumentParser()
        _arguments(parser)
        apply_config(args, parser)
    from framefold.udfs.ptycho.half_sets import frc  # noqa: PLC0415  # the help text comes without it

    if args.resume and args.checkpoint is None:
        raise FramefoldError("--resume goes on from the file of --checkpoint: give that too")
    udf = make_ptychography(args)
    if args.save is not None:
        _check_target(Path(args.save), args.overwrite)
        if args.frc is not None:
            _check_target(Path(args.save).with_suffix(".frc.csv"), args.overwrite)
    plots = live_picture(args.plot, args.file)
    with make_context(args) as ctx:
        ds = open_dataset(ctx, args)
        chosen = selection(args, ds)
        if isinstance(ds, LiveDataset) and (args.dry_run or args.frc is not None):
            what = "--dry-run" if args.dry_run else "--frc"
            raise FramefoldError(f"{what} needs frames that can be read again, and {ds.name} is live")
        if args.dry_run:
            return _dry_run(ctx, ds, udf, chosen)
        talk = wants_progress(args)
        resume = args.checkpoint if args.resume and Path(args.checkpoint).exists() else None
        live = isinstance(ds, LiveDataset)
        it = ctx.iterate(
            ds, udf, n=args.iterations, plots=plots, publish_every=1.0, checkpoint=args.checkpoint,
            resume=resume, on_ready=_listening if live else lambda _: _tell(udf), **chosen,
        )  # fmt: skip
        started, broken = time.perf_counter(), None
        with it, contextlib.ExitStack() as stack:
            stack.enter_context(_ctrl_c(functools.partial(_end_scan, ctx, it, stack) if live else it.stop))
            try:
                _follow(it, udf, live=live, talk=talk)
            except StreamError as exc:
                if exc.partial is None:
                    raise
                broken = exc
        if talk:
            print(file=sys.stderr)
        result, last = it.result, it.snapshot
        halves = None
        if args.frc is not None and last.reason != "stopped":
            halves = frc(ctx, ds, udf, args.frc, n=args.iterations, progress=talk, **chosen)
    if broken is not None:
        print(f"the stream broke, what came of it is kept: {broken}", file=sys.stderr)
    for note in udf.notes[_tell_count(udf) :]:
        print(note)
    errors = last.history["error"]
    errors = errors[np.isfinite(errors)]
    size = result["pixel_size"].data
    print(
        f"{last.iteration} iterations in {time.perf_counter() - started:.1f} s ({last.reason}); "
        f"error E {errors[0]:.4g} -> {errors[-1]:.4g}; object {result['phase'].shape[0]} x "
        f"{result['phase'].shape[1]} pixels of {size[0] * 1e9:.4g} x {size[1] * 1e9:.4g} nm"
    )
    if len(result["mode_powers"].data) > 1:
        print("power of the modes: " + ", ".join(f"{100 * p:.1f} %" for p in result["mode_powers"].data))
    if args.save is not None:
        result.save(args.save, overwrite=args.overwrite)
        print(f"saved to {args.save}")
    if halves is not None:
        print(halves)
        if args.save is not None:
            table = Path(args.save).with_suffix(".frc.csv")
            halves.save(table)
            print(f"its curves are in {table}")
    if isinstance(args.plot, str):
        print(f"picture in {args.plot}")
    if args.save is None and args.plot is None:
        print("nothing was saved: add --save out.cxi to keep the results, --plot=out.png for a picture")
    if args.plot is True:
        _keep_window()
    if broken is not None:
        return 2
    return INTERRUPTED if last.reason == "stopped" else 0


def _follow(it: Any, udf: Ptychography, *, live: bool, talk: bool) -> None:
    """Iterate to the end, and say how it goes."""
    for i, state in enumerate(it):
        if live and i == 0:
            _tell(udf)
        if talk:
            error = state.history["error"][-1]
            seconds = state.history["seconds"][-1]
            line = f"iteration {state.iteration:4d}   E {error:.5g}   {seconds:.3g} s"
            line += f"   {state.n_frames} frames" if live else ""
            print(f"\r{line}", end="", file=sys.stderr, flush=True)


def _end_scan(ctx: Any, it: Any, stack: contextlib.ExitStack) -> None:
    """End the acquisition, not what is made of it; that ends with another Ctrl-C."""
    print("\nno more frames are taken; Ctrl-C again to end the reconstruction too", file=sys.stderr)
    stack.enter_context(_ctrl_c(it.stop))
    # in a thread: this one may hold any lock at the moment
    threading.Thread(target=ctx.stop, name="framefold-stop", daemon=True).start()


def make_ptychography(args: argparse.Namespace) -> Ptychography:
    """Return the UDF that the arguments describe."""
    from framefold.udfs.ptycho.model import Geometry  # noqa: PLC0415  # the help text comes without numpy's FFT
    from framefold.udfs.ptycho.positions import ScanPositions  # noqa: PLC0415
    from framefold.udfs.ptycho.ptychography import Ptychography  # noqa: PLC0415
    from framefold.udfs.ptycho.quantities import quantity  # noqa: PLC0415

    if args.near_field and args.far_field:
        raise FramefoldError("--near-field and --far-field: give one of them")
    geometry = Geometry(
        energy=_energy(args.energy),
        wavelength=_given(args.wavelength),
        voltage=_given(args.voltage),
        distance=_given(args.distance),
        detector_pixel=_given(args.detector_pixel),
        angle_per_pixel=_given(args.angle_per_pixel),
        kind="near" if args.near_field else "far" if args.far_field else None,
        focus_distance=_given(args.focus_distance),
        defocus=_given(args.defocus) or 0.0,
    )
    positions = ScanPositions(
        None if args.positions is None else _table(args.positions),
        units=args.position_units,
        positions_of=args.positions_of,
        rotation_deg=args.rotation,
        flip=args.flip,
        step=None if args.step is None else quantity(str(args.step), LENGTHS, "m"),
    )
    return Ptychography(
        geometry=geometry,
        positions=positions,
        probe=None if args.probe is None else load_array(args.probe),
        object="ones" if args.object is None else load_array(args.object),
        modes=args.modes,
        object_modes=args.object_modes,
        recipe=args.recipe,
        mask=None if args.mask is None else load_array(args.mask),
        background=_background(args.background),
        crop=_crop(args.crop),
        centre=_centre(args.centre),
        subpixel=_subpixel(args.subpixel),
        refine_positions={None: False, "yes": True}.get(args.refine_positions, args.refine_positions),
        seed=args.seed,
        orientation=args.orientation,
        saturation=_saturation(args.saturation),
        refine_brightness=args.refine_brightness,
        regularise=args.regularise,
        free_pixels=args.free_pixels,
        precision="double" if args.double else "single",
        backend=args.backend,
        repeatable=args.repeatable,
    )


def _given(text: str | None) -> float | str | None:
    """Return a plain number as such, which is checked, and a number with its unit as it is."""
    return float(text) if text is not None and _is_number(str(text)) else text


def _energy(text: str | None) -> float | str | None:
    """As `_given`; plain numbers are eV."""
    if text is None or not _is_number(str(text)):
        return text
    if 0 < float(text) < PLAIN_EV:
        raise FramefoldError(
            f"--energy {text}: plain numbers are eV. Write it with its unit, '{text} keV' or '{text} eV'"
        )
    return f"{text} eV"


def _table(path: str) -> Any:
    if Path(path).suffix == ".npy":
        return load_array(path)
    try:
        text = Path(path).read_text()
        rows = [line.split("#")[0].replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
        numbers = [row for row in rows if row]
        if numbers and not _is_number(numbers[0][0]):
            numbers = numbers[1:]  # a head line
        return np.asarray(numbers, dtype=np.float64)
    except (OSError, ValueError) as exc:
        raise FramefoldError(f"--positions {path}: {exc}; it should have two columns, y and x in m") from exc


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _background(text: str | None) -> Any:
    if text is None or text == "estimate":
        return text
    return float(text) if _is_number(str(text)) else load_array(text)


def _saturation(text: str) -> Any:
    words = {"auto": "auto", "none": None}
    if text in words:
        return words[text]
    if not _is_number(str(text)):
        raise FramefoldError(f"--saturation {text!r}: write a number of counts, auto, or none")
    return float(text)


def _crop(text: str) -> Any:
    words = {"auto": "auto", "none": None}
    if text in words:
        return words[text]
    shape = parse_shape(str(text))
    return shape[0] if len(shape) == 1 else (shape[0], shape[1])


def _centre(text: str) -> Any:
    if text in ("auto", "com", "middle", "corner"):
        return text
    words = text.replace(",", " ").split()
    if len(words) != 2 or not all(map(_is_number, words)):
        raise FramefoldError(f"--centre {text!r}: write Y,X in pixels, com, middle, or corner")
    return float(words[0]), float(words[1])


def _subpixel(text: str) -> Any:
    words = {"auto": "auto", "none": None}
    if text in words:
        return words[text]
    if not str(text).isdigit():
        raise FramefoldError(f"--subpixel {text!r}: write a number of steps per pixel, auto, or none")
    return int(text)


def _tell(udf: Ptychography) -> None:
    """Say what was found in the data."""
    for line in describe(udf):
        print(line)


def _tell_count(udf: Ptychography) -> int:
    return len(udf.setup.notes) + len(udf.setup.warnings)


def describe(udf: Ptychography) -> list[str]:
    """Return what a prepared reconstruction will work with, as lines of text."""
    from framefold.udfs.ptycho.positions import typical_step  # noqa: PLC0415

    s = udf.setup
    g = s.geometry
    near = f"near field, magnified {g.magnification:.4g} times" if g.kind == "near" else "far field"
    step = typical_step(s.pixels)
    size = s.pixel_size
    shape = s.window.shape
    raw = len(s.corner) * shape[0] * shape[1]
    return [
        f"{len(s.corner)} frames of {shape[0]} x {shape[1]} pixels, {near}, wavelength "
        f"{float(g.wavelength or 0) * 1e9:.4g} nm",
        f"object {s.canvas.shape[0]} x {s.canvas.shape[1]} pixels of {size[0] * 1e9:.4g} x "
        f"{size[1] * 1e9:.4g} nm; "
        f"typical step {step:.3g} px; {100 * s.good.mean():.1f} % of the pixels measured; "
        f"{s.counts:.3g} counts per frame",
        f"recipe: {udf.recipe}; {len(s.probe)} probe mode{'s' if len(s.probe) > 1 else ''}; "
        f"{raw / 2**20:.3g} million counts stay in memory",
        *_on_the_device(udf),
        *udf.notes,
    ]


def _on_the_device(udf: Ptychography) -> list[str]:
    """Return what a graphics card must hold, as lines of text."""
    from framefold.udfs.ptycho.kernels.arrays import DEVICE_BYTES  # noqa: PLC0415

    s, p = udf.setup, udf.params
    if p.backend != "cupy":
        return []
    waves = len(s.corner) * s.window.shape[0] * s.window.shape[1] * p.modes * p.object_modes
    keeps = any(getattr(stage, "keeps_waves", False) for stage in udf.recipe.stages)
    size = waves * (16 if p.precision == "double" else 8) / 2**30
    exit_waves = f"exit waves of {size:.3g} GiB, " if keeps else ""
    return [f"on the device: the counts, {exit_waves}{DEVICE_BYTES / 2**30:.3g} GiB at most to compute with"]


def _dry_run(ctx: Any, ds: Dataset, udf: Ptychography, chosen: dict[str, Any]) -> int:
    ctx.iterate(ds, udf, **chosen).resolve()
    _tell(udf)
    return 0


def _init(args: argparse.Namespace) -> int:
    if args.rest is None:
        raise FramefoldError("framefold ptycho init takes a file: framefold ptycho init scan.cxi > scan.toml")
    args.file = args.rest
    with make_context(args) as ctx:
        ds = open_dataset(ctx, args)
        print(write_config(args.file, ds), end="")
    return 0


COMMAND = Command("ptycho", "reconstruct a ptychographic scan", _arguments, _run, DESCRIPTION)
