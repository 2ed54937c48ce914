"""UDP sockets: bound where they were asked to, buffers as large as the system allows, and what it dropped."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from dataclasses import dataclass

from framefold.errors import StreamError

_SO_MEMINFO = 55  # linux/sock_diag.h; the ninth number counts the datagrams that found no room
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the datagrams of a sector arrive.

    Attributes
    ----------
    host
        Address to bind, or multicast group to join.
    port
        0: any free one.
    interface
        Network interface (name or address) on which a group is joined; empty only without a group.
    """

    host: str
    port: int
    interface: str = ""

    def __str__(self) -> str:
        return f"udp://{self.host}:{self.port}" + (f" on {self.interface}" if self.interface else "")


def is_multicast(host: str) -> bool:
    """Return whether `host` is the address of a multicast group."""
    try:
        return ipaddress.ip_address(host).is_multicast
    except ValueError:
        return False


def bind(endpoint: Endpoint, buffer_bytes: int) -> socket.socket:
    """Return a bound socket.

    Raises
    ------
    StreamError
        Naming the endpoint, the cause and the mend.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        if is_multicast(endpoint.host):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # bound to the group, so that no other traffic to this port comes in
            sock.bind((endpoint.host, endpoint.port))
            here = socket.inet_aton(interface_address(endpoint.interface))
            member = socket.inet_aton(endpoint.host) + here
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_IP, 49, 0)  # IP_MULTICAST_ALL: only what this socket joined
        else:
            sock.bind((endpoint.host, endpoint.port))
    except OSError as exc:
        sock.close()
        mend = {
            98: "another program listens there: stop it, or choose another port",
            99: "this machine has no such address: name one of its own",
        }.get(exc.errno or 0, "check host and port")
        raise StreamError(f"cannot receive at {endpoint}: {exc.strerror or exc} ({mend})") from exc
    except StreamError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def interface_address(name: str) -> str:
    """Return the IPv4 address of a network interface, by name or as it is.

    Raises
    ------
    StreamError
        If there is none, listing the interfaces.
    """
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        pass
    known = [n for _, n in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
    if sys.platform == "linux" and name in known:
        import fcntl  # noqa: PLC0415  # not on every system

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("256s", name.encode()[:15])
            try:
                return socket.inet_ntoa(fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)[20:24])
            except OSError as exc:
                raise StreamError(f"interface {name} has no IPv4 address: {exc}") from exc
    raise StreamError(
        f"a multicast group is joined on a named interface: iface={name!r} is none. "
        f"Interfaces: {', '.join(known) or 'unknown here, give an address'}"
    )


def granted_buffer(sock: socket.socket) -> int:
    """Return the bytes that the receive buffer holds; the kernel counts double for its bookkeeping."""
    got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return got // 2 if sys.platform == "linux" else got


def buffer_advice(wanted: int, granted: int, rate: float) -> str:
    """Return the warning about a small receive buffer; empty: it holds 50 ms of data or more.

    Parameters
    ----------
    wanted, granted
        Bytes.
    rate
        Bytes/s expected in this socket.
    """
    if granted >= min(wanted, 0.05 * rate):
        return ""
    return (
        f"the receive buffer of a sector holds {granted >> 10} KiB, {1e3 * granted / rate:.2g} ms of data at "
        f"{rate / 1e6:.3g} MB/s: packets will be lost when this machine is busy. As root: "
        f"sysctl -w net.core.rmem_max={wanted}"
    )


def kernel_drops(sock: socket.socket) -> int:
    """Return the datagrams that found no room in the socket since it was opened; 0 where unknown."""
    if sys.platform != "linux":
        return 0
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    except OSError:  # before Linux 4.12
        return 0
    return struct.unpack("9I", info)[8] if len(info) >= 36 else 0
