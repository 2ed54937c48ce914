"""The laws of every UDF: any partitions, tiles, order, ROI and corrections give one answer."""

import numpy as np
import pytest

from framefold.testing.check_udf import check_udf
from framefold.udfs.apply_masks import ApplyMasksUDF
from framefold.udfs.com import CoMUDF
from framefold.udfs.crystallinity import CrystallinityUDF
from framefold.udfs.dpc import DPCUDF
from framefold.udfs.fem import FEMUDF
from framefold.udfs.radial_profile import RadialProfileUDF
from framefold.udfs.spectral_peaks import SpectralPeaksUDF
from framefold.udfs.virtual_detector import VirtualDetectorUDF

SHAPE = (3, 4, 7, 8)
RNG = np.random.default_rng(0)
DISK = np.hypot(*np.ogrid[-3:4, -4:4]) <= 2
SHIFTS = RNG.integers(-3, 4, (12, 2))

UDFS = [
    ApplyMasksUDF([DISK]),
    ApplyMasksUDF([DISK, RNG.random((7, 8))]),
    ApplyMasksUDF([RNG.random((7, 8)).astype("f4")] * 5),
    ApplyMasksUDF([RNG.integers(-4, 4, (7, 8))], shifts=ApplyMasksUDF.aux_data(SHIFTS, "nav", (2,), "i8")),
    ApplyMasksUDF([DISK * 1j]),
    CoMUDF(),
    CoMUDF(cy=3.2, r=3, ri=1, scan_rotation=12, flip_y=True),
    DPCUDF(r=3),
    RadialProfileUDF(),
    RadialProfileUDF(split=True, ellipse=(1.1, 20)),
    VirtualDetectorUDF("annuli", radii=(0, 2, 4)),
    FEMUDF((3, 4), 1, 3),
    CrystallinityUDF(1, 3, (3, 4), 1),
    SpectralPeaksUDF(n=2, rad_in=0.5),
]


@pytest.mark.parametrize("udf", UDFS, ids=lambda u: repr(u)[:40])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_laws(udf, dtype):
    check_udf(udf, SHAPE, dtype, n=15)
