# ruff: noqa: D401  # fixtures are described by what they are
"""A pytest plugin that installs the shim: ``pytest -p framefold.compat.libertem.pytest``.

Offers the fixtures that LiberTEM's own tests use for contexts and small datasets. Its `delayed` contexts
run inline: framefold has no delayed execution.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from framefold.compat.libertem.install import install, installed, uninstall


def pytest_addoption(parser: Any) -> None:
    """Add ``--libertem-sources``, which the variable FRAMEFOLD_LIBERTEM_SOURCES sets too."""
    parser.addoption(
        "--libertem-sources",
        default=None,
        help="folder of LiberTEM's own UDF files to run unmodified, or 'installed'",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any, parser: Any, args: list[str]) -> None:
    """Install before any conftest or test file is imported."""
    given = parser.parse_known_args(args).libertem_sources or os.environ.get("FRAMEFOLD_LIBERTEM_SOURCES")
    install(sources=True if given == "installed" else given, override=True)


def pytest_configure(config: Any) -> None:
    """Declare the marks of LiberTEM's tests; install if no conftest phase has."""
    if not installed():
        given = config.getoption("--libertem-sources") or os.environ.get("FRAMEFOLD_LIBERTEM_SOURCES")
        install(sources=True if given == "installed" else given, override=True)
    for mark in ("asyncio", "with_numba", "slow", "dist", "flaky", "compilation", "web_api", "functional"):
        config.addinivalue_line("markers", f"{mark}: a mark of LiberTEM's tests")


def pytest_unconfigure(config: Any) -> None:
    """Take the shim away."""
    uninstall()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run coroutine tests where pytest-asyncio is not installed."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or pyfuncitem.config.pluginmanager.hasplugin(
        "asyncio"
    ):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{n: pyfuncitem.funcargs[n] for n in names}))
    return True


# --- contexts ----------------------------------------------------------------------------------------


def _context(executor: Any) -> Any:
    from framefold.compat.libertem.context import Context  # noqa: PLC0415  # after the shim is installed
    from framefold.compat.libertem.plots import Dummy2DPlot  # noqa: PLC0415

    return Context(executor=executor, plot_class=Dummy2DPlot)


@pytest.fixture
def inline_executor() -> Any:
    """An inline executor that checks what is pickled."""
    from framefold.compat.libertem.executors import InlineJobExecutor  # noqa: PLC0415

    return InlineJobExecutor(debug=True, inline_threads=2)


@pytest.fixture
def inline_executor_fast() -> Any:
    """An inline executor."""
    from framefold.compat.libertem.executors import InlineJobExecutor  # noqa: PLC0415

    return InlineJobExecutor(inline_threads=2)


@pytest.fixture
def lt_ctx(inline_executor: Any) -> Any:
    """A context that runs inline."""
    return _context(inline_executor)


@pytest.fixture
def lt_ctx_fast(inline_executor_fast: Any) -> Any:
    """A context that runs inline."""
    return _context(inline_executor_fast)


@pytest.fixture
def delayed_executor(inline_executor: Any) -> Any:
    """Inline: there is no delayed execution."""
    return inline_executor


@pytest.fixture
def delayed_ctx(inline_executor: Any) -> Any:
    """Inline: there is no delayed execution."""
    return _context(inline_executor)


@pytest.fixture
def concurrent_executor() -> Iterator[Any]:
    """Threads."""
    from framefold.compat.libertem.executors import ConcurrentJobExecutor  # noqa: PLC0415

    with ConcurrentJobExecutor.make_local() as executor:
        yield executor


@pytest.fixture
def concurrent_ctx(concurrent_executor: Any) -> Any:
    """A context with threads."""
    return _context(concurrent_executor)


@pytest.fixture
def pipelined_ctx(concurrent_executor: Any) -> Any:
    """Threads: there is no pipelined executor."""
    return _context(concurrent_executor)


@pytest.fixture(scope="session")
def dask_executor() -> Iterator[Any]:
    """A dask cluster of two worker processes."""
    from framefold.compat.libertem.executors import DaskJobExecutor  # noqa: PLC0415

    with DaskJobExecutor.make_local(2) as executor:
        yield executor


@pytest.fixture
def local_cluster_ctx(dask_executor: Any) -> Any:
    """A context with the dask cluster."""
    return _context(dask_executor)


# --- data --------------------------------------------------------------------------------------------


def _random(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 2, size=shape).astype(dtype)
    for factor in (1, 10):  # two bright pixels, so that wrong places do not average out
        data[tuple(rng.integers(0, n) for n in shape)] = sum(shape) * factor % 2**15
    return data


def _raw(tmp_path_factory: Any, data: Any, nav: tuple[int, ...], cores: int = 2) -> Any:
    from framefold.compat.libertem.datasets import RawFileDataSet  # noqa: PLC0415

    path = tmp_path_factory.mktemp("libertem") / "frames.raw"
    data.tofile(path)
    dataset = RawFileDataSet(str(path), data.dtype.str, nav_shape=nav, sig_shape=data.shape[-2:])
    dataset.set_num_cores(cores)
    return dataset


@pytest.fixture(scope="session")
def default_raw_data() -> Any:
    """Random frames, (16, 16, 128, 128) float32."""
    return _random((16, 16, 128, 128))


@pytest.fixture(scope="session")
def default_raw(tmp_path_factory: pytest.TempPathFactory, default_raw_data: Any) -> Any:
    """The same in a raw file, two partitions."""
    return _raw(tmp_path_factory, default_raw_data, (16, 16))


@pytest.fixture(scope="session")
def default_raw_asymm(tmp_path_factory: pytest.TempPathFactory, default_raw_data: Any) -> Any:
    """The same with a scan of (14, 17)."""
    return _raw(tmp_path_factory, default_raw_data, (14, 17))


@pytest.fixture(scope="session")
def prime_raw_data() -> Any:
    """Random frames whose extents are primes."""
    return _random((13, 17, 19, 23))


@pytest.fixture(scope="session")
def prime_raw(tmp_path_factory: pytest.TempPathFactory, prime_raw_data: Any) -> Any:
    """The same in a raw file."""
    return _raw(tmp_path_factory, prime_raw_data, (13, 17))


@pytest.fixture(scope="session")
def uint16_raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random uint16 frames in a raw file."""
    return _raw(tmp_path_factory, _random((16, 16, 128, 128), "uint16"), (16, 16))


@pytest.fixture(scope="session")
def big_endian_raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random big-endian uint16 frames in a raw file."""
    return _raw(tmp_path_factory, _random((16, 16, 128, 128), ">u2"), (16, 16))


@pytest.fixture(scope="session")
def raw_with_zeros(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Zeros in a raw file."""
    return _raw(tmp_path_factory, np.zeros((16, 16, 128, 128), np.float32), (16, 16))


@pytest.fixture
def npy_8x8x8x8_ds() -> Any:
    """Random frames, (8, 8, 8, 8), in memory."""
    from framefold.compat.libertem.datasets import MemoryDataSet  # noqa: PLC0415

    return MemoryDataSet(data=_random((8, 8, 8, 8)), num_partitions=2)


@pytest.fixture
def ds_complex() -> Any:
    """Complex frames in memory."""
    from framefold.compat.libertem.datasets import MemoryDataSet  # noqa: PLC0415

    rng = np.random.default_rng(0)
    data = rng.choice(np.array([0, 1, 1j, -1j, 1 + 1j, 1 - 1j], dtype="complex64"), size=(16, 16, 16, 16))
    return MemoryDataSet(data=data, tileshape=(1, 16, 16), num_partitions=2, sig_dims=2)


@pytest.fixture
def points() -> Any:
    """The origin and its neighbours, (y, x)."""
    return np.array([(0, 0), (0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1)])
