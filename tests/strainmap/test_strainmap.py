"""One call from a dataset to a map, and what the map can do without its data."""

import dataclasses

import h5py
import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.sim import deformation
from framefold.sim.noise import Detector
from framefold.sim.stem import cbed
from framefold.strainmap import StrainMap, region
from framefold.udfcore.metadata import Axis

SHAPE = (8, 10)
FIELD = deformation.step(SHAPE, eps_xx=0.015, eps_yy=-0.01, eps_xy=0.004, theta=0.01)


@pytest.fixture(scope="module")
def ctx():
    return ff.Context(executor="inline")


@pytest.fixture(scope="module")
def scan():
    return cbed(SHAPE, (96, 96), strain=FIELD, dose=60_000, background=0.2, falloff=0.5, descan=1.0, seed=4)


@pytest.fixture(scope="module")
def found(ctx, scan):
    return ff.strain_map(ctx, scan)


def test_from_nothing(found, scan):
    assert found.valid.all()
    assert found.radius == pytest.approx(scan.radius, rel=0.02)
    left = FIELD.eps_xx == 0
    relative = found.rereference(roi=left)
    for name in ("eps_xx", "eps_yy", "eps_xy", "theta"):
        sigma = getattr(relative, f"sigma_{name[4:]}" if name != "theta" else "sigma_theta")
        # the reference has its own error, of 40 frames
        error = (getattr(relative, name) - getattr(FIELD, name)) / np.hypot(sigma, sigma.mean() / np.sqrt(40))
        assert np.mean(np.abs(error) < 3) > 0.95, name


def test_references(found, scan):
    t = scan.truth
    known = found.rereference(known=np.stack([t.a, t.b]))
    assert np.abs(known.eps_xx - FIELD.eps_xx).max() < 0.004
    by_slice, by_mask = (found.rereference(roi=r) for r in (np.s_[:, :5], FIELD.eps_xx == 0))
    np.testing.assert_array_equal(by_slice.reference, by_mask.reference)
    back = by_slice.rereference()
    np.testing.assert_allclose(back.eps_yy, found.eps_yy, atol=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_reference_of_spacings(found, flip):
    """Strain from lengths and angle of the diffraction vectors alone, by the law of cosines."""
    d, step = (0.205, 0.198, 88.0), 0.21
    frame = dataclasses.replace(found.frame, flip_y=flip, scan_rotation=20.0, ellipse=(0.02, 35.0))
    m = dataclasses.replace(found, frame=frame).rereference(spacings=d, step=step)
    assert abs(np.median(m.theta)) < 1e-3
    # the metric of F^T F: real-space lengths along the planes' normals are 1 / |g|
    a, b = ((frame.detector_to_scan() @ la[..., ::-1, None].astype(float))[..., 0] * step
            for la in (m.lattices["a"], m.lattices["b"]))  # fmt: skip
    G = np.stack([a, b], -1)
    gram = np.swapaxes(G, -1, -2) @ G
    p, q, c = 1 / d[0], 1 / d[1], np.cos(np.radians(d[2]))
    known = np.array([[p * p, p * q * c], [p * q * c, q * q]])
    # eigenvalues of gram against known are the squares of the stretches, inverted
    stretch = np.sort(np.linalg.eigvals(known @ np.linalg.inv(gram)).real ** 0.5, axis=-1)
    eps = np.stack([np.stack([m.eps_xx, m.eps_xy], -1), np.stack([m.eps_xy, m.eps_yy], -1)], -2)
    np.testing.assert_allclose(np.linalg.eigvalsh(eps) + 1, stretch, atol=1e-9)


def test_spacings_refused(found):
    with pytest.raises(DataError, match="belong together"):
        found.rereference(spacings=(0.2, 0.2, 90.0))
    with pytest.raises(DataError, match="positive lengths"):
        found.rereference(spacings=(0.2, -0.2, 90.0), step=0.1)
    with pytest.raises(DataError, match="between 3 and 177"):
        found.rereference(spacings=(0.2, 0.2, 180.0), step=0.1)
    with pytest.raises(DataError, match="not both"):
        found.rereference(spacings=(0.2, 0.2, 90.0), step=0.1, roi=np.s_[:, :2])


def test_rotation(found):
    turned = found.rotate(30.0)
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    expected = c * c * found.eps_xx + s * s * found.eps_yy + 2 * s * c * found.eps_xy
    np.testing.assert_allclose(turned.eps_xx, expected, atol=1e-9)
    np.testing.assert_allclose(turned.rotate(-30.0).eps_xy, found.eps_xy, atol=1e-9)
    np.testing.assert_allclose(turned.theta, found.theta, atol=1e-12)
    quarter = found.rotate(90.0)
    np.testing.assert_allclose(quarter.eps_xx, found.eps_yy, atol=1e-9)
    np.testing.assert_allclose(quarter.sigma_xx, found.sigma_yy, atol=1e-9)


def test_file_holds_everything(found, tmp_path):
    found.save(tmp_path / "strain.nxs")
    with h5py.File(tmp_path / "strain.nxs") as file:
        np.testing.assert_allclose(file["/entry/eps_xx"][()], found.eps_xx)
        np.testing.assert_allclose(file["/entry/theta_errors"][()], found.sigma_theta)
        assert file["/entry/valid"][()].all()
        group = file[f"/entry/{file['entry'].attrs['default']}"]
        assert group.attrs["NX_class"] == "NXdata"
        assert group[group.attrs["signal"]] == file["/entry/eps_xx"]
        assert list(group.attrs["axes"]) == ["y", "x"] and group["y"].shape == (SHAPE[0],)
    back = StrainMap.load(tmp_path / "strain.nxs")
    for name in ("eps_xx", "sigma_xy", "theta"):
        np.testing.assert_allclose(getattr(back, name), getattr(found, name), atol=1e-12)
    assert back.lattice == found.lattice and back.frame == found.frame
    np.testing.assert_allclose(back.rotate(20).eps_xy, found.rotate(20).eps_xy, atol=1e-12)
    with pytest.raises(DataError, match="exists"):
        found.save(tmp_path / "strain.nxs")
    found.save(tmp_path / "strain.nxs", overwrite=True)


def test_pictures(found, tmp_path):
    figure = found.plot(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 4
    np.testing.assert_allclose(images[0].get_array(), 100 * found.eps_xx)
    for image in images:
        low, high = image.get_clim()
        assert low == -high
    fit = found.plot_fit(3, 4, path=tmp_path / "fit.png")
    labels = fit.axes[0].get_legend_handles_labels()[1]
    assert labels == ["expected", "found", "left out", "lattice", "residual ×20"]


def test_calibrated_scale_bar():
    from framefold.plot.strain import maps_figure

    axes = (Axis("y", 2e-9, 0.0, "m"), Axis("x", 2e-9, 0.0, "m"))
    figure = maps_figure({"eps_xx": np.zeros((20, 30))}, axes)
    assert any("nm" in t.get_text() for t in figure.axes[0].texts)


@pytest.mark.parametrize("shape", [(12,), (1, 12), (12, 1)])
def test_narrow_scans(ctx, shape):
    scan = cbed(shape, (96, 96), dose=30_000, seed=5)
    m = ff.strain_map(ctx, scan)
    assert m.eps_xx.shape == shape and m.valid.all()
    m.plot()
    m.plot_fit(*(0 for _ in shape))


def test_xarray(found):
    pytest.importorskip("xarray")
    data = found.to_xarray()
    assert data["eps_xx"].dims == ("y", "x")
    np.testing.assert_array_equal(data["valid"], found.valid)


def test_hot_and_dead_pixels_are_found_with_the_lattice(ctx):
    scan = cbed(
        (4, 5), (96, 96), dose=60_000, background=0.2, falloff=0.5, seed=6,
        detector=Detector(hot=((20, 30), (48, 60), (70, 41)), dead=((48, 50),)),
    )  # fmt: skip
    m = ff.strain_map(ctx, scan)
    assert m.valid.all() and m.radius == pytest.approx(scan.radius, rel=0.03)
    assert np.sqrt(np.mean((m.eps_xx / m.sigma_xx) ** 2)) < 1.5


def test_region():
    np.testing.assert_array_equal(np.argwhere(region(np.s_[1:2, :2], (3, 3))), [[1, 0], [1, 1]])
    with pytest.raises(DataError, match="has the shape"):
        region(np.ones((2, 2), bool), (3, 3))
    with pytest.raises(DataError, match="does not fit"):
        region(np.s_[5, 5], (3, 3))


def test_refused(found, ctx, scan, tmp_path):
    with pytest.raises(DataError, match="not both"):
        found.rereference(roi=np.s_[:], known=np.eye(2))
    with pytest.raises(DataError, match="parallel"):
        found.rereference(known=[[0, 10], [0, 20]])
    with pytest.raises(DataError, match="no valid frame"):
        found.rereference(roi=np.zeros(SHAPE, bool))
    with pytest.raises(DataError, match="position of the scan"):
        found.plot_fit(99, 0)
    with pytest.raises(DataError, match=r"not '\.png'"):
        found.save(tmp_path / "map.png")
    with pytest.raises(DataError, match="no such file"):
        StrainMap.load(tmp_path / "none.nxs")
    found.save(tmp_path / "a.nxs")
    with pytest.raises(DataError, match="came from a file"):
        StrainMap.load(tmp_path / "a.nxs").plot_fit(0, 0)
    with h5py.File(tmp_path / "other.nxs", "w") as file:
        file["entry/x"] = 1
    with pytest.raises(DataError, match="no strain map"):
        StrainMap.load(tmp_path / "other.nxs")


def test_empty_roi(ctx, scan):
    with pytest.raises(DataError, match="roi holds no frame"):
        ff.strain_map(ctx, scan, roi=np.zeros(SHAPE, bool))


def test_live_stream_needs_its_lattice(ctx):
    from framefold.udfcore.live_dataset import LiveDataset

    class Stream(LiveDataset):
        def __init__(self):
            pass

        @property
        def shape(self):  # as of a detector that must tell it first
            raise ff.errors.StreamError("shape and dtype are not known before the acquisition begins")

    with pytest.raises(DataError, match="live stream cannot be looked at"):
        ff.strain_map(ctx, Stream())


def test_scaled_frames_give_the_same_map(ctx, scan, found):
    """Frames divided by their maximum, as other programs store them: the noise tells counts per electron."""
    scaled = (scan.array() / np.float32(1e5)).astype(np.float32)
    m = ff.strain_map(ctx, scaled)
    assert m.valid.all()
    np.testing.assert_allclose(m.eps_xx, found.eps_xx, atol=2e-4)
    np.testing.assert_allclose(m.sigma_xx, found.sigma_xx, rtol=0.2)
