"""The packets of PSI detectors: Jungfrau modules, and Eiger half modules, over UDP.

Facts after the public description of the header in the detector package: 48 bytes, little-endian.
"""

from __future__ import annotations

from framefold.errors import DataError
from framefold.io.live.packet import Check, Field, PacketFormat, Term
from framefold.io.live.registry import register_protocol
from framefold.io.live.sockets import Endpoint
from framefold.io.live.udp import UdpDetector, UdpSource
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import PieceGrid, SectorSpec

HEADER = 48
EIGER, JUNGFRAU = 1, 3
VERSION = 2
FIRST_PORT = 50001


def packet_format(detector: int, packets: int, rows: int, width: int) -> PacketFormat:
    """Return the format of the packets of a port.

    Parameters
    ----------
    detector
        `EIGER` or `JUNGFRAU`.
    packets
        Of a frame.
    rows, width
        Pixels of a packet.
    """
    return PacketFormat(
        header=HEADER,
        payload=rows * width * 2,
        frame_id=Field(0, 8),
        id_bits=64,
        terms=(Term(Field(12, 4), 1, packets, 1),),
        checks=(Check(Field(46, 1), detector), Check(Field(47, 1), VERSION)),
        dtype="<u2",
    )


def _ends(request: LiveRequest, n: int, iface: tuple[str, ...]) -> tuple[Endpoint, ...]:
    ports = request.address.ports or tuple(range(FIRST_PORT, FIRST_PORT + n))
    if ports == (0,):
        ports = (0,) * n
    if len(ports) != n:
        raise DataError(f"{request.address.scheme}: these modules have {n} ports, the URL gives {len(ports)}")
    host = request.address.host or "127.0.0.1"
    return tuple(Endpoint(host, p, iface[i % len(iface)] if iface else "") for i, p in enumerate(ports))


def _grid(text: tuple[int, ...]) -> tuple[int, int]:
    if len(text) != 2 or min(text) < 1 or text[0] * text[1] > 256:
        raise DataError(f"modules={text} is not rows x columns, such as 2x1")
    return text[0], text[1]


@register_protocol("jungfrau")
def open_jungfrau(
    request: LiveRequest,
    *,
    modules: tuple[int, ...] = (1, 1),
    interfaces: int = 1,
    width: int = 1024,
    height: int = 512,
    rows: int = 4,
    iface: tuple[str, ...] = (),
    fps: float | None = None,
    source: str | None = None,
) -> UdpSource:
    """Return the source of ``jungfrau://ADDRESS:50001-50004?modules=2x1&interfaces=2``.

    Ports are in the order of modules (row by row), and of interfaces within a module: the first one carries
    the upper half. Values are raw: two bits of gain stage above 14 bits of ADC.

    Parameters
    ----------
    request
        The URL. A single port 0 means any free ports.
    modules
        Rows and columns of modules.
    interfaces
        Network interfaces of a module, 1 or 2.
    width, height
        Pixels of a module.
    rows
        In a packet.
    iface, fps, source
        As for ``k2is://``.

    Raises
    ------
    DataError
        If the numbers do not fit one another.
    """
    down, across = _grid(modules)
    if interfaces not in (1, 2) or rows < 1 or height % (rows * interfaces):
        raise DataError(f"interfaces={interfaces} is 1 or 2, and rows={rows} divides the part of each")
    part = height // interfaces
    grid = PieceGrid((rows, width), tuple((y, 0) for y in range(0, part, rows)))
    ends = _ends(request, down * across * interfaces, iface)
    specs = []
    for i, end in enumerate(ends):
        (my, mx), half = divmod(i // interfaces, across), i % interfaces
        y0 = my * height + half * part
        place = (slice(y0, y0 + part), slice(mx * width, (mx + 1) * width))
        specs.append(SectorSpec(i, place, grid, str(end)))
    detector = UdpDetector(
        (down * height, across * width), tuple(specs), ends,
        packet_format(JUNGFRAU, part // rows, rows, width), fps=fps, meta={"detector": "Jungfrau"},
    )  # fmt: skip
    return UdpSource.of(request, detector, source)


@register_protocol("eiger-udp")
def open_eiger(
    request: LiveRequest,
    *,
    modules: tuple[int, ...] = (1, 1),
    width: int = 1024,
    height: int = 256,
    packet_bytes: int = 4096,
    iface: tuple[str, ...] = (),
    fps: float | None = None,
    source: str | None = None,
) -> UdpSource:
    """Return the source of ``eiger-udp://ADDRESS:50001-50004?modules=1x1``.

    A module consists of two half modules, each with two ports for its left and right part, in the order
    upper left, upper right, lower left, lower right. The lower half is sent from the bottom upwards.

    Parameters
    ----------
    request
        The URL. A single port 0 means any free ports.
    modules
        Rows and columns of modules.
    width, height
        Pixels of a half module.
    packet_bytes
        Pixels in a packet: 4096 bytes on 10 Gbit/s links, 1024 on 1 Gbit/s.
    iface, fps, source
        As for ``k2is://``.

    Raises
    ------
    DataError
        If the numbers do not fit one another.
    """
    down, across = _grid(modules)
    part = width // 2
    rows, rest = divmod(packet_bytes, 2 * part)
    if width % 2 or rest or rows < 1 or height % rows:
        raise DataError(
            f"packet_bytes={packet_bytes} is no whole number of rows of {part} uint16 that divides {height}"
        )
    upward = PieceGrid((rows, part), tuple((height - rows - y, 0) for y in range(0, height, rows)))
    downward = PieceGrid((rows, part), tuple((y, 0) for y in range(0, height, rows)))
    ends = _ends(request, down * across * 4, iface)
    specs, flips = [], []
    for i, end in enumerate(ends):
        module, quarter = divmod(i, 4)
        my, mx = divmod(module, across)
        lower, right = divmod(quarter, 2)
        y0, x0 = (2 * my + lower) * height, (2 * mx + right) * part
        place = (slice(y0, y0 + height), slice(x0, x0 + part))
        specs.append(SectorSpec(i, place, upward if lower else downward, str(end)))
        flips.append(bool(lower))
    detector = UdpDetector(
        (2 * down * height, across * width), tuple(specs), ends,
        packet_format(EIGER, height // rows, rows, part), tuple(flips), fps, {"detector": "Eiger"},
    )  # fmt: skip
    return UdpSource.of(request, detector, source)
