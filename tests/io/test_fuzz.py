"""Every reader of our own answers damaged files with a source or a DataError, with nothing else."""

import contextlib
import functools
import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.io.registry import formats
from framefold.udfcore.tile import TileSlice, full_sig


@functools.cache
def writers(name):
    """Return a test module, which knows how to write files."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def data(shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 60, shape).astype(dtype)


def npy(folder):
    np.save(folder / "a.npy", data((3, 6, 8)))
    return folder / "a.npy"


def mib(folder):
    return writers("test_mib").write_mib(folder / "a.mib", data((3, 6, 64)))


def mib_raw(folder):
    return writers("test_mib").write_mib(folder / "a.mib", data((3, 6, 128), "uint8"), "R64", 6, quad=True)


def blo(folder):
    return writers("test_electron_files").write_blo(folder / "a.blo", data((1, 3, 8, 8), "uint8"), offset=70)


def mrc(folder):
    return writers("test_electron_files").write_mrc(folder / "a.mrc", data((3, 6, 8)), 6)


def k2is(folder):
    writers("test_k2is").record(folder)
    return folder / "run_1.bin"


def empad(folder):
    return writers("test_small_readers").write_empad(folder, data((6, 128, 128), "float32"))


def seq(folder):
    return writers("test_small_readers").write_seq(folder / "a.seq", data((3, 6, 8)), version=3)


def tvips(folder):
    writers("test_small_readers").write_tvips(folder / "a.tvips", data((3, 6, 8)))
    return folder / "a.tvips"


def frms6(folder):
    writers("test_small_readers").write_frms6(folder / "a.frms6", data((3, 6, 8)))
    return folder / "a.frms6"


def frms6_hdr(folder):
    for i in range(2):
        writers("test_small_readers").write_frms6(folder / f"a_{i:03d}.frms6", data((3, 6, 8)))
    (folder / "a.hdr").write_text(writers("test_small_readers").HDR)
    return folder / "a.hdr"


def ser(folder):
    return writers("test_microscope_files").write_ser(folder / "a.ser", data((6, 5, 7)), (3, 2))


def dm3(folder):
    make = writers("test_microscope_files")
    return make.Dm(3).write(folder / "a.dm3", make.tree(make.image(data((50, 6, 8)))))


def dm4(folder):
    make = writers("test_microscope_files")
    return make.Dm(4).write(folder / "a.dm4", make.tree(make.image(data((5, 10, 6, 8)), swapped=False)))


OWN = {
    "npy": npy, "mib": mib, "mib raw": mib_raw, "blo": blo, "mrc": mrc, "empad": empad, "seq": seq,
    "tvips": tvips, "frms6": frms6, "frms6 hdr": frms6_hdr, "ser": ser, "dm4": dm4, "dm4 old": dm3,
    "k2is": k2is,
}  # fmt: skip

_bytes = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255)
# a run of equal bytes makes the very large and negative numbers that single ones do not
mutations = st.lists(st.tuples(st.integers(0, 1400), _bytes, st.sampled_from([1, 1, 2, 4, 8])), max_size=6)


@pytest.fixture(params=OWN)
def good(request, tmp_path):
    path = OWN[request.param](tmp_path)
    return formats()[request.param.split()[0]], path, path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(changes=mutations, keep=st.none() | st.integers(0, 1500), grow=st.integers(0, 40))
def test_damaged_files(good, changes, keep, grow):
    fmt, path, whole = good
    raw = bytearray(whole)
    for at, value, run in changes:
        # headers are short, so most changes fall into them
        at %= max(1, min(len(raw), 1400))
        raw[at : at + run] = bytes([value]) * len(raw[at : at + run])
    path.write_bytes(bytes(raw if keep is None else raw[:keep]) + bytes(grow))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _open_and_read(fmt, str(path))


def _open_and_read(fmt, path):
    head = Path(path).read_bytes()[:8192]
    reason = fmt.sniff(path, head)
    assert reason is None or reason, "a refusal gives a reason"
    with contextlib.suppress(DataError):
        source = fmt.open(path)
        n, sig = source.shape.nav.size, tuple(source.shape.sig)
        assert n > 0
        assert all(s > 0 for s in sig)
        valid = np.ones(n, bool) if n < 10**6 and source.valid is None else source.valid
        # large extents come from damaged headers; what is there fits in memory
        frame = n - 1 if valid is None else int(np.flatnonzero(valid)[-1])
        part = (*(slice(0, 1) for _ in sig[:-1]), slice(0, min(sig[-1], 64)))
        source.read(TileSlice(frame, frame + 1, part))
        if np.prod(sig, dtype=object) < 10**6:
            source.read(TileSlice(frame, frame + 1, full_sig(sig)))


def test_every_own_format_is_fuzzed():
    others = {"raw", "tiff", "fabio", "zarr", "hdf5"}  # described by the user, or read by libraries
    assert set(formats()) - others - {n.split()[0] for n in OWN} <= {"euxfel"}


@settings(max_examples=200)
@given(head=st.binary(max_size=300))
def test_sniffing_never_raises(tmp_path_factory, head):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(head)
    for fmt in formats().values():
        if not fmt.directory:
            reason = fmt.sniff(str(path), head)
            assert reason is None or isinstance(reason, str)
