"""Mask sums against numpy on whole frames, over dtypes, paths and parts."""

import numpy as np
import pytest

from framefold.kernels.apply_masks import (
    Mask,
    apply_masks,
    apply_shifted,
    prepare_part,
    sum_dtype,
    work_dtype,
)
from framefold.kernels.dense_masks import dense_dot_reference
from framefold.kernels.mask_runs import shifted_reference

SIG = (13, 21)
DTYPES = ["u1", "u2", "u4", "i2", "i4", "f4", "f8", "c8"]


def frames(dtype, n=7, sig=SIG, seed=0):
    rng = np.random.default_rng(seed)
    dt = np.dtype(dtype)
    if dt.kind in "ui":
        return rng.integers(np.iinfo(dt).min, np.iinfo(dt).max, (n, *sig), dtype=dt, endpoint=True)
    if dt.kind == "c":
        return (rng.normal(size=(n, *sig)) + 1j * rng.normal(size=(n, *sig))).astype(dt)
    return rng.normal(100, 10, (n, *sig)).astype(dt)


def disk(r, cy=6.3, cx=9.1, sig=SIG):
    y, x = np.ogrid[: sig[0], : sig[1]]
    return (y - cy) ** 2 + (x - cx) ** 2 <= r * r


STACKS = {
    "ones": [np.ones(SIG, bool)],
    "disk": [disk(3)],
    "disk and ring": [disk(2), disk(6) & ~disk(3)],
    "dense float": [np.random.default_rng(i).random(SIG).astype("f4") for i in range(6)],
    "dense int": [np.random.default_rng(i).integers(-9, 9, SIG) for i in range(2)],
    "weighted disk": [disk(3) * 2.5],
    "mixed": [disk(3), np.random.default_rng(3).random(SIG), disk(2) * 3, np.zeros(SIG), disk(9)],
    "complex": [disk(3) * np.exp(1j), np.random.default_rng(4).random(SIG) * (1 + 2j)],
    "noise": [np.random.default_rng(5).random(SIG) > 0.5],
}


def masks_of(stack):
    return [Mask(SIG, dense=m) for m in stack]


def truth(data, stack):
    masks = np.stack(stack)
    if data.dtype.kind in "biu" and masks.dtype.kind in "biu":
        return dense_dot_reference(data, masks)
    wide = np.complex128 if "c" in (data.dtype.kind, masks.dtype.kind) else np.float64
    return np.einsum("fyx,kyx->fk", data.astype(wide), masks.astype(wide))


def check(got, data, stack):
    expected = truth(data, stack)
    if got.dtype.kind == "i":
        np.testing.assert_array_equal(got, expected)
    else:
        # relative to what was added up: signed sums may cancel
        scale = np.einsum("fyx,kyx->fk", np.abs(data).astype("f8"), np.abs(np.stack(stack)).astype("f8"))
        assert np.all(np.abs(got - expected) <= 1e-6 * np.maximum(scale, 1e-30))


def run(data, masks, parts, **kwargs):
    joint = np.result_type(*(m.dtype for m in masks))
    out = np.zeros((len(data), len(masks)), sum_dtype(data.dtype, joint))
    for part in parts:
        apply_masks(prepare_part(masks, part, data.dtype, **kwargs), data[(slice(None), *part)], out)
    return out


WHOLE = [(slice(0, 13), slice(0, 21))]
ROWS = [(slice(0, 4), slice(0, 21)), (slice(4, 12), slice(0, 21)), (slice(12, 13), slice(0, 21))]
BLOCKS = [(slice(a, b), slice(c, d)) for a, b in ((0, 6), (6, 13)) for c, d in ((0, 11), (11, 21))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["disk and ring", "mixed"])
def test_dtypes(dtype, name):
    data = frames(dtype)
    check(run(data, masks_of(STACKS[name]), ROWS), data, STACKS[name])


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("parts", [WHOLE, ROWS, BLOCKS], ids=["whole", "rows", "blocks"])
def test_stacks_and_parts(name, parts):
    data = frames("u2")
    check(run(data, masks_of(STACKS[name]), parts), data, STACKS[name])


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("name", ["mixed", "dense int", "complex"])
def test_forced_path(name, sparse):
    data = frames("u2")
    check(run(data, masks_of(STACKS[name]), BLOCKS, sparse=sparse), data, STACKS[name])


def test_integer_sums_are_exact_beyond_float64():
    data = np.full((2, *SIG), 2**32 - 1, dtype=np.uint32)
    data[1, 3, 3] -= 1
    stack = [np.random.default_rng(1).integers(2**20, 2**22, SIG)]
    got = run(data, masks_of(stack), WHOLE)
    np.testing.assert_array_equal(got, dense_dot_reference(data, np.stack(stack)))


def test_pixel_lists_equal_dense_masks():
    mask = disk(4) * 1.5
    index = np.flatnonzero(mask)
    listed = Mask(SIG, index=index, values=mask.ravel()[index])
    data = frames("u2")
    for parts in (WHOLE, BLOCKS):
        check(run(data, [listed], parts), data, [mask])
        check(run(data, [listed], parts, sparse=False), data, [mask])
    np.testing.assert_array_equal(listed.array(BLOCKS[0]), mask[BLOCKS[0]])


@pytest.mark.parametrize("sig", [(37,), (3, 5, 7), (1, 1), (1, 40)])
def test_signal_dimensions(sig):
    data = frames("u2", sig=sig)
    stack = [np.random.default_rng(2).random(sig) > 0.6, np.random.default_rng(3).random(sig)]
    part = tuple(slice(0, n) for n in sig)
    out = np.zeros((len(data), 2))
    apply_masks(prepare_part([Mask(sig, dense=m) for m in stack], part, data.dtype), data, out)
    flat = np.stack(stack).reshape(2, -1)
    np.testing.assert_allclose(out, data.reshape(len(data), -1).astype("f8") @ flat.T.astype("f8"), rtol=1e-6)


def test_pixels_outside_a_sparse_mask_are_not_touched():
    data = frames("f4")
    data[:, ~disk(3)] = np.nan
    assert np.isfinite(run(data, masks_of([disk(3)]), ROWS)).all()


def test_long_frames_keep_the_accuracy():
    data = np.random.default_rng(0).integers(50_000, 60_000, (3, 300, 300), dtype=np.uint16)
    mask = np.random.default_rng(1).random((300, 300))
    out = np.zeros((3, 1))
    part = (slice(0, 300), slice(0, 300))
    apply_masks(prepare_part([Mask((300, 300), dense=mask)], part, "u2"), data, out)
    expected = data.reshape(3, -1).astype("f8") @ mask.ravel()
    assert np.max(np.abs(out[:, 0] / expected - 1)) < 1e-7


@pytest.mark.parametrize("name", ["disk and ring", "mixed", "complex"])
@pytest.mark.parametrize("parts", [WHOLE, BLOCKS], ids=["whole", "blocks"])
def test_shifts(name, parts):
    data = frames("u2", n=8)
    shifts = np.array([[0, 0], [2, -3], [-5, 4], [12, 20], [13, 0], [0, -21], [-40, 60], [1, 1]])
    masks = masks_of(STACKS[name])
    joint = np.result_type(*(m.dtype for m in masks))
    out = np.zeros((8, len(masks)), sum_dtype(data.dtype, joint))
    for part in parts:
        prepared = prepare_part(masks, part, data.dtype, shifted=True)
        apply_shifted(prepared, data[(slice(None), *part)], shifts, out)
    for f, (dy, dx) in enumerate(shifts):
        moved = shifted_reference(np.stack(STACKS[name]), dy, dx)
        check(out[f : f + 1], data[f : f + 1], list(moved))


@pytest.mark.parametrize(
    ("data", "masks", "largest", "expected"),
    [
        ("u1", "b1", 1, "f4"),  # 255 * 4096 < 2^24
        ("u2", "b1", 1, "f8"),
        ("u4", "i8", 1e6, "i8"),  # 2^32 * 1e6 * pixels > 2^53
        ("u2", "f8", 1, "f8"),
        ("u2", "f4", 1, "f4"),
        ("u4", "f4", 1, "f8"),
        ("f4", "f8", 1, "f8"),
        ("f8", "f4", 1, "f8"),
        ("c8", "f4", 1, "c8"),
    ],
)
def test_work_dtype(data, masks, largest, expected):
    assert work_dtype(np.dtype(data), np.dtype(masks), largest, 65536) == np.dtype(expected)


def test_no_masks_no_frames():
    part = WHOLE[0]
    apply_masks(prepare_part([], part, "u2"), frames("u2"), np.zeros((7, 0)))
    apply_masks(prepare_part(masks_of([disk(3)]), part, "u2"), frames("u2")[:0], np.zeros((0, 1)))
