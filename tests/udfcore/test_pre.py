"""Chains of transforms on any tiling equal numpy on whole frames."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from framefold.errors import UDFError
from framefold.udfcore.pre import (
    Apply,
    Bin,
    Crop,
    Flip,
    Gaussian,
    Log,
    Mask,
    PreChain,
    Rot90,
    Threshold,
    Transform,
)

SIG = (13, 18)
KEEP = np.random.default_rng(5).random(SIG) > 0.3
WEIGHTS = np.random.default_rng(6).random(SIG).astype("f4")


def double(frame):
    return frame * 2


def column_sums(frame):
    return frame.sum(axis=0, dtype="int64")


def binned(a, ny, nx):
    h, w = a.shape[1] // ny, a.shape[2] // nx
    wide = {"u": "u8", "i": "i8", "f": "f8"}[a.dtype.kind]
    return a[:, : h * ny, : w * nx].reshape(-1, h, ny, w, nx).sum(axis=(2, 4), dtype=wide)


def f32(a):
    return a.astype(np.result_type(a.dtype, "f4"))


# transform, the same on all frames at once
ORACLES = [
    (Crop((slice(2, 9), slice(None, -3))), lambda a: a[:, 2:9, :-3]),
    (Crop(((0, 4), (3, 18))), lambda a: a[:, :4, 3:]),
    (Bin(2), lambda a: binned(a, 2, 2)),
    (Bin((3, 4)), lambda a: binned(a, 3, 4)),
    (Log(), lambda a: np.log(f32(a) + np.float32(1))),
    (Threshold(20, 200), lambda a: np.where((a < 20) | (a > 200), 0, a).astype(a.dtype)),
    (Gaussian(1.3), lambda a: gaussian_filter(f32(a), (0, 1.3, 1.3), mode="reflect", truncate=4)),
    (
        Gaussian((0.5, 3), "constant"),
        lambda a: gaussian_filter(f32(a), (0, 0.5, 3), mode="constant", truncate=4),
    ),
    (Flip(), lambda a: a[:, ::-1, ::-1]),
    (Flip(-1), lambda a: a[:, :, ::-1]),
    *((Rot90(k), lambda a, k=k: np.rot90(a, k, axes=(1, 2))) for k in (0, 1, 2, -1)),
    (Apply(double), lambda a: a * 2),
]


def run_tiled(chain, data, ycuts, xcuts):
    out = np.empty((len(data), *chain.out_shape), chain.out_dtype)
    ys = sorted({0, *(c % chain.out_shape[0] for c in ycuts), chain.out_shape[0]})
    xs = sorted({0, *(c % chain.out_shape[1] for c in xcuts), chain.out_shape[1]})
    for a, b in zip(ys, ys[1:], strict=False):
        for c, d in zip(xs, xs[1:], strict=False):
            part = (slice(a, b), slice(c, d))
            source = chain.input_slice(part)
            assert all(0 <= s.start < s.stop <= n for s, n in zip(source, SIG, strict=True))
            tile = data[(slice(None), *source)]
            tile.flags.writeable = False
            target = np.empty((len(data), b - a, d - c), chain.out_dtype)
            chain.apply(tile, part, target)
            out[(slice(None), *part)] = target
    return out


def frames(dtype, n=3):
    return np.random.default_rng(0).integers(0, 250, (n, *SIG)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
@pytest.mark.parametrize(("transform", "oracle"), ORACLES, ids=[str(i) for i in range(len(ORACLES))])
def test_one_transform(transform, oracle, dtype):
    data = frames(dtype)
    chain = PreChain((transform,), SIG, np.dtype(dtype))
    expected = oracle(data)
    assert expected.dtype == chain.out_dtype
    got = run_tiled(chain, data, [3, 7], [5])
    if data.dtype.kind in "ui" and chain.out_dtype.kind in "ui":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    picks=st.lists(st.integers(0, len(ORACLES) - 1), min_size=0, max_size=4),
    ycuts=st.lists(st.integers(0, 12), max_size=3),
    xcuts=st.lists(st.integers(0, 17), max_size=3),
)
def test_any_chain_any_tiling(picks, ycuts, xcuts):
    data = expected = frames("u2")
    transforms = []
    for i in picks:
        transform, oracle = ORACLES[i]
        try:
            PreChain((*transforms, transform), SIG, data.dtype)
        except UDFError:  # frames have become too small for it
            continue
        transforms.append(transform)
        expected = oracle(expected)
    chain = PreChain(tuple(transforms), SIG, data.dtype)
    assert chain.out_shape == expected.shape[1:]
    assert chain.out_dtype == expected.dtype
    np.testing.assert_allclose(run_tiled(chain, data, ycuts, xcuts), expected, rtol=2e-5, atol=1e-4)


def test_masks():
    data = frames("f4")
    data[:, ~KEEP] = np.nan
    got = run_tiled(PreChain((Mask(KEEP),), SIG, data.dtype), data, [4], [9])
    np.testing.assert_array_equal(got, np.where(KEEP, data, 0))
    counts = frames("u2")
    chain = PreChain((Mask(WEIGHTS),), SIG, counts.dtype)
    np.testing.assert_array_equal(run_tiled(chain, counts, [4], [9]), counts * WEIGHTS)


def test_function_that_changes_shape():
    data = frames("u2")
    chain = PreChain((Apply(column_sums, shape=18, dtype="i8"),), SIG, data.dtype)
    out = np.empty((3, 7), "i8")
    chain.apply(data, (slice(4, 11),), out)
    np.testing.assert_array_equal(out, data.sum(axis=1)[:, 4:11])
    assert chain.input_slice((slice(4, 11),)) == (slice(0, 13), slice(0, 18))


def test_one_dimensional_frames():
    data = np.arange(24.0).reshape(2, 12)
    chain = PreChain((Bin(3), Flip()), (12,), data.dtype)
    out = np.empty((2, 2))
    chain.apply(data[:, 6:12], (slice(0, 2),), out)
    np.testing.assert_array_equal(out, data.reshape(2, 4, 3).sum(2)[:, ::-1][:, :2])


def test_scope_is_the_widest():
    assert PreChain((), SIG, "u2").scope == "pixel"
    assert PreChain((Log(), Mask(KEEP)), SIG, "u2").scope == "pixel"
    assert PreChain((Log(), Bin(2)), SIG, "u2").scope == "local"
    assert PreChain((Bin(2), Apply(double)), SIG, "u2").scope == "frame"


def test_crop_is_pushed_into_the_read():
    chain = PreChain((Crop((slice(4, 10), slice(2, 8))), Bin(3), Flip(0)), SIG, "u2")
    assert chain.input_slice((slice(0, 1), slice(1, 2))) == (slice(7, 10), slice(5, 8))


@pytest.mark.parametrize(
    "transform", [*(t for t, _ in ORACLES), Mask(KEEP)], ids=[str(i) for i in range(len(ORACLES) + 1)]
)
def test_transforms_are_values(transform):
    twin = pickle.loads(pickle.dumps(transform))
    assert isinstance(transform, Transform)
    assert twin == transform
    assert hash(twin) == hash(transform)
    assert PreChain((twin,), SIG, "u2") == PreChain((transform,), SIG, "u2")
    assert transform != Crop((slice(0, 1), slice(0, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop((slice(0, 9, 2),)), "step 1"),
        (lambda: PreChain((Crop((slice(0, 2),)),), SIG, "u2"), r"1 slices, the frames have the 2 axes \(13, 18\)"),
        (lambda: PreChain((Crop((slice(5, 5),) * 2),), SIG, "u2"), "is empty"),
        (lambda: Bin(0), "integers >= 1, got 0"),
        (lambda: PreChain((Bin(14),), SIG, "u2"), r"Bin\(14\) is larger than the frames of shape \(13, 18\)"),
        (lambda: PreChain((Bin((1, 2, 3)),), SIG, "u2"), "3 factors"),
        (lambda: PreChain((Mask(np.ones((2, 2))),), SIG, "u2"), r"shape \(2, 2\), the frames \(13, 18\)"),
        (lambda: Mask(["a"]), "bool or numbers"),
        (lambda: Threshold(3, 2), "low <= high"),
        (lambda: Gaussian(-1), "sigma >= 0"),
        (lambda: Gaussian(1, "wrap"), "'reflect' or 'constant', got 'wrap'"),
        (lambda: PreChain((Gaussian((1, 2, 3)),), SIG, "u2"), "3 sigmas"),
        (lambda: PreChain((Flip(2),), SIG, "u2"), "do not exist"),
        (lambda: PreChain((Rot90(),), (3,), "u2"), "2-D"),
        (lambda: Apply(3), "needs a function"),
        (lambda: PreChain((np.log,), SIG, "u2"), r"Apply\(function\), got ufunc"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_at_once(make, message):
    with pytest.raises(UDFError, match=message):
        make()


@pytest.mark.parametrize(
    ("f", "message"), [(column_sums, r"shape=\(18,\)"), (np.sqrt, 'dtype="float32"')], ids=["shape", "dtype"]
)
def test_functions_that_return_something_else(f, message):
    chain = PreChain((Apply(f),), SIG, np.dtype("u2"))
    with pytest.raises(UDFError, match=message):
        chain.apply(frames("u2"), (slice(0, 13), slice(0, 18)), np.empty((3, *SIG), "u2"))
