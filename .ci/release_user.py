"""What a user writes, with types: checked by ``mypy --strict`` against the installed package, and run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import framefold as ff
from framefold.udfs import ApplyMasksUDF, CoMUDF, StdDevUDF, SumUDF


class Spread(ff.UDF):
    """Mean and largest value of every frame, and of all."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__(threshold=threshold)

    def get_result_buffers(self) -> dict[str, Any]:
        return {
            "mean": self.buffer("nav", dtype="float64"),
            "top": self.buffer("single", dtype="float64", reduce="max"),
        }

    def process_frame(self, frame: npt.NDArray[Any]) -> None:
        self.results["mean"][...] = frame.mean()
        self.results["top"][...] = np.maximum(self.results["top"], frame.max())


def main() -> None:
    data = np.arange(6 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    with ff.Context(executor="inline") as ctx:
        assert_type(ctx, ff.Context)
        ds = ctx.load(data)
        roi = np.ones((2, 3), dtype=bool)
        one = ctx.run_udf(ds, SumUDF(), roi=roi, corrections=ff.Corrections(dark=np.ones((8, 8))))
        assert_type(one, ff.UDFResult)
        assert_type(one["intensity"], ff.ResultBuffer)
        several = ctx.run_udf(ds, [Spread(threshold=1.0), StdDevUDF(), CoMUDF()])
        assert_type(several, tuple[ff.UDFResult, ...])
        for snapshot in ctx.run_udf_iter(ds, SumUDF()):
            assert_type(snapshot, ff.Snapshot)
        masked = ctx.run_udf(ds, ApplyMasksUDF(lambda: np.ones((8, 8))))
        total: npt.NDArray[Any] = masked["intensity"].data
        assert total.shape[:2] == (2, 3)
        assert float(several[0]["top"].data[0]) == data.max()
        mapped = ctx.map(ds, np.sum)
        assert_type(mapped, ff.ResultBuffer)
        binned = ctx.run_udf(ds, SumUDF(), pre=[ff.Crop((slice(0, 4), slice(0, 4))), ff.Bin(2)])
        assert binned["intensity"].data.shape == (2, 2)


if __name__ == "__main__":
    main()
