"""Jobs carry the shim to processes that know nothing of it."""

import numpy as np
import pytest

from framefold.compat.libertem import shim

UDF_FILE = """
import numpy as np
from libertem import masks
from libertem.udf import UDF

class Disk(UDF):
    def __init__(self, radius):
        super().__init__(radius=radius)
    def get_result_buffers(self):
        return {"inside": self.buffer(kind="nav", dtype="float64"), "n": self.buffer(kind="single", dtype="int64")}
    def get_task_data(self):
        y, x = self.meta.dataset_shape.sig
        return {"mask": masks.circular(centerX=x / 2, centerY=y / 2, imageSizeX=x, imageSizeY=y, radius=self.params.radius)}
    def process_frame(self, frame):
        self.results.inside[:] = frame[self.task_data.mask].sum()
        self.results.n += 1
    def merge(self, dest, src):
        dest.inside[:] = src.inside
        dest.n += src.n
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "disk.py").write_text(UDF_FILE)
    return tmp_path


def test_sources_and_modules_reach_dask_workers(sources, tmp_path):
    data = np.random.default_rng(0).random((4, 6, 9, 12)).astype("float32")
    data.tofile(tmp_path / "frames.raw")
    with shim(sources=sources):
        from libertem.api import Context
        from libertem.udf.com import CoMUDF
        from libertem.udf.disk import Disk

        y, x = np.ogrid[:9, :12]
        inside = (y - 4.5) ** 2 + (x - 6) ** 2 <= 9
        with Context.make_with("dask", cpus=2) as ctx, Context.make_with("inline") as here:
            raw = {
                "path": tmp_path / "frames.raw",
                "dtype": "float32",
                "nav_shape": (4, 6),
                "sig_shape": (9, 12),
            }
            for dataset in (ctx.load("raw", **raw), ctx.load("memory", data=data, num_partitions=3)):
                result = ctx.run_udf(dataset, Disk(3))
                np.testing.assert_allclose(result["inside"], data[..., inside].sum(axis=-1), rtol=1e-5)
                assert result["n"].data[0] == 24
                for name, buffer in ctx.run_udf(dataset, CoMUDF()).items():
                    np.testing.assert_allclose(
                        buffer, here.run_udf(dataset, CoMUDF())[name], rtol=1e-5, atol=1e-5
                    )
            np.testing.assert_allclose(ctx.map(dataset, np.sum), data.sum(axis=(2, 3)), rtol=1e-5)
