"""Values that are no counts, frames without light, an unsteady beam."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.io.memory import ArraySource
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.diagnose import noise_error
from framefold.udfs.ptycho.quality import object_error
from framefold.udfs.ptycho.unmeasured import find_unmeasured, pedestal_of


def error_of(result, scan):
    found, w = result["object"].data, illuminated(scan.illumination)
    y, x = (min(a, b) for a, b in zip(found.shape, w.shape, strict=True))
    return object_error(found[:y, :x], scan.object[:y, :x], w[:y, :x])


@pytest.fixture(scope="module")
def scan():
    return ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=1e5, seed=2)


@pytest.fixture(scope="module")
def run(scan):
    with ff.Context(executor="threads") as ctx:

        def run(frames=scan.frames, **kwargs):
            source = ArraySource(frames, 2, metadata=scan.source().metadata)
            udf = Ptychography(recipe="15 RPIE; 20 AP", probe=scan.probe, **kwargs)
            return error_of(ctx.iterate(source, udf).to_end(), scan), udf.notes

        yield run


@pytest.fixture(scope="module")
def clean(run):
    return run()[0]


def marked(frames, dtype, value):
    out = frames.astype(dtype)
    out[:, 12:14] = value
    return out


@pytest.mark.parametrize(
    "dtype, value, note",
    [
        ("u2", 2**16 - 1, "values of 65535, the largest of uint16"),  # how Eiger marks gaps
        ("u4", 2**32 - 1, "64 pixels are saturated, NaN or marked as invalid in all"),
        ("u4", 2**16 - 1, "counts pile up at 65535"),  # of a 16-bit counter, kept in 32
        ("i4", -1, "64 pixels are marked by a negative number"),  # Pilatus
        ("f4", np.nan, "64 pixels are saturated, NaN or marked as invalid"),
    ],
)
def test_marks_of_detectors_are_not_counts(scan, run, clean, dtype, value, note):
    found, notes = run(marked(scan.frames, dtype, value))
    assert any(note in n for n in notes)
    assert found < 1.15 * clean  # 6 % fewer pixels


def test_saturated_values_are_left_out_where_they_occur(scan, run, clean):
    top = int(np.percentile(scan.frames.max(axis=(1, 2)), 30))
    clipped = np.minimum(scan.frames, top)
    found, notes = run(clipped)
    assert any(f"counts pile up at {top}" in n for n in notes)
    ignored, _ = run(clipped, saturation=None)
    assert found < 1.15 * clean
    assert found < 0.95 * ignored
    with pytest.raises(DataError, match="saturation=-1"):
        run(saturation=-1)


def test_hot_pixels_are_masked_and_the_beam_is_not():
    rng = np.random.default_rng(0)
    frames = rng.poisson(2, (8, 24, 24))
    frames[:, 12, 12] = 5000  # the beam
    frames[:, 3, 20] = 3000
    found = find_unmeasured(frames, np.ones((24, 24), bool), "auto")
    assert np.argwhere(found.bad).tolist() == [[3, 20]]
    assert "the first is (3, 20): they are masked as hot" in found.notes[0]
    assert found.limit == np.inf


def test_few_counts_are_not_saturation():
    frames = np.random.default_rng(0).poisson(0.2, (8, 24, 24))
    found = find_unmeasured(frames, np.ones((24, 24), bool), "auto")
    assert found.limit == np.inf
    assert not found.bad.any()


def test_frames_without_light_are_left_out(scan, run, clean):
    frames = scan.frames.copy()
    frames[[3, 40, 41]] = 0
    found, notes = run(frames)
    assert any("3 frames have no light and are left out, the first is number 3" in n for n in notes)
    assert found < 1.15 * clean


def test_noise_of_the_detector_is_no_light():
    scan = ptycho_scan(64, 64, probe_radius=10, photons=3e4, seed=2)
    noise = np.random.default_rng(0).normal(0, 0.8, scan.frames.shape)
    frames = (scan.frames + noise).astype("f4")
    frames[7] = noise[7]  # and no light
    errors = []
    with ff.Context(executor="threads") as ctx:
        for values in (frames, np.maximum(frames, 0)):
            source = ArraySource(values, 2, metadata=scan.source().metadata)
            udf = Ptychography(recipe="15 RPIE; 20 AP", probe=scan.probe)
            errors.append(error_of(ctx.iterate(source, udf).to_end(), scan))
            notes = " ".join(udf.notes)
            # cut off at 0, the noise of a dark frame is 0.3 counts per pixel, which is light
            assert ("are negative, noise of the detector: 1.6 is added" in notes) == (values is frames)
            assert ("1 frames have no light" in notes) == (values is frames)
    assert errors[0] < 0.9 * errors[1]


def test_pedestals_follow_the_noise():
    values = np.random.default_rng(1).normal(0, 3, 40_000)
    assert pedestal_of(values) == pytest.approx(6, rel=0.02)  # 1 / sqrt(2 n) of 20,000 values is 0.5 %
    assert pedestal_of(np.rint(values).astype("i4")) == 7
    assert pedestal_of(np.abs(values)) == 0


def test_an_unsteady_beam_is_followed(scan, run, clean):
    rng = np.random.default_rng(5)
    share = rng.uniform(0.6, 1, 100)
    frames = rng.binomial(scan.frames, share[:, None, None]).astype("u2")
    followed, _ = run(frames, refine_brightness=True)
    fixed, notes = run(frames)
    assert fixed > 1.5 * followed
    assert followed < 1.8 * clean  # a fifth fewer counts
    assert any("times what counting noise would leave" in n and "refine_brightness" in n for n in notes)


@pytest.mark.parametrize("mean", [0.05, 0.5, 3, 40])
def test_noise_error_is_that_of_poisson_counts(mean):
    counts = np.random.default_rng(1).poisson(mean, (4, 200, 200))
    truth = ((np.sqrt(counts) - np.sqrt(mean)) ** 2).sum() / counts.sum()
    assert noise_error(counts, np.ones((200, 200), bool), np.inf) == pytest.approx(truth, rel=0.15)
    assert np.isnan(noise_error(counts.astype(float), np.ones((200, 200), bool), np.inf))
