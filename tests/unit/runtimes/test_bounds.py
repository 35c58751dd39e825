"""Running functions with limited time and memory."""

import subprocess
import sys

import numpy as np
import pytest

from runtimes.bounds import bounded
from tests.support import ROOT


def test_a_run_that_never_ends_ends_its_process() -> None:
    script = "from runtimes.bounds import bounded\nwith bounded(0.1, 1 << 30):\n    while True: pass"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=60).returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited only there")
def test_memory_is_limited_until_the_run_ends() -> None:
    with bounded(60, 1 << 30), pytest.raises(MemoryError):
        np.empty(2 << 30, np.uint8)
    assert np.empty(2 << 30, np.uint8).nbytes == 2 << 30
