"""The limit of open files is raised as far as the system allows."""

import resource
import subprocess
import sys

import pytest

from gateway.process import file_limit

_SCRIPT = """
import resource
from gateway.process.file_limit import raise_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
allowed = raise_open_files()
print(allowed > 64, resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, hard))
"""


def test_the_soft_limit_is_raised() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "True"]


def test_a_limit_that_the_system_refuses_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [256, resource.RLIM_INFINITY]

    def change(_: int, limit: tuple[int, int]) -> None:
        if limit[0] > 10240:
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = limit

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", change)
    assert file_limit.raise_open_files() == 10240
