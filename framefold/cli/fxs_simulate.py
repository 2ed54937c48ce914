"""``framefold fxs simulate``: shots of a particle, as a file or as the stream of a detector."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from framefold.cli import fxs_arguments as arguments
from framefold.cli.source_arguments import add_progress, wants_progress
from framefold.errors import FramefoldError

if TYPE_CHECKING:
    from framefold.sim.fxs_shots import Shots


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add particle, detector and beam."""
    parser.add_argument(
        "out",
        metavar="OUT",
        help=".h5, .nxs, .zarr or .npy; or an address to send the shots from, as a detector does: "
        "merlin://127.0.0.1:6342",
    )
    parser.add_argument(
        "--poni",
        metavar="FILE",
        help="where the geometry goes (default: OUT's .poni; of an address, shots.poni)",
    )
    parser.add_argument(
        "--rate", type=float, metavar="FPS", help="shots per second of an address (default: max)"
    )
    parser.add_argument(
        "--particle", default="blobs", metavar="WHAT", help="PDB or mmCIF file, or blobs:N:SEED"
    )
    parser.add_argument("--shots", type=int, default=1000, metavar="N", help="(default 1000)")
    parser.add_argument("--photons", type=float, default=1e5, metavar="N", help="per particle (default 1e5)")
    parser.add_argument("--size", type=int, default=128, metavar="N", help="pixels per side (default 128)")
    parser.add_argument("--pixel-size", type=float, default=5e-4, metavar="M", help="(default 5e-4)")
    parser.add_argument("--distance", type=float, default=0.7, metavar="M", help="(default 0.7)")
    parser.add_argument(
        "--energy", type=float, default=6000.0, metavar="EV", help="of photons (default 6000)"
    )
    parser.add_argument("--n-particles", type=float, default=1.0, metavar="N", help="per shot (default 1)")
    parser.add_argument("--poisson-particles", action="store_true", help="draw their number; N is the mean")
    parser.add_argument("--coherent", action="store_true", help="particles of a shot interfere")
    parser.add_argument(
        "--focus",
        type=float,
        default=2000.0,
        metavar="A",
        help="spread of their places (default 2000 Angstrom)",
    )
    parser.add_argument(
        "--hit-rate", type=float, default=1.0, metavar="F", help="shots with particles (default 1)"
    )
    parser.add_argument("--pulse-jitter", type=float, default=0.0, metavar="F", help="of the pulse energy")
    parser.add_argument("--background", type=float, default=0.0, metavar="N", help="photons per pixel")
    parser.add_argument(
        "--panels", default="1,1", metavar="Y,X", help="panels with gaps between (default 1,1)"
    )
    parser.add_argument("--gap", type=int, default=4, metavar="N", help="pixels between panels (default 4)")
    parser.add_argument("--bad-pixels", type=float, default=0.0, metavar="F", help="part of dark pixels")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Make the shots, and write or send them."""
    from framefold.context import Context  # noqa: PLC0415  # the help text comes without loading numba
    from framefold.sim.fxs import simulate  # noqa: PLC0415
    from framefold.udfs.fxs.geometry import Geometry  # noqa: PLC0415
    from framefold.udfs.fxs.geometry_files import write_poni  # noqa: PLC0415

    live = "://" in args.out
    if args.rate is not None and not live:
        raise FramefoldError("--rate is for an address such as merlin://127.0.0.1:6342")
    poni = Path(args.poni or (Path("shots.poni") if live else Path(args.out).with_suffix(".poni")))
    if poni.exists() and not args.overwrite:
        raise FramefoldError(f"{poni} exists: use another name, or --overwrite")
    n = args.size
    geometry = Geometry(
        distance=args.distance, pixel_size=args.pixel_size, photon_energy=args.energy, centre=(n / 2, n / 2),
        shape=(n, n),
    )  # fmt: skip
    particle = arguments.particle_of(args.particle)
    shots = simulate(
        particle, geometry, args.shots, photons=args.photons, n_particles=args.n_particles,
        poisson_particles=args.poisson_particles, coherent=args.coherent, focus=args.focus,
        hit_rate=args.hit_rate, pulse_jitter=args.pulse_jitter,
        background=args.background, panels=arguments.pair(args.panels, "--panels"), gap=args.gap,
        bad_pixels=args.bad_pixels, seed=args.seed,
    )  # fmt: skip
    if not live:
        with Context(executor="inline") as ctx:
            ctx.export(ctx.load(shots), args.out, progress=wants_progress(args), overwrite=args.overwrite)
    write_poni(geometry, poni)
    print(f"{args.shots} shots of {particle.name} {'for' if live else 'written to'} {args.out}, "
          f"the geometry to {poni}")  # fmt: skip
    print(f"q up to {geometry.q().max():.3g} 1/Angstrom, diameter {particle.diameter:.0f} Angstrom")
    mask = poni.with_suffix(".mask.npy")
    if shots.mask.any():
        np.save(mask, shots.mask)
        print(f"the mask of gaps and bad pixels is in {mask}")
    if live:
        _send(shots, args, f"--geometry {poni}" + f" --mask {mask}" * bool(shots.mask.any()))
    return 0


def _send(shots: Shots, args: argparse.Namespace, options: str) -> None:
    """Send the shots to whoever connects, until all are sent."""
    from framefold.io.live import parse_address  # noqa: PLC0415
    from framefold.io.live.replay.make import make_emulator, own_options  # noqa: PLC0415

    protocol = args.out.partition("://")[0]
    if "host" not in own_options(protocol):
        raise FramefoldError(
            f"{args.out}: {protocol} sends datagrams. Write a file and use: framefold emulate {protocol} FILE"
        )
    to = parse_address(args.out)
    port = to.ports[0] if to.ports else 0
    emulator = make_emulator(protocol, shots.array(), host=to.host or "127.0.0.1", port=port, rate=args.rate)
    try:
        print("correlate them live, in another shell:")
        print(f"  framefold fxs c2 {emulator.url} {options} --plot=c2.png", flush=True)
        emulator.start(None)
        while not emulator.wait(0.2):
            pass
    finally:
        emulator.stop()
    print(f"{args.out}: all is sent")
