"""Angular correlations of 100 polar images of 300 x 256 bins: the variants of a published table, and ours.

The variants are typed from the description in Dujardin et al. (SciPy 2020): sums over images of
``A(q) conj(A(q'))`` for all angular orders, A the Fourier transform over the angle. Repetitions are interleaved;
ratios are of the fastest, and of the medians. BLAS is at one thread where one thread is compared.

Run: ``python benchmarks/fxs_c2.py [repetitions]``.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
import numba
import numpy as np
import threadpoolctl
from goals import at_least

from framefold.udfs.fxs.c2_kernels import fold_orders
from framefold.udfs.fxs.correlator import Correlator, Layout, Sums

N, Q, P = 100, 300, 256
SLOW = 3  # images for variants that take minutes


def pure_python(images):
    """Loops over images and angles for one pair of rings."""
    a = np.fft.fft(images[:, 0]).tolist()
    c2 = [0j] * P
    for image in a:
        for m in range(P):
            c2[m] += image[m] * image[m].conjugate()
    return c2


def naive(images):
    a = np.fft.fft(images, axis=-1)
    c2 = np.zeros((Q, Q, P), complex)
    for image in a:
        for q in range(Q):
            for r in range(Q):
                c2[q, r] += image[q] * image[r].conj()
    return c2


def naive_symmetric(images):
    a = np.fft.fft(images, axis=-1)
    c2 = np.zeros((Q, Q, P), complex)
    for image in a:
        for q in range(Q):
            c2[q, q:] += image[q] * image[q:].conj()
    return c2


@numba.njit(cache=True)
def _one_image(a, c2):
    for q in range(a.shape[0]):
        for r in range(a.shape[0]):
            for m in range(a.shape[1]):
                c2[q, r, m] += a[q, m] * np.conj(a[r, m])


@numba.njit(cache=True)
def _all_images(a, c2):
    for q in range(a.shape[1]):
        for r in range(q, a.shape[1]):
            for n in range(a.shape[0]):
                for m in range(a.shape[2]):
                    c2[q, r, m] += a[n, q, m] * np.conj(a[n, r, m])


def numba_per_image(images):
    c2 = np.zeros((Q, Q, P), complex)
    for image in images:
        _one_image(np.fft.fft(image, axis=-1), c2)
    return c2


def numba_batched(images):
    c2 = np.zeros((Q, Q, P), complex)
    _all_images(np.fft.fft(images, axis=-1), c2)
    return c2


def fft_c(images):
    return np.fft.fft(images, axis=-1)


def fft_f(images):
    return np.asfortranarray(np.fft.fft(images, axis=-1))


def einsum_c(images):
    a = fft_c(images)
    return np.einsum("nqm,nrm->qrm", a, a.conj())


def einsum_f(images):
    a = fft_f(images)
    return np.einsum("nqm,nrm->qrm", a, a.conj(), order="F")


def dot_c(images):
    a = fft_c(images)
    c2 = np.empty((Q, Q, P), complex)
    for m in range(P):
        c2[:, :, m] = a[:, :, m].T @ a[:, :, m].conj()
    return c2


def dot_f(images, c2=None):
    a = fft_f(images)
    c2 = np.empty((Q, Q, P), complex, order="F") if c2 is None else c2
    for m in range(P):
        c2[:, :, m] = a[:, :, m].T @ a[:, :, m].conj()
    return c2


class Ours:
    """The kernel of C2UDF on polar images, adding to accumulators that stay."""

    def __init__(self, threads=1, orders=None, **kw):
        layout = Layout(np.ones((Q, P), "f4"), np.arange(P // 2 + 1) if orders is None else orders, groups=1,
                        batch=N, **kw)  # fmt: skip
        self.correlator = Correlator(layout, None, threads)
        self.sums = Sums.zeros(layout)
        self.items = [(i, -1) for i in range(N)]

    def __call__(self, images):
        polar = self.correlator.regrid(images)
        self.correlator.add(polar, self.items, np.zeros(N, int), np.ones(N), self.sums)
        self.correlator.flush(self.sums)


def interleaved(jobs, images, repetitions):
    times = {name: [] for name in jobs}
    for _ in range(repetitions + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job(images)
            times[name].append(time.perf_counter() - began)
    return {name: np.array(t[1:]) for name, t in times.items()}  # the first compiles and touches memory


def two_in_cache(repetitions):
    """Return what a second thread gains on products whose operands stay in cache: what the machine allows."""
    stacks = [np.ones(2 * N * Q, np.float32) for _ in range(2)]
    out = [
        (np.zeros((1, Q * (Q + 1) // 2)), np.zeros((1, Q), complex), np.zeros((Q, Q), np.float32))
        for _ in stacks
    ]

    def job(i):
        for _ in range(60):
            fold_orders(stacks[i], 2 * N, 2 * N, Q, 0, 1, *out[i])

    gains = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(repetitions + 1):
            began = time.perf_counter()
            job(0), job(1)
            middle = time.perf_counter()
            list(pool.map(job, range(2)))
            gains.append((middle - began) / (time.perf_counter() - middle))
    return max(gains[1:])


def table(images):
    printed = {"pure Python": None, "naive": 42.4, "naive, symmetric": 36.0, "numba, one image at a time": 38.5,
               "numba, all images": 11.9, "einsum, C order": 17.9, "einsum, F order": 4.05, "dot, C order": None,
               "dot, F order": 1.37, "FFT alone, F order": 1.06}  # fmt: skip
    jobs = {"pure Python": pure_python, "naive": naive, "naive, symmetric": naive_symmetric,
            "numba, one image at a time": numba_per_image, "numba, all images": numba_batched,
            "einsum, C order": einsum_c, "einsum, F order": einsum_f, "dot, C order": dot_c, "dot, F order": dot_f,
            "FFT alone, F order": fft_f}  # fmt: skip
    print("\n| variant | here, s | printed, s |\n|---|---:|---:|")
    for name, job in jobs.items():
        slow = name in ("naive", "naive, symmetric", "pure Python", "numba, one image at a time")
        used = images[:SLOW] if slow else images
        job(used[:1] if name.startswith("numba") else used)
        began = time.perf_counter()
        job(used)
        took = (time.perf_counter() - began) * (N / len(used))
        note = ""
        if name == "pure Python":
            took *= Q * Q
            note = " (one pair of rings, extrapolated)"
        elif slow:
            note = f" ({SLOW} images, extrapolated)"
        print(f"| {name}{note} | {took:.3g} | {printed[name] or ''} |")


def compare(images, threads, repetitions):
    shared = np.empty((Q, Q, P), complex, order="F")
    jobs = {
        "dot-F": dot_f,
        "dot-F, reusing C2": lambda x: dot_f(x, shared),
        "ours: real, float32, summed in float64": Ours(threads),
        "ours: the same, all in float32": Ours(threads, accumulate="float32"),
        "ours: even orders": Ours(threads, orders=np.arange(0, P // 2 + 1, 2)),
        "ours: complex, float64": Ours(threads, part="complex", precision="float64"),
    }
    goals = {2: (7.0, 6.5), 4: (11.0, 0.0), 5: (3.5, 0.0)}  # against dot-F, and reusing
    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        times = interleaved(jobs, images, repetitions)
    base, reuse = times["dot-F"], times["dot-F, reusing C2"]
    print(
        f"\n{threads} thread{'s' * (threads > 1)} each (numpy's FFT has one), {repetitions} interleaved repetitions\n"
    )
    print("| 100 images | min, s | median, s | x dot-F, min | x dot-F, median | x reusing, min | goal |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for i, (name, t) in enumerate(times.items()):
        over, over_reusing = base.min() / t.min(), reuse.min() / t.min()
        goal = ""
        if i in goals:
            first, second = goals[i]
            goal = at_least(over, first) if over_reusing >= second else f"{second:g} reusing: **missed**"
        print(f"| {name} | {t.min():.4f} | {np.median(t):.4f} | {over:.2f} | "
              f"{np.median(base) / np.median(t):.2f} | {over_reusing:.2f} | {goal} |")  # fmt: skip
    return times


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    images = np.random.default_rng(0).random((N, Q, P), dtype=np.float32)
    print(f"{N} images of {Q} x {P}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    one = compare(images, 1, repetitions)
    two = compare(images, 2, repetitions)
    name = "ours: real, float32, summed in float64"
    gain = one[name].min() / two[name].min()
    print("\n| 2 threads against 1 | faster | goal |\n|---|---|---|")
    print(f"| {name} | {gain:.2f} | {at_least(gain, 1.7)} |")
    print(f"| products that stay in cache | {two_in_cache(repetitions):.2f} | |\n")
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        table(images)


if __name__ == "__main__":
    main()
