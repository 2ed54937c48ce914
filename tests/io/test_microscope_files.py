"""SER, DM3 and DM4: files built field by field."""

import os
import struct

import numpy as np
import pytest

from framefold.errors import DataError
from framefold.io.registry import open_source
from framefold.testing.check_source import check_source


def data(shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# --- SER -------------------------------------------------------------------------------------

TYPES = {"uint8": 1, "uint16": 2, "int32": 6, "float64": 8, "complex64": 9}


def write_ser(path, frames, nav, version=0x0220, valid=None):
    n, *sig = frames.shape
    wide = "Q" if version >= 0x0220 else "I"
    size = struct.calcsize("<" + wide)
    head = struct.pack("<3H4I", 0x4949, 0x0197, version, 0x4120 + 2 * (len(sig) == 2), 0x4152, n, valid or n)
    dims = b"".join(
        struct.pack("<IddI", s, 5e-9, 1e-9, 0) + struct.pack("<I1sI1s", 1, b"x", 1, b"m") for s in nav
    )
    at = len(head) + size + 4 + len(dims)
    head += struct.pack("<" + wide + "I", at, len(nav)) + dims
    one = struct.pack("<" + "ddI" * len(sig), *[0.5, 0.25, 2] * len(sig))
    one += struct.pack(f"<H{len(sig)}I", TYPES[frames.dtype.name], *sig[::-1])
    begin = at + 2 * n * size
    step = len(one) + frames[0].nbytes
    # images are stored from the lowest row
    stored = frames[:, ::-1] if len(sig) == 2 else frames
    offsets = [begin + i * step for i in range(n)] + [begin + n * step] * n
    path.write_bytes(
        head + struct.pack(f"<{2 * n}{wide}", *offsets) + b"".join(one + f.tobytes() for f in stored)
    )
    return path


@pytest.mark.parametrize("version", [0x0210, 0x0220])
@pytest.mark.parametrize("dtype", TYPES)
def test_ser_images(tmp_path, version, dtype):
    arr = data((6, 5, 7), dtype)
    source = open_source(write_ser(tmp_path / "a.ser", arr, (3, 2), version))
    assert tuple(source.shape) == (2, 3, 5, 7)
    check_source(source, arr)
    y, x = source.metadata.axes[-2:]
    # element 2, counted from below, lies at 0.5
    assert x.values(7)[2] == pytest.approx(0.5)
    assert y.values(5)[::-1][2] == pytest.approx(0.5)
    assert source.metadata.axes[0].units == "m"


def test_ser_spectra(tmp_path):
    arr = data((6, 50), "float64")
    source = open_source(write_ser(tmp_path / "a.ser", arr, (6,)))
    assert (source.shape.sig.dims, tuple(source.shape.nav)) == (1, (6,))
    check_source(source, arr)


def test_ser_aborted_scan(tmp_path):
    arr = data((6, 5, 7))
    path = write_ser(tmp_path / "a.ser", arr, (3, 2), valid=4)
    os.truncate(path, path.stat().st_size - 2 * (50 + 70))
    with pytest.warns(UserWarning, match="4 whole frames"):
        check_source(open_source(path), arr)


def test_ser_damaged(tmp_path):
    path = write_ser(tmp_path / "a.ser", data((6, 5, 7)), (3, 2))
    good = path.read_bytes()
    for at, new, message in [
        (6, struct.pack("<I", 0x4121), "elements of type 0x4121"),
        (14, struct.pack("<I", 0), "6 of 0 elements"),
        (30, struct.pack("<I", 99), "99 dimensions"),
        (34, struct.pack("<I", 5), None),
        (58, struct.pack("<I", 2**31), "a text of"),
        (22, struct.pack("<Q", 2**40), "header ends"),
    ]:
        path.write_bytes(good[:at] + new + good[at + len(new) :])
        if message is None:  # a scan that does not fit its frames
            assert tuple(open_source(path).shape.nav) == (6,)
            continue
        with pytest.raises(DataError, match=message):
            open_source(path)


# --- DM --------------------------------------------------------------------------------------


class Dm:
    """Writes tags as DigitalMicrograph does."""

    def __init__(self, version=4, order="<"):
        self.version, self.order, self.long = version, order, "Q" if version == 4 else "I"

    def big(self, *values):
        return struct.pack(f">{len(values)}{self.long}", *values)

    def tag(self, name, kind, body):
        size = struct.pack(">Q", len(body)) if self.version == 4 else b""
        return bytes([kind]) + struct.pack(">H", len(name)) + name.encode() + size + body

    def value(self, value):
        if isinstance(value, bool):
            return self.big(1, 8) + struct.pack("?", value)
        if isinstance(value, int):
            return self.big(1, 5) + struct.pack(self.order + "I", value)
        if isinstance(value, float):
            return self.big(1, 6) + struct.pack(self.order + "f", value)
        if isinstance(value, str):
            text = value.encode("utf-16-le" if self.order == "<" else "utf-16-be")
            return self.big(3, 20, 4, len(value)) + text
        if isinstance(value, tuple):  # a point
            return self.big(7, 15, 0, 2, 0, 6, 0, 6) + struct.pack(self.order + "2f", *value)
        kind = {"u1": 10, "u2": 4, "i4": 3, "f4": 6}[value.dtype.str[1:]]
        return (
            self.big(3, 20, kind, value.size) + value.astype(value.dtype.newbyteorder(self.order)).tobytes()
        )

    def group(self, tags):
        body = b"\1\0" + self.big(len(tags))
        for name, value in tags.items() if isinstance(tags, dict) else [("", t) for t in tags]:
            if isinstance(value, (dict, list)):
                body += self.tag(name, 0x14, self.group(value))
            else:
                body += self.tag(name, 0x15, b"%%%%" + self.value(value))
        return body

    def write(self, path, tags):
        body = self.group(tags)
        head = struct.pack(">I", self.version) + self.big(len(body)) + struct.pack(">I", self.order == "<")
        path.write_bytes(head + body + bytes(8))
        return path


def image(arr, swapped=None):
    kind = {"u1": 6, "u2": 10, "i4": 7, "f4": 2}[arr.dtype.str[1:]]
    axes = [{"Origin": 2.0, "Scale": 0.5, "Units": "nm"} for _ in arr.shape]
    meta = {} if swapped is None else {"Data Order Swapped": swapped}
    return {
        "ImageData": {
            "Calibrations": {"Dimension": axes, "Origin": (1.0, 2.0)},
            "Data": arr, "DataType": kind, "Dimensions": [int(n) for n in arr.shape[::-1]],
        },
        "ImageTags": {"Meta Data": meta, "Microscope": {"Voltage": 200000.0, "Name": "T"}},
    }  # fmt: skip


def tree(*images):
    return {"ApplicationBounds": (1.0, 2.0), "ImageList": list(images), "InImageMode": True}


@pytest.mark.parametrize(("version", "order"), [(3, "<"), (4, "<"), (4, ">")])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_dm_stack(tmp_path, version, order, dtype):
    arr = data((30, 12, 14), dtype)
    source = open_source(
        Dm(version, order).write(tmp_path / "a.dm4", tree(image(data((3, 4), "u1")), image(arr)))
    )
    check_source(source, arr)
    assert source.metadata.raw["tags"]["Microscope"] == {"Voltage": 200000.0, "Name": "T"}
    assert [(a.scale, a.offset, a.units) for a in source.metadata.axes] == [(0.5, -1.0, "nm")] * 3


def test_dm_scans(tmp_path):
    arr = data((3, 4, 12, 14))
    path = Dm().write(tmp_path / "a.dm4", tree(image(arr, swapped=True)))
    source = open_source(path)
    assert source.stats().path == "mmap"
    check_source(source, arr)
    path = Dm().write(tmp_path / "b.dm4", tree(image(np.ascontiguousarray(arr.transpose(2, 3, 0, 1)))))
    source = open_source(path)
    assert tuple(source.shape) == (3, 4, 12, 14)
    check_source(source, arr, reads=5)
    assert tuple(open_source(path, scan_first=True).shape) == (12, 14, 3, 4)


def test_dm_damaged(tmp_path):
    path = Dm().write(tmp_path / "a.dm4", tree(image(data((30, 12, 14)))))
    good = path.read_bytes()
    path.write_bytes(good[:5000])
    with pytest.raises(DataError, match="leaves the file"):
        open_source(path)
    path.write_bytes(good.replace(b"%%%%", b"%%%$", 1))
    with pytest.raises(DataError, match="no %%%%"):
        open_source(path)
    Dm().write(path, tree())
    with pytest.raises(DataError, match="holds no image"):
        open_source(path)
    bad = image(data((30, 12, 14)))
    bad["ImageData"]["Dimensions"][0] = 15
    Dm().write(path, tree(bad))
    with pytest.raises(DataError, match="needs 10800 bytes, the tag holds 10080"):
        open_source(path)
    bad["ImageData"]["DataType"] = 23
    Dm().write(path, tree(bad))
    with pytest.raises(DataError, match="type 23"):
        open_source(path)
