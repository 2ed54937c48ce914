"""``framefold emulate`` sends a dataset and writes what it did."""

import json
import socket
import threading

import numpy as np
import pytest

from framefold.cli.emulate import _wait_trigger
from framefold.cli.main import main

WAIT = 30


def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(WAIT)
    return sock


def test_datagrams_and_the_report(tmp_path, capsys):
    np.save(tmp_path / "scan.npy", np.full((3, 4, 8, 16), 7, np.uint16))
    with bound() as a, bound() as b:
        ports = [s.getsockname()[1] for s in (a, b)]
        code = main([
            "emulate", "k2is", str(tmp_path / "scan.npy"), "--to", f"127.0.0.1:{ports[0]},{ports[1]}", "--sectors", "2",
            "--piece", "8,8", "--dead-sector", "1", "--loss", "0.5", "--burst-loss", "0,1", "--seed", "3", "--rate", "5000",
            "--report", str(tmp_path / "report.json"),
        ])  # fmt: skip
        assert code == 0
        report = json.loads((tmp_path / "report.json").read_text())
        [log] = report["acquisitions"]
        assert log["sent"][1] == 0
        assert log["sent"][0] + log["dropped"][0] == 12
        for _ in range(log["sent"][0]):
            # header of 40 bytes, and 8 x 8 pixels of 12 bit
            assert len(a.recv(65536)) == 40 + 96
        assert len(log["missing"]) == 12 + log["dropped"][0]
    assert "framefold run 'k2is://127.0.0.1:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["k2is", "--random", "2,8,16"], "say where with --to"),
        (
            ["k2is", "--random", "2,8,16", "--sectors", "2", "--to", "127.0.0.1:5"],
            "has 2 sectors, so give 2 ports",
        ),
        (["k2is", "--to", "127.0.0.1:5"], "give a dataset, or --random"),
        (["merlin", "--random", "2,8"], "give frames, rows and columns"),
        (["merlin", "--random", "2,8,8", "--rate", "fast"], "give frames per second, or max"),
        (["merlin", "--random", "2,8,8", "--burst-loss", "0.1"], "give it as P,LEN"),
        (["merlin", "--random", "2,8,8", "--pre-roll", "1"], "pre_roll cannot be emulated"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, match, capsys):
    assert main(["emulate", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_the_trigger(capsys):
    thread = threading.Thread(target=_wait_trigger, args=("127.0.0.1", 0), daemon=True)
    thread.start()
    while not (text := capsys.readouterr().out):
        thread.join(0.01)
    port = int(text.rsplit(":", 1)[1])
    for line, done in ((b"go\n", False), (b"trigger\n", True)):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(line)
        thread.join(WAIT if done else 0.05)
        assert thread.is_alive() is not done
