"""Holds a source to its contract: any tile, from any thread, also after pickling, equals the truth."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.udfcore.backend import to_dense
from framefold.udfcore.source import Source
from framefold.udfcore.tile import TileSlice, full_sig


def check_source(source: Source, truth: npt.NDArray[Any], *, reads: int = 20, seed: int = 0) -> None:
    """Check that `source` delivers `truth` and keeps what the `Source` protocol promises.

    Parameters
    ----------
    source
        Any source.
    truth
        The frames in the shape of the source, or with flat navigation. Values of frames that are not
        valid do not matter.
    reads
        Number of random tiles.
    seed
        Of the random tiles.

    Raises
    ------
    AssertionError
        Saying which promise is broken.

    Examples
    --------
    >>> from framefold.io.memory import ArraySource
    >>> data = np.arange(24.0).reshape(2, 3, 2, 2)
    >>> check_source(ArraySource(data), data)
    """
    sig = tuple(source.shape.sig)
    n = source.shape.nav.size
    truth = np.asarray(truth).reshape(-1, *sig)
    assert len(truth) == n, f"source has {n} frames, truth {len(truth)}"
    assert source.dtype == truth.dtype.newbyteorder("="), f"dtype {source.dtype}, truth has {truth.dtype}"
    assert isinstance(source, Source), "a member of the protocol is missing"
    _check_facts(source, n, sig)
    spans = _valid_spans(source, n)
    assert spans, "no frame is valid"
    tiles = _tiles(spans, sig, reads, np.random.default_rng(seed))
    before = source.stats().bytes_read
    for tile in tiles:
        _check_tile(source, tile, truth)
    if any(t.stop > t.start for t in tiles):
        assert source.stats().bytes_read > before, "stats().bytes_read does not grow"
    assert source.stats().path, "stats().path is empty"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda tile: _check_tile(source, tile, truth), tiles))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301  # our own bytes
    assert again.identity == source.identity, "identity changes when the source is pickled"
    assert tuple(again.shape) == tuple(source.shape), "shape changes when the source is pickled"
    assert again.shape.sig.dims == len(sig), "the number of signal axes changes when the source is pickled"
    assert again.dtype == source.dtype, "dtype changes when the source is pickled"
    for tile in tiles[:5]:
        _check_tile(again, tile, truth)


def _check_facts(source: Source, n: int, sig: tuple[int, ...]) -> None:
    assert source.dtype.isnative, f"dtype {source.dtype} is not in native byte order"
    chunks = source.natural_chunks
    assert len(chunks) == 1 + len(sig), f"natural_chunks {chunks} needs {1 + len(sig)} entries"
    assert all(1 <= c <= m for c, m in zip(chunks, (n, *sig), strict=True)), f"natural_chunks {chunks}"
    assert isinstance(source.identity, str), "identity is not a string"
    assert source.identity, "identity is empty"
    assert source.identity == source.identity, "identity is not stable"
    valid = source.valid
    if valid is not None:
        assert valid.shape == (n,), f"valid has the shape {valid.shape}, not {(n,)}"
        assert valid.dtype == bool, f"valid has dtype {valid.dtype}"


def _valid_spans(source: Source, n: int) -> list[tuple[int, int]]:
    """Return the runs of valid frames."""
    valid = np.ones(n, dtype=bool) if source.valid is None else source.valid
    edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.view(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _tiles(
    spans: list[tuple[int, int]], sig: tuple[int, ...], reads: int, rng: np.random.Generator
) -> list[TileSlice]:
    """Return whole spans, first and last single frames, and random tiles within the spans."""
    full = full_sig(sig)
    tiles = [TileSlice(a, b, full) for a, b in spans]
    tiles += [TileSlice(a, a + 1, full) for a, _ in spans] + [TileSlice(b - 1, b, full) for _, b in spans]
    for _ in range(reads):
        a, b = spans[rng.integers(len(spans))]
        start, stop = sorted(int(i) for i in rng.integers(a, b + 1, 2))
        part = tuple(slice(*sorted(int(i) for i in rng.integers(0, m + 1, 2))) for m in sig)
        if stop == start or any(s.start == s.stop for s in part):
            start, stop, part = a, min(b, a + 2), full
        tiles.append(TileSlice(start, stop, part))
    return tiles


def _check_tile(source: Source, tile: TileSlice, truth: npt.NDArray[Any]) -> None:
    expected = truth[(slice(tile.start, tile.stop), *tile.sig)]
    got = source.read(tile)
    _compare(source, got, expected, tile)
    if isinstance(got, np.ndarray) and source.is_view:
        assert not got.flags.writeable, f"{tile}: a view of the data can be written to"
    out = np.zeros(tile.shape, source.dtype)
    into = source.read(tile, out)
    _compare(source, into, expected, tile)
    assert source.is_view or into is out, f"{tile}: read() did not fill `out`"
    if not source.is_view and isinstance(got, np.ndarray):
        assert got.flags.c_contiguous, f"{tile}: not C-contiguous"


def _compare(source: Source, got: Any, expected: npt.NDArray[Any], tile: TileSlice) -> None:
    assert tuple(got.shape) == tile.shape, f"{tile}: shape {got.shape}, expected {tile.shape}"
    assert got.dtype == source.dtype, f"{tile}: dtype {got.dtype}, expected {source.dtype}"
    assert got.dtype.isnative, f"{tile}: not in native byte order"
    np.testing.assert_array_equal(to_dense(got), expected, err_msg=str(tile))
