"""Check that a UDF gives the same answer however its data are cut, ordered and masked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import MissingMergeError, UDFError
from framefold.io.memory import ArraySource
from framefold.testing import device
from framefold.testing.sectors import fold_sectors
from framefold.udfcore.auxdata import AuxData
from framefold.udfcore.corrections import Corrections
from framefold.udfcore.dataset import Dataset
from framefold.udfcore.fold import Folder
from framefold.udfcore.make_results import bound_copy, results_of
from framefold.udfcore.merge import Frozen, Merger
from framefold.udfcore.namespace import standing_in
from framefold.udfcore.plan import Plan, RunOptions
from framefold.udfcore.planning import make_plan
from framefold.udfcore.results import ResultBuffer
from framefold.udfcore.task import Task
from framefold.udfcore.udf import UDF, UDFMethod
from framefold.udfcore.validate import check_run

Array = npt.NDArray[Any]

DTYPES = ("uint8", "uint16", "int32", "float32", "float64")


@dataclass(frozen=True)
class Case:
    """One way to run a UDF; printed when it gives another answer than the plain run.

    Attributes
    ----------
    nav, sig, dtype
        The random data.
    seed
        Of the random data.
    roi
        Flags per frame, or None.
    borders
        Of the partitions, in rows.
    order
        In which partitions are merged.
    tile
        Depth and rows of a tile, for `process_tile`.
    corrected
        With a dark frame, a gain and an excluded pixel.
    cuts
        Where the last signal axis is cut into sectors that are folded apart, for UDFs that promise
        ``partial_frames``.
    """

    nav: tuple[int, ...]
    sig: tuple[int, ...]
    dtype: str
    seed: int
    roi: tuple[bool, ...] | None
    borders: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, int]
    corrected: bool
    cuts: tuple[int, ...] = ()


def check_udf(
    udf: UDF,
    shape: tuple[int, ...] | None = None,
    dtype: npt.DTypeLike | None = None,
    n: int = 50,
    seed: int | None = None,
    *,
    sig_dims: int = 2,
    data: npt.ArrayLike | None = None,
    rtol: float | None = None,
    backend: str = "numpy",
) -> None:
    """Try a UDF on random data, partitions, tiles, merge orders, ROIs and corrections.

    Each answer is compared with that of the run in one partition and one tile: integers bitwise, floats
    to 1e-12 of the largest value, or 5e-6 where input or result is single precision (sums of up to 25
    frames of float32 round by 25 x 6e-8).

    Parameters
    ----------
    udf
        What to check; it is copied, never run itself.
    shape
        Navigation and signal shape of the data; None: several small ones.
    dtype
        Of the data; None: several.
    n
        Number of cases.
    seed
        Of the choice of cases; None: fixed by the cases themselves.
    sig_dims
        Signal axes at the end of `shape`.
    data
        Data to use instead of random ones.
    rtol
        Other tolerance for float results, relative to their largest value.
    backend
        ``"cupy"``: run the UDF on a stand-in for CuPy (`framefold.testing.device`), which needs no GPU and is
        as strict as CuPy, and compare with the run on numpy: for UDFs that take both backends.

    Raises
    ------
    AssertionError
        Naming the smallest case found that gives another answer, and what differs.
    """
    import hypothesis  # noqa: PLC0415  # extra framefold[test]
    from hypothesis import strategies as st  # noqa: PLC0415

    if backend not in ("numpy", "cupy"):
        raise UDFError(f"backend={backend!r} is not 'numpy' or 'cupy'")
    given = None if data is None else np.asarray(data)
    if given is not None:
        shape, dtype = given.shape, given.dtype
    if shape is None and any(isinstance(v, AuxData) and v.kind != "single" for v in udf._kwargs.values()):
        raise UDFError(
            "the UDF has auxiliary data: pass shape=, the shape of the dataset that they belong to"
        )
    _check_merge_declared(udf)
    _check_copies(udf)

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        if shape is None:
            nav = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=2)))
            sig: tuple[int, ...] = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
        else:
            nav, sig = tuple(shape[: len(shape) - sig_dims]), tuple(shape[len(shape) - sig_dims :])
        frames = int(np.prod(nav))
        roi = draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=frames, max_size=frames)))
        rows = frames if roi is None else sum(roi)
        cuts = sorted(draw(st.sets(st.integers(1, rows - 1), max_size=6))) if rows > 1 else []
        borders = (0, *cuts, rows) if rows else (0,)
        return Case(
            nav, sig, str(np.dtype(dtype)) if dtype is not None else draw(st.sampled_from(DTYPES)),
            draw(st.integers(0, 2**16)), None if roi is None else tuple(roi), borders,
            tuple(draw(st.permutations(range(len(borders) - 1)))),
            (draw(st.integers(1, max(1, frames))), draw(st.integers(1, max(1, sig[0] if sig else 1)))),
            draw(st.booleans()),
            tuple(sorted(draw(st.sets(st.integers(1, max(1, sig[-1] - 1)), max_size=3)))) if sig else (),
        )  # fmt: skip

    @hypothesis.settings(
        max_examples=n, deadline=None, database=None, derandomize=seed is None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(cases())
    def law(case: Case) -> None:
        _check_case(udf, case, given, rtol, backend)

    if seed is not None:
        law = hypothesis.seed(seed)(law)
    if backend == "numpy":
        law()
        return
    with standing_in(device):
        _check_backend(udf, backend)
        law()


def _check_backend(udf: UDF, backend: str) -> None:
    wanted = udf.copy().get_backends()
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    assert backend in wanted, (
        f"{type(udf).__name__} takes the backends {', '.join(wanted)}, not {backend!r}: define get_backends, "
        "or engine = EngineOptions(device=True)"
    )


def _check_merge_declared(udf: UDF) -> None:
    dataset = Dataset(ArraySource(np.ones((2, 3, 3), dtype="float32"), sig_dims=2))
    twin = udf.copy()
    try:
        plan = make_plan(dataset, [twin], RunOptions())
        check_run(plan, [twin], lanes=1, processes=True)
    except MissingMergeError:
        raise
    except (UDFError, ValueError):
        return  # parameters belong to other shapes; the cases will tell


def _check_copies(udf: UDF) -> None:
    """Workers make objects from the parameters, so `__init__` must take what it made of them."""
    try:
        once = type(udf)(**udf._kwargs)
        twice = type(udf)(**once._kwargs)
    except TypeError as exc:
        raise AssertionError(
            f"{type(udf).__name__}.__init__ does not accept its own parameters: {exc}"
        ) from exc
    assert list(once._kwargs) == list(twice._kwargs), (
        f"{type(udf).__name__}.__init__ is not idempotent: {list(once._kwargs)} became {list(twice._kwargs)}"
    )


def _data(case: Case) -> Array:
    rng = np.random.default_rng(case.seed)
    dt = np.dtype(case.dtype)
    shape = (*case.nav, *case.sig)
    if dt.kind in "ui":
        return rng.integers(0, min(200, np.iinfo(dt).max), shape, endpoint=True).astype(dt)
    values = rng.normal(10, 3, shape)
    return (values + 1j * rng.normal(size=shape) if dt.kind == "c" else values).astype(dt)


def _options(case: Case, plain: bool) -> RunOptions:
    roi = None if case.roi is None else np.array(case.roi, dtype=bool).reshape(case.nav)
    corrections = None
    if case.corrected:
        rng = np.random.default_rng(case.seed + 1)
        bad = np.zeros(case.sig, dtype=bool)
        if bad.size > 1:
            bad.flat[int(rng.integers(bad.size))] = True
        corrections = Corrections(
            dark=rng.random(case.sig), gain=rng.random(case.sig) + 0.5, excluded_pixels=bad
        )
    rows = int(np.prod(case.nav)) if roi is None else int(roi.sum())
    borders = ((0, rows) if rows else (0,)) if plain else case.borders
    tile = (max(1, rows), *case.sig) if plain else (case.tile[0], case.tile[1], *case.sig[1:])
    return RunOptions(
        roi=roi, corrections=corrections, borders=borders, tile_shape=tile if case.sig else None
    )


def _check_case(
    udf: UDF, case: Case, given: Array | None, rtol: float | None, backend: str = "numpy"
) -> None:
    data = _data(case) if given is None else given.copy()
    data.flags.writeable = False
    dataset = Dataset(ArraySource(data, sig_dims=len(case.sig)))
    truth, input_dtype = _run(udf, dataset, _options(case, plain=True), range(1), udf.get_method())
    options = _options(case, plain=False)
    if backend != "numpy":
        options = replace(options, backends=(backend,))
    found, _ = _run(udf, dataset, options, case.order, udf.get_method())
    for name, want in truth.items():
        single = any(np.dtype(d).kind in "fc" and np.finfo(d).bits <= 32 for d in (input_dtype, want.dtype))
        _compare(
            f"{type(udf).__name__}: result {name!r} depends on partitions, tiles or order"
            f"{'' if backend == 'numpy' else ', or on the backend'}: {case}",
            want,
            found[name],
            rtol or (5e-6 if single else 1e-12),
        )
    if udf.engine.partial_frames and case.cuts and case.cuts[-1] < case.sig[-1]:
        _check_sectors(udf, case, dataset, data, rtol)


def _check_sectors(udf: UDF, case: Case, dataset: Dataset, data: Array, rtol: float | None) -> None:
    """Fold sectors of the frames apart and join the partials, in any order."""
    options = _options(case, plain=False)
    if options.corrections is not None:  # repaired pixels need their neighbours, which may be elsewhere
        linear = Corrections(dark=options.corrections.dark, gain=options.corrections.gain)
        options = replace(options, corrections=linear)
    twin = udf.copy()
    n = len(case.order) * (len(case.cuts) + 1)
    order = np.random.default_rng(case.seed).permutation(n).tolist()
    found = fold_sectors(twin, data, len(case.sig), options, case.cuts, order)
    if found is None:
        return
    plan, frozen = found
    truth, input_dtype = _run(udf, dataset, options, case.order, udf.get_method())
    results = _results(twin, plan, frozen)
    for name, want in truth.items():
        single = any(np.dtype(d).kind in "fc" and np.finfo(d).bits <= 32 for d in (input_dtype, want.dtype))
        _compare(
            f"{type(udf).__name__} promises partial_frames, but result {name!r} changes when sectors are "
            f"folded apart: {case}",
            want,
            results[name],
            rtol or (5e-6 if single else 1e-12),
        )


def _run(
    udf: UDF, dataset: Dataset, options: RunOptions, order: Any, method: UDFMethod
) -> tuple[dict[str, ResultBuffer], np.dtype[Any]]:
    twin = udf.copy()
    if method is not UDFMethod.TILE or twin.engine.whole_frames:
        options = replace(options, tile_shape=None)
    plan = make_plan(dataset, [twin], options)
    merger = Merger(plan, [twin])
    borders = plan.options.borders or (0,)
    folder = Folder(plan)
    aliased: tuple[Frozen, dict[str, Array]] | None = None
    for index in order:
        if index + 1 >= len(borders):
            continue
        try:
            partial = folder.fold(Task(index, borders[index], borders[index + 1]))
        except ValueError as exc:
            if "read-only" in str(exc):
                raise AssertionError(f"{type(udf).__name__} writes to its input tile: {exc}") from exc
            raise
        merger.merge(partial)
        if aliased is None:
            snapshot = merger.freeze()[0]
            aliased = (snapshot, {k: v.copy() for k, v in snapshot.arrays.items()})
            _results(twin, plan, snapshot)  # must work on partial data and change nothing
    delta = folder.flush()
    if delta is not None:
        merger.merge(delta)
    if aliased is not None:
        for name, arr in aliased[0].arrays.items():
            _equal(
                f"{type(udf).__name__}: a snapshot of {name!r} changed after it was taken",
                aliased[1][name],
                arr,
            )
    final = merger.finish()[0]
    first = _results(twin, plan, final)
    second = _results(twin, plan, final)
    for name in first:
        _equal(
            f"{type(udf).__name__}.get_results is not pure: {name!r} differs in a second call",
            first[name].raw_data,
            second[name].raw_data,
        )
    return first, plan.udfs[0].info.input_dtype


def _results(udf: UDF, plan: Plan, frozen: Frozen) -> dict[str, ResultBuffer]:
    with np.errstate(all="ignore"):
        return results_of(bound_copy(udf, plan.udfs[0], frozen, plan), plan.udfs[0], frozen)


def _equal(text: str, want: Array, got: Array) -> None:
    same = want.shape == got.shape and (
        np.array_equal(want, got, equal_nan=want.dtype.kind in "fc") if want.dtype != object else True
    )
    assert same, text


def _compare(text: str, want: ResultBuffer, got: ResultBuffer, rtol: float) -> None:
    a, b = want.raw_data, got.raw_data
    assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{text}: {a.shape} {a.dtype} became {b.shape} {b.dtype}"
    assert np.array_equal(want.valid_mask, got.valid_mask), f"{text}: the valid mask differs"
    if a.dtype.kind not in "fc":
        if a.dtype == object:
            same = all(np.array_equal(x, y) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True))
        else:
            same = bool(np.array_equal(a, b))
        assert same, f"{text}:\n{a}\nbecame\n{b}"
        return
    finite = np.abs(a[np.isfinite(a)])
    scale = float(finite.max()) if finite.size else 0.0
    tolerance = rtol * max(scale, 1e-300)
    assert np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True), (
        f"{text}: largest difference {np.nanmax(np.abs(a - b)):.3g} of {scale:.3g}\n{a}\nbecame\n{b}"
    )
