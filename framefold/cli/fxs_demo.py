"""``framefold fxs demo``: shots of a molecule arrive, and its invariants come out of the noise."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli import fxs_arguments as arguments
from framefold.errors import FramefoldError

if TYPE_CHECKING:
    from framefold.udfs.fxs.kam import Invariants

SIDE = 144  # pixels
REACH = 40.0  # q_max times the diameter: a dozen speckles from the centre
FEWEST = 128
HBAR_C = 1973.27  # eV Angstrom


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add particle and number of shots."""
    parser.add_argument(
        "--particle",
        default="blobs",
        metavar="WHAT",
        help="PDB or mmCIF file, or blobs:N:SEED (default: 40 blobs)",
    )
    parser.add_argument("--shots", type=int, default=1600, metavar="N", help="(default 1600)")
    parser.add_argument(
        "--photons", type=float, default=2e6, metavar="N", help="that a shot scatters (default 2e6)"
    )
    parser.add_argument(
        "--rate", type=float, default=100.0, metavar="FPS", help="shots per second (default 100)"
    )
    parser.add_argument(
        "--out", default="fxs_demo", metavar="FOLDER", help="for pictures and results (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate shots, correlate them while they arrive, invert, and show how the invariants converge."""
    from framefold.context import Context  # noqa: PLC0415  # the help text comes without loading numba
    from framefold.io.live.replay.make import make_emulator  # noqa: PLC0415
    from framefold.plot.fxs import figure_correlation, figure_invariants  # noqa: PLC0415
    from framefold.plot.live import LiveFigure  # noqa: PLC0415
    from framefold.sim.fxs import simulate  # noqa: PLC0415
    from framefold.sim.fxs_particle import Particle  # noqa: PLC0415
    from framefold.udfs.fxs import C2UDF, Geometry, PixelModel, PolarGrid  # noqa: PLC0415
    from framefold.udfs.fxs.invariants_file import save  # noqa: PLC0415
    from framefold.udfs.fxs.kam import invert  # noqa: PLC0415

    if args.shots < FEWEST:
        raise FramefoldError(f"--shots {args.shots}: at least {FEWEST} are needed to see anything converge")
    plain = args.particle == "blobs"
    particle = Particle.blobs(40, 1, radius=80, width=12) if plain else arguments.particle_of(args.particle)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    q_max, size, energy = REACH / particle.diameter, 5.5e-4, 6000.0
    distance = energy / HBAR_C * SIDE / 2 * size / (1.15 * q_max)
    geometry = Geometry(
        distance=distance, pixel_size=size, photon_energy=energy, centre=(SIDE / 2, SIDE / 2),
        shape=(SIDE, SIDE),
    )  # fmt: skip
    grid = PolarGrid(72, 128, 0.05 * q_max, q_max)
    _say("1", f"{particle.name}: {len(particle.positions)} atoms, diameter {particle.diameter:.0f} Angstrom")
    shots = simulate(particle, geometry, args.shots, photons=args.photons, panels=(2, 2), gap=4, seed=7)
    frames = shots.array()
    _say("", f"{args.shots} shots of {args.photons:.2g} photons on four panels, {distance:.2f} m behind it")
    udf = C2UDF(geometry, grid, mask=shots.mask, pixels=PixelModel(adu_per_photon=1.0))
    detector = make_emulator("merlin", frames, rate=args.rate)
    try:
        with Context(executor="threads") as ctx:
            _say("2", f"They arrive from a detector. Look at {out / 'live.png'}: it grows.")
            view = LiveFigure(title="framefold fxs demo", path=out / "live.png", share=0.2)
            live = ctx.load(detector.url)
            result = ctx.run_udf(live, udf, plots=view, progress=True, on_ready=detector.start)
            c = udf.correlation(result)
            _say("3", f"{c.n_frames()} shots correlated. Kam's relation gives the invariants.")
            inv = invert(c, l_max=6)
            truth = particle.invariants(grid.q, 6, model=particle.diffraction(1.17 * q_max)) * shots.scale**2
            figure_correlation(c, f"{particle.name}: {c.n_frames()} shots").savefig(out / "c2.png")
            figure_invariants(inv, truth).savefig(out / "bl.png")
            c.save(out / "c2.nxs", overwrite=True)
            save(inv, out / "bl.nxs", overwrite=True)
            _say("4", "They converge, as the same sums over fewer shots show (error of q^2 q'^2 B_l):")
            dataset = ctx.load(frames, sig_dims=2)
            _say("", "  shots      B_2      B_4      B_6")
            for n in (args.shots // k for k in (64, 16, 4) if args.shots // k >= 16):
                part = ctx.run_udf(dataset, udf.copy(), roi=np.arange(args.shots) < n)
                _say("", _errors(n, invert(udf.correlation(part), l_max=6), truth))
            _say("", _errors(args.shots, inv, truth))
    finally:
        detector.stop()
    _say("5", f"Pictures: {out / 'c2.png'}, {out / 'bl.png'}; results: {out / 'c2.nxs'}, {out / 'bl.nxs'}")
    return 0


def _errors(n: int, found: Invariants, truth: Any) -> str:
    """Return a line of the relative errors of ``(q q')^2 B_l(q, q')``: more counts than small q."""
    weight = np.outer(found.q, found.q) ** 2
    errors = []
    for b, t in zip(found.b_l[1:], truth[1:], strict=True):
        known = np.isfinite(b)  # pairs of the innermost rings may have no estimate, behind the gaps
        errors.append(float(np.linalg.norm((weight * (b - t))[known]) / np.linalg.norm((weight * t)[known])))
    return f"{n:7d}" + "".join(f" {100 * e:6.1f} %" for e in errors)


def _say(number: str, text: str) -> None:
    print(f"{number + '.' if number else '':<3}{text}", flush=True)
