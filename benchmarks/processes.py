"""The end of processes that take part in a benchmark; imports nothing that a peer's environment may lack."""

import subprocess
import sys


def end(process):
    """Wait for a process that was told to end; figures do not depend on how it does."""
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        print(f"process {process.pid} did not end, and is killed", file=sys.stderr)
        process.kill()
        process.wait()
