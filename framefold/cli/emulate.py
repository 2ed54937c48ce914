"""``framefold emulate``: imitate a detector that sends a dataset."""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

from framefold.cli.command import Command
from framefold.cli.values import parse_shape
from framefold.errors import DataError

DESCRIPTION = """Send a dataset as a detector does, as fast and as badly as you say.

  framefold emulate merlin scan.mib --port 6342 --rate 1000
  framefold emulate k2is scan.mib --to 127.0.0.1:2001-2008 --rate 400 --loss 0.01 --report report.json
  framefold emulate jungfrau --random 100,512,1024 --to 127.0.0.1:50001

Detectors that are connected to (merlin, dectris, dectris1, karabo, pva) listen at --host and --port. Those
that send datagrams (k2is, jungfrau, eiger-udp) send to --to: start the receiver first."""

# option of the program -> option of the emulator, type, help
_NUMBERS = (
    ("--loops", "loops", int, "N", "send the dataset so many times in one acquisition"),
    ("--repeat", "repeat", int, "N", "acquisitions"),
    ("--gap", "gap", float, "S", "seconds between acquisitions"),
    ("--start-id", "start_id", int, "ID", "id of the first frame"),
    ("--wrap-at", "wrap_at", int, "ID", "ids begin again from 0 here"),
    ("--pre-roll", "pre_roll", int, "N", "frames before the acquisition, without its flag"),
    ("--post-roll", "post_roll", int, "N", "frames behind the acquisition"),
    ("--seed", "seed", int, "N", "of everything that is random"),
    ("--garbage", "garbage", int, "N", "datagrams, or bytes before the first message, of nonsense"),
    ("--loss", "loss", float, "P", "chance that a packet is lost"),
    ("--dup", "dup", float, "P", "chance that a packet comes twice"),
    ("--reorder", "reorder", int, "DEPTH", "a packet is overtaken by up to so many"),
    ("--corrupt", "corrupt", float, "P", "chance that a packet is damaged"),
    ("--truncate", "truncate", float, "P", "chance that a packet, or the connection, is cut"),
)
_PAIRS = (
    ("--burst-loss", "burst_loss", (float, int), "P,LEN", "chance that a burst of LEN lost packets begins"),
    ("--late", "late", (float, float), "P,MS", "chance that a packet is late, and by how many ms"),
    ("--stall", "stall", (int, float), "K,S", "sector K is silent for S seconds, then sends all at once"),
)


def _arguments(parser: argparse.ArgumentParser) -> None:
    from framefold.io.live.replay.make import emulated  # noqa: PLC0415

    parser.add_argument("protocol", choices=emulated(), metavar="PROTOCOL", help=", ".join(emulated()))
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="any file that framefold opens")
    parser.add_argument("--random", metavar="N,Y,X", help="random frames of this shape instead of a dataset")
    place = parser.add_argument_group("where")
    place.add_argument("--to", metavar="HOST:PORTS", help="where datagrams go, one port per sector")
    place.add_argument("--iface", metavar="NAME", default="", help="interface for multicast groups")
    place.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    place.add_argument("--port", type=int, default=0, help="port to listen at (default: any free one)")
    place.add_argument(
        "--wait-trigger",
        type=int,
        metavar="PORT",
        help="begin with a line 'trigger' at this TCP port",
    )
    look = parser.add_argument_group("detector")
    look.add_argument("--rate", default="max", metavar="FPS", help="frames per second (default: max)")
    look.add_argument("--sectors", type=int, metavar="N", help="of a k2is (default: 8)")
    look.add_argument("--piece", metavar="Y,X", help="pixels in a packet of a k2is")
    look.add_argument(
        "--mode", choices=("scan", "series"), help="of a k2is: the flag is one frame late, or not"
    )
    look.add_argument("--modules", metavar="Y,X", help="of a jungfrau or eiger-udp")
    look.add_argument("--interfaces", type=int, choices=(1, 2), help="links of a jungfrau module")
    look.add_argument("--compression", choices=("bslz4", "lz4", "none"), help="of dectris, dectris1 and pva")
    faults = parser.add_argument_group("times and faults")
    for flag, dest, kind, meta, text in _NUMBERS:
        faults.add_argument(flag, dest=dest, type=kind, metavar=meta, help=text)
    for flag, dest, _, meta, text in _PAIRS:
        faults.add_argument(flag, dest=dest, metavar=meta, help=text)
    faults.add_argument("--skew", type=float, metavar="MS", help="sectors begin so much apart")
    faults.add_argument(
        "--dead-sector", type=int, action="append", metavar="K", help="sends nothing; repeatable"
    )
    parser.add_argument("--report", metavar="FILE", help="write what was done with every packet, as JSON")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {dest: getattr(args, dest) for _, dest, *_ in _NUMBERS}
    for flag, dest, kinds, meta, _ in _PAIRS:
        if (text := getattr(args, dest)) is not None:
            try:
                given[dest] = tuple(k(t) for k, t in zip(kinds, text.split(","), strict=True))
            except ValueError as exc:
                raise DataError(f"{flag} {text}: give it as {meta}") from exc
    if args.skew is not None:
        given["skew"] = args.skew / 1000
    if args.dead_sector:
        given["dead_sectors"] = tuple(args.dead_sector)
    if args.rate != "max":
        try:
            given["rate"] = float(args.rate)
        except ValueError as exc:
            raise DataError(f"--rate {args.rate}: give frames per second, or max") from exc
    for name in ("sectors", "mode", "interfaces", "compression"):
        given[name] = getattr(args, name)
    for name in ("piece", "modules"):
        if (text := getattr(args, name)) is not None:
            given[name] = parse_shape(text)
    return {k: v for k, v in given.items() if v is not None}


def _frames(args: argparse.Namespace) -> Any:
    import numpy as np  # noqa: PLC0415

    if (args.dataset is None) == (args.random is None):
        raise DataError("give a dataset, or --random N,Y,X; not both")
    if args.random is not None:
        shape = parse_shape(args.random)
        if len(shape) != 3:
            raise DataError(f"--random {args.random}: give frames, rows and columns")
        return np.random.default_rng(args.seed or 0).integers(0, 4096, shape).astype(np.uint16)
    from framefold.io.live.replay.frames import frames_of  # noqa: PLC0415
    from framefold.io.registry import open_source  # noqa: PLC0415

    return frames_of(open_source(args.dataset))


def _run(args: argparse.Namespace) -> int:
    from framefold.io.live.replay.make import make_emulator, own_options  # noqa: PLC0415

    options = _options(args)
    datagrams = "host" not in own_options(args.protocol)
    if not datagrams:
        options.update(host=args.host, port=args.port)
    elif args.to is None:
        raise DataError(f"{args.protocol} sends datagrams: say where with --to HOST:PORTS")
    emulator = make_emulator(args.protocol, _frames(args), **options)
    try:
        ends = _ends(args, emulator.url) if datagrams else None
        print(f"{args.protocol}: {emulator.frames} frames. To receive them:")
        print(f"  framefold run '{_url(args, emulator)}' --udf sum", flush=True)
        if args.wait_trigger is not None:
            _wait_trigger(args.host, args.wait_trigger)
        emulator.start(ends)
        while not emulator.wait(0.2):
            pass
    finally:
        emulator.stop()
    if args.report:
        with open(args.report, "w", encoding="utf-8") as file:
            json.dump(emulator.report(), file)
    print(f"{args.protocol}: all is sent")
    return 0


def _ends(args: argparse.Namespace, url: str) -> list[Any]:
    from framefold.io.live import open_url, parse_address  # noqa: PLC0415
    from framefold.io.live.sockets import Endpoint  # noqa: PLC0415

    to = parse_address(f"{args.protocol}://{args.to}")
    start = open_url(url).known()
    n = len(start.sectors) if start is not None else 0
    if len(to.ports) != n:
        raise DataError(f"--to {args.to}: the detector has {n} sectors, so give {n} ports")
    return [Endpoint(to.host or "127.0.0.1", p, args.iface) for p in to.ports]


def _url(args: argparse.Namespace, emulator: Any) -> str:
    if args.to is None:
        return str(emulator.url)
    query = emulator.url.partition("?")[2]
    iface = f"&iface={args.iface}" if args.iface else ""
    return f"{args.protocol}://{args.to}?{query}{iface}&n_frames={emulator.frames}"


def _wait_trigger(host: str, port: int) -> None:
    with socket.create_server((host, port)) as server:
        print(f"waiting for a line 'trigger' at {host}:{server.getsockname()[1]}", flush=True)
        while True:
            peer, _ = server.accept()
            with peer, peer.makefile("rb") as lines:
                if lines.readline(64).strip() == b"trigger":
                    return


COMMAND = Command("emulate", "imitate a detector that sends a dataset", _arguments, _run, DESCRIPTION)
