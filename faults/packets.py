"""What may go wrong between a detector and us: one run per protocol and fault, against numpy on what was sent.

The emulator keeps what it did with every piece of every frame, and `numpy` adds up the pieces that it sent whole.
"""

from __future__ import annotations

import numpy as np

import framefold as ff
from framefold.errors import StreamError
from framefold.io.live import open_url
from framefold.testing import DetectorEmulator
from framefold.udfs import SumUDF

N = 48
DATA = np.random.default_rng(1).integers(0, 4000, (N, 16, 64)).astype("uint16")
OWN = {
    "k2is": {"sectors": 2, "piece": (8, 16)},
    "jungfrau": {"interfaces": 2, "rows": 2},
    "eiger-udp": {"packet_bytes": 64},
    "karabo": {"pulses": 3},
}
DATAGRAMS = ("k2is", "jungfrau", "eiger-udp")
CONNECTED = ("merlin", "dectris", "dectris1", "karabo", "pva")
RUNS = []  # what was tried in this process
LAST_ID = {"k2is": 2**32 - 10, "jungfrau": 2**63 - 20, "eiger-udp": 2**32 - 10}


def live_run(protocol, data=DATA, udf=None, nav=(N,), load=None, **faults):
    """Return the result, and the emulator that has sent everything."""
    RUNS.append((protocol, faults))
    how = {"pre_roll": 2, "post_roll": 64} if protocol in DATAGRAMS else {}
    with DetectorEmulator(protocol, data, seed=7, **OWN.get(protocol, {}), **how, **faults) as detector:
        with ff.Context(executor="threads") as ctx:
            options = {"deadline": 30.0, "idle_timeout": 5.0, "start_timeout": 30.0, **(load or {})}
            if protocol in DATAGRAMS:
                # the first frame may be among those that suffer: it is stated, not elected
                options.setdefault("first_frame", faults.get("start_id", 0))
            live = ctx.load(detector.url, nav_shape=nav, **options)
            result = ctx.run_udf(live, udf or SumUDF(), on_ready=lambda ready: detector.start(ready))
        assert detector.wait(30)
        return result, detector


def accounts(result):
    for s in result.report["sectors"]:
        fates = sum(s[name] for name in ("valid", "duplicate", "late", "overrun", "corrupt", "foreign"))
        assert s["received"] == fates, s
        assert s["expected"] == s["valid"] + s["lost"], s
    return result.report["sectors"]


def pieces_sent_whole(detector, data):
    """Return ``(frames, height, width)``, which pixels left the emulator whole."""
    whole = np.zeros(data.shape, bool)
    for spec, flags in zip(open_url(detector.url).known().sectors, detector.valid(), strict=True):
        for f, p in np.argwhere(flags):
            whole[(f, *spec.piece_slices(p))] = True
    return whole


def check_pieces(protocol, **faults):
    result, detector = live_run(protocol, **faults)
    whole = pieces_sent_whole(detector, DATA)
    np.testing.assert_array_equal(result["intensity"].data, (DATA * whole).sum(axis=0, dtype="uint64"))
    np.testing.assert_array_equal(result.coverage, whole.sum(axis=0))
    return accounts(result), whole


def check_late(protocol):
    """Which pieces come too late depends on the clock: every frame is the same, so that the coverage tells the sum."""
    same = np.repeat(DATA[:1], N, axis=0)
    result, _ = live_run(
        protocol, same, late=(0.1, 120.0), rate=200.0, load={"deadline": 0.05, "block_time": 0.02}
    )
    np.testing.assert_array_equal(result["intensity"].data, result.coverage * DATA[0].astype("uint64"))
    return accounts(result)


def check_dead(protocol):
    try:
        live_run(protocol, dead_sectors=(1,), load={"start_timeout": 2.0, "first_frame": None})
    except StreamError as exc:
        assert "sector" in str(exc) and "1" in str(exc), exc
    else:
        raise AssertionError("a detector with a dead sector began")


def datagrams(protocol):
    """Loss, bursts, duplicates, order, damage, wrapped ids, lateness, a dead sector: the sum of what came whole."""
    sectors, whole = check_pieces(protocol)
    assert whole.all() and not any(s["lost"] for s in sectors)
    sectors, whole = check_pieces(protocol, loss=0.05, burst_loss=(0.01, 9))
    assert not whole.all() and any(s["lost"] for s in sectors)
    sectors, _ = check_pieces(protocol, dup=0.2)
    assert any(s["duplicate"] for s in sectors)
    check_pieces(protocol, reorder=6)
    sectors, _ = check_pieces(protocol, corrupt=0.05, truncate=0.05, garbage=30)
    assert any(s["corrupt"] for s in sectors)
    check_pieces(protocol, start_id=LAST_ID[protocol])
    check_pieces(protocol, loss=0.05, dup=0.1, reorder=4, corrupt=0.03)
    sectors = check_late(protocol)
    assert any(s["late"] for s in sectors)
    check_dead(protocol)
    return len(RUNS)


def check_messages(protocol, **faults):
    """Whole frames: those that the emulator sent whole are in, from the first that came."""
    result, detector = live_run(protocol, **faults)
    missing = detector.report()["acquisitions"][0]["missing"]
    there = np.flatnonzero(np.asarray(result.damage).ravel())
    sent = np.setdiff1d(np.arange(N), missing)
    # trains and PVs have no number of the first frame: they count from the first that comes
    first = 0 if protocol in ("merlin", "dectris", "dectris1") else int(sent[0])
    assert set(there + first) <= set(sent.tolist())
    if not faults.keys() & {
        "reorder",
        "late",
    }:  # else the first to come may not be the first, and some are late
        np.testing.assert_array_equal(there + first, sent[sent >= first])
    got = result["intensity"].data.reshape(DATA.shape[1:])
    np.testing.assert_array_equal(got, DATA[there + first].sum(axis=0, dtype="uint64"))
    return accounts(result), missing


def check_broken(protocol, **faults):
    """A message that cannot be understood: an error, with the frames that came before."""
    try:
        live_run(protocol, **faults)
    except StreamError as exc:
        there = np.flatnonzero(np.asarray(exc.partial.damage).ravel())
        got = exc.partial.buffers[0]["intensity"].data.reshape(DATA.shape[1:])
        np.testing.assert_array_equal(got, DATA[there].sum(axis=0, dtype="uint64"))
    else:
        raise AssertionError(f"{protocol} with {faults} went unnoticed")


def connected(protocol):
    """Frames left out, twice, out of order, late, cut, damaged: the sum of what came whole, or an error that keeps it."""
    check_messages(protocol)
    sectors, missing = check_messages(protocol, loss=0.15, burst_loss=(0.05, 3))
    assert missing and any(s["lost"] for s in sectors)
    sectors, _ = check_messages(protocol, dup=0.3)
    assert any(s["duplicate"] for s in sectors)
    if protocol in ("merlin", "dectris", "dectris1"):
        check_messages(protocol, reorder=3)
        check_messages(protocol, late=(0.1, 20.0), rate=500.0)
    if protocol == "merlin":  # the connection is cut within a frame
        check_messages(protocol, truncate=0.05)
    elif protocol in ("dectris1", "karabo", "pva"):  # a part of the message is: its frames are counted
        sectors, missing = check_messages(protocol, truncate=0.1)
        assert missing and any(s["corrupt"] for s in sectors)
    else:
        check_broken(protocol, truncate=0.1)
    if protocol != "pva":
        check_broken(protocol, corrupt=0.1)
    return len(RUNS)


def k2is_packets():
    return datagrams("k2is")


def jungfrau_packets():
    return datagrams("jungfrau")


def eiger_packets():
    return datagrams("eiger-udp")


def merlin_messages():
    return connected("merlin")


def dectris_messages():
    return connected("dectris")


def dectris1_messages():
    return connected("dectris1")


def karabo_messages():
    return connected("karabo")


def pva_messages():
    return connected("pva")


SCENARIOS = (
    k2is_packets, jungfrau_packets, eiger_packets, merlin_messages, dectris_messages, dectris1_messages,
    karabo_messages, pva_messages,
)  # fmt: skip
for _scenario in SCENARIOS:
    _scenario.__doc__ = (datagrams if _scenario.__name__.endswith("packets") else connected).__doc__
