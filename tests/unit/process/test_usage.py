"""What a process uses, compared with psutil."""

import os
import subprocess
import sys

import psutil
import pytest

from gateway.process.usage import usage


def test_it_is_what_psutil_says() -> None:
    ours, process = usage(os.getpid()), psutil.Process()
    times = process.cpu_times()
    assert ours.resident_bytes == pytest.approx(process.memory_info().rss, rel=0.1)
    assert ours.cpu_s == pytest.approx(times.user + times.system, abs=0.5)
    assert abs(ours.descriptors - process.num_fds()) <= 2


def test_a_process_that_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError):
        usage(process.pid)
