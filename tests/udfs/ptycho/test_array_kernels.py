"""The kernels on whole arrays against the plain ones in float64, by numpy, the stand-in for CuPy, and CuPy."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from framefold.testing import device
from framefold.udfcore.namespace import to_host
from framefold.udfs.ptycho.kernels.arrays import ArrayKernels
from framefold.udfs.ptycho.kernels.propagate import fresnel_factor
from framefold.udfs.ptycho.kernels.protocol import FrameSet, SweepStep, Window
from framefold.udfs.ptycho.kernels.reference import ReferenceKernels
from framefold.udfs.ptycho.kernels.shift_fit import object_slopes

FRAMES = 5


def problem(n, m, modes, objects, bank):
    rng = np.random.default_rng(0)

    def wave(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    corner = np.stack([rng.integers(0, 12, FRAMES), rng.integers(0, 10, FRAMES)], axis=1)
    good = (rng.random((n, m)) > 0.1).astype(float)
    data = FrameSet(
        rng.poisson(3, (FRAMES, n, m)).astype(np.uint16), corner, rng.integers(0, bank, FRAMES), good,
        rng.random((n, m)), 8.0, rng.uniform(0.7, 1.3, FRAMES),
    )  # fmt: skip
    arrays = {
        "probe": wave(bank, modes, n, m), "obj": wave(objects, n + 12, m + 10),
        "waves": wave(FRAMES, objects * modes, n, m), "step_probe": wave(bank, modes, n, m),
        "step_obj": wave(objects, n + 12, m + 10),
    }  # fmt: skip
    return data, arrays


def everything(kernels, xp, data, arrays):
    """Return what all methods of a set of kernels do, by name."""
    a = SimpleNamespace(**{k: xp.asarray(v.astype(kernels.complex)) for k, v in arrays.items()})
    place = {k: xp.asarray(getattr(data, k).astype(kernels.real)) for k in ("good", "background")}
    data = replace(data, frames=xp.asarray(data.frames), **place)
    rows, some = np.arange(FRAMES), np.array([0, 2, 3])
    found = {}

    def targets(name):
        made = xp.zeros_like(a.obj), xp.zeros_like(a.probe), xp.zeros(3, "f8")
        found.update({f"{name} {k}": v for k, v in zip(("object", "probe", "sums"), made, strict=True)})
        return made

    o, p, s = targets("residuals")
    kernels.add_residuals(data, rows, a.probe, a.obj, Window(o), p, s)
    low = data.corner[some].min(axis=0)
    window = xp.zeros_like(a.obj[:, low[0] :, low[1] :])
    kernels.add_residuals(data, some, a.probe, a.obj, Window(window, *low.tolist()), None, xp.zeros(3, "f8"))
    o, p, s = targets("relax")
    kernels.relax(data, some, a.probe, a.obj, a.waves, 0.75, -0.5, Window(o), s)
    kernels.add_wave_numerators(data, rows, a.probe, a.obj, a.waves, Window(o), p)
    kernels.add_wave_numerators(data, some, a.probe, a.obj, a.waves, None, p)
    filled = xp.zeros_like(a.waves)
    kernels.fill_waves(data, some, a.probe, a.obj, filled)
    for poisson in (True, False):
        o, p, s = targets(f"slopes {poisson}")
        kernels.add_slopes(data, rows, a.probe, a.obj, Window(o), p, s, poisson)
        line = found[f"line {poisson}"] = xp.zeros(3, "f8")
        kernels.add_line(data, rows, a.probe, a.obj, a.step_probe, a.step_obj, line, poisson)
    parts = list(kernels.parts(rows))
    slopes = object_slopes(a.obj, xp)
    both = [xp.concatenate(list(v)) for v in zip(
        *[(kernels.intensity(data, r, a.probe, a.obj),
           xp.asarray(kernels.position_steps(data, r, a.probe, a.obj, slopes))) for r in parts],
        strict=True,
    )]  # fmt: skip
    found |= {"window": window, "waves": a.waves, "filled": filled, "intensity": both[0], "moves": both[1]}
    for mix, with_probe in ((1, True), (0.3, False)):
        probe, obj, sums = a.probe[0].copy(), a.obj.copy(), xp.zeros(3, "f8")
        kernels.sweep(data, some[::-1], probe, obj, SweepStep(0.9, mix, 20.0, 15.0), with_probe, sums)
        found |= {f"sweep {mix} probe": probe, f"sweep {mix} object": obj, f"sweep {mix} sums": sums}
    return {name: to_host(value) for name, value in found.items()}


CASES = [
    (16, 16, 1, 1, 1, False),
    (31, 16, 2, 1, 1, True),
    (16, 20, 3, 2, 4, False),
    (64, 64, 1, 1, 1, False),
]


@pytest.mark.parametrize("n, m, modes, objects, bank, near", CASES)
def test_array_kernels_agree_with_the_reference(xp, n, m, modes, objects, bank, near):
    data, arrays = problem(n, m, modes, objects, bank)
    factor = fresnel_factor((n, m), (1e-7, 1e-7), 1e-10, 2e-3) if near else None
    waves = modes * objects
    expected = everything(ReferenceKernels((n, m), waves, factor), np, data, arrays)
    # float64: rounding only. float32: 1e-6 in the transforms, sums over frames; the spec asks for 1e-4
    for double, repeatable, tolerance in ((True, True, 1e-11), (False, False, 3e-5)):
        kernels = ArrayKernels(xp, (n, m), waves, factor, double=double, repeatable=repeatable)
        kernels.batch = 2
        found = everything(kernels, xp, data, arrays)
        for name, values in expected.items():
            top = np.abs(values).max()
            error = np.abs(found[name] - values).max()
            assert error <= tolerance * top, (name, double, error / top)


def test_frames_on_the_host_travel_in_parts(device_xp):
    data, arrays = problem(16, 16, 1, 1, 1)
    real = {k: device_xp.asarray(getattr(data, k).astype("f4")) for k in ("good", "background")}
    p, o = (device_xp.asarray(arrays[k].astype("c8")) for k in ("probe", "obj"))
    kernels = ArrayKernels(device_xp, (16, 16), 1)
    kernels.batch = 2
    found = []
    for frames in (data.frames, device_xp.asarray(data.frames)):
        num = device_xp.zeros_like(o)
        kernels.add_residuals(
            replace(data, frames=frames, **real), np.arange(FRAMES), p, o, Window(num), None,
            device_xp.zeros(3, "f8"),
        )  # fmt: skip
        found.append(num.get())
    np.testing.assert_array_equal(*found)


def test_a_pass_over_all_frames_moves_nothing():
    """Once the frames are there: no copies, no waiting; a batch sends the numbers of its frames."""
    with device_stand_in() as xp:
        data, arrays = problem(16, 16, 2, 1, 4)
        real = {k: xp.asarray(getattr(data, k).astype("f4")) for k in ("good", "background")}
        data = replace(data, frames=xp.asarray(data.frames), **real)
        p, o = (xp.asarray(arrays[k].astype("c8")) for k in ("probe", "obj"))
        num_o, num_p, sums = xp.zeros_like(o), xp.zeros_like(p), xp.zeros(3, "f8")
        kernels = ArrayKernels(xp, (16, 16), 2, repeatable=False)
        kernels.add_residuals(data, np.arange(FRAMES), p, o, Window(num_o), num_p, sums)
        with device.traffic.none_allowed():
            kernels.add_residuals(data, np.arange(FRAMES), p, o, Window(num_o), num_p, sums)
            kernels.add_slopes(data, np.arange(FRAMES), p, o, Window(num_o), num_p, sums, True)
        device.traffic.reset()
        kernels.add_residuals(data, np.array([0, 3]), p, o, Window(num_o), num_p, sums)
        assert (device.traffic.to_device, device.traffic.to_host, device.traffic.syncs) == (1, 0, 0)


def device_stand_in():
    from framefold.udfcore.namespace import standing_in

    return standing_in(device)


def test_batches_follow_the_size_of_the_frames():
    assert ArrayKernels(np, (2048, 2048), 1).batch == 1
    assert ArrayKernels(np, (16, 16), 1).batch == 341  # 4 MiB for 6 arrays of 2 KiB a frame
