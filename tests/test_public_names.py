"""The public names, so that none appears or vanishes by accident."""

import framefold as ff


def test_public_names():
    assert set(ff.__all__) == {
        "Context", "UDF", "IterativeUDF", "EngineOptions", "AuxData", "PlotSpec", "Dataset", "Corrections", "Shape", "Slice",
        "UDFResult", "ResultBuffer", "Snapshot", "load_results", "Pipe", "Crop", "Bin", "Mask", "Log", "Threshold",
        "Gaussian", "Flip", "Rot90", "Apply", "errors", "masks", "sim", "testing", "udfs",
        "strain_map",
    }  # fmt: skip
    for name in ff.__all__:
        assert getattr(ff, name) is not None


def test_every_reduction_is_loadable_and_described():
    assert set(ff.udfs.__all__) == set(ff.udfs._MODULES)
    for name in ff.udfs.__all__:
        cls = getattr(ff.udfs, name)
        assert issubclass(cls, ff.UDF)
        assert name.endswith("UDF") or issubclass(cls, ff.IterativeUDF)
        assert cls.__doc__
