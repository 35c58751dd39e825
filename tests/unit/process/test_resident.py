"""The memory of processes, of real ones."""

import subprocess
import sys

import pytest

from gateway.process.resident import Resident, anonymous_bytes, private_bytes, process_tree, resident, resident_bytes

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
    assert found.share < found.all == resident_bytes(process.pid)
    assert 0 < resident(child).private < found.private
    process.communicate(b"\n")
    assert (resident(process.pid), resident_bytes(process.pid)) == (Resident(), 0)


def test_pages_of_a_forked_process_are_its_own_when_it_has_written_to_them() -> None:
    program = (
        "import os, sys\n"
        "held = bytearray(os.urandom(1 << 20)) * 40\n"
        "if os.fork():\n"
        "    os.wait(); sys.exit()\n"
        "print(os.getpid(), flush=True); sys.stdin.readline()\n"
        "held[::4096] = bytes(len(held[::4096]))\n"
        "print('written', flush=True); sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        copy = int(parent.stdout.readline())
        assert private_bytes(copy) < 20 << 20 < 40 << 20 < anonymous_bytes(copy)
        parent.stdin.write("\n")
        parent.stdin.flush()
        parent.stdout.readline()
        assert 40 << 20 < private_bytes(copy) <= anonymous_bytes(copy)
        parent.stdin.write("\n")
    assert private_bytes(copy) == 0
