"""UDFs by the names that the command line knows: ``sum``, ``std``, ``mymod:MyUDF``, ``my_file.py:MyUDF``."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framefold.errors import FramefoldError, ParameterError, did_you_mean
from framefold.udfcore.udf import UDF

_ALIASES = {"std": "stddev", "masks": "applymasks", "virtual": "virtualdetector"}
_NOT_HERE = (
    "export",
    "auto",
    "record",
    "c2",
)  # need a sink, a function, a path, a geometry: see `framefold convert`, `ctx.map`, `framefold fxs`


def udf_names() -> Mapping[str, type[UDF]]:
    """Return the UDFs that ``--udf NAME`` knows: those of `framefold.udfs`, then those of plug-ins.

    The name is that of the class in lower case without ``UDF``; plug-ins use the entry point group
    ``framefold.udfs``.
    """
    import framefold.udfs as built_in  # noqa: PLC0415  # kernels load only where a UDF is wanted

    names = list(getattr(built_in, "__all__", None) or dir(built_in))
    classes = [getattr(built_in, n) for n in names]
    found = {_name(c): c for c in classes if isinstance(c, type) and issubclass(c, UDF) and c is not UDF}
    for name in _NOT_HERE:
        found.pop(name, None)
    for point in importlib.metadata.entry_points(group="framefold.udfs"):
        try:
            cls = point.load()
        except Exception as exc:  # noqa: BLE001  # a broken plug-in must not break the others
            warnings.warn(f"UDF {point.name} ({point.value}) does not load: {exc!r}", stacklevel=2)
            continue
        found.setdefault(point.name.lower(), cls)
    return dict(sorted(found.items()))


def _name(cls: type) -> str:
    return cls.__name__.removesuffix("UDF").lower()


def aliases() -> Mapping[str, str]:
    """Return the short names of UDFs that are there."""
    known = udf_names()
    return {short: name for short, name in _ALIASES.items() if name in known}


def udf_class(name: str) -> Any:
    """Return the class (or factory) that a name on the command line stands for.

    Parameters
    ----------
    name
        ``sum``; ``package.module:Class``, also from the working directory; ``path/file.py:Class``.

    Raises
    ------
    FramefoldError
        If there is no such UDF, with the names there are.
    """
    if ":" in name:
        return _imported(*name.rsplit(":", 1))
    known = udf_names()
    key = name.lower().replace("-", "").replace("_", "").removesuffix("udf")
    key = aliases().get(key, key)
    if key not in known:
        raise FramefoldError(
            f"no UDF {name!r}.{did_you_mean(key, [*known, *aliases()])} There are: {', '.join(known)}. "
            f"Your own: --udf mymodule:MyUDF or --udf my_file.py:MyUDF"
        )
    return known[key]


def _imported(where: str, name: str) -> Any:
    path = Path(where)
    if path.suffix == ".py":
        module = _from_file(path)
    else:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as exc:
            if exc.name is None or not where.startswith(exc.name):
                raise  # something that the module imports is missing
            raise FramefoldError(
                f"no module {where!r} for --udf {where}:{name}; for a file write {where}.py:{name}"
            ) from exc
    try:
        return getattr(module, name)
    except AttributeError:
        there = [
            k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, UDF) and v is not UDF
        ]
        listed = f" UDFs there: {', '.join(there)}." if there else ""
        raise FramefoldError(f"{where} has no {name!r}.{did_you_mean(name, there)}{listed}") from None


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise FramefoldError(f"no file {path} for --udf {path}:...")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    try:
        import cloudpickle  # noqa: PLC0415  # comes with dask

        cloudpickle.register_pickle_by_value(module)  # other processes do not have the file on their path
    except ImportError:
        pass
    return module


def make_udf(name: str, params: Mapping[str, Any]) -> UDF:
    """Return the UDF object for a name and its parameters.

    Raises
    ------
    FramefoldError
        For an unknown name, unknown or missing parameters, or something that is not a UDF.
    """
    found = udf_class(name)
    if isinstance(found, UDF) and not params:
        return found
    if not callable(found):
        raise FramefoldError(f"--udf {name} is a {type(found).__name__}, not a UDF class")
    known = [
        p
        for p in inspect.signature(found).parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(found).parameters.values())
    names = [p.name for p in known]
    for key in params:
        if key not in names and not takes_all:
            listed = ", ".join(names) or "none"
            raise ParameterError(
                f"--udf {name} has no parameter {key!r}.{did_you_mean(key, names)} Parameters: {listed}"
            )
    missing = [p.name for p in known if p.default is p.empty and p.name not in params]
    if missing:
        raise ParameterError(f"--udf {name} needs {', '.join(f'-p {m}=...' for m in missing)}")
    try:
        udf = found(**params)
    except (TypeError, ValueError) as exc:
        raise ParameterError(
            f"--udf {name} does not take these parameters: {exc} (--debug shows where)"
        ) from exc
    if not isinstance(udf, UDF):
        raise FramefoldError(
            f"--udf {name} made a {type(udf).__name__}, not a UDF: derive the class from framefold.UDF"
        )
    return udf
