"""Radius and lattice from nothing, on random lattices; and no lattice where there is none."""

import re

import numpy as np
import pytest
from matplotlib.image import imread as read_png
from scipy.ndimage import gaussian_filter

from framefold.errors import DataError
from framefold.sim.stem import cbed
from framefold.udfs.blobfinder.find import find_lattice
from framefold.udfs.blobfinder.indexing import (
    Difference,
    disk_autocorrelation,
    lattice_vectors,
    reduced,
    same_lattice,
)
from framefold.udfs.blobfinder.survey import spread_of


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Pictures of failures go where tests leave their files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def random_scan(seed):
    """Return a scan of a random lattice of 9 to 60 disks, its vectors and its radius."""
    rng = np.random.default_rng(seed)
    sig = int(rng.choice([96, 128]))
    kind = rng.choice(["square", "hexagonal", "oblique"])
    length, angle = sig * rng.uniform(0.14, 0.27), rng.uniform(0, 2 * np.pi)
    between = {"square": np.pi / 2, "hexagonal": np.pi / 3, "oblique": rng.uniform(1.15, 2.0)}[kind]
    ratio = rng.uniform(0.75, 1.3) if kind == "oblique" else 1.0
    a = length * np.array([np.sin(angle), np.cos(angle)])
    b = length * ratio * np.array([np.sin(angle + between), np.cos(angle + between)])
    spacing = min(np.hypot(*v) for v in (a, b, a + b, a - b))
    radius = max(2.5, spacing * rng.uniform(0.2, 0.42))
    zero = sig / 2 + rng.uniform(-4, 4, 2)
    scan = cbed(
        (4, 4), (sig, sig), (zero, a, b), radius, dose=float(rng.choice([8000, 50_000])), background=0.1,
        descan=rng.uniform(0, 2), structure=str(rng.choice(["uniform", "tilt", "dynamical"])), seed=seed,
    )  # fmt: skip
    return scan, np.stack([a, b]), radius


def right(ctx, seed):
    scan, vectors, radius = random_scan(seed)
    found = find_lattice(ctx, ctx.load(scan))
    return same_lattice(found.lattice.rows()[1:], vectors) and abs(found.radius / radius - 1) < 0.03


def test_random_lattices(inline):
    assert all(right(inline, seed) for seed in range(4))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_random_lattices(inline):
    assert sum(right(inline, seed) for seed in range(100, 150)) >= 49


def test_given_radius_and_roi(inline):
    scan = cbed((6, 8), (128, 128), dose=20_000, grains=2, seed=1)
    t = scan.truth
    for grain in (0, 1):
        found = find_lattice(inline, inline.load(scan), radius=scan.radius, roi=t.grain == grain)
        assert found.radius == scan.radius
        angle = np.radians(15.0) * grain
        c, s = np.cos(angle), np.sin(angle)
        turned = [(s * v[1] + c * v[0], c * v[1] - s * v[0]) for v in (t.a, t.b)]
        assert same_lattice(found.lattice.rows()[1:], turned, 0.02)
    assert "explained" in repr(found)


def test_descan_wider_than_the_disks(inline):
    scan = cbed((5, 5), (96, 96), ((48, 48), (0.5, 17), (17, -0.5)), 2.5, dose=40_000, descan=4.5, seed=1)
    found = find_lattice(inline, inline.load(scan))
    assert same_lattice(found.lattice.rows()[1:], [scan.truth.a, scan.truth.b])
    assert found.radius == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 4, 64, 64), np.uint16),
        np.full((4, 4, 64, 64), 9, np.uint16),
        np.random.default_rng(0).poisson(3, (6, 6, 96, 96)).astype(np.uint16),
    ],
    ids=["zeros", "constant", "noise"],
)
def test_no_lattice(inline, frames):
    with pytest.raises(
        DataError, match="constant|no disks|no lattice|explains only|same way|stand out|radius"
    ):
        find_lattice(inline, inline.load(frames))


def test_amorphous_rings_are_no_lattice(inline):
    y, x = np.mgrid[:128, :128] - 63.5
    r = np.hypot(y, x)
    mean = 200.0 * (r < 6) + 8 * np.exp(-(((r - 32) / 5) ** 2)) + 4 * np.exp(-(((r - 50) / 6) ** 2))
    frames = np.random.default_rng(1).poisson(mean, (5, 5, 128, 128)).astype(np.uint16)
    with pytest.raises(DataError) as caught:
        find_lattice(inline, inline.load(frames))
    # the picture that the error names shows the mean frame, whose bright middle is in its left half
    image = read_png(re.search(r"picture of what was seen: (.*\.png)$", str(caught.value))[1])
    assert str(caught.value).count("..") == 0
    left = image[:, : image.shape[1] // 2, :3].mean(axis=-1)
    panel = left[60:-20, 20:-20]
    y, x = np.indices(panel.shape)
    dark = (panel < 0.5).mean()
    assert 0.3 < dark < 0.99
    centre = panel[np.hypot(y - panel.shape[0] / 2, x - panel.shape[1] / 2) < 10]
    assert centre.mean() > 0.8


def test_without_a_place_for_the_picture_the_error_stays(inline, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    frames = np.random.default_rng(0).poisson(3, (6, 6, 96, 96)).astype(np.uint16)
    with pytest.raises(DataError) as caught:
        find_lattice(inline, inline.load(frames))
    assert "picture" not in str(caught.value)


def test_refused(inline):
    ds = inline.load(np.ones((2, 2, 64, 64), np.uint16))
    with pytest.raises(DataError, match="roi holds no frame"):
        find_lattice(inline, ds, roi=np.zeros((2, 2), bool))
    with pytest.raises(DataError, match="at least 16x16"):
        find_lattice(inline, inline.load(np.ones((2, 2, 8, 8), np.uint16)))


def test_reduced_is_canonical():
    rng = np.random.default_rng(0)
    for _ in range(50):
        B = rng.normal(size=(2, 2)) * 20
        if abs(np.linalg.det(B)) < 20:
            continue
        M = np.array([[2, 1], [1, 1]]) @ np.array([[1, int(rng.integers(-3, 4))], [0, 1]])
        R = reduced(M @ B)
        assert same_lattice(R, B, 1e-6)
        a, b = R
        assert a[1] * b[0] - a[0] * b[1] > 0  # from a to b: from +x towards +y
        # both are among the shortest vectors
        n = np.mgrid[-6:7, -6:7].reshape(2, -1).T @ R
        length = np.sort(np.hypot(*n.T))
        assert min(np.hypot(*a), np.hypot(*b)) == pytest.approx(length[1], rel=0.03)


def test_coarsest_lattice_wins():
    """Half the vectors explain the same peaks; the larger cell is the crystal's."""
    hk = np.array([(h, k) for h in range(3) for k in range(-2, 3) if (h, k) > (0, 0)])
    V = hk @ np.array([[1.0, 20.0], [19.0, -2.0]])
    B, share = lattice_vectors(Difference(V, np.ones(len(V))), 5.0)
    assert share == pytest.approx(1.0)
    assert abs(np.linalg.det(B)) == pytest.approx(382.0, rel=1e-6)


def test_overlap_of_two_disks():
    assert disk_autocorrelation(np.array([0.0, 12.0]), 6.0).tolist() == [1.0, 0.0]
    y, x = np.mgrid[-20:21:0.05, -20:21:0.05]
    both = ((np.hypot(y, x) < 6) & (np.hypot(y, x - 5) < 6)).sum() / (np.hypot(y, x) < 6).sum()
    assert disk_autocorrelation(np.array([5.0]), 6.0)[0] == pytest.approx(both, rel=0.01)


def test_frames_are_spread():
    mask = spread_of((16, 16), 30, None)
    assert 25 <= mask.sum() <= 30
    assert (mask.sum(axis=0) > 0).mean() > 0.6 and (mask.sum(axis=1) > 0).mean() > 0.6
    roi = np.zeros((16, 16), bool)
    roi[3, 4:8] = True
    np.testing.assert_array_equal(spread_of((16, 16), 30, roi), roi)


LATTICE = ((49.0, 47.5), (2.0, 22.0), (22.0, -2.0))


def expected_counts(seed=1, radius=6.0, counts=3000.0):
    """Return frames of expected counts of 13 disks, without noise."""
    return cbed(
        (3, 4), (96, 96), LATTICE, radius, dose=13 * counts, falloff=0.5, noise=False, dtype=np.float32,
        descan=0.7, seed=seed,
    ).array()  # fmt: skip


@pytest.mark.parametrize("blur", [0.0, 1.0, 1.6])
def test_radius_and_softness_of_blurred_disks(inline, blur):
    frames = gaussian_filter(expected_counts(), (0, 0, blur, blur)) + 0.2
    counts = np.random.default_rng(2).poisson(frames).astype(np.uint16)
    found = find_lattice(inline, inline.load(counts))
    # half of the intensity is where a curved edge has moved inwards by blur^2 / 2R
    assert found.radius == pytest.approx(6.0 - blur**2 / 12.0, abs=0.06)
    assert found.softness == pytest.approx(blur, abs=0.12)
    assert found.gain == 1.0
    known = find_lattice(inline, inline.load(counts), radius=6.0)
    assert known.radius == 6.0
    assert known.softness == pytest.approx(blur, abs=0.2)


def test_few_counts_do_not_widen_the_disks(inline):
    """An average of 0.4 counts per px: chi2 with the weights of the model would prefer too large a radius."""
    counts = np.random.default_rng(0).poisson(expected_counts(radius=7.0, counts=60.0) + 0.01)
    found = find_lattice(inline, inline.load(counts.astype(np.uint8)))
    assert same_lattice(found.lattice.rows()[1:], LATTICE[1:])
    assert found.radius == pytest.approx(7.0, abs=0.25)


def test_counts_per_electron_of_scaled_frames(inline):
    counts = np.random.default_rng(3).poisson(expected_counts() + 0.5)
    scaled = (counts * 2.5e-4).astype(np.float32)
    found = find_lattice(inline, inline.load(scaled))
    assert found.gain == pytest.approx(2.5e-4, rel=0.05)
    assert found.radius == pytest.approx(6.0, abs=0.02)


def test_lattice_that_is_known(inline):
    counts = np.random.default_rng(3).poisson(expected_counts() + 0.5).astype(np.uint16)
    found = find_lattice(inline, inline.load(counts), lattice=LATTICE)
    assert found.lattice.rows().tolist() == [list(v) for v in LATTICE]
    assert found.radius == pytest.approx(6.0, abs=0.02)


def test_strong_slow_background(inline):
    """Two thirds of the electrons in a background that decays from the centre beam."""
    r = np.hypot(*(np.mgrid[:96, :96] - np.array([49.0, 47.5])[:, None, None]))
    slow = np.exp(-r / 12.0)
    frames = 0.4 * expected_counts() + 30_000 * slow / slow.sum()
    found = find_lattice(inline, inline.load(np.random.default_rng(1).poisson(frames).astype(np.uint16)))
    assert same_lattice(found.lattice.rows()[1:], LATTICE[1:])
    assert found.radius == pytest.approx(6.0, abs=0.3)


def test_insides_that_vary_leave_the_radius(inline):
    """Rocking curves with several minima across a disk: an even one that explains them is a third smaller."""
    scan = cbed(
        (4, 6), (128, 128), ((64, 64), (2, 26), (26, -2)), 9.0, dose=400_000, structure="dynamical",
        thickness=2.4, bend=8.0, background=0.5, seed=1,
    )  # fmt: skip
    found = find_lattice(inline, inline.load(scan))
    assert found.radius == pytest.approx(9.0, abs=0.5)
