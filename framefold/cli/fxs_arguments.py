"""Arguments of ``framefold fxs`` that describe detector, bins and shots, and what they mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from framefold.cli.values import load_array, parse_shape, parse_value
from framefold.errors import FramefoldError

if TYPE_CHECKING:
    from framefold.udfcore.dataset import Dataset
    from framefold.udfs.fxs.c2 import C2UDF
    from framefold.udfs.fxs.geometry import Geometry
    from framefold.udfs.fxs.shots import ShotScale, Veto


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add geometry, mask and meaning of counts."""
    group = parser.add_argument_group("detector")
    group.add_argument(
        "--geometry",
        metavar="FILE",
        help="pyFAI .poni; CrystFEL .geom; or .npy map (3, *frame) of pixel positions in m",
    )
    group.add_argument(
        "--clen", type=float, metavar="M", help="distance in m, where a .geom names a place in data files"
    )
    group.add_argument(
        "--energy", type=float, metavar="EV", help="photon energy, where the geometry has none"
    )
    group.add_argument(
        "--mask", metavar="FILE", help=".npy, true where a pixel is bad (default: that of the file)"
    )
    group.add_argument(
        "--mask-per-frame",
        action="store_true",
        help="leave pixels that are bad in one shot (NaN, full, lost on the way) out of that shot only",
    )
    group.add_argument(
        "--adu-per-photon",
        type=float,
        metavar="N",
        help="counts of one photon; the photon self-term needs it",
    )
    group.add_argument(
        "--read-noise", type=float, default=0.0, metavar="N", help="counts, standard deviation"
    )
    group.add_argument(
        "--polarisation", type=float, default=1.0, metavar="F", help="1 horizontal (default), -1 vertical"
    )
    group.add_argument("--saturation", type=float, metavar="N", help="counts at which a pixel is full")


def add_bins(parser: argparse.ArgumentParser) -> None:
    """Add polar bins and orders."""
    group = parser.add_argument_group("polar bins and orders")
    group.add_argument("--nq", type=int, default=100, metavar="N", help="rings (default 100)")
    group.add_argument("--nphi", type=int, default=256, metavar="N", help="angles (default 256)")
    group.add_argument("--qmin", type=float, metavar="Q", help="1/Angstrom (default: 2 %% of --qmax)")
    group.add_argument(
        "--qmax", type=float, metavar="Q", help="1/Angstrom (default: largest full ring on the detector)"
    )
    group.add_argument("--diameter", type=float, metavar="A", help="of the particle: limits the orders")
    group.add_argument("--orders", default="all", metavar="LIST", help="all (default), even, or '[2, 4, 6]'")


def add_shots(parser: argparse.ArgumentParser) -> None:
    """Add scale, veto and how shots are correlated."""
    group = parser.add_argument_group("shots")
    group.add_argument(
        "--scale", metavar="WHAT", help="pulse energies in a .npy file, or ring:Q0,Q1 (default: none)"
    )
    group.add_argument(
        "--veto", metavar="WHAT", help="auto, auto:K, LO, LO:HI (score), or flags in a .npy file (true: use)"
    )
    group.add_argument("--hit-window", metavar="Q0,Q1", help="q range of the score (default: all)")
    group.add_argument(
        "--classes", metavar="FILE", help=".npy with a small number per shot; negative: not used"
    )
    group.add_argument(
        "--pairing", choices=("consecutive",), help="correlate differences of consecutive accepted shots"
    )
    group.add_argument(
        "--center", choices=("ring", "none"), default="ring", help="subtract ring means (default)"
    )
    group.add_argument(
        "--part", choices=("real", "complex"), default="real", help="complex: exact, twice the size"
    )
    group.add_argument(
        "--precision", choices=("float32", "float64"), default="float32", help="of the products"
    )
    group.add_argument(
        "--halves", action=argparse.BooleanOptionalAction, default=True, help="sum two halves apart (default)"
    )


def make_geometry(args: argparse.Namespace) -> Geometry:
    """Return the geometry of ``--geometry``."""
    from framefold.udfs.fxs.geometry import Geometry  # noqa: PLC0415  # numba only where needed

    if args.geometry is None:
        raise FramefoldError(
            "--geometry is missing: a .poni file of pyFAI, a .geom of CrystFEL, or a .npy map of places"
        )
    if str(args.geometry).endswith(".geom"):
        return Geometry.from_geom(args.geometry, clen=args.clen, photon_energy=args.energy)
    if args.clen is not None:
        raise FramefoldError(f"--clen is for .geom files: {args.geometry} states its own distance")
    if str(args.geometry).endswith(".npy"):
        return Geometry.from_pixel_map(args.geometry, photon_energy=args.energy)
    return Geometry.from_poni(args.geometry)


def make_c2(args: argparse.Namespace, ds: Dataset) -> C2UDF:
    """Return the UDF that the arguments describe."""
    from framefold.udfs.fxs import C2UDF, PixelModel, PolarGrid  # noqa: PLC0415

    geometry = make_geometry(args)
    q_max = args.qmax if args.qmax is not None else _full_ring(geometry)
    q_min = args.qmin if args.qmin is not None else 0.02 * q_max
    mask = ds.metadata.mask if args.mask is None else load_array(args.mask)
    model = PixelModel(
        mask=mask,
        adu_per_photon=args.adu_per_photon,
        read_noise=args.read_noise,
        polarisation=args.polarisation,
    )
    return C2UDF(
        geometry, PolarGrid(args.nq, args.nphi, q_min, q_max), pixels=model,
        mask="per-frame" if args.mask_per_frame else None,
        scale=_scale(args.scale), veto=_veto(args.veto), hit_window=_window(args.hit_window),
        orders=parse_value(args.orders), diameter=args.diameter, center=args.center, part=args.part,
        precision=args.precision, halves=args.halves, pairing=args.pairing, saturation=args.saturation,
        classes=None if args.classes is None else load_array(args.classes).reshape(-1),
    )  # fmt: skip


def particle_of(text: str) -> Any:
    """Return the particle of ``FILE``, ``blobs``, ``blobs:N`` or ``blobs:N:SEED``."""
    from framefold.sim.fxs_particle import Particle  # noqa: PLC0415

    name, *rest = text.split(":")
    if name != "blobs":
        return Particle.from_file(text)
    try:
        return Particle.blobs(*(int(x) for x in rest))
    except (ValueError, TypeError):
        raise FramefoldError(
            f"--particle {text!r}: blobs:NUMBER:SEED with whole numbers, or a file"
        ) from None


def pair(text: str, what: str) -> tuple[int, int]:
    """Return two whole numbers such as ``2,2``."""
    shape = parse_shape(text)
    if len(shape) != 2:
        raise FramefoldError(f"{what} {text!r}: two numbers such as 2,2 are needed")
    return shape[0], shape[1]


def _full_ring(geometry: Geometry) -> float:
    """Return the largest q of which every angle lies on the detector."""
    q = geometry.q()
    if q.ndim != 2:
        raise FramefoldError("--qmax is missing: with a map of several panels it cannot be guessed")
    return float(min(q[0].min(), q[-1].min(), q[:, 0].min(), q[:, -1].min()))


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lo, hi = (float(x) for x in text.split(","))
    except ValueError:
        raise FramefoldError(f"{text!r} is no q range: two numbers such as 0.02,0.1 are needed") from None
    return lo, hi


def _scale(text: str | None) -> ShotScale | None:
    from framefold.udfs.fxs.shots import ShotScale  # noqa: PLC0415

    if text is None or text == "none":
        return None
    if text.startswith("ring:"):
        window = _window(text.removeprefix("ring:"))
        assert window is not None
        return ShotScale.ring(*window)
    return ShotScale.aux(load_array(text))


def _veto(text: str | None) -> Veto | None:
    from framefold.udfs.fxs.shots import Veto  # noqa: PLC0415

    if text is None or text == "none":
        return None
    name, _, rest = text.partition(":")
    if text.endswith(".npy"):
        return Veto.aux(load_array(text))
    try:
        if name == "auto":
            return Veto.auto(float(rest or 5))
        return Veto.threshold(float(name), float(rest or np.inf))
    except ValueError:
        raise FramefoldError(f"--veto {text!r}: auto, auto:K, LO, LO:HI, or a .npy file is needed") from None
