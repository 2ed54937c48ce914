"""The fast path: each rule satisfied and violated, equal to h5py bit by bit."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io import bslz4, hdf5_filters
from framefold.io.hdf5 import Hdf5Source, open_hdf5
from framefold.testing.check_source import check_source
from framefold.udfcore.tile import TileSlice, full_sig

hdf5plugin = pytest.importorskip("hdf5plugin")

COUNTS = np.random.default_rng(5).poisson(2, (10, 24, 20))


def write(path, data=COUNTS, dtype="u2", chunks=(1, 24, 20), **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=data.astype(dtype), chunks=chunks, **options)
    return path


def require_equal(path, expect_path: str, reason: str = "") -> Hdf5Source:
    """Compare all depths and some parts of both paths; return the fast source."""
    fast, slow = open_hdf5(path, "d"), open_hdf5(path, "d", direct=False)
    with h5py.File(path) as file:
        truth = file["d"][()]
    flat = truth.reshape(-1, *truth.shape[-2:])
    n, sig = len(flat), tuple(fast.shape.sig)
    for depth in (1, 3, n):
        for start in range(0, n, depth):
            tile = TileSlice(start, min(n, start + depth), full_sig(sig))
            out = np.full(tile.shape, 99, fast.dtype)
            got = fast.read(tile, out)
            assert got.tobytes() == slow.read(tile).tobytes()
            assert np.array_equal(got, flat[tile.start : tile.stop])
    part = (slice(3, 17), slice(5, 6))
    assert np.array_equal(fast.read(TileSlice(1, n, part)), flat[(slice(1, n), *part)])
    check_source(fast, truth, reads=8)
    check_source(slow, truth, reads=8)
    assert fast.stats().path == expect_path
    assert reason in fast.stats().reason
    assert (fast.stats().reason == "") == (reason == "")
    return fast


BITSHUFFLE = hdf5plugin.Bitshuffle(nelems=0, cname="lz4")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8", "f4", "f8", "f2", ">u2", ">f4", ">i8"])
def test_rule_1_plain_numbers(tmp_path, dtype) -> None:
    require_equal(write(tmp_path / "a.h5", dtype=dtype, **BITSHUFFLE), "direct")


def test_rule_1_violated_by_complex_and_bool(tmp_path) -> None:
    for dtype in ("c8", "?"):
        path = write(tmp_path / f"{dtype.strip('?') or 'bool'}.h5", dtype=dtype, compression="gzip")
        require_equal(path, "h5py", "not plain integers")


def test_rule_1_violated_by_enum_and_odd_precision(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.enum_dtype({"no": 0, "yes": 1}, basetype="u1")
        file.create_dataset("d", data=(COUNTS > 2).astype("u1"), dtype=kind, chunks=(1, 24, 20))
    require_equal(tmp_path / "a.h5", "h5py", "layout that numpy does not know")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        twelve_bits = h5py.h5t.STD_U16LE.copy()
        twelve_bits.set_precision(12)
        file.create_dataset(
            "d", data=COUNTS.astype("u2"), dtype=h5py.Datatype(twelve_bits), chunks=(1, 24, 20)
        )
    require_equal(tmp_path / "b.h5", "h5py", "layout that numpy does not know")


@pytest.mark.parametrize(
    "options", [{"scaleoffset": 0}, {"fletcher32": True}, {"fletcher32": True, "compression": "gzip"}]
)
def test_rule_1_violated_by_scaleoffset_and_checksums(tmp_path, options) -> None:
    require_equal(write(tmp_path / "a.h5", **options), "h5py", "filter")


def test_rule_2_contiguous_is_a_view(tmp_path) -> None:
    source = require_equal(write(tmp_path / "a.h5", chunks=None), "mmap")
    assert source.is_view
    view = source.read(TileSlice(2, 5, full_sig((24, 20))))
    assert not view.flags.writeable
    assert not view.flags.owndata


def test_rule_2_violated_by_compact_and_external_storage(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(COUNTS.shape)
        h5py.h5d.create(file.id, b"d", h5py.h5t.STD_U16LE, space, plist)
        file["d"][...] = COUNTS
    require_equal(tmp_path / "a.h5", "h5py", "compact")
    raw = tmp_path / "a.raw"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        made = file.create_dataset("d", COUNTS.shape, "u2", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
        made[...] = COUNTS
    require_equal(tmp_path / "b.h5", "h5py", "external")


def test_user_block_takes_h5py(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("d", data=COUNTS.astype("u2"), chunks=(1, 24, 20))
        file.create_dataset("contiguous", data=COUNTS.astype("u2"))
    require_equal(tmp_path / "a.h5", "h5py", "user block")
    assert not open_hdf5(tmp_path / "a.h5", "contiguous").is_view


@pytest.mark.parametrize("chunks", [(1, 24, 20), (3, 24, 20), (4, 24, 20), (10, 24, 20)])
def test_rule_3_chunks_of_whole_frames(tmp_path, chunks) -> None:
    source = require_equal(write(tmp_path / "a.h5", chunks=chunks, **BITSHUFFLE), "direct")
    assert source.natural_chunks == chunks


def test_rule_3_chunks_over_several_scan_axes(tmp_path) -> None:
    data = np.random.default_rng(6).poisson(1, (5, 6, 24, 20))
    source = require_equal(write(tmp_path / "a.h5", data, chunks=(2, 4, 24, 20), **BITSHUFFLE), "direct")
    # two rows of the scan hold whole chunks only
    assert source.natural_chunks == (12, 24, 20)


def test_rule_3_violated_by_chunks_that_cut_frames(tmp_path) -> None:
    path = write(tmp_path / "a.h5", chunks=(4, 12, 7), compression="gzip")
    source = require_equal(path, "h5py", "cut the frames")
    assert source.natural_chunks == (4, 12, 7)
    # inside one chunk the fast path serves
    inside = (slice(13, 22), slice(8, 13))
    assert np.array_equal(source.read(TileSlice(1, 9, inside)), COUNTS[(slice(1, 9), *inside)])


PIPELINES = {
    "uncompressed": {},
    "gzip": {"compression": "gzip"},
    "shuffle + gzip": {"compression": "gzip", "shuffle": True},
    "shuffle": {"shuffle": True},
    "bslz4": BITSHUFFLE,
    "bszstd": hdf5plugin.Bitshuffle(nelems=0, cname="zstd"),
    "bslz4, small blocks": hdf5plugin.Bitshuffle(nelems=64, cname="lz4"),
    "lz4": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "blosc": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE),
    "blosc zstd": hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
def test_rule_4_known_pipelines(tmp_path, name, dtype) -> None:
    require_equal(write(tmp_path / "a.h5", dtype=dtype, **PIPELINES[name]), "direct")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"compression": "lzf"}, "32000"),
        (hdf5plugin.Bitshuffle(nelems=0, cname="none"), "codec 0"),
        (hdf5plugin.Blosc2(), "32026"),
        ({"shuffle": True, "compression": "lzf"}, "32000"),
    ],
)
def test_rule_4_violated_by_other_pipelines(tmp_path, options, reason) -> None:
    require_equal(write(tmp_path / "a.h5", **options), "h5py", reason)


def test_rule_4_without_the_library(tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "a.h5", **BITSHUFFLE)
    present = hdf5_filters._installed
    monkeypatch.setattr(hdf5_filters, "_installed", lambda m: m != "dectris.compression" and present(m))
    source = require_equal(path, "direct")
    assert "bitshuffle" in source._readers.get(source._segments[0], source.candidate)._decoder.name
    monkeypatch.setattr(hdf5_filters, "_installed", lambda m: False)
    require_equal(path, "h5py", "pip install 'framefold")


def test_rule_5_filter_mask_missing_chunks_and_edges(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        d = file.create_dataset(
            "d", (10, 24, 20), "u2", chunks=(4, 24, 20), fillvalue=7, compression="gzip", shuffle=True
        )
        d[:4] = COUNTS[:4]
        # stored with all filters skipped, as a detector does with frames that do not compress
        d.id.write_direct_chunk(
            (8, 0, 0), np.pad(COUNTS[8:], ((0, 2), (0, 0), (0, 0))).astype("u2").tobytes(), 0b11
        )
    source = require_equal(tmp_path / "a.h5", "direct")
    got = source.read(TileSlice(0, 10, full_sig((24, 20))))
    assert (got[4:8] == 7).all()
    assert np.array_equal(got[8:], COUNTS[8:])


def stored_chunk(path, frame: int) -> tuple[int, int]:
    with h5py.File(path) as file:
        info = file["d"].id.get_chunk_info_by_coord((frame, 0, 0))
        return info.byte_offset, info.size


@pytest.mark.parametrize("name", ["bslz4", "lz4", "gzip", "zstd", "blosc"])
def test_rule_6_corrupt_chunk(tmp_path, name) -> None:
    path = write(tmp_path / "a.h5", **PIPELINES[name])
    offset, size = stored_chunk(path, 6)
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(255 - b for b in content[offset : offset + size])
    path.write_bytes(content)
    source = open_hdf5(path, "d")
    with pytest.raises(
        DataError, match=r"a.h5, dataset /d: the chunk at \(6, 0, 0\) \(frame 6\) is corrupt: .*filters: \d+"
    ):
        source.read(TileSlice(4, 8, full_sig((24, 20))))
    # the frames beside it are fine
    assert np.array_equal(source.read(TileSlice(0, 6, full_sig((24, 20)))), COUNTS[:6])


def test_rule_6_header_that_disagrees_with_the_chunk(tmp_path) -> None:
    path = write(tmp_path / "a.h5", **BITSHUFFLE)
    offset, _ = stored_chunk(path, 2)
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = (1 << 40).to_bytes(8, "big")
    path.write_bytes(content)
    with pytest.raises(DataError, match="it decodes to 1099511627776 bytes, its shape needs 960"):
        open_hdf5(path, "d").read(TileSlice(2, 3, full_sig((24, 20))))


def test_uncompressed_chunk_of_wrong_size(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        d = file.create_dataset("d", (2, 24, 20), "u2", chunks=(1, 24, 20), compression="gzip")
        d.id.write_direct_chunk((1, 0, 0), b"short", 0)
    with pytest.raises(DataError, match=r"frame 1.* is corrupt: zlib says"):
        open_hdf5(tmp_path / "a.h5", "d").read(TileSlice(0, 2, full_sig((24, 20))))


@pytest.mark.parametrize("decoder", ["dectris.compression", "bitshuffle"])
def test_random_damage_gives_an_error_or_data(tmp_path, monkeypatch, decoder) -> None:
    present = hdf5_filters._installed
    monkeypatch.setattr(hdf5_filters, "_installed", lambda m: m == decoder and present(m))
    path = write(tmp_path / "a.h5", np.tile(COUNTS, (1, 8, 4)), chunks=(1, 192, 80), **BITSHUFFLE)
    content, rng = path.read_bytes(), np.random.default_rng(7)
    chunks = [stored_chunk(path, i) for i in range(10)]
    for _ in range(30):
        damaged = bytearray(content)
        for offset, size in chunks:
            at = offset + int(rng.integers(0, min(size, 200)))
            damaged[at] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        source = open_hdf5(path, "d")
        for i in range(10):
            try:
                source.read(TileSlice(i, i + 1, full_sig((192, 80))))
            except DataError as exc:
                assert f"frame {i}" in str(exc)  # noqa: PT017


def test_file_that_shrinks_gives_an_error(tmp_path) -> None:
    for chunks in ((1, 24, 20), None):
        path = write(tmp_path / "a.h5", chunks=chunks)
        source = open_hdf5(path, "d")
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 2000)
        with pytest.raises(DataError, match="truncated"):
            source.read(TileSlice(8, 10, full_sig((24, 20))))
        with pytest.raises(DataError, match="truncated"):
            open_hdf5(path, "d")


def test_block_sizes_kernel_equals_its_reference() -> None:
    rng = np.random.default_rng(8)
    for n, block in ((960, 512), (64, 64), (70, 64), (7, 64)):
        size = n * 2
        pieces = []
        for _ in range(-(-(n // 8 * 16) // block)):
            length = int(rng.integers(1, 40))
            pieces.append(length.to_bytes(4, "big") + bytes(length))
        good = np.frombuffer(b"".join(pieces) + bytes(n % 8 * 2) or b"", np.uint8)
        for payload in (
            good,
            good[:-1],
            good[: len(good) // 2],
            np.append(good, np.uint8(0)),
            good[::-1].copy(),
        ):
            expected = bslz4.bslz4_blocks_fit_reference(payload, size, block, 2)
            assert bslz4.bslz4_blocks_fit(payload, size, block, 2) == expected
        assert bslz4.bslz4_blocks_fit(good, size, block, 2)


def test_chunks_deeper_than_tiles_are_decoded_once(tmp_path) -> None:
    source = open_hdf5(write(tmp_path / "a.h5", chunks=(5, 24, 20), **BITSHUFFLE), "d")
    reader = source._readers.get(source._segments[0], source.candidate)
    calls, decode = [], reader._decoder.decode
    reader._decoder = hdf5_filters.Decoder("counted", lambda *a: (calls.append(1), decode(*a))[1])
    for i in range(10):
        source.read(TileSlice(i, i + 1, full_sig((24, 20))))
    assert len(calls) == 2


def test_many_threads_read_the_same(tmp_path) -> None:
    path = write(tmp_path / "a.h5", chunks=(3, 24, 20), **BITSHUFFLE)
    source = open_hdf5(path, "d")
    barrier = threading.Barrier(4)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(50):
            start = int(rng.integers(0, 9))
            got = source.read(TileSlice(start, start + 2, full_sig((24, 20))))
            if not np.array_equal(got, COUNTS[start : start + 2]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert source.stats().bytes_read == 4 * 50 * 2 * 24 * 20 * 2


def test_pickle_reopens_and_notices_another_file(tmp_path) -> None:
    path = write(tmp_path / "a.h5", **BITSHUFFLE)
    source = open_hdf5(path, "d")
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.identity == source.identity
    assert np.array_equal(again.read(TileSlice(0, 10, full_sig((24, 20)))), COUNTS)
    assert pickle.loads(sent) is again
    write(path, COUNTS[:5], **BITSHUFFLE)
    pickle.loads(pickle.dumps(open_hdf5(path, "d")))
    from framefold.io.hdf5 import _reopen

    _reopen.cache_clear()
    with pytest.raises(DataError, match="is not the file that was loaded"):
        pickle.loads(sent)


@pytest.mark.parametrize("name", ["bslz4", "lz4", "bszstd"])
def test_decoding_into_an_array_equals_decoding_to_bytes(tmp_path, monkeypatch, name) -> None:
    path = write(tmp_path / "a.h5", dtype="u2", **PIPELINES[name])
    tile = TileSlice(0, 10, full_sig((24, 20)))
    straight = open_hdf5(path, "d").read(tile)
    monkeypatch.setattr(hdf5_filters, "_dectris_c_function", lambda: None)
    by_bytes = open_hdf5(path, "d").read(tile)
    assert straight.tobytes() == by_bytes.tobytes() == COUNTS.astype("u2").tobytes()
