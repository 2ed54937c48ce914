"""Phase retrieval: an iteration against its bare transforms and against plain numpy, interleaved in one run.

python benchmarks/cdi.py [--repeat 5]
"""

import argparse
import os
import statistics
import time

import numpy as np
import pyfftw

import framefold as ff
from framefold.sim.coherent import coherent_pattern
from framefold.udfs.cdi import CDI, DM, ER, HIO, ML, RAAR, multistart, parse
from framefold.udfs.cdi.align import align


def timed(call):
    t0 = time.perf_counter()
    call()
    return time.perf_counter() - t0


def bare(shape, n):
    """Return a function that does the transforms of n iterations and nothing else, with the same plan."""
    work = pyfftw.empty_aligned(shape, dtype=np.complex64)
    axes = tuple(range(len(shape)))
    there, back = (
        pyfftw.FFTW(work, work, axes=axes, direction=d, threads=1, flags=("FFTW_MEASURE",))
        for d in ("FFTW_FORWARD", "FFTW_BACKWARD")
    )
    work[...] = 0

    def run():
        for _ in range(n):
            there.execute()
            back.execute()

    return run


def numpy_hio(cdi, n):
    """Return a function that does n iterations of HIO as one would write them."""
    amplitude, support, rho = cdi.data.amplitude, cdi.support, cdi.obj

    def run():
        x = rho
        for _ in range(n):
            wave = np.fft.fftn(x, norm="ortho")
            m = np.fft.ifftn(amplitude * np.exp(1j * np.angle(wave)), norm="ortho")
            x = np.where(support, m, x - 0.9 * m)

    return run


def iterations(shape, n, repeat):
    pattern = coherent_pattern(shape, 0.35, seed=1)
    cdi = CDI(pattern.iobs, pattern.support, threads=1)
    calls = {
        "bare": bare(shape, n), "ER": lambda: ER() ** n * cdi, "HIO": lambda: HIO() ** n * cdi,
        "RAAR": lambda: RAAR() ** n * cdi, "DM": lambda: DM() ** n * cdi, "ML": lambda: ML() ** n * cdi,
        "numpy": numpy_hio(cdi, n),
    }  # fmt: skip
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            seconds[name].append(timed(call))

    def over(a, b):
        return statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True))

    cells = [f"{over(name, 'bare'):.2f}" for name in ("ER", "HIO", "RAAR", "DM", "ML")]
    each = statistics.median(seconds["HIO"]) / n * 1e3
    return (
        f"| {' x '.join(map(str, shape))} | {each:.3g} | {' | '.join(cells)} | {over('numpy', 'HIO'):.1f} |"
    )


def success(starts):
    """Return how many of some starts find a noise-free object to 1e-2, and the seconds of each."""
    pattern = coherent_pattern((64, 64), 0.4, phase=1.0, seed=3)
    recipe = parse("ER**100*(Sup*ER**20*HIO**80)**8*AutoCorrelationSupport(threshold=0.05)")
    found, t0 = 0, time.perf_counter()
    for seed in range(starts):
        placed = align((recipe * CDI(pattern.iobs, seed=seed)).solution, pattern.obj).obj
        factor = np.vdot(placed, pattern.obj) / np.vdot(placed, placed)
        found += np.linalg.norm(factor * placed - pattern.obj) < 1e-2 * np.linalg.norm(pattern.obj)
    return found, (time.perf_counter() - t0) / starts


def lanes(repeat):
    """Return the speed-up of many starts on the threads of a context."""
    pattern = coherent_pattern((128, 128), 0.35, photons=1e7, seed=1)
    cdi = CDI(pattern.iobs)
    recipe = parse("ER**50*(Sup*HIO**50)**3*AutoCorrelationSupport")
    ctx = ff.Context(executor="threads")

    def many(run_tasks):
        return lambda: multistart(cdi, recipe, n=16, keep=2, run_tasks=run_tasks)

    def here(fn, items):
        return [fn(i) for i in items]

    alone, together = many(here), many(ctx.run_tasks)
    alone(), together()
    return statistics.median(timed(alone) / timed(together) for _ in range(repeat))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--starts", type=int, default=40)
    args = parser.parse_args(argv)
    rows = [
        iterations(shape, n, args.repeat)
        for shape, n in (((128, 128), 200), ((256, 256), 60), ((512, 512), 12), ((96, 96, 96), 6))
    ]
    found, each = success(args.starts)
    lines = [
        "Single precision, one thread. Time of an iteration over that of its two bare transforms (same plan); `DM` has four.",
        "",
        "| array | HIO, ms | ER | HIO | RAAR | DM | ML | HIO in plain numpy / ours |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "| what | measured | goal | |",
        "|---|---|---|---|",
        f"| starts that find a noise-free object of 64 x 64 to 1e-2 ({each:.2f} s each) | {found} of {args.starts} | 90 % | {'met' if found >= 0.9 * args.starts else '**missed**'} |",
        f"| 16 starts on {os.cpu_count()} threads / one after the other | {lanes(args.repeat):.2f} | | |",
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
