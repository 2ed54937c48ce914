"""The correlator of xFrame 0.9.8 as a black box: the same numbers, and its time beside ours.

xFrame (MPL-2.0, European XFEL) is driven through its documented command line, ``xframe fxs correlate``, with settings
and raw float32 patterns in a folder of its own. It interpolates patterns to polar images with splines of order 2; ours
gets the same polar images from ``scipy.ndimage.map_coordinates``, so that both correlate the same numbers. Times are
those of the processor, one process, and per pattern the difference between two runs of xFrame, without its start; its
own regridding is part of it, and cannot be told apart, so ours is shown with and without that of framefold.

xFrame 0.9.8 needs ``numpy < 2`` to write its results. Its fixed mask (``use_binary_mask``) fails in that version.

Run: ``FRAMEFOLD_XFRAME=/path/to/venv/bin/xframe python benchmarks/fxs_xframe.py [patterns]``.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import scipy.ndimage
import threadpoolctl
from goals import at_least

from framefold.udfs.fxs import Geometry, PolarGrid, build_operator
from framefold.udfs.fxs.c2_result import unpacked
from framefold.udfs.fxs.correlator import Correlator, Layout, Sums

SIDE, P = 512, 256
CENTRE = (255.2, 255.5)  # row, column of the beam in pixels
PIXEL, DISTANCE, WAVELENGTH = 200e-6, 0.8, 1.23984e-10
GOAL = 100

SETTINGS = """structure_name: peer
image_dimensions: [{side}, {side}]
n_processes: 1
max_n_patterns: {n}
batch_size: 16
compute: [is_good, waxs_aver, ccf_q1q2]
pixel_size: {pixel}
sample_distance: {distance}
wavelength: {wavelength}
detector_origin: [{row}, {column}]
interpolation_order: 2
phi_range:
  command: '(0.0, 2*np.pi, {p}, "exact")'
fc_n_max: {orders}
IO:
  folders:
    home:
      command: 'xframe_opt.IO.folders.home'
    in_base:
      home: data/fxs/input_files/
  files:
    input_file_list:
      name: patterns_list.txt
      folder: in_base
"""


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def patterns(n, side, centre, seed=0):
    """Return ``(n, side, side)`` float32: rings with a few orders that turn from one pattern to the next."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    r = np.hypot(rows - centre[0], columns - centre[1])
    phi = np.arctan2(columns - centre[1], rows - centre[0])
    turns = rng.uniform(0, 2 * np.pi, n)
    return np.stack([100 * np.exp(-2 * r / side) * (1 + 0.3 * np.cos(2 * (phi - t) + 8 * r / side)
                     + 0.2 * np.cos(5 * (phi - t) - 3 * r / side)) for t in turns]).astype("f4")  # fmt: skip


class XFrame:
    """The program, with a home folder that goes when this object goes."""

    def __init__(self, program, side=SIDE, centre=CENTRE, n_phi=P):
        self.program, self.folder = program, tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.values = {"side": side, "row": centre[0], "column": centre[1], "p": n_phi, "orders": n_phi // 2 - 1,
                       "pixel": PIXEL * 1e6, "distance": DISTANCE * 1e3, "wavelength": WAVELENGTH * 1e10}  # fmt: skip
        self.environment = {**os.environ, "HOME": str(self.home), "OMP_NUM_THREADS": "1",
                            "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
        self._call("--setup_home", str(self.home / ".xframe"))

    def _call(self, *arguments):
        done = subprocess.run([self.program, *arguments], env=self.environment, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        if done.returncode:
            sys.exit(f"xframe {' '.join(arguments)} failed:\n{done.stdout[-2000:]}")
        return done.stdout

    def correlate(self, images):
        """Return processor seconds, q in 1/Angstrom, angles, SAXS and C2 ``(q, q', D)``."""
        base = self.home / ".xframe"
        names = []
        (base / "data/fxs/input_files").mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            names.append(self.home / f"{i}.raw")
            image.tofile(names[-1])
        (base / "data/fxs/input_files/patterns_list.txt").write_text("".join(f"{n}\n" for n in names))
        settings = SETTINGS.format(n=len(images), **self.values)
        (base / "settings/projects/fxs/correlate/peer.yaml").write_text(settings)
        began = cpu_of_children()
        self._call("fxs", "correlate", "peer")
        seconds = cpu_of_children() - began
        with h5py.File(base / "data/fxs/ccd/peer.h5") as file:
            names = "radial_points", "angular_points", "average_intensity", "cross_correlation/I1I1"
            return seconds, *(file[name][()] for name in names)


def radii(q):
    """Return radii in pixels."""
    return DISTANCE / PIXEL * np.tan(2 * np.arcsin(q * WAVELENGTH * 1e10 / (4 * np.pi)))


def rings_inside(q):
    """Return how many rings lie on the detector as a whole."""
    return int((radii(q) <= min(*CENTRE, SIDE - 1 - max(CENTRE))).sum())


def same_polar(images, q, phi, centre):
    """Return the polar images that xFrame makes."""
    r = radii(q)
    places = np.stack([centre[0] + r[:, None] * np.cos(phi), centre[1] + r[:, None] * np.sin(phi)])
    return np.stack([scipy.ndimage.map_coordinates(x.astype(float), places, order=2) for x in images])


def ours(polar, precision):
    """Return a function that correlates, and one that returns C2."""
    n, n_q, n_phi = polar.shape
    layout = Layout(np.ones((n_q, n_phi), "f4"), np.arange(n_phi // 2 + 1), groups=1, centre=False, precision=precision,
                    part="complex")  # fmt: skip
    correlator, sums = Correlator(layout, None), Sums.zeros(layout)
    given = polar.astype(precision)

    def correlate():
        correlator.add(given, [(i, -1) for i in range(n)], np.zeros(n, int), np.ones(n), sums)
        correlator.flush(sums)

    def c2():
        products = unpacked(sums.products[0], n_q) / sums.frames[0]
        return np.moveaxis(n_phi * np.fft.irfft(products.conj(), n_phi, axis=0), 0, 2)

    return correlate, c2


def fastest(job, repetitions=5):
    times = []
    for _ in range(repetitions):
        began = time.process_time()
        job()
        times.append(time.process_time() - began)
    return min(times)


def main():
    if "FRAMEFOLD_XFRAME" not in os.environ:
        print("FRAMEFOLD_XFRAME names no xframe: left out.")
        return
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    images = patterns(most, SIDE, CENTRE)
    program = XFrame(os.environ["FRAMEFOLD_XFRAME"])
    few = most // 3
    short = min(program.correlate(images[:few])[0] for _ in range(2))
    found = [program.correlate(images) for _ in range(2)]
    theirs = (min(f[0] for f in found) - short) / (most - few)
    _, q, phi, saxs, c2 = found[0]
    whole = rings_inside(q)  # beyond them xFrame leaves out what lies outside the pattern
    q, saxs, c2 = q[:whole], saxs[:whole], c2[:whole, :whole]
    polar = same_polar(images, q, phi, CENTRE)
    correlate, result = ours(polar, "float64")
    correlate()
    error = np.abs(result() - c2).max() / np.abs(c2).max()
    print(f"{most} patterns of {SIDE} x {SIDE}, {len(q)} x {P} polar bins; load {os.getloadavg()[0]:.1f}\n")
    print(f"SAXS differs by {np.abs(polar.mean(axis=(0, 2)) / saxs - 1).max():.1e}, C2 by {error:.1e} of its "
          "largest value (goal 1e-10)\n")  # fmt: skip
    many = np.concatenate([polar] * (-(-128 // most)))[:128].astype("f4")
    geometry = Geometry(
        distance=DISTANCE, pixel_size=PIXEL, wavelength=WAVELENGTH, centre=CENTRE, shape=(SIDE, SIDE)
    )
    step = (q[-1] - q[1]) / (len(q) - 2)
    operator = build_operator(geometry, PolarGrid(len(q), P, step / 2, q[-1] + step / 2))
    regridding = Correlator(Layout(operator.weight, np.arange(P // 2 + 1), groups=1), operator)
    frames = np.concatenate([images] * (-(-128 // most)))[:128]
    with threadpoolctl.threadpool_limits(1):
        rows = {"complex, float64": fastest(ours(many, "float64")[0]) / 128}
        layout = Layout(np.ones(many.shape[1:], "f4"), np.arange(P // 2 + 1), groups=1)
        default, sums = Correlator(layout, None), Sums.zeros(layout)

        def job():
            default.add(many, [(i, -1) for i in range(128)], np.zeros(128, int), np.ones(128), sums)

        rows["default: real, float32"] = fastest(job) / 128
        rows["default, and regridding"] = (
            rows["default: real, float32"] + fastest(lambda: regridding.regrid(frames)) / 128
        )
    print("| one thread each | ms per pattern | xFrame takes longer | goal |\n|---|---:|---:|---|")
    print(f"| xFrame 0.9.8, with its interpolation | {1e3 * theirs:.1f} |  |  |")
    for name, seconds in rows.items():
        goal = at_least(theirs / seconds, GOAL) if name == "default, and regridding" else ""
        print(f"| {name} | {1e3 * seconds:.2f} | {theirs / seconds:.0f} x | {goal} |")


if __name__ == "__main__":
    main()
