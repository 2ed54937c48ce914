"""Templates: areas, zero means and refusals."""

import pickle

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.udfs.blobfinder.patterns import (
    BackgroundSubtraction,
    Bullseye,
    Disk,
    RadialGradient,
    Template,
    as_pattern,
)


@pytest.mark.parametrize(
    "pattern", [Disk(5.5), RadialGradient(5.5), BackgroundSubtraction(5.5, 8.0), Bullseye(9.0)],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
def test_zero_mean_and_centred(pattern):
    t = pattern.template(pattern.half_width)
    assert abs(t.sum()) < 1e-12
    y, x = np.mgrid[: len(t), : len(t)] - pattern.half_width
    mask = pattern.mask(pattern.half_width)
    assert abs((mask * y).sum()) < 1e-6 * mask.sum() * len(t) and abs(
        (mask * x).sum()
    ) < 1e-6 * mask.sum() * len(t)


def test_area_of_a_disk():
    assert Disk(6.3).mask(10).sum() == pytest.approx(np.pi * 6.3**2, rel=1e-3)


def test_template_is_centred_and_free_of_background():
    image = 3.0 + np.pad(Disk(4.0).mask(6) * 50, ((3, 7), (8, 2)))
    template = Template(image)
    assert template.radius == pytest.approx(4.0, abs=0.05)
    np.testing.assert_allclose(template.mask(6), Disk(4.0).mask(6), atol=0.05)


def test_names_for_users():
    import framefold.udfs.blobfinder as blobfinder

    assert set(blobfinder.__all__) == set(blobfinder._MODULES) == set(dir(blobfinder))
    for name in blobfinder.__all__:
        assert getattr(blobfinder, name).__doc__
    with pytest.raises(AttributeError, match="Disc"):
        blobfinder.Disc  # noqa: B018


def test_patterns_travel():
    template = Template(Disk(4.0).mask(7))
    back = pickle.loads(pickle.dumps(template))
    np.testing.assert_array_equal(back.mask(6), template.mask(6))
    assert pickle.loads(pickle.dumps(Bullseye(9.0))) == Bullseye(9.0)


def test_numbers_are_radii():
    assert as_pattern(4) == Disk(4.0)
    assert as_pattern(np.float32(4.5)).radius == 4.5


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Disk(0.3), "at least 1 px"),
        (lambda: Disk(float("nan")), "at least 1 px"),
        (lambda: Disk(5.0, softness=0.0), "softness"),
        (lambda: BackgroundSubtraction(5.0, 5.2), "larger than radius"),
        (lambda: Bullseye(5.0, rings=((0.5, 0.2),)), "inner < outer"),
        (lambda: Template(np.zeros((9, 9))), "flat"),
        (lambda: Template(np.zeros(9)), "2-D"),
        (lambda: Template(np.full((9, 9), np.nan)), "NaN"),
        (lambda: as_pattern("disk"), "radius in px or one of"),
    ],
)
def test_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
