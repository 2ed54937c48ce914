"""K2 IS recordings: the packets of a detector written to files, with losses, swaps and wraps."""

import re

import numpy as np
import pytest

import framefold as ff
from framefold.errors import DataError
from framefold.io.k2is import open_k2is_files
from framefold.io.live.replay.k2is import encode
from framefold.io.registry import detect, open_source
from framefold.testing import check_source
from framefold.udfs import SumUDF

DATA = np.random.default_rng(4).integers(0, 4096, (7, 12, 32)).astype(np.uint16)


def record(folder, data=DATA, *, first_id=100, before=(2, 3), flag_from=1, lose=(), swap=False, gtg=True):
    """Write two sectors; sector s begins `before[s]` frames before the data."""
    wire = encode(np.concatenate([np.zeros_like(data[:3]), data]), sectors=2, piece=(6, 8))
    for s in (0, 1):
        packets = []
        for f in range(3 - before[s], len(data) + 3):
            for p in np.flatnonzero(wire.sectors == s):
                if (s, f - 3, p) in lose:
                    continue
                head = wire.headers[f, p].copy()
                head[24:28] = np.frombuffer(((first_id + f - 3) % 2**32).to_bytes(4, "big"), np.uint8)
                head[9] = f - 3 >= flag_from
                packets.append(head.tobytes() + wire.payloads[f, p].tobytes())
        if swap:
            packets[9], packets[14] = packets[14], packets[9]
        (folder / f"run_{s + 1}.bin").write_bytes(b"".join(packets))
    if gtg:
        (folder / "run.gtg").write_bytes(b"\0" * 100)
    return folder / "run.gtg" if gtg else folder / "run_1.bin"


@pytest.mark.parametrize("first_id", [100, 2**32 - 2])
@pytest.mark.parametrize("swap", [False, True])
def test_a_recording_is_read(tmp_path, first_id, swap):
    path = record(tmp_path, first_id=first_id, swap=swap)
    assert detect(str(path)).name == "k2is"
    source = open_source(path)
    check_source(source, DATA)
    assert source.metadata.raw["first_id"] == first_id


def test_any_file_of_it_opens_it(tmp_path):
    record(tmp_path, gtg=False)
    check_source(open_source(tmp_path / "run_2.bin"), DATA)


def test_series_begin_with_the_flag(tmp_path):
    check_source(open_k2is_files(str(record(tmp_path, flag_from=2)), mode="series"), DATA[2:])


def test_without_a_flag_it_begins_where_all_sectors_do(tmp_path):
    source = open_source(record(tmp_path, flag_from=99))
    check_source(source, np.concatenate([np.zeros_like(DATA[:2]), DATA]))


def test_frames_without_a_packet_are_not_valid(tmp_path):
    path = record(tmp_path, lose={(0, 2, 0), (1, 4, 5), (1, 4, 7)})
    with pytest.warns(UserWarning, match="3 of 56 packets are missing, in 2 frames"):
        source = open_source(path)
    assert source.valid.tolist() == [True, True, False, True, False, True, True]
    check_source(source, DATA)
    with ff.Context(executor="inline") as ctx, pytest.warns(UserWarning, match="packets are missing"):
        result = ctx.run_udf(ctx.load(path), SumUDF())
    np.testing.assert_array_equal(result["intensity"].data, DATA[source.valid].sum(axis=0, dtype=np.int64))
    with pytest.raises(DataError, match="3 of 56 packets are missing"):
        open_source(path, strict=True)


def test_packets_that_are_damaged_count_as_missing(tmp_path):
    path = record(tmp_path)
    file = tmp_path / "run_1.bin"
    raw = bytearray(file.read_bytes())
    size = 40 + 6 * 8 * 3 // 2
    raw[20 * size] ^= 1  # the sync of packet 20
    file.write_bytes(raw)
    with pytest.warns(UserWarning, match="1 of 56"):
        assert (~open_source(path).valid).sum() == 1


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda d: (d / "run_1.bin").unlink(), r"are expected, found \[2\]"),
        (lambda d: (d / "run_1.bin").write_bytes(b"x" * 500), "does not begin with a K2 IS packet"),
        (lambda d: (d / "run_2.bin").write_bytes(b"x" * 500), "no packet is as the first one"),
        (lambda d: (d / "run_2.bin").write_bytes(b""), "holds no packet"),
        (lambda d: damage(d, 37, 99), "cannot hold 6x8 pixels"),
        (lambda d: damage(d, 33, 99), "do not fill"),
    ],
    ids=["missing", "noise", "other", "empty", "size", "shape"],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, change, match):
    path = record(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=match):
        open_k2is_files(str(path))


def damage(folder, at, value):
    raw = bytearray((folder / "run_1.bin").read_bytes())
    raw[at] = value
    (folder / "run_1.bin").write_bytes(raw)


def test_sectors_without_a_common_frame(tmp_path):
    record(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    record(other, first_id=5000)
    (tmp_path / "run_2.bin").write_bytes((other / "run_2.bin").read_bytes())
    with pytest.raises(DataError, match="no frame in common"):
        open_k2is_files(str(tmp_path / "run.gtg"))
    with pytest.raises(DataError, match=re.escape("mode='movie' is neither")):
        open_k2is_files(str(tmp_path / "run.gtg"), mode="movie")
