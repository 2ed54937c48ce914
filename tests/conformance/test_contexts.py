"""The same combinations through `Context`, on threads and on dask workers."""

import numpy as np
import pytest

import framefold as ff

SIG = (9, 6)
DATA = np.random.default_rng(6).integers(0, 1000, (5, 7, *SIG)).astype("uint16")


@pytest.fixture(scope="module", params=["inline", "threads", "dask"])
def ctx(request):
    if request.param == "dask":
        with ff.Context(workers=2) as context:
            yield context
    else:
        with ff.Context(executor=request.param) as context:
            yield context


@pytest.mark.parametrize("method", ["tile", "frame", "partition"])
@pytest.mark.parametrize(
    "roi, corrections", [("none", "all"), ("random", "none"), ("empty", "dark"), ("strided", "excluded")]
)
def test_every_executor_conforms(ctx, conform, roi, corrections, method):
    for offset in (-3, 5):
        ds = ctx.load(DATA, sync_offset=offset)
        conform(
            lambda d, u, **k: ctx.run_udf(d, u, partition_frames=9, **k), ds, DATA.reshape(35, *SIG), roi=roi,
            corrections=corrections, method=method, offset=offset,
        )  # fmt: skip


def test_every_executor_folds_files(ctx, conform, tmp_path):
    np.save(tmp_path / "scan.npy", DATA)
    ctx.load(DATA).export(tmp_path / "scan.h5")
    for name in ("scan.npy", "scan.h5"):
        conform(
            ctx.run_udf, ctx.load(tmp_path / name), DATA.reshape(35, *SIG), roi="random", corrections="all"
        )
