"""Which datagram an emulated detector sends when: frames in order, then what impairments make of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framefold.io.live.replay.fates import Fates, fates
from framefold.io.live.replay.options import EmulatorOptions
from framefold.io.live.replay.wire import Wire

# columns of emissions
ROW, SECTOR, ID, FLAG, KIND, WHERE, INDEX = range(7)
COLUMNS = 7
# kinds
WHOLE, CORRUPT, CUT, GARBAGE = range(4)
_SEGMENT = 1 << 15


@dataclass
class Log:
    """What was done with every packet of an acquisition; the oracle of tests.

    Attributes
    ----------
    intact
        Bool ``(frames, packets)``: sent whole at least once; frames without pre- and post-roll.
    sent, dropped, corrupt, cut, duplicate, late
        Datagrams per sector. ``sent`` counts whatever went out, with garbage and pre- and post-roll.
    """

    intact: npt.NDArray[np.bool_]
    sent: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.int64]
    corrupt: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.int64]
    late: npt.NDArray[np.int64]
    garbage: npt.NDArray[np.int64]


def new_log(frames: int, wire: Wire) -> Log:
    """Return an empty log for `frames` frames."""
    return Log(
        np.zeros((frames, wire.packets), bool), *(np.zeros(wire.n_sectors, np.int64) for _ in range(7))
    )


def emissions(wire: Wire, frames: int, options: EmulatorOptions, log: Log) -> Iterator[npt.NDArray[np.int64]]:
    """Yield what is sent in an acquisition, in order, and write it into the log.

    Parameters
    ----------
    wire
        Datagrams of the dataset.
    frames
        Of the acquisition, without pre- and post-roll.
    options
        What to do.
    log
        For the same number of frames.

    Yields
    ------
    int64 ``(n, 7)``
        Row of the wire, sector, id, flag, kind, a random number for damage, and the packet's number.
    """
    total = (options.pre_roll + frames + options.post_roll) * wire.packets
    waiting = np.empty((0, COLUMNS), np.int64)
    keys = np.empty(0, np.int64)
    for begin in range(0, total, _SEGMENT):
        index = np.arange(begin, min(begin + _SEGMENT, total), dtype=np.int64)
        new, new_keys = _segment(wire, frames, options, index, log)
        waiting, keys = np.concatenate([waiting, new]), np.concatenate([keys, new_keys])
        order = np.argsort(keys, kind="stable")
        waiting, keys = waiting[order], keys[order]
        due = len(keys) if index[-1] == total - 1 else int(np.searchsorted(keys, index[-1], "right"))
        if due:
            yield waiting[:due]
        waiting, keys = waiting[due:], keys[due:]


def _segment(
    wire: Wire, frames: int, options: EmulatorOptions, index: npt.NDArray[np.int64], log: Log
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    frame, packet = index // wire.packets - options.pre_roll, index % wire.packets
    sector = wire.sectors[packet]
    per_ms = options.nominal_rate * wire.packets / 1000
    fate = fates(index, options.impairments, options.seed, per_ms)
    quiet = np.isin(sector, options.dead_sectors)
    if options.skew:
        quiet |= index < np.floor(sector * options.skew * 1000 * per_ms)
    rows = np.empty((len(index), COLUMNS), np.int64)
    rows[:, ROW] = (frame % wire.frames) * wire.packets + packet
    rows[:, SECTOR] = sector
    rows[:, ID] = frame + options.start_id
    if options.wrap_at is not None:
        rows[:, ID] %= options.wrap_at
    on = (frame >= options.flag_lag) & (frame < frames + options.flag_lag)
    rows[:, FLAG] = on
    rows[:, KIND] = np.where(fate.cut, CUT, np.where(fate.corrupt, CORRUPT, WHOLE))
    rows[:, WHERE] = (fate.where >> np.uint64(1)).astype(np.int64)
    rows[:, INDEX] = index
    keys = index + fate.delay
    if options.stall[0] >= 0:
        start = (options.pre_roll + frames // 2) * wire.packets
        stop = start + round(options.stall[1] * 1000 * per_ms)
        held = (sector == options.stall[0]) & (keys >= start) & (keys < stop)
        keys = np.where(held, stop, keys)
    first = ~quiet & ~fate.lost
    again = first & (fate.again >= 0)
    _write(log, wire, frames, frame, packet, sector, fate, first, again, ~quiet & fate.lost, rows[:, KIND])
    out, out_keys = [rows[first], rows[again]], [keys[first], (index + fate.again)[again]]
    if options.garbage:
        junk, where = _garbage(wire, frames, options, index)
        log.garbage += np.bincount(junk[:, SECTOR], minlength=wire.n_sectors)
        log.sent += np.bincount(junk[:, SECTOR], minlength=wire.n_sectors)
        out.append(junk)
        out_keys.append(where)
    return np.concatenate(out), np.concatenate(out_keys)


def _write(
    log: Log, wire: Wire, frames: int, frame: npt.NDArray[np.int64], packet: npt.NDArray[np.int64],
    sector: npt.NDArray[np.int64], fate: Fates, first: npt.NDArray[np.bool_], again: npt.NDArray[np.bool_],
    lost: npt.NDArray[np.bool_], kind: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    n = wire.n_sectors
    inside = (frame >= 0) & (frame < frames)
    whole = first & (kind == WHOLE) & inside
    log.intact[frame[whole], packet[whole]] = True
    times = first.astype(np.int64) + again
    log.sent += np.bincount(sector, times, n).astype(np.int64)
    log.duplicate += np.bincount(sector[again], minlength=n)
    log.dropped += np.bincount(sector[lost], minlength=n)
    log.corrupt += np.bincount(sector, times * (kind == CORRUPT), n).astype(np.int64)
    log.cut += np.bincount(sector, times * (kind == CUT), n).astype(np.int64)
    log.late += np.bincount(sector[first & (fate.delay > 0)], minlength=n)


def _garbage(
    wire: Wire, frames: int, options: EmulatorOptions, index: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the datagrams of random bytes that fall among `index`."""
    total = (options.pre_roll + frames + options.post_roll) * wire.packets
    rng = np.random.default_rng([options.seed, 77])
    at = np.sort(rng.integers(0, total, options.garbage))
    which = rng.integers(0, 2**62, options.garbage)
    here = (at >= index[0]) & (at <= index[-1])
    out = np.zeros((int(here.sum()), COLUMNS), np.int64)
    out[:, SECTOR] = which[here] % wire.n_sectors
    out[:, KIND], out[:, WHERE], out[:, INDEX] = GARBAGE, which[here], -1
    return out, at[here]
