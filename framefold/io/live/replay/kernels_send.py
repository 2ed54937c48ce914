"""The loop that sends datagrams: stamps headers, calls sendmmsg; payloads are sent from where they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

_sendmmsg: Any = types.ExternalFunction(
    "sendmmsg", types.int32(types.int32, types.intp, types.uint32, types.int32)
)
_WHOLE, _CORRUPT, _CUT, _GARBAGE = 0, 1, 2, 3


class Out(NamedTuple):
    """What the kernel reads while it sends."""

    headers: npt.NDArray[np.uint8]  # (rows, header)
    payloads: npt.NDArray[np.uint8]  # (rows, bytes)
    names: npt.NDArray[np.uint8]  # (sectors, 16) struct sockaddr_in
    stamps: npt.NDArray[np.int64]  # id at, size, big endian, flag at (-1: none), mask, guard at, guard bytes
    heads: npt.NDArray[np.uint8]  # (B, header), stamped
    vectors: npt.NDArray[np.uint64]  # (B, 4) two struct iovec
    messages: npt.NDArray[np.uint64]  # (B, 8) struct mmsghdr
    packets: npt.NDArray[np.int64]  # (1,) packets of a frame in `headers`, all frames share them


@numba.njit(nogil=True, cache=True)
def stamp(out: Out, at: int, row: Any) -> Any:
    """Write the header of an emission into ``heads[at]``; return the bytes of header and payload to send."""
    head, size = out.heads[at], out.heads.shape[1]
    payload = out.payloads.shape[1]
    template = row[0] % out.packets[0]
    for i in range(size):
        head[i] = out.headers[template, i]
    value = row[2]
    for i in range(out.stamps[1]):
        byte = out.stamps[0] + (out.stamps[1] - 1 - i if out.stamps[2] else i)
        head[byte] = value & 255
        value >>= 8
    if out.stamps[3] >= 0 and row[3]:
        head[out.stamps[3]] |= out.stamps[4]
    where = row[5]
    if row[4] == _CORRUPT:
        bit = where % (8 * out.stamps[6])
        head[out.stamps[5] + bit // 8] ^= 1 << (bit % 8)
    elif row[4] == _CUT:
        length = where % (size + payload)
        return min(length, size), max(0, length - size)
    elif row[4] == _GARBAGE:
        for i in range(size):
            where = where * 6364136223846793005 + 1442695040888963407
            head[i] = (where >> 33) & 255
        return size, 0
    return size, payload


@numba.njit(nogil=True, cache=True)
def send(out: Out, socket: int, emissions: Any) -> int:
    """Send datagrams in order; return how many the kernel has taken.

    Parameters
    ----------
    out
        Datagrams and scratch.
    socket
        Descriptor.
    emissions
        int64 ``(n, 7)``, see `schedule`.
    """
    done = 0
    batch = out.heads.shape[0]
    while done < emissions.shape[0]:
        n = min(batch, emissions.shape[0] - done)
        for i in range(n):
            row = emissions[done + i]
            head, payload = stamp(out, i, row)
            out.vectors[i, 0] = out.heads.ctypes.data + i * out.heads.shape[1]
            out.vectors[i, 1] = head
            out.vectors[i, 2] = out.payloads.ctypes.data + row[0] * out.payloads.shape[1]
            out.vectors[i, 3] = payload
            out.messages[i, 0] = out.names.ctypes.data + row[1] * 16
            out.messages[i, 1] = 16
            out.messages[i, 2] = out.vectors.ctypes.data + i * 32
            out.messages[i, 3] = 2
        at = 0
        while at < n:
            sent = _sendmmsg(socket, out.messages.ctypes.data + at * 64, n - at, 0)
            if sent <= 0:
                return done + at
            at += sent
        done += n
    return done
