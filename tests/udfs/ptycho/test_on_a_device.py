"""Reconstructions by formulas on whole arrays: numpy, the stand-in for CuPy, and CuPy, against plain loops."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

import framefold as ff
from framefold.errors import UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.testing import device
from framefold.udfcore.namespace import standing_in
from framefold.udfs.ptycho import Geometry, Ptychography
from framefold.udfs.ptycho.kernels import arrays

OPTIONS = {"background": 2.0, "find_defocus": False, "probe_update_start": 1}
RECIPES = {
    "rpie": {"recipe": "3 RPIE(batches=3); 2 AP", "modes": 2, "find_defocus": True},
    "exact": {"recipe": "4 RPIE(batches=3, denominators=exact)", "object_modes": 2},
    "dm": {"recipe": "4 DM; modes=2; 2 AP", "regularise": "tv(0.001); clip(0, 2); flat-outside"},
    "raar": {"recipe": "11 RAAR", "regularise": "smooth(0.01); phase-only(0.1); probe-support(7, fourier)"},
    "epie": {"recipe": "3 EPIE(a=0.5)", "subpixel": None},
    "ml": {"recipe": "2 AP; 3 ML", "modes": 2},
    "refined": {"recipe": "14 AP", "refine_positions": True, "free_pixels": 0.05},
    "background": {"recipe": "13 AP", "background": "estimate"},
    "bright": {"recipe": "6 AP", "refine_brightness": True, "orientation": "auto"},
}  # fmt: skip
COMPARED = ("raw_object", "raw_probe", "error", "positions")


@functools.cache
def small():
    return ptycho_scan(25, 16, probe_radius=3, step=1.7, photons=1e5, seed=1, background=2)


@functools.cache
def by_loops(name):
    with ff.Context(executor="inline") as ctx:
        udf = Ptychography(**(OPTIONS | RECIPES[name]), precision="double")
        return {k: v.data for k, v in ctx.iterate(small().source(), udf, n=14).to_end().items()}


def reconstruct(xp, n=None, **kwargs):
    with ff.Context(executor="inline") as ctx:
        backend = "numpy" if xp is np else "cupy"
        udf = Ptychography(**(OPTIONS | kwargs), backend=backend)
        found = ctx.iterate(small().source(), udf, n=n or 14).to_end()
    return {k: v.data for k, v in found.items()}


def compare(found, expected, tolerance):
    for name in COMPARED:
        top = np.nanmax(np.abs(expected[name]))
        assert np.nanmax(np.abs(found[name] - expected[name])) <= tolerance * top, name


@pytest.mark.parametrize("name", RECIPES)
def test_engines_agree_with_plain_loops(xp, name):
    # both compute in float64, so that only the order of sums differs
    compare(reconstruct(xp, **RECIPES[name], precision="double"), by_loops(name), 1e-7)


def test_lanes_of_formulas_add_up():
    expected = by_loops("ml")
    with ff.Context(executor="threads") as ctx:
        udf = Ptychography(**(OPTIONS | RECIPES["ml"]), backend="numpy", precision="double")
        found = ctx.iterate(small().source(), udf, n=14, lanes=3).to_end()
    compare({k: v.data for k, v in found.items()}, expected, 1e-7)


def test_single_precision_agrees_to_its_rounding(xp):
    # float32 has 6e-8; where the model is dark phases follow the rounding
    compare(reconstruct(xp, **RECIPES["ml"]), by_loops("ml"), 1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_single_precision_stays_single(name, monkeypatch):
    """Half of the memory and of the time on most cards."""
    seen = []
    project = arrays.ArrayKernels._project

    def looked_at(kernels, data, part, psi, sums):
        found = project(kernels, data, part, psi, sums)
        seen.append({psi.dtype, found.dtype, kernels.complex})
        return found

    monkeypatch.setattr(arrays.ArrayKernels, "_project", looked_at)
    with stand_in() as xp:
        reconstruct(xp, 12 if name == "refined" else 5, **(RECIPES[name] | {"find_defocus": False}))
    assert seen or name == "ml"
    assert all(found == {np.dtype("c8")} for found in seen)


def test_near_field(xp):
    geometry = Geometry(
        wavelength="1 A", distance="1 mm", detector_pixel="1 um", kind="near", focus_distance=float("inf")
    )
    rng = np.random.default_rng(0)
    frames = rng.poisson(100, (9, 16, 16)).astype(np.uint16)
    places = 1e-6 * np.stack(np.mgrid[:3, :3], axis=-1).reshape(-1, 2) * 2.3
    found = []
    for backend in ("cpu", "numpy" if xp is np else "cupy"):
        with ff.Context(executor="inline") as ctx:
            udf = Ptychography(geometry, places, recipe="4 AP", precision="double", backend=backend)
            found.append({k: v.data for k, v in ctx.iterate(frames, udf).to_end().items()})
    compare(found[1], found[0], 1e-9)


@pytest.mark.parametrize("recipe, copies, waits", [("AP", 1, 0), ("RPIE(batches=3)", 1, 0), ("ML", 4, 0)])
def test_an_iteration_brings_nothing_to_the_host_but_its_figures(recipe, copies, waits):
    """AP and RPIE: the error; ML in addition inner products and the step; none of an array."""
    with stand_in() as xp:
        counts = []
        for n in (4, 6):
            device.traffic.reset()
            reconstruct(xp, n, recipe=f"20 {recipe}")
            t = device.traffic
            counts.append((t.to_host, t.syncs, t.bytes_to_host, t.bytes_to_device))
        more = np.subtract(counts[1], counts[0])
        assert more[0] <= 2 * copies
        assert more[1] == 2 * waits
        assert more[2] <= 2 * copies * 24  # three numbers at most
        assert more[3] <= 2 * 25 * 8 * 2  # to the device: which frames are in a batch, and where they lie


def test_frames_that_do_not_fit_travel_in_parts(monkeypatch):
    monkeypatch.setattr(arrays, "DEVICE_BYTES", 2**15)
    scan = ptycho_scan(100, 16, probe_radius=3, step=1.7, seed=1)
    found = []
    with stand_in(), ff.Context(executor="inline") as ctx:
        for limit in (None, scan.frames.nbytes - 1):
            udf = Ptychography(recipe="3 AP", backend="cupy", find_defocus=False)
            with device.traffic.limited(limit):
                found.append(ctx.iterate(scan.source(), udf).to_end()["raw_object"].data)
            assert any("do not fit the device" in note for note in udf.notes) == (limit is not None)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)


def test_exit_waves_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(arrays, "DEVICE_BYTES", 2**15)
    with (
        stand_in() as xp,
        device.traffic.limited(50_000),
        pytest.raises(UDFError, match="waves of all frames"),
    ):
        reconstruct(xp, 2, recipe="3 DM")  # 25 frames of 16 x 16 complex64: 51200 bytes


def test_repeatable_runs_on_a_device_give_the_same_bits(device_xp):
    runs = [reconstruct(device_xp, 4, recipe="4 AP", repeatable=True) for _ in range(2)]
    assert runs[0]["raw_object"].tobytes() == runs[1]["raw_object"].tobytes()


@pytest.mark.parametrize("recipe", ["4 RPIE(batches=3); 4 AP", "4 AP; 4 ML"])
def test_checkpoints_hold_what_lies_on_a_device(device_xp, tmp_path, recipe):
    kwargs = OPTIONS | {"recipe": recipe, "modes": 2, "backend": "cupy", "repeatable": True}
    path = tmp_path / "run.h5"
    with ff.Context(executor="inline") as ctx:
        whole = ctx.iterate(small().source(), Ptychography(**kwargs), n=7).to_end()
        ctx.iterate(small().source(), Ptychography(**kwargs), n=5, checkpoint=path).to_end()
        rest = ctx.iterate(small().source(), Ptychography(**kwargs), n=7, resume=path).to_end()
        assert rest["raw_object"].data.tobytes() == whole["raw_object"].data.tobytes()
        # another backend goes on from there, too
        other = ctx.iterate(
            small().source(), Ptychography(**(kwargs | {"backend": "cpu"})), n=7, resume=path
        ).to_end()
    np.testing.assert_allclose(other["error"].data, whole["error"].data, rtol=1e-3)


def test_a_missing_device_is_said_before_frames_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with (
        ff.Context(executor="inline") as ctx,
        pytest.raises(UDFError, match=r"CUDA device and CuPy: pip install 'framefold\[cuda\]'"),
    ):
        ctx.iterate(small().source(), Ptychography(backend="cupy")).to_end()
    with pytest.raises(UDFError, match="backend='gpu' is not 'cpu', 'numpy' or 'cupy'"):
        Ptychography(backend="gpu")


def stand_in():
    return standing_in(device)
