"""Constraints on object and probe."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import Ptychography
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.quality import object_error
from framefold.udfs.ptycho.regularise import (
    Clip,
    FlatOutside,
    PhaseOnly,
    ProbeSupport,
    Smooth,
    TotalVariation,
    as_constraints,
    total_variation,
)


@pytest.fixture
def job():
    rng = np.random.default_rng(0)
    obj = (1 + 0.3 * rng.normal(size=(2, 20, 18)) + 0.3j * rng.normal(size=(2, 20, 18))).astype("c8")
    probe = (rng.normal(size=(1, 12, 12)) + 1j * rng.normal(size=(1, 12, 12))).astype("c8")
    weight = np.zeros((20, 18))
    weight[4:16, 4:14] = 1
    return SimpleNamespace(
        loop=SimpleNamespace(object=obj, probe=probe),
        probe_changed=lambda: None,
        object_denominator=lambda: weight,
    )


def test_each_constraint_does_what_it_says(job):
    before = job.loop.object
    Clip(0.8, 1.1).apply(job)
    assert np.abs(job.loop.object).min() > 0.8 - 1e-6
    assert np.abs(job.loop.object).max() < 1.1 + 1e-6
    np.testing.assert_allclose(np.angle(job.loop.object), np.angle(before), atol=1e-5)
    PhaseOnly().apply(job)
    np.testing.assert_allclose(np.abs(job.loop.object), 1, atol=1e-6)
    job.loop.object = before
    Smooth(1.0).apply(job)
    around = before[0, 3, 5] + before[0, 5, 5] + before[0, 4, 4] + before[0, 4, 6]
    assert job.loop.object[0, 4, 5] == pytest.approx(around / 4, abs=1e-6)
    FlatOutside().apply(job)
    outside = job.loop.object[:, illuminated(job.object_denominator()) == 0]
    assert (outside == outside[:, :1]).all()
    assert job.loop.object.dtype == np.complex64


def test_probe_supports(job):
    ProbeSupport(4).apply(job)
    assert (job.loop.probe[0, 0] == 0).all()
    ProbeSupport(2, "fourier").apply(job)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(job.loop.probe[0])))
    assert spectrum[6, 10] < 1e-5 * spectrum.max()
    assert spectrum[6, 6] > 0


def test_total_variation_goes_down_to_the_minimum():
    rng = np.random.default_rng(1)
    noisy = np.where(np.arange(24) < 12, 0, 2j) + 0.3 * (
        rng.normal(size=(24, 24)) + 1j * rng.normal(size=(24, 24))
    )

    def cost(u, weight=0.4):
        gy, gx = np.zeros_like(u), np.zeros_like(u)
        gy[:-1], gx[:, :-1] = u[1:] - u[:-1], u[:, 1:] - u[:, :-1]
        size = np.sqrt(np.abs(gy) ** 2 + np.abs(gx) ** 2).sum()
        return 0.5 * (np.abs(u - noisy) ** 2).sum() + weight * size

    costs = [cost(total_variation(noisy, 0.4, n)) for n in (1, 5, 300)]
    assert cost(noisy) > costs[0] > costs[1] > costs[2]
    best = total_variation(noisy, 0.4, 300)
    for seed in range(5):  # no neighbour is better: it is convex
        d = np.random.default_rng(seed).normal(size=best.shape) * 1e-2
        assert cost(best + d) > costs[2]


@pytest.mark.parametrize(
    "text, message",
    [
        ("clap(0, 1)", "no 'clap.*Did you mean 'clip'"),
        ("clip(top=1)", "clip has no option 'top'; there are low, high"),
        ("clip(0, 1, 2)", "clip has no option '2'"),
        ("tv(a)", "weight='a' is not a number"),
        ("smooth(2)", r"weight=2.0 must be in \(0, 1\]"),
        ("probe-support", "radius=0.0 must be positive"),
    ],
)
def test_wrong_text_is_refused(text, message):
    with pytest.raises(UDFError, match=message):
        Ptychography(regularise=text)


def test_text_and_values_are_the_same():
    assert as_constraints("clip(0, 1.1); tv(weight=0.02, steps=3); probe-support(9, space=fourier)") == (
        Clip(0, 1.1), TotalVariation(0.02, 3), ProbeSupport(9, "fourier"),
    )  # fmt: skip
    with pytest.raises(UDFError, match="3 is not a constraint"):
        as_constraints([3])


def test_a_phase_object_is_found_better_as_one():
    scan = ptycho_scan(64, 32, probe_radius=6, step=3, photons=3e3, seed=2, contrast=0.0)
    with ff.Context(executor="threads") as ctx:
        errors = []
        for how in ("", "phase-only", "tv(0.05)"):
            udf = Ptychography(probe=scan.probe, recipe="8 RPIE; 15 AP", regularise=how)
            found = ctx.iterate(scan.source(), udf).to_end()["object"].data
            w = illuminated(scan.illumination)
            y, x = (min(a, b) for a, b in zip(found.shape, w.shape, strict=True))
            errors.append(object_error(found[:y, :x], scan.object[:y, :x], w[:y, :x]))
    # vacuum: half of the noise lies in the modulus; total variation takes most of all of it
    assert errors[1] < 0.85 * errors[0]
    assert errors[2] < 0.7 * errors[0]
