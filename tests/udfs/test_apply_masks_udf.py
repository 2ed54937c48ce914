"""`ApplyMasksUDF` against numpy, over dtypes, kinds of masks, ROI, partitions and tiles."""

import numpy as np
import pytest
import scipy.sparse
import sparse

from framefold.errors import UDFError
from framefold.kernels.mask_runs import shifted_reference
from framefold.udfs.apply_masks import ApplyMasksUDF

NAV, SIG = (4, 5), (9, 12)
RNG = np.random.default_rng(0)
DISK = np.hypot(*np.ogrid[-4:5, -6:6]) <= 2
RAMP = RNG.random(SIG)
CUTS = [{}, {"frames": 7}, {"frames": 3, "tile": (2, 4, 12)}, {"tile": (5, 1, 12)}]


def scan(dtype):
    dt = np.dtype(dtype)
    data = RNG.integers(0, 100, (*NAV, *SIG)).astype(dt)
    return data * dt.type(1 + 2j) if dt.kind == "c" else data


def truth(data, masks):
    wide = np.complex128 if "c" in (data.dtype.kind, np.stack(masks).dtype.kind) else np.float64
    return np.einsum("abyx,kyx->abk", data.astype(wide), np.stack(masks).astype(wide))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f4", "f8", "c8"])
@pytest.mark.parametrize("cut", CUTS)
def test_dtypes_and_cuts(run_on, dtype, cut):
    data = scan(dtype)
    masks = [DISK, RAMP]
    result = run_on(data, ApplyMasksUDF(masks), **cut)["intensity"]
    expected = truth(data, masks)
    assert result.dtype == np.result_type(data.dtype, np.float64)
    np.testing.assert_allclose(result.data, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "mask", "expected"),
    [
        ("u2", DISK, "i8"),
        ("i4", DISK.astype("u1"), "i8"),
        ("u2", RAMP.astype("f4"), "f4"),
        ("i4", RAMP.astype("f4"), "f8"),
        ("u2", RAMP, "f8"),
        ("f4", RAMP.astype("c8"), "c8"),
        ("c8", RAMP, "c16"),
    ],
)
def test_result_dtype(run_on, dtype, mask, expected):
    data = scan(dtype)
    result = run_on(data, ApplyMasksUDF([mask]), frames=6)["intensity"]
    assert result.dtype == np.dtype(expected)
    np.testing.assert_allclose(result.data, truth(data, [mask]), rtol=1e-6)


def test_roi(run_on):
    data = scan("u2")
    roi = RNG.random(NAV) > 0.5
    result = run_on(data, ApplyMasksUDF([DISK, RAMP]), roi=roi, frames=3)["intensity"]
    np.testing.assert_allclose(result.raw_data, truth(data, [DISK, RAMP])[roi], rtol=1e-12)
    assert np.isnan(result.data[~roi]).all()
    np.testing.assert_array_equal(result.valid_mask[..., 0], roi)
    empty = run_on(data, ApplyMasksUDF([DISK]), roi=np.zeros(NAV, bool))["intensity"]
    assert empty.raw_data.shape == (0, 1)


def stack():
    return np.stack([DISK, DISK[::-1]])


@pytest.mark.parametrize(
    ("masks", "dense"),
    [
        (DISK, [DISK]),
        (stack(), stack()),
        (stack, stack()),
        ([lambda: DISK, lambda: RAMP], [DISK, RAMP]),
        (scipy.sparse.csr_matrix(DISK * 2.0), [DISK * 2.0]),
        ([scipy.sparse.coo_array(DISK * 2.0), RAMP], [DISK * 2.0, RAMP]),
        (sparse.COO.from_numpy(stack() * 3), stack() * 3),
        (lambda: [sparse.GCXS.from_numpy(DISK * 1.5), DISK], [DISK * 1.5, DISK]),
        # a pixel stated twice: weights add up
        (scipy.sparse.coo_matrix(([1.0, 2.0], ([3, 3], [4, 4])), shape=SIG), [3.0 * np.eye(9, 12, 1) * (np.arange(9) == 3)[:, None]]),
    ],
    ids=["array", "stack", "function", "functions", "csr", "coo+dense", "pydata", "gcxs", "duplicates"],
)  # fmt: skip
@pytest.mark.parametrize("use_sparse", [None, True, False])
def test_kinds_of_masks(run_on, masks, dense, use_sparse):
    data = scan("u2")
    result = run_on(data, ApplyMasksUDF(masks, use_sparse=use_sparse), frames=9)["intensity"]
    np.testing.assert_allclose(result.data, truth(data, list(dense)), rtol=1e-6)


def test_functions_are_called_once_per_object(run_on):
    calls = []

    def factory():
        calls.append(1)
        return DISK

    run_on(scan("u2"), ApplyMasksUDF(factory), frames=2)
    assert len(calls) == 2  # head and the one worker


def test_count_and_dtype_without_evaluation(run_on):
    udf = ApplyMasksUDF(lambda: RAMP, mask_count=1, mask_dtype="f4")
    assert run_on(scan("u2"), udf)["intensity"].dtype == np.float32
    with pytest.raises(UDFError, match="mask_count=2, but there are 1 masks"):
        run_on(scan("u2"), ApplyMasksUDF(lambda: RAMP, mask_count=2, mask_dtype="f4"))


@pytest.mark.parametrize("cut", CUTS)
def test_constant_shift(run_on, cut):
    data = scan("u2")
    masks = np.stack([DISK, RAMP])
    for shift in ((0, 0), (2, -3), (-20, 0)):
        result = run_on(data, ApplyMasksUDF(list(masks), shifts=shift), **cut)["intensity"]
        np.testing.assert_allclose(result.data, truth(data, shifted_reference(masks, *shift)), rtol=1e-12)


@pytest.mark.parametrize("roi", [None, RNG.random(NAV) > 0.4], ids=["all", "roi"])
def test_shift_per_frame(run_on, roi):
    data = scan("i2")
    shifts = RNG.integers(-5, 5, (*NAV, 2))
    udf = ApplyMasksUDF([DISK], shifts=ApplyMasksUDF.aux_data(shifts, "nav", (2,), "int64"))
    result = run_on(data, udf, roi=roi, frames=3, tile=(2, 4, 12))["intensity"]
    for at in np.ndindex(NAV):
        if roi is None or roi[at]:
            moved = shifted_reference(DISK[None], *shifts[at])[0]
            assert result.data[at] == data[at][moved].sum()


def test_shifts_are_rounded_half_to_even_and_said_once(run_on, recwarn):
    with pytest.warns(UserWarning, match="rounded"):
        udf = ApplyMasksUDF([DISK], shifts=(0.5, -1.5))
    np.testing.assert_array_equal(udf.params.shifts, [0, -2])
    with pytest.warns(UserWarning, match="rounded"):
        udf = ApplyMasksUDF([DISK], shifts=ApplyMasksUDF.aux_data(np.full((20, 2), 2.5), "nav", (2,)))
    recwarn.clear()
    run_on(scan("u2"), udf)
    ApplyMasksUDF([DISK], shifts=(1.0, 2.0))
    assert not recwarn.list


@pytest.mark.parametrize("sig", [(30,), (3, 4, 5), (1, 1)])
def test_other_signal_shapes(run_on, sig):
    data = RNG.integers(0, 99, (6, *sig), dtype=np.uint16)
    mask = RNG.random(sig) > 0.4
    result = run_on(data, ApplyMasksUDF([mask]), sig_dims=len(sig), frames=4)["intensity"]
    np.testing.assert_array_equal(result.data[:, 0], data[:, mask].sum(axis=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ApplyMasksUDF([]), "no masks"),
        (lambda: ApplyMasksUDF([np.ones((3, 3))]), r"a mask has shape \(3, 3\), the frames have shape \(9, 12\)"),
        (lambda: ApplyMasksUDF([3]), "a mask is a int"),
        (lambda: ApplyMasksUDF([np.full(SIG, "a")]), "expected bool or numbers"),
        (lambda: ApplyMasksUDF([DISK], shifts=(1, 2, 3)), r"two numbers \(dy, dx\)"),
        (lambda: ApplyMasksUDF([DISK], shifts=(np.nan, 0)), "finite numbers"),
        (lambda: ApplyMasksUDF([DISK], shifts=ApplyMasksUDF.aux_data(np.zeros(20), "nav")), "extra_shape"),
    ],
)  # fmt: skip
def test_errors(run_on, make, message):
    with pytest.raises(UDFError, match=message):
        run_on(scan("u2"), make())


def test_nan_outside_a_sparse_mask_is_not_seen(run_on):
    data = scan("f4")
    data[..., ~DISK] = np.nan
    assert np.isfinite(run_on(data, ApplyMasksUDF([DISK]))["intensity"].data).all()
