"""A file as a live stream: results equal those of the file."""

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.io.live import open_url
from framefold.testing import DetectorEmulator
from framefold.udfs import StdDevUDF, SumSigUDF, SumUDF

pytestmark = pytest.mark.usefixtures("nothing_left")
DATA = np.random.default_rng(7).integers(0, 4096, (6, 5, 16, 64)).astype(np.uint16)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "scan.npy", DATA)
    return tmp_path / "scan.npy"


@pytest.mark.parametrize("protocol", ["k2is", "jungfrau", "merlin"])
def test_a_replay_equals_the_file(path, protocol):
    url = f"replay://{path}?protocol={protocol}&rate=none"
    extra = {"sectors": 2} if protocol == "k2is" else {}
    with ff.Context(executor="inline") as ctx:
        live = ctx.load(url, ring_bytes=1 << 23, receiver="thread", deadline=20, **extra)
        total, signal, spread = ctx.run_udf(live, [SumUDF(), SumSigUDF(), StdDevUDF()])
        np.testing.assert_array_equal(total["intensity"].data, DATA.sum(axis=(0, 1), dtype=np.int64))
        # in the scan shape of the file
        np.testing.assert_array_equal(signal["intensity"].data, DATA.sum(axis=(2, 3), dtype=np.int64))
        np.testing.assert_allclose(spread["std"].data, DATA.astype(float).std(axis=(0, 1)), rtol=1e-5)
        assert total.report["end_reason"] == "n_frames"


def test_known_loss_is_left_out():
    """Sum over exactly the pieces that were sent; coverage counts them."""
    truth = DATA.reshape(-1, 16, 64)
    with ff.Context(executor="inline") as ctx, DetectorEmulator(
        "k2is", truth, sectors=2, piece=(8, 16), mode="series", loss=0.2, seed=3, post_roll=40
    ) as detector:  # fmt: skip
        live = ctx.load(
            detector.url, nav_shape=(30,), first_frame=0, ring_bytes=1 << 23, receiver="thread", deadline=20
        )
        result = ctx.run_udf(live, SumUDF(), on_ready=detector.start)
        assert detector.wait(30)
        masked, coverage = np.zeros((16, 64), np.int64), np.zeros((16, 64), np.int64)
        for s, flags in enumerate(detector.valid()):
            for f, p in np.argwhere(flags):
                # pieces from right to left, then down
                y, x = 8 * (p // 2), 32 * s + 16 * (1 - p % 2)
                masked[y : y + 8, x : x + 16] += truth[f, y : y + 8, x : x + 16]
                coverage[y : y + 8, x : x + 16] += 1
        assert (coverage < 30).any()
        np.testing.assert_array_equal(result["intensity"].data, masked)
        np.testing.assert_array_equal(result.coverage, coverage)


def test_geometry_is_known_without_sending(path):
    start = open_url(f"replay://{path}?sectors=2&loops=3").known()
    assert start.n_frames == 90
    assert start.sig_shape == (16, 64)


def test_a_path_is_needed():
    with pytest.raises(DataError, match="the path of a dataset is missing"):
        open_url("replay://?protocol=k2is")
    with pytest.raises(DataError, match="unknown protocol 'k3is'"):
        open_url("replay://x.npy?protocol=k3is")
