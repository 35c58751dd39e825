"""The memory of processes, of real ones."""

import subprocess
import sys

import pytest

from gateway.process.resident import Resident, process_tree, resident

_CHILD = """
import subprocess, sys
ballast = bytearray(b"x" * (40 << 20))
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no shares of pages")
def test_a_process_and_its_children_are_measured() -> None:
    process = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert set(process_tree(process.pid)) == {process.pid, child}
    found = resident(process.pid)
    assert (40 << 20) < found.private <= found.share
    assert found.peak >= found.private
    assert 0 < resident(child).private < found.private
    process.communicate(b"\n")
    assert resident(process.pid) == Resident()
