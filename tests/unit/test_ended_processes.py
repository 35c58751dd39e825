"""tests/support/ended_processes.py, on which tests of what is left behind rely."""

import subprocess
import sys

import psutil

from tests.support.ended_processes import wait_ended


def test_a_zombie_has_ended() -> None:
    """This process reads its child's status only after the check, as process 1 of a container may never do."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        process = psutil.Process(child.pid)
        assert wait_ended([process], 0) == [process]
        child.stdin.close()
        assert wait_ended([child.pid]) == []
        assert process.status() == psutil.STATUS_ZOMBIE
    assert wait_ended([process, child.pid], 0) == []
