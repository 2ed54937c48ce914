"""Describes the datagrams of a detector by a table of fields, which one compiled loop reads for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from framefold.errors import DataError
from framefold.io.live.kernels_packet import (
    CHECK_WIDTH,
    CHECKS_AT,
    ENCODINGS,
    MAX_CHECKS,
    MAX_TERMS,
    TABLE,
    TERM_WIDTH,
    TERMS_AT,
)  # fmt: skip

MAX_DATAGRAM = 65507


@dataclass(frozen=True, slots=True)
class Field:
    """An unsigned integer in the header of a datagram.

    Attributes
    ----------
    offset
        Its first byte.
    size
        Bytes: 1, 2, 4 or 8.
    big_endian
        Its byte order.
    """

    offset: int
    size: int
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """A summand of the number of a piece: ``factor * (field // step)``.

    Attributes
    ----------
    field
        Where it comes from.
    step
        The field is a multiple of it, else the packet is corrupt.
    count
        ``field // step`` is below it, else the packet is corrupt.
    factor
        What it counts for.
    """

    field: Field
    step: int
    count: int
    factor: int


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold for a packet not to be corrupt: ``field == value``, or ``field - minus == value``."""

    field: Field
    value: int
    minus: Field | None = None


@dataclass(frozen=True)
class PacketFormat:
    """A datagram that carries one piece of one frame.

    Attributes
    ----------
    header
        Bytes before the pixels.
    payload
        Bytes of the pixels. Longer datagrams are other data and count as foreign, shorter ones as corrupt.
    frame_id
        Number of the frame.
    id_bits
        After so many bits it wraps around.
    terms
        Number of the piece: ``piece_base`` and the sum of these.
    piece_base
        See `terms`.
    checks
        What holds for every packet.
    flag
        Byte and mask that tell whether the acquisition is on; None: always.
    flag_lag
        By so many frames the flag comes too late.
    encoding
        How pixels are packed: ``"raw"``, or ``"u12"``, two pixels of 12 bits in three bytes, low bits first.
    dtype
        Of the pixels on the wire, with byte order; ``"u12"`` gives uint16.
    """

    header: int
    payload: int
    frame_id: Field
    id_bits: int
    terms: tuple[Term, ...]
    piece_base: int = 0
    checks: tuple[Check, ...] = ()
    flag: tuple[int, int] | None = None
    flag_lag: int = 0
    encoding: Literal["raw", "u12"] = "raw"
    dtype: str = "<u2"

    @property
    def size(self) -> int:
        """Bytes of a datagram."""
        return self.header + self.payload

    @property
    def decoded_dtype(self) -> np.dtype[Any]:
        """Dtype of the pixels in memory."""
        return np.dtype(np.uint16) if self.encoding == "u12" else np.dtype(self.dtype).newbyteorder("=")

    @property
    def pixels(self) -> int:
        """Pixels in a datagram."""
        if self.encoding == "u12":
            return self.payload * 2 // 3
        return self.payload // np.dtype(self.dtype).itemsize

    def table(self) -> npt.NDArray[np.int64]:
        """Return the format as the numbers that `kernels_packet.parse` reads.

        Raises
        ------
        DataError
            If a field does not lie in the header, or the format has more of them than the loop takes.
        """
        self._require_fields_in_header()
        kind = np.dtype(self.dtype)
        swapped = self.encoding == "raw" and kind.itemsize > 1 and not kind.isnative
        code = ENCODINGS["swap" if swapped else self.encoding]
        flag = (-1, 0) if self.flag is None else self.flag
        out = np.zeros(TABLE, np.int64)
        f = self.frame_id
        out[: TERMS_AT] = [
            self.header, self.payload, f.offset, f.size, f.big_endian, self.id_bits, *flag, code,
            self.decoded_dtype.itemsize, self.piece_base, len(self.terms), len(self.checks), self.flag_lag,
        ]  # fmt: skip
        for i, t in enumerate(self.terms):
            row = (t.field.offset, t.field.size, t.field.big_endian, t.step, t.count, t.factor)
            out[TERMS_AT + TERM_WIDTH * i :][:TERM_WIDTH] = row
        for i, c in enumerate(self.checks):
            a, b = c.field, c.minus or Field(-1, 1)
            check = (a.offset, a.size, a.big_endian, b.offset, b.size, b.big_endian, c.value)
            out[CHECKS_AT + CHECK_WIDTH * i :][:CHECK_WIDTH] = check
        return out

    def _require_fields_in_header(self) -> None:
        fields = [self.frame_id, *(t.field for t in self.terms), *(c.field for c in self.checks)]
        fields += [c.minus for c in self.checks if c.minus is not None]
        for f in fields:
            if f.size not in (1, 2, 4, 8) or f.offset < 0 or f.offset + f.size > self.header:
                raise DataError(f"{f} does not lie within the header of {self.header} bytes")
        if self.flag is not None and not 0 <= self.flag[0] < self.header:
            raise DataError(f"flag at byte {self.flag[0]} is not within the header of {self.header} bytes")
        if len(self.terms) > MAX_TERMS or len(self.checks) > MAX_CHECKS:
            raise DataError(f"at most {MAX_TERMS} terms and {MAX_CHECKS} checks are possible")
        if any(t.step < 1 or t.count < 1 for t in self.terms) or not 1 <= self.id_bits <= 64:
            raise DataError("terms need step >= 1 and count >= 1, id_bits is 1 to 64")
        if not 1 <= self.size <= MAX_DATAGRAM or self.payload < 1:
            raise DataError(f"datagrams of {self.size} bytes: UDP carries up to {MAX_DATAGRAM}")
        if self.encoding == "u12" and self.payload % 3:
            raise DataError(f"{self.payload} bytes are not pairs of 12-bit pixels")
        if self.encoding == "raw" and self.payload % np.dtype(self.dtype).itemsize:
            raise DataError(f"{self.payload} bytes are no whole number of {self.dtype} pixels")
