"""Damaged texts of detector geometries, guided by code coverage: a geometry or an error of ours.

python faults/fuzz_geometry.py [--inputs 10000] [--kinds geom poni]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import guided

GEOM = b"""; two panels of a detector
photon_energy = 9500
adu_per_eV = 0.0001
clen = 0.079
res = 13333.3
rigid_group_q0 = a0,a1
rigid_group_collection_all = q0
bad_beam/min_x = -20.0
bad_beam/max_x = 20.0
bad_beam/min_y = -20.0
bad_beam/max_y = 20.0
a0/min_fs = 0
a0/min_ss = 0
a0/max_fs = 7
a0/max_ss = 5
a0/corner_x = -9.5
a0/corner_y = 1.0
a0/fs = +1.0x +0.002y
a0/ss = -0.002x +1.0y
a0/coffset = 0.001
a1/min_fs = 0
a1/min_ss = 6
a1/max_fs = 7
a1/max_ss = 11
a1/corner_x = 1.5
a1/corner_y = 1.0
a1/fs = x
a1/ss = y
a1/mask = /entry/mask
a1/no_index = 0
"""
PONI = b"""# Nota: C-Order, 1 refers to the Y axis, 2 to the X axis
poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 7.5e-05, "pixel2": 7.5e-05, "max_shape": [16, 12], "orientation": 3}
Distance: 0.1
Poni1: 0.0006
Poni2: 0.00045
Rot1: 0.01
Rot2: -0.02
Rot3: 0.0
Wavelength: 1.3e-10
"""
SOUND = {"geom": GEOM, "poni": PONI}


def fuzz(kind, inputs, folder):
    """Run in a child process: never returns, libFuzzer ends the process."""
    import atheris  # noqa: PLC0415  # instruments what is imported inside

    with atheris.instrument_imports(include=["framefold.udfs.fxs"]):
        import framefold.udfs.fxs.geometry_crystfel  # noqa: PLC0415
        import framefold.udfs.fxs.geometry_files  # noqa: F401, PLC0415
    from framefold.errors import FramefoldError  # noqa: PLC0415
    from framefold.udfs.fxs import Geometry  # noqa: PLC0415

    path = folder / f"detector.{kind}"
    read = Geometry.from_geom if kind == "geom" else Geometry.from_poni
    warnings.simplefilter("ignore")

    def one(raw):
        path.write_bytes(raw)
        try:
            found = read(path)
        except (FramefoldError, MemoryError):  # millions of pixels may be more than this process is allowed
            return
        assert len(found.shape) == 2

    path.write_bytes(SOUND[kind])
    read(path)  # sound texts are read
    guided.fuzz(one, [SOUND[kind]], folder, inputs, longest=3000, memory=2 * 1024**3)


def run(inputs, kinds=None):
    """Yield a row per kind; `inputs` are shared among them."""
    kinds = list(kinds or SOUND)
    for kind in kinds:
        yield guided.child(__file__, kind, -(-inputs // len(kinds)), f"{kind} geometry")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="damaged texts in all")
    parser.add_argument("--kinds", nargs="*", choices=SOUND)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        fuzz(args.child, args.inputs, args.folder)
    return guided.tell(run(args.inputs, args.kinds))


if __name__ == "__main__":
    sys.exit(main())
