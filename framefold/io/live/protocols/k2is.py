"""The packets of a Gatan K2 IS, 12-bit pixels of eight sectors over UDP, and of its likes of any size.

Layout after the public readers of such files and streams; all numbers big-endian, 40 bytes of header, one
block of 930 x 16 pixels in a datagram, 32 blocks in a sector of 1860 x 256 pixels.
"""

from __future__ import annotations

from framefold.errors import DataError
from framefold.io.live.packet import Check, Field, PacketFormat, Term
from framefold.io.live.registry import register_protocol
from framefold.io.live.sockets import Endpoint
from framefold.io.live.udp import UdpDetector, UdpSource
from framefold.io.live.url import LiveRequest
from framefold.udfcore.live import PieceGrid, SectorSpec

HEADER = 40
SYNC = 0xFFFF0055
SHUTTER = (9, 1)  # byte, mask
PORTS = tuple(range(2001, 2009))
GROUP = "225.1.1.1"

_ID = Field(24, 4, big_endian=True)
_X, _Y = Field(28, 2, big_endian=True), Field(30, 2, big_endian=True)
_X_END, _Y_END = Field(32, 2, big_endian=True), Field(34, 2, big_endian=True)


def packet_format(width: int, height: int, piece: tuple[int, int], flag_lag: int) -> PacketFormat:
    """Return the format of the packets of a sector.

    Parameters
    ----------
    width, height
        Pixels of a sector.
    piece
        Rows and columns of a packet.
    flag_lag
        Frames by which the shutter flag comes too late.

    Raises
    ------
    DataError
        If the pieces do not fill the sector.
    """
    rows, columns = piece
    if rows < 1 or columns < 1 or height % rows or width % columns or rows * columns % 2:
        raise DataError(
            f"pieces of {rows}x{columns} do not fill a sector of {height}x{width}, "
            "or have an odd number of pixels"
        )
    nx, ny = width // columns, height // rows
    payload = rows * columns * 3 // 2
    return PacketFormat(
        header=HEADER,
        payload=payload,
        frame_id=_ID,
        id_bits=32,
        # a row of blocks is sent from right to left
        piece_base=nx - 1,
        terms=(Term(_X, columns, nx, -1), Term(_Y, rows, ny, nx)),
        checks=(
            Check(Field(0, 4, big_endian=True), SYNC),
            Check(Field(20, 2, big_endian=True), width),
            Check(Field(22, 2, big_endian=True), height),
            Check(Field(36, 4, big_endian=True), HEADER + payload),
            Check(_X_END, columns - 1, _X),
            Check(_Y_END, rows - 1, _Y),
        ),
        flag=SHUTTER,
        flag_lag=flag_lag,
        encoding="u12",
    )


def piece_grid(width: int, height: int, piece: tuple[int, int]) -> PieceGrid:
    """Return the pieces of a sector in the order of their numbers."""
    rows, columns = piece
    origins = [
        (y, x) for y in range(0, height, rows) for x in range(width - columns, -1, -columns)
    ]  # right to left
    return PieceGrid(piece, tuple(origins))


def sector_specs(
    n: int, width: int, height: int, piece: tuple[int, int], names: tuple[str, ...]
) -> tuple[SectorSpec, ...]:
    """Return `n` sectors side by side."""
    grid = piece_grid(width, height, piece)
    return tuple(
        SectorSpec(s, (slice(0, height), slice(s * width, (s + 1) * width)), grid, names[s]) for s in range(n)
    )


@register_protocol("k2is")
def open_k2is(
    request: LiveRequest,
    *,
    iface: tuple[str, ...] = (),
    sectors: int | None = None,
    width: int = 256,
    height: int = 1860,
    piece: tuple[int, ...] = (930, 16),
    mode: str = "scan",
    fps: float | None = None,
    source: str | None = None,
) -> UdpSource:
    """Return the source of ``k2is://GROUP-or-ADDRESS:2001-2008``.

    Parameters
    ----------
    request
        The URL. Without a host: this machine; without ports: 2001 to 2008. A single port 0 means any free
        ports.
    iface
        Network interfaces on which a group is joined; several are taken in turns by the sectors.
    sectors
        Number of sectors; None: one per port.
    width, height
        Pixels of a sector.
    piece
        Rows and columns of a packet.
    mode
        ``"scan"``: the shutter flag comes one frame late; ``"series"``: it does not.
    fps
        Frames per second; None: measured.
    source
        Listen to this IPv4 address only.

    Raises
    ------
    DataError
        If the geometry is impossible, or a group is given without interface.
    """
    if len(piece) != 2 or mode not in ("scan", "series"):
        raise DataError(f"piece={piece} is not rows x columns, or mode={mode!r} is neither scan nor series")
    shape = (piece[0], piece[1])
    fmt = packet_format(width, height, shape, 1 if mode == "scan" else 0)
    ports = request.address.ports or PORTS
    if ports == (0,):
        ports = (0,) * (sectors or len(PORTS))
    elif sectors is not None and len(ports) != sectors:
        raise DataError(f"{sectors} sectors need as many ports, the URL gives {len(ports)}")
    host = request.address.host or "127.0.0.1"
    ends = tuple(Endpoint(host, port, iface[i % len(iface)] if iface else "") for i, port in enumerate(ports))
    specs = sector_specs(len(ends), width, height, shape, tuple(str(e) for e in ends))
    detector = UdpDetector(
        (height, width * len(ends)), specs, ends, fmt, fps=fps, meta={"detector": "K2 IS", "mode": mode}
    )
    return UdpSource.of(request, detector, source)
