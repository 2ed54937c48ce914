"""Structure factors: the kernels against a numpy loop and against numba's own sine and cosine, interleaved.

python benchmarks/fhkl.py [--repeat 7]
"""

import argparse
import statistics
import time

import numba
import numpy as np

from framefold.udfs.cdi.structure_factor import structure_factors, structure_factors_reference


@numba.njit(fastmath=True)
def plain(h, k, l, x, y, z, out):  # noqa: E741
    for i in range(h.shape[0]):
        re = im = np.float32(0)
        for j in range(x.shape[0]):
            t = np.float32(2 * np.pi) * (h[i] * x[j] + k[i] * y[j] + l[i] * z[j])
            re += np.cos(t)
            im += np.sin(t)
        out[i] = complex(re, im)


def timed(call):
    t0 = time.perf_counter()
    call()
    return time.perf_counter() - t0


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    atoms = rng.random((3, 10_000))
    hkl = rng.integers(-50, 51, (3, 4000))
    some = slice(0, 40)
    between = hkl + 0.31
    single = [a.astype(np.float32) for a in (*hkl[:, :400], *atoms)]
    spare = np.empty(400, np.complex64)
    # how to call each, and how many reflection-atoms that is
    jobs = {
        "numpy": (lambda: structure_factors_reference(*hkl[:, some], *atoms, 1.0), 40 * 10_000),
        "numba": (lambda: plain(*single, spare), 400 * 10_000),
        "whole": (lambda: structure_factors(*hkl, *atoms, threads=1), 4000 * 10_000),
        "any": (lambda: structure_factors(*between, *atoms, threads=1), 4000 * 10_000),
        "all": (lambda: structure_factors(*hkl, *atoms), 4000 * 10_000),
    }
    try:
        import finufft  # noqa: F401

        grid = np.indices((101, 101, 101)).reshape(3, -1) - 50
        jobs["nufft"] = (lambda: structure_factors(*grid, *atoms, method="nufft"), 101**3 * 10_000)
    except ImportError:
        pass
    for call, _ in jobs.values():
        call()
    rates = {name: [] for name in jobs}
    for _ in range(args.repeat):
        for name, (call, size) in jobs.items():
            rates[name].append(size / timed(call))

    def over(a, b):
        return statistics.median(x / y for x, y in zip(rates[a], rates[b], strict=True))

    truth = structure_factors_reference(*hkl[:, :200], *atoms, 1.0)
    error = np.abs(structure_factors(*hkl[:, :200], *atoms) - truth).max() / np.sqrt(len(atoms[0]))
    mid = {name: statistics.median(r) for name, r in rates.items()}
    lines = [
        "10 000 atoms, 4000 reflections.",
        "",
        "| what | 10^9 reflection-atoms/s | ratio to the numpy loop (goal) | |",
        "|---|---|---|---|",
        f"| loop over reflections in numpy | {mid['numpy'] / 1e9:.3f} | 1 | |",
        f"| numba with its own sine and cosine | {mid['numba'] / 1e9:.3f} | {over('numba', 'numpy'):.1f} | |",
        f"| whole indices, one core, error {error:.1e} | {mid['whole'] / 1e9:.2f} | {over('whole', 'numpy'):.0f} (50) | {'met' if over('whole', 'numpy') >= 50 and error <= 1e-5 else '**missed**'} |",
        f"| any indices, one core | {mid['any'] / 1e9:.2f} | {over('any', 'numpy'):.0f} (50) | {'met' if over('any', 'numpy') >= 50 else '**missed**'} |",
        f"| whole indices, all cores | {mid['all'] / 1e9:.2f} | {over('all', 'numpy'):.0f} | |",
    ]
    if "nufft" in mid:
        lines.append(
            f"| a full box of 101^3 indices by the fast transform (finufft) | {mid['nufft'] / 1e9:.2f} | {over('nufft', 'numpy'):.0f} | |"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
