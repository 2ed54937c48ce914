"""Real detector files through the program: sum, centre of mass and deviation, with a picture."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

FILES = {  # name -> frames, all readable as frames of two axes
    "001_4x2_6bit.mib": 8,
    "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.mib": 8,
    "Quad_9_Frame_CounterDepth_12_Rows_256.mib": 9,
    "Single_9_Frame_CounterDepth_24_Rows_256.mib": 9,
    "Quad_9_Frame_CounterDepth_1_Rows_256RAW.mib": 9,
    "Single_9_Frame_CounterDepth_1_Rows_256RAW.mib": 9,
    "Si100_4D.emd": 121,
    "py4DSTEM_size2x3x4x5.h5": 6,
    "test_00_master.h5": 16,
    "PETRAIII_P25_Near_Field_Ptycho.cxi": 200,
}

# a picture takes longer than the run: one of each kind of scan
PICTURES = ("Si100_4D.emd", "PETRAIII_P25_Near_Field_Ptycho.cxi")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", list(FILES))
def test_sum_com_and_std_of_real_files(cli, data_dir, name):
    plot = ["--plot=p.png"] if name in PICTURES else []
    out = cli(
        "run", data_dir / name, "--udf", "sum", "--udf", "com", "--udf", "std", "--save", "r.npz", *plot
    )
    assert re.search(rf"^{FILES[name]} frames in", out.out, re.MULTILINE)
    assert "Traceback" not in out.err
    if plot:
        with open("p.png", "rb") as f:
            assert f.read(4) == b"\x89PNG"


@pytest.mark.parametrize(
    "name, key",
    [
        ("Si100_4D.emd", "4DSTEM_simulation/data/datacubes/CBED_array_depth0000/datacube"),
        ("PETRAIII_P25_Near_Field_Ptycho.cxi", "entry_1/instrument_1/detector_1/data"),
    ],
)
def test_the_sum_is_that_of_h5py(cli, data_dir, name, key):
    cli("run", data_dir / name, "--udf", "sum", "--key", key, "--save", "s.npy")
    with h5py.File(data_dir / name) as f:
        data = f[key][()].astype("float64")
    truth = data.sum(axis=tuple(range(data.ndim - 2)))
    assert np.allclose(np.load("s.npy"), truth, rtol=1e-6)
