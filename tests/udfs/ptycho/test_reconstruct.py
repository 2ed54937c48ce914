"""Reconstructions of simulated scans against the truth."""

from __future__ import annotations

import numpy as np
import pytest

import framefold as ff
from framefold.errors import ConvergenceError, DataError, UDFError
from framefold.sim.ptycho import ptycho_scan
from framefold.udfs.ptycho import AP, RPIE, Geometry, Ptychography, ScanPositions
from framefold.udfs.ptycho.denominators import illuminated
from framefold.udfs.ptycho.modes import fidelity
from framefold.udfs.ptycho.quality import object_error


@pytest.fixture(scope="module")
def ctx():
    with ff.Context(executor="threads") as ctx:
        yield ctx


@pytest.fixture(scope="module")
def small():
    return ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=1e5, seed=2)


def error_of(result, scan):
    found = result["object"].data
    w = illuminated(scan.illumination)
    y, x = (min(a, b) for a, b in zip(found.shape, w.shape, strict=True))
    return object_error(found[:y, :x], scan.object[:y, :x], w[:y, :x])


def test_default_recipe_comes_near_what_a_known_probe_gives(ctx, small):
    ds = ctx.load(small.source())
    known = ctx.iterate(
        ds, Ptychography(probe=small.probe, probe_update_start=10**6, recipe="40 AP")
    ).to_end()
    udf = Ptychography()
    found = ctx.run_udf(ds, udf)
    floor = error_of(known, small)
    assert floor < 0.06  # Poisson noise of 1e5 photons in 1024 pixels
    assert error_of(found, small) < 1.3 * floor
    assert any("defocus" in note for note in udf.notes)
    assert found.report["reason"].startswith(("converged", "200 iterations"))
    assert found["pixel_size"].data[0] == pytest.approx(1e-10 * 2 / (32 * 75e-6), rel=1e-6, abs=0)


@pytest.fixture(scope="module")
def exact():
    """Noise-free frames: where the model is dark so are they, which leaves no phase undefined."""
    return ptycho_scan(49, 24, probe_radius=4, step=2, noise=False, dtype="f8", seed=1)


@pytest.fixture(scope="module")
def lit():
    """Noise-free frames on a background: the model is nowhere dark, so float32 leaves no phase undefined."""
    return ptycho_scan(49, 24, probe_radius=4, step=2, noise=False, dtype="f8", seed=1, background=50)


def with_canvas(ctx, scan, objects=1, **kwargs):
    """Return an object of the canvas' shape that holds the truth; the rest is never seen."""
    first = ctx.iterate(scan.source(), Ptychography(probe=scan.probe, subpixel=None, **kwargs), n=1).to_end()
    obj = np.ones((objects, *first["raw_object"].data.shape[-2:]), complex)
    y, x = scan.object.shape
    obj[:, :y, :x] = scan.object / np.sqrt(objects)
    return obj


@pytest.mark.parametrize(
    "recipe",
    [
        "6 AP",
        "6 RPIE(batches=4)",
        "6 RPIE(batches=4, denominators=exact)",
        "6 DM",
        "6 RAAR",
        "6 EPIE",
        "6 ML",
    ],
)
@pytest.mark.parametrize("modes, object_modes", [(1, 1), (2, 2)])
def test_noise_free_truth_is_a_fixed_point(ctx, recipe, modes, object_modes):
    scan = ptycho_scan(36, 24, probe_radius=4, step=2, modes=modes, noise=False, dtype="f8", seed=1)
    power = (np.abs(scan.probe) ** 2).sum()
    # the power of a given probe is set to the mean counts: divide the object by the same factor
    factor = np.sqrt(scan.frames.sum(axis=(1, 2)).mean() / power)
    obj = with_canvas(ctx, scan, object_modes, modes=modes, recipe="1 AP") / factor
    udf = Ptychography(
        probe=scan.probe, object=obj, modes=modes, object_modes=object_modes, recipe=recipe, probe_update_start=0,
        precision="double", subpixel=None,
    )  # fmt: skip
    result = ctx.iterate(scan.source(), udf).to_end()
    error = result["error"].data
    assert np.nanmax(error) < 1e-10  # eps of the projection: 1e-6 of the amplitude, squared
    w = illuminated(scan.illumination)
    y, x = scan.object.shape
    found = result["raw_object"].data[0, :y, :x][w]
    assert np.abs(found - obj[0, :y, :x][w]).max() < 1e-5


@pytest.mark.parametrize("recipe", ["5 AP", "5 RPIE(batches=3)", "5 DM", "5 RAAR", "5 ML"])
def test_threads_and_order_of_frames_do_not_matter(ctx, lit, recipe):
    kwargs = {"recipe": recipe, "probe": lit.probe, "subpixel": None, "background": 50}
    one = ctx.iterate(lit.source(), Ptychography(**kwargs), lanes=1).to_end()
    three = ctx.iterate(lit.source(), Ptychography(**kwargs), lanes=3).to_end()
    again = ctx.iterate(lit.source(), Ptychography(**kwargs), lanes=3).to_end()
    w = illuminated(one["illumination"].data)
    a = one["object"].data[w]
    assert np.linalg.norm(a - three["object"].data[w]) < 1e-5 * np.linalg.norm(a)
    assert three["object"].data.tobytes() == again["object"].data.tobytes()
    order = np.random.default_rng(0).permutation(49)
    other = ctx.iterate(
        lit.frames[order],
        Ptychography(lit.geometry, ScanPositions(lit.pixels[order] * lit.pixel_size), **kwargs),
    ).to_end()
    if "RPIE" not in recipe:  # batches go by the order along the scan: ties of positions are broken by index
        assert np.linalg.norm(a - other["object"].data[w]) < 1e-5 * np.linalg.norm(a)
    assert np.linalg.norm(a - other["object"].data[w]) < 1e-2 * np.linalg.norm(a)


def test_precisions_agree_and_background_belongs_to_the_model(ctx, lit):
    kwargs = {
        "recipe": "6 RPIE(batches=3); 20 AP", "probe": lit.probe, "subpixel": None, "background": 50,
        "probe_update_start": 0,
    }  # fmt: skip
    a = ctx.iterate(lit.source(), Ptychography(**kwargs)).to_end()
    b = ctx.iterate(lit.source(), Ptychography(precision="double", **kwargs)).to_end()
    w = illuminated(b["illumination"].data)
    difference = (a["object"].data - b["object"].data)[w]
    assert np.linalg.norm(difference) < 1e-4 * np.linalg.norm(b["object"].data[w])
    assert b["object"].dtype == np.complex128
    ignored = ctx.iterate(lit.source(), Ptychography(**{**kwargs, "background": None})).to_end()
    assert a["error"].data[-1] < 0.1 * ignored["error"].data[-1]


def test_three_modes_are_found(ctx):
    scan = ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=3e6, modes=3, seed=3)
    result = ctx.iterate(scan.source(), Ptychography(modes=3), n=60).to_end()
    one = ctx.iterate(scan.source(), Ptychography(modes=1), n=60).to_end()
    assert result["error"].data[-1] < 0.5 * one["error"].data[-1]
    known = ctx.iterate(
        scan.source(), Ptychography(modes=3, probe=scan.probe, probe_update_start=10**6, recipe="40 AP")
    ).to_end()
    assert error_of(result, scan) < 3 * error_of(known, scan)
    assert fidelity(result["probe"].data, scan.probe) > 0.9
    assert (np.diff(result["mode_powers"].data) < 0).all()


def test_positions_between_pixels_need_the_bank(ctx):
    scan = ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=1e6, subpixel=True, seed=4)
    kwargs = {"probe": scan.probe, "recipe": "10 RPIE; 20 AP"}
    fine = ctx.iterate(scan.source(), Ptychography(**kwargs)).to_end()
    coarse = ctx.iterate(scan.source(), Ptychography(subpixel=None, **kwargs)).to_end()
    assert fine["error"].data[-1] < 0.4 * coarse["error"].data[-1]


def test_masked_pixels_do_not_matter(ctx, small):
    scan = ptycho_scan(100, 32, probe_radius=6, step=2.5, photons=1e5, seed=2, bad_pixels=40, beam_stop=2)
    kwargs = {"probe": scan.probe, "recipe": "15 RPIE; 10 AP"}
    masked = ctx.iterate(scan.source(), Ptychography(**kwargs)).to_end()
    whole = ctx.iterate(small.source(), Ptychography(**kwargs)).to_end()
    assert error_of(masked, scan) < 1.25 * error_of(whole, small)


def test_near_field(ctx):
    scan = ptycho_scan(49, 48, near=True, step=4, photons=2e6, seed=5)
    result = ctx.iterate(
        scan.source(), Ptychography(Geometry(kind="near", focus_distance=np.inf)), n=60
    ).to_end()
    error = result["error"].data
    assert (np.diff(error[16:]) <= 1e-6).all()  # AP: monotone
    assert error[-1] < 0.2 * error[0]
    with pytest.raises(DataError, match="do not look like far-field.*--near-field --focus-distance"):
        ctx.run_udf(scan.source(), Ptychography())


def test_modes_may_grow(ctx):
    scan = ptycho_scan(64, 32, probe_radius=6, step=2.5, modes=2, seed=3)
    result = ctx.iterate(scan.source(), Ptychography(recipe="4 RPIE; modes=2; 8 AP")).to_end()
    assert result["probe"].data.shape == (2, 32, 32)
    assert result["error"].data[-1] < result["error"].data[3]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"modes": 0}, "modes=0"),
        ({"recipe": "10 RAPIE"}, "no engine 'RAPIE'.*Did you mean 'RPIE'"),
        ({"recipe": "10 RPIE(alpha=1)"}, "RPIE has no option 'alpha'"),
        ({"recipe": "ten AP"}, "is not understood"),
        ({"recipe": "modes=2"}, "has no engine"),
        ({"precision": "half"}, "precision='half'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(kwargs, message):
    with pytest.raises(UDFError, match=message):
        Ptychography(**kwargs)


def test_missing_facts_are_asked_for(ctx, small):
    frames = small.frames
    with pytest.raises(DataError, match="(?s)wavelength.*distance.*detector pixel"):
        ctx.run_udf(frames, Ptychography())
    g = Geometry(wavelength=1e-10, distance=2.0, detector_pixel=75e-6)
    with pytest.raises(DataError, match="do not state where the probe stood"):
        ctx.run_udf(frames, Ptychography(g))
    with pytest.raises(DataError, match="99 positions for 100 frames"):
        ctx.run_udf(frames, Ptychography(g, positions=np.zeros((99, 2))))
    bad = small.pixels * small.pixel_size
    bad[7] = np.nan
    with pytest.raises(DataError, match="the positions of 1 frames are not finite, the first is frame 7"):
        ctx.run_udf(frames, Ptychography(g, positions=bad))
    with pytest.raises(DataError, match="are they in m.*position-units.*or px of the object"):
        ctx.run_udf(frames, Ptychography(g, positions=small.pixels))
    with pytest.raises(DataError, match="starting probe has the shape"):
        ctx.run_udf(small.source(), Ptychography(probe=np.ones((8, 8))))
    with pytest.raises(DataError, match="mask of shape"):
        ctx.run_udf(small.source(), Ptychography(mask=np.zeros((8, 8), bool)))


def test_recipes_multiply_like_operators():
    recipe = AP(40) * RPIE(15)
    assert str(recipe) == "15 RPIE; 40 AP"
    assert str(Ptychography(recipe="15 rpie(a=0.05), 40 ER").recipe) == "15 RPIE(a=0.05); 40 AP"
    assert Ptychography(recipe=recipe).recipe.stages == (RPIE(15), AP(40))


@pytest.mark.slow
@pytest.mark.parametrize("modes, iterations, most", [(1, 20, 0.033), (3, 40, 0.045)])
def test_standard_sets_reach_their_figures(ctx, modes, iterations, most):
    scan = ptycho_scan(400, 128, modes=modes)
    result = ctx.iterate(
        scan.source(), Ptychography(modes=modes, probe=0.9 * scan.probe), n=iterations
    ).to_end()
    assert error_of(result, scan) < most
    if modes > 1:
        assert fidelity(result["probe"].data, scan.probe) > 0.998


@pytest.mark.parametrize(
    "recipe", ["30 DM; 10 RPIE; 30 AP", "20 RAAR; 20 AP", "25 EPIE; 40 AP", "8 RPIE; 25 ML"]
)
def test_every_algorithm_reconstructs(ctx, small, recipe):
    ds = ctx.load(small.source())
    rpie = ctx.iterate(ds, Ptychography(recipe="15 RPIE; 20 AP", probe=small.probe)).to_end()
    found = ctx.iterate(ds, Ptychography(recipe=recipe, probe=small.probe)).to_end()
    assert error_of(found, small) < 1.35 * error_of(rpie, small)


def difference_map(frames, probe, obj, corner, beta, gamma, n):
    """The difference map and RAAR in twenty lines of numpy, with the same rounds of object and probe."""
    ny, nx = probe.shape
    places = [(slice(y, y + ny), slice(x, x + nx)) for y, x in corner]
    amplitude = np.sqrt(frames)
    psi = [probe * obj[at] for at in places]

    def new_object():
        num, den = np.zeros_like(obj), np.zeros(obj.shape)
        for w, at in zip(psi, places, strict=True):
            num[at] += probe.conj() * (w - probe * obj[at])
            den[at] += np.abs(probe) ** 2
        return obj + num / (den + 1e-3 * den.max())

    for iteration in range(n):
        for j, at in enumerate(places):
            model = probe * obj[at]
            wave = np.fft.fft2(2 * model - psi[j], norm="ortho")
            projected = np.fft.ifft2(wave * amplitude[j] / (np.abs(wave) + 1e-6), norm="ortho")
            psi[j] = beta * (psi[j] + projected) + gamma * model
        obj = new_object()
        for _ in range(10 if iteration >= 2 else 0):
            num = sum(obj[at].conj() * (w - probe * obj[at]) for w, at in zip(psi, places, strict=True))
            den = sum(np.abs(obj[at]) ** 2 for at in places)
            change = num / (den + 1e-6 * den.max())
            probe = probe + change
            if np.linalg.norm(change) < 0.05 * np.linalg.norm(probe):
                break
            obj = new_object()
    return obj, probe


@pytest.mark.parametrize("recipe, beta, gamma", [("8 DM", 1, -1), ("8 RAAR", 0.75, -0.5)])
def test_difference_map_is_that_of_the_papers(ctx, exact, recipe, beta, gamma):
    udf = Ptychography(recipe=recipe, probe=exact.probe, precision="double", subpixel=None)
    found = ctx.iterate(exact.source(), udf).to_end()
    s = udf.setup
    frames = np.fft.ifftshift(exact.frames, axes=(1, 2))
    obj, probe = difference_map(
        frames, s.probe[0], np.ones(s.canvas.shape, complex), s.canvas.corner, beta, gamma, 8
    )
    assert np.abs(found["raw_probe"].data[0] - probe).max() < 1e-4 * np.abs(probe).max()
    w = illuminated(found["illumination"].data)
    assert np.abs(found["raw_object"].data[0] - obj)[w].max() < 1e-4


def test_epie_needs_whole_pixels(ctx):
    scan = ptycho_scan(25, 24, probe_radius=4, step=2, subpixel=True)
    with pytest.raises(UDFError, match="EPIE works on whole pixels.*--subpixel none"):
        ctx.run_udf(scan.source(), Ptychography(recipe="2 EPIE", probe=scan.probe))


def test_positions_are_refined(ctx):
    scan = ptycho_scan(64, 32, probe_radius=7, step=3, photons=1e6, subpixel=True, position_error=0.4, seed=4)
    kwargs = {"probe": scan.probe, "recipe": "10 RPIE; 60 AP"}
    found = ctx.iterate(scan.source(), Ptychography(refine_positions=True, **kwargs)).to_end()
    before = scan.stated - scan.pixels
    after = found["positions"].data - scan.pixels
    rms = [np.sqrt(((e - e.mean(axis=0)) ** 2).mean()) for e in (before, after)]
    assert rms[0] > 0.35
    assert rms[1] < 0.5 * rms[0]
    frozen = ctx.iterate(scan.source(), Ptychography(**kwargs)).to_end()
    assert found["error"].data[-1] < 0.5 * frozen["error"].data[-1]


def test_background_is_estimated(ctx):
    scan = ptycho_scan(81, 24, probe_radius=4, step=2, photons=1e5, seed=1, background=8)
    kwargs = {"recipe": "8 RPIE(batches=3); 40 AP", "probe": scan.probe}
    known = ctx.iterate(scan.source(), Ptychography(background=8, **kwargs)).to_end()
    found = ctx.iterate(scan.source(), Ptychography(background="estimate", **kwargs)).to_end()
    ignored = ctx.iterate(scan.source(), Ptychography(**kwargs)).to_end()
    assert error_of(found, scan) < 0.7 * error_of(ignored, scan)
    assert found["error"].data[-1] < 1.3 * known["error"].data[-1]


def test_divergence_goes_back_and_then_gives_up(ctx, small):
    # a step of 40 diverges at any damping tried
    udf = Ptychography(recipe="60 RPIE(step=40, batches=8, denominators=averaged)", probe=small.probe)
    with pytest.raises(ConvergenceError, match="diverged 4 times"):
        ctx.run_udf(small.source(), udf)
    assert sum("half the step" in note for note in udf.notes) == 3
    milder = Ptychography(recipe="30 RPIE(step=6, batches=8, denominators=averaged)", probe=small.probe)
    result = ctx.run_udf(small.source(), milder)
    assert np.isfinite(result["object"].data).all()


@pytest.mark.parametrize("recipe", ["6 RPIE(batches=3); 6 AP", "12 AP"])
def test_resumed_runs_give_the_same_bits(ctx, small, tmp_path, recipe):
    kwargs = {"recipe": recipe, "probe": small.probe, "modes": 2}
    whole = ctx.iterate(small.source(), Ptychography(**kwargs), n=9).to_end()
    path = tmp_path / "run.h5"
    ctx.iterate(small.source(), Ptychography(**kwargs), n=4, checkpoint=path).to_end()
    rest = ctx.iterate(small.source(), Ptychography(**kwargs), n=9, resume=path).to_end()
    assert rest["raw_object"].data.tobytes() == whole["raw_object"].data.tobytes()
    assert rest["raw_probe"].data.tobytes() == whole["raw_probe"].data.tobytes()
    np.testing.assert_array_equal(rest["error"].data, whole["error"].data)
    with pytest.raises(DataError, match="belongs to other data"):
        places = ScanPositions(small.pixels[:50], units="px")
        ctx.iterate(small.frames[:50], Ptychography(small.geometry, places, **kwargs), resume=path).to_end()
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        ctx.iterate(small.source(), Ptychography(**kwargs), resume=path).to_end()
    with pytest.raises(DataError, match="no such file"):
        ctx.iterate(small.source(), Ptychography(**kwargs), resume=tmp_path / "absent.h5").to_end()
