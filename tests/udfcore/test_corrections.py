"""Corrections against a loop over pixels, LiberTEM, and themselves in parts."""

import os
import pickle
import subprocess

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.kernels.correct import correct_reference
from framefold.udfcore.corrections import Corrections


def whole(sig):
    return tuple(slice(0, n) for n in sig)


def case(sig, dtype="u2", depth=3, density=0.2, seed=0):
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 200, (depth, *sig)).astype(dtype)
    return raw, rng.random(sig) * 10, rng.random(sig) + 0.5, rng.random(sig) < density


@pytest.mark.parametrize("sig", [(8, 9), (1, 1), (12,), (3, 4, 5)])
@pytest.mark.parametrize(("dtype", "out"), [("u2", "f4"), ("f8", "f8"), ("c8", "c8")])
def test_whole_frames(sig, dtype, out):
    raw, dark, gain, bad = case(sig, dtype)
    got = Corrections(dark, gain, bad).correct(raw)
    assert got.dtype == out
    np.testing.assert_allclose(
        got, correct_reference(raw, dark, gain, bad), rtol=1e-12 if out == "f8" else 2e-4
    )


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_parts_equal_the_whole(data):
    """Any rectangle, read with its halo or with more, gives what whole frames give."""
    sig = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    raw, dark, gain, bad = case(sig, density=density, seed=data.draw(st.integers(0, 99)))
    corrections = Corrections(dark, gain, bad)
    expected = corrections.correct(raw, np.float64)
    prepared = pickle.loads(pickle.dumps(corrections.prepare(sig, np.float64)))
    tile = tuple(
        slice(a, data.draw(st.integers(a + 1, n))) for n in sig for a in [data.draw(st.integers(0, n - 1))]
    )
    halo = prepared.halo_sig(tile)
    assert all(h.start <= t.start and h.stop >= t.stop for h, t in zip(halo, tile))
    for read in (halo, whole(sig)):
        out = np.full((len(raw), *(s.stop - s.start for s in tile)), -1.0)
        prepared.apply(raw[(slice(None), *read)], read, tile, out)
        np.testing.assert_array_equal(out, expected[(slice(None), *tile)])


def test_only_dark_needs_no_halo_and_only_gain_no_dark():
    raw, dark, gain, _ = case((4, 5))
    np.testing.assert_allclose(Corrections(dark=dark).correct(raw), raw - dark, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(Corrections(gain=gain).correct(raw), raw * gain, rtol=1e-6)
    np.testing.assert_allclose(Corrections(dark=3, gain=2.0).correct(raw), (raw - 3.0) * 2)
    prepared = Corrections(dark=dark).prepare((4, 5), "f4")
    assert not prepared.needs_halo
    tile = (slice(1, 2), slice(0, 5))
    assert prepared.halo_sig(tile) == tile


def test_dark_equal_to_the_data_gives_zeros():
    raw = case((6, 7), depth=1)[0]
    assert not Corrections(dark=raw[0], excluded_pixels=[(0, 0), (5, 6)]).correct(raw).any()


def test_all_bad_is_nan_and_a_hot_pixel_vanishes():
    raw = np.full((2, 5, 5), 7, np.uint16)
    assert np.isnan(Corrections(excluded_pixels=np.ones((5, 5), bool)).correct(raw)).all()
    raw[:, 2, 3] = 65535
    assert (Corrections(excluded_pixels=[(2, 3)]).correct(raw) == 7).all()


def test_mask_value_replaces_the_mean():
    raw, dark, gain, bad = case((5, 6))
    got = Corrections(dark, gain, bad, mask_value=-1).correct(raw)
    assert (got[:, bad] == -1).all()
    np.testing.assert_allclose(got[:, ~bad], ((raw - dark) * gain)[:, ~bad], rtol=1e-5)
    assert not Corrections(excluded_pixels=bad, mask_value=0).prepare((5, 6), "f4").needs_halo


def test_what_lies_under_excluded_pixels_does_not_matter():
    raw, dark, gain, bad = case((5, 6))
    odd_dark, odd_gain = dark.copy(), gain.copy()
    odd_dark[bad], odd_gain[bad] = np.nan, np.inf
    np.testing.assert_array_equal(
        Corrections(odd_dark, odd_gain, bad).correct(raw), Corrections(dark, gain, bad).correct(raw)
    )


def test_forms_of_excluded_pixels():
    import sparse

    bad = np.zeros((4, 5), bool)
    bad[1, 2] = bad[3, 4] = True
    coords = [(1, 2), (3, 4)]
    for form in (
        bad, bad.astype(np.uint32) * 8, coords, tuple(coords), np.array(coords), np.array([*coords, (1, 2)]),
        scipy.sparse.coo_matrix(bad), scipy.sparse.csr_array(bad), sparse.COO.from_numpy(bad),
    ):  # fmt: skip
        np.testing.assert_array_equal(Corrections(excluded_pixels=form).excluded_mask((4, 5)), bad)
    assert not Corrections(excluded_pixels=[]).excluded_mask((4, 5)).any()
    assert Corrections(excluded_pixels=[1, 3]).excluded_mask((5,)).tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]
    # an integer array is a pixel mask where its shape says so, a list never is
    square = np.array([[0, 1], [1, 1]])
    np.testing.assert_array_equal(Corrections(excluded_pixels=square).excluded_mask((2, 2)), square)
    np.testing.assert_array_equal(
        Corrections(excluded_pixels=square.tolist()).excluded_mask((2, 2)), [[0, 1], [0, 1]]
    )


def test_from_flatfield():
    flat = np.array([[100.0, 200.0], [0.0, np.nan]])
    c = Corrections.from_flatfield(flat)
    np.testing.assert_array_equal(c.excluded_mask((2, 2)), [[0, 0], [1, 1]])
    got = c.correct(np.array([[[100, 200], [5, 5]]], np.uint16))
    np.testing.assert_allclose(got, 150)
    with pytest.raises(DataError, match="has no good pixel"):
        Corrections.from_flatfield(np.zeros((2, 2)))


def test_gain_stages_with_a_repaired_pixel():
    rng = np.random.default_rng(9)
    sig = (4, 4)
    pedestal, gain = rng.random((3, *sig)) * 100, rng.random((3, *sig)) + 0.1
    adc = rng.integers(0, 2**14, (5, *sig)).astype(np.uint16)
    code = rng.choice([0, 1, 3], (5, *sig)).astype(np.uint16)
    code[2, 0, 1] = 2  # invalid in one frame
    stage = np.where(code == 3, 2, code % 2)
    energy = (
        adc - np.take_along_axis(pedestal, stage.reshape(-1, *sig)[:, ...] % 3, 0)
    ) * np.take_along_axis(gain, stage % 3, 0)
    energy[2, 0, 1] = np.nan
    got = Corrections(gain_stages=(pedestal, gain), excluded_pixels=[(0, 0)]).correct(
        adc | code << 14, np.float64
    )
    neighbours = np.stack([energy[:, 0, 1], energy[:, 1, 0], energy[:, 1, 1]])
    energy[:, 0, 0] = np.nanmean(neighbours, axis=0)
    np.testing.assert_allclose(got, energy, rtol=1e-12)
    with pytest.raises(DataError, match="gain_stages needs uint16 data"):
        Corrections(gain_stages=(pedestal, gain)).correct(np.zeros((1, *sig), np.int32))
    with pytest.raises(DataError, match=r"shape \(3, \*sig\), not \(2, 4\) and \(2, 4\)"):
        Corrections(gain_stages=(np.zeros((2, 4)), np.zeros((2, 4))))
    with pytest.raises(DataError, match="cannot be given beside it"):
        Corrections(dark=1, gain_stages=(pedestal, gain))


def test_values():
    a, b = (Corrections(np.arange(4.0), 2, [(1,)]) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)).identity == a.identity
    others = [
        Corrections(),
        Corrections(np.arange(4.0), 2),
        Corrections(np.arange(4.0), 2, [(2,)]),
        Corrections(np.arange(4.0), 3, [(1,)]),
    ]
    assert len({c.identity for c in [a, *others]}) == 5
    with pytest.raises(ValueError, match="read-only"):
        a.dark[0] = 5


@pytest.mark.parametrize(
    ("corrections", "match"),
    [
        (Corrections(dark=np.zeros((4, 4))), r"dark has shape \(4, 4\), the frames have \(4, 5\)"),
        (Corrections(gain=np.ones(5)), r"gain has shape \(5,\), the frames have \(4, 5\)"),
        (Corrections(dark=np.full((4, 5), np.nan)), r"dark is not finite in 20 pixels, first \(0, 0\)"),
        (
            Corrections(excluded_pixels=np.zeros((5, 4), bool)),
            r"excluded_pixels has shape \(5, 4\), the frames have \(4, 5\)",
        ),
        (
            Corrections(excluded_pixels=[(4, 0)]),
            r"excluded pixel \(4, 0\) lies outside frames of shape \(4, 5\)",
        ),
        (Corrections(excluded_pixels=[(-1, 0)]), r"excluded pixel \(-1, 0\) lies outside"),
        (Corrections(excluded_pixels=[(1, 2, 3)]), r"\(1, 3\) is neither a mask of frames of shape \(4, 5\)"),
        (
            Corrections(excluded_pixels=scipy.sparse.coo_matrix(np.eye(4))),
            r"has shape \(4, 4\), the frames have \(4, 5\)",
        ),
    ],
)
def test_errors_name_both_shapes(corrections, match):
    with pytest.raises(DataError, match=match):
        corrections.check((4, 5))


def test_other_errors():
    with pytest.raises(DataError, match="corrected frames are float or complex, not int32"):
        Corrections(dark=1).prepare((2, 2), "i4")
    with pytest.raises(DataError, match="gain of dtype complex128: real numbers"):
        Corrections(gain=1j)
    with pytest.raises(DataError, match="excluded_pixels of dtype float64"):
        Corrections(excluded_pixels=np.zeros((2, 2)))


LT_SCRIPT = """
import sys, numpy as np
from libertem.io.corrections.detector import correct
d = np.load(sys.argv[1])
out = correct(d["raw"], dark_image=d["dark"], gain_map=d["gain"], excluded_pixels=d["coords"].T, sig_shape=d["dark"].shape)
np.save(sys.argv[2], out)
"""


@pytest.mark.slow
def test_equals_libertem(tmp_path):
    python = os.environ.get("FRAMEFOLD_LIBERTEM_PYTHON")
    if python is None:
        pytest.skip("FRAMEFOLD_LIBERTEM_PYTHON does not name a Python with LiberTEM")
    raw, dark, gain, bad = case((20, 31), depth=4, density=0.1, seed=5)
    np.savez(
        tmp_path / "in.npz", raw=raw, dark=dark.astype("f4"), gain=gain.astype("f4"), coords=np.argwhere(bad)
    )
    subprocess.run([python, "-c", LT_SCRIPT, tmp_path / "in.npz", tmp_path / "out.npy"], check=True)
    got = Corrections(dark.astype("f4"), gain.astype("f4"), bad).correct(raw)
    np.testing.assert_allclose(got, np.load(tmp_path / "out.npy"), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mask_value", [None, 5.0])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", ["u2", "c8"])
def test_the_corrected_sum_is_the_sum_of_corrected_frames(mask_value, density, dtype):
    raw, dark, gain, bad = case((6, 7), dtype, depth=9, density=density)
    corrections = Corrections(dark, gain, bad, mask_value=mask_value)
    wide = raw.astype("c16" if dtype == "c8" else "u8")
    got = corrections.correct_sum(wide.sum(axis=0), 9)
    expected = corrections.correct(wide.astype("c16" if dtype == "c8" else "f8")).sum(axis=0)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    with pytest.raises(DataError, match="gain_stages is not linear"):
        Corrections(gain_stages=(np.zeros((3, 2)), np.ones((3, 2)))).correct_sum(np.zeros(2), 1)
