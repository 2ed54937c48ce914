"""Detection, options, plug-ins and series of files."""

import importlib.metadata

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io import registry
from framefold.io.format import Format
from framefold.io.memory import ArraySource
from framefold.io.registry import detect, formats, get_format, open_source, register_format
from framefold.testing.check_source import check_source


@pytest.fixture
def no_registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def ones_format(name="ones", endings=(".one",)):
    def sniff(path, head):
        return None if head.startswith(b"ONES") else "does not begin with ONES"

    def open_ones(path, *, frames: int = 3):
        return ArraySource(np.ones((frames, 2, 2)))

    return Format(name, "test", sniff, open_ones, endings)


def test_every_format_refuses_other_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"no data at all " * 600)
    with pytest.raises(DataError) as caught:
        detect(str(path))
    for name, fmt in formats().items():
        assert fmt.name == name
        if not fmt.directory:
            assert f"  {name}: " in str(caught.value), "the message lists every format with its reason"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no format fits"):
        detect(str(path))


def test_registered_format(tmp_path, no_registered):
    path = tmp_path / "a.one"
    path.write_bytes(b"ONES")
    register_format(ones_format())
    check_source(open_source(path), np.ones((3, 2, 2)))
    check_source(open_source(path, frames=5), np.ones((5, 2, 2)))
    with pytest.raises(DataError, match="no option 'frame'. Did you mean 'frames'. Its options: frames"):
        open_source(path, frame=5)
    with pytest.raises(DataError, match="exists"):
        register_format(ones_format())
    register_format(ones_format(), replace=True)


def test_extension_breaks_ties_only(tmp_path, no_registered):
    path = tmp_path / "a.one"
    path.write_bytes(b"ONES")
    register_format(ones_format("first"))
    register_format(ones_format("second", (".two",)))
    assert detect(str(path)).name == "first"
    other = path.rename(tmp_path / "a.three")
    with pytest.raises(DataError, match="fits several formats: 'first', 'second'"):
        detect(str(other))
    check_source(open_source(other, format="second"), np.ones((3, 2, 2)))


def test_unknown_format_name():
    with pytest.raises(DataError, match="unknown format 'hfd5'. Did you mean 'hdf5'"):
        get_format("hfd5")


class Point:
    name, value = "broken", "nowhere:FORMAT"

    def __init__(self, result):
        self.result = result

    def load(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_plug_ins(monkeypatch):
    points = [Point(ones_format("plug")), Point(ImportError("no such thing")), Point(42)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    registry._plug_ins.cache_clear()
    try:
        with pytest.warns(UserWarning, match="plug-in") as caught:
            assert "plug" in formats()
        assert ["no such thing" in str(caught[0].message), "not a Format" in str(caught[1].message)] == [
            True
        ] * 2
    finally:
        registry._plug_ins.cache_clear()


def test_missing_file_names_a_near_one(tmp_path):
    (tmp_path / "scan.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"no file .*scam.npy. Did you mean 'scan.npy'"):
        open_source(tmp_path / "scam.npy")


def test_url_without_live_scheme():
    with pytest.raises(DataError, match="unknown protocol .nowhere.. Protocols: .*merlin"):
        open_source("nowhere://127.0.0.1:1")


# --- series ----------------------------------------------------------------------------------


def write_series(folder, numbers, shape=(2, 4, 5)):
    arr = np.random.default_rng(0).random((len(numbers), *shape))
    for i, n in enumerate(numbers):
        np.save(folder / f"img_{n}.npy", arr[i])
    return arr.reshape(-1, *shape[-2:])


def test_series_in_numeric_order(tmp_path):
    arr = write_series(tmp_path, [8, 9, 10, 11])
    (tmp_path / "notes.txt").write_text("not an image")
    for what in (tmp_path, str(tmp_path / "img_*.npy"), [tmp_path / f"img_{n}.npy" for n in (8, 9, 10, 11)]):
        source = open_source(what)
        assert source.shape.nav.size == 8
        check_source(source, arr)


def test_single_frames(tmp_path):
    arr = write_series(tmp_path, list(range(40)), (4, 5))
    check_source(open_source(tmp_path), arr)


def test_gap_is_named(tmp_path):
    write_series(tmp_path, [1, 2, 3, 5, 6, 8])
    with pytest.raises(DataError, match=r"lacks number 4, 7 \(2 in all\)"):
        open_source(tmp_path)
    listed = open_source([tmp_path / f"img_{n}.npy" for n in (1, 2, 5)])
    assert listed.shape.nav.size == 6


@pytest.mark.parametrize("numbers", [[10, 20, 30, 40], ["1_0", "1_1", "2_0"], ["007", "008", "009", "010"]])
def test_other_counters_are_no_gaps(tmp_path, numbers):
    arr = write_series(tmp_path, numbers)
    check_source(open_source(tmp_path), arr)


def test_files_must_agree(tmp_path):
    write_series(tmp_path, [1, 2, 3], (4, 5))
    np.save(tmp_path / "img_3.npy", np.zeros((4, 6)))
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=r"img_3.npy has frames of \(4, 6\) float64.*\(4, 5\) float64"):
        check_source(source, np.zeros((3, 4, 5)))


def test_empty_directory(tmp_path):
    with pytest.raises(DataError, match="empty directory"):
        open_source(tmp_path)


def test_raw_series(tmp_path):
    arr = np.arange(4 * 3 * 6 * 8, dtype="uint16").reshape(4, 3, 6, 8)
    for i in range(4):
        arr[i].tofile(tmp_path / f"part{i}.bin")
    source = open_source(tmp_path, sig_shape=(6, 8), dtype="uint16", nav_shape=(3, 4))
    check_source(source, arr.reshape(-1, 6, 8))
