"""What the fuzzer of ``make faults`` is made of takes sound recordings, and a few damaged ones."""

import importlib.util
import random
from pathlib import Path

import pytest

for _library in ("zmq", "cbor2", "msgpack", "lz4", "bitshuffle", "p4p"):
    pytest.importorskip(_library, reason=f"{_library} is not installed")
PATH = Path(__file__).parents[3] / "faults" / "wire_targets.py"
if not PATH.exists():
    pytest.skip("the folder faults is not part of this copy", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("wire_targets", PATH)
targets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(targets)
# sound pieces in each seed: frames x sectors, or packets of whole acquisitions
SOUND = {
    "merlin": 6,
    "dectris": 6,
    "dectris1": 6,
    "karabo": 6,
    "pva": 2,
    "k2is": 64,
    "jungfrau": 36,
    "eiger-udp": 72,
}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_sound_and_damaged(name):
    seeds, take, longest = targets.TARGETS[name]
    chance = random.Random(name)
    for seed in seeds():
        assert len(seed) <= longest
        taken = take(seed)
        if not (name == "merlin" and b"R64" in seed):  # too short for a row of chips: refused
            assert taken >= SOUND[name]
        for _ in range(6):
            raw = bytearray(seed)
            for _ in range(chance.choice((1, 3, 20))):
                raw[chance.randrange(len(raw))] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
            take(bytes(raw[: chance.choice((len(raw), chance.randrange(len(raw))))]))
