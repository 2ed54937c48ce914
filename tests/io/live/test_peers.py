"""Simulators by others: what they send arrives here as they mean it. Each needs its package in a Python of its own.

``FRAMEFOLD_LIBERTEM_LIVE_PYTHON`` names a Python with libertem-live and flask, ``FRAMEFOLD_KARABO_PYTHON``
one with extra_data, karabo-bridge and psutil.
"""

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import framefold as ff
from framefold.io.registry import open_source
from framefold.udfcore.tile import TileSlice, full_sig
from framefold.udfs import SumUDF

pytestmark = pytest.mark.slow
WAIT = 60


def python(variable):
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} does not name a Python with the simulator")
    return Path(given)


@contextlib.contextmanager
def program(arguments, pattern):
    """Start a program; yield what its output says behind `pattern`."""
    lines = queue.Queue()
    with subprocess.Popen(
        list(map(str, arguments)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip

        def read():
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        thread = threading.Thread(target=read)
        thread.start()
        try:
            seen = []
            while (line := lines.get(timeout=WAIT)) != "":
                seen.append(line)
                if match := re.search(pattern, line):
                    break
            else:
                pytest.fail("the simulator ended: " + "".join(seen)[-2000:])
            yield match.groups()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with its children, which hold the pipe open
            thread.join(WAIT)


REAL = ["001_4x2_6bit", "Quad_9_Frame_CounterDepth_12_Rows_256", "Quad_9_Frame_CounterDepth_1_Rows_256RAW"]


@pytest.mark.parametrize("name", REAL)
def test_merlin_of_libertem_live(data_dir, name):
    script = python("FRAMEFOLD_LIBERTEM_LIVE_PYTHON").with_name("libertem-live-mib-sim")
    command = [script, data_dir / f"{name}.hdr", "--host", "127.0.0.1", "--data-port", 0, "--control-port", 0]
    n = 8 if "4x2" in name else 9
    command += ["--trigger-port", 0, "--nav-shape", 1, n]
    source = open_source(data_dir / f"{name}.mib")
    frames = source.read(TileSlice(0, n, full_sig(tuple(source.shape.sig))))
    with (
        program(command, r"DataSocketServer listening \('127.0.0.1', (\d+)\)") as (port,),
        ff.Context() as ctx,
    ):
        live = ctx.load(f"merlin://127.0.0.1:{port}", nav_shape=(n,))
        # the simulator begins anew when it is done: three acquisitions over one connection
        for result in ctx.acquisitions(live, SumUDF(), n=3):
            np.testing.assert_array_equal(
                result["intensity"].data, frames.reshape(n, *frames.shape[-2:]).sum(axis=0)
            )
            assert result.damage.all()


DECTRIS = """
import sys
from libertem_live.detectors.dectris.sim import DectrisSim
sim = DectrisSim(port=0, zmqport=0, num_mock_frames=200, dwelltime=None)
sim.start()
sim.wait_for_listen()
print("listening", sim.port, sim.zmqport, flush=True)
sys.stdin.read()
"""


class Corner(ff.UDF):
    def get_result_buffers(self):
        return {"value": self.buffer("nav", dtype="int64")}

    def process_frame(self, frame):
        self.results.value[:] = frame[0, 0]


def put(port, command):
    url = f"http://127.0.0.1:{port}/detector/api/1.8.0/command/{command}"
    with urllib.request.urlopen(urllib.request.Request(url, data=b"", method="PUT"), timeout=WAIT) as answer:
        answer.read()


def test_dectris_v1_of_libertem_live():
    peer = python("FRAMEFOLD_LIBERTEM_LIVE_PYTHON")
    with program([peer, "-c", DECTRIS], r"^listening (\d+) (\d+)") as (api, port), ff.Context() as ctx:
        live = ctx.load(f"dectris1://127.0.0.1:{port}", nav_shape=(200,))

        def scan(info):
            put(api, "arm")
            put(api, "trigger")

        result = ctx.run_udf(live, Corner(), on_ready=scan)
    # the simulator writes the number of the frame into its corner
    np.testing.assert_array_equal(result["value"].data, np.arange(200))


RUN = """
import glob, sys
import h5py, numpy as np
from extra_data.tests.make_examples import make_spb_run
make_spb_run(sys.argv[1])
for module in (0, 1):
    (path,) = glob.glob(sys.argv[1] + f"/*AGIPD{module:02d}-S00000.h5")
    with h5py.File(path, "r+") as file:
        data = file[f"INSTRUMENT/SPB_DET_AGIPD1M-1/DET/{module}CH0:xtdf/image/data"]
        data[:128] = np.random.default_rng(module).integers(0, 60000, (128, *data.shape[1:])).astype("u2")
print("made", flush=True)
"""


def test_karabo_bridge(tmp_path):
    peer = python("FRAMEFOLD_KARABO_PYTHON")
    subprocess.run([peer, "-c", RUN, tmp_path], check=True, timeout=WAIT)
    command = [peer.with_name("karabo-bridge-serve-files"), tmp_path, "tcp://127.0.0.1:*"]
    command += ["--source", "*DET/[01]CH0*", "--key", "image.*"]
    with program(command, r"Streamer started on: tcp://127.0.0.1:(\d+)") as (port,), ff.Context() as ctx:
        live = ctx.load(f"karabo://127.0.0.1:{port}?source=*DET/*CH0*", nav_shape=(2, 64), modules=2, plane=0)
        result = ctx.run_udf(live, SumUDF())
    # two modules, and the first of the two planes
    for module in (0, 1):
        frames = np.random.default_rng(module).integers(0, 60000, (128, 2, 512, 128)).astype("u2")[:, 0]
        np.testing.assert_array_equal(result["intensity"].data[module], frames.sum(axis=0, dtype="u8"))
    assert result.damage.all()
