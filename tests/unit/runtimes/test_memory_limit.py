"""Memory limits that a worker sets itself."""

import subprocess
import sys

import pytest

from runtimes import memory
from tests.support import ROOT

_SCRIPT = """
import runpy, sys
runpy.run_path(sys.argv[1])
from runtimes import memory
memory.limit(200 << 20, threads=1)
b"x" * (100 << 20)
try:
    b"x" * (400 << 20)
except MemoryError:
    print("limited")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mappings on Linux only")
def test_an_allocation_beyond_the_limit_fails() -> None:
    command = [sys.executable, "-I", "-c", _SCRIPT, str(ROOT / "runtimes" / "bootstrap.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "limited", done.stderr


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 30, "1GiB"), (1536 << 20, "1536MiB"), (3 << 10, "3KiB"), (1000, "1000"), (0, "0")]
)
def test_sizes_are_written_as_in_model_toml(size: int, text: str) -> None:
    assert memory.written(size) == text


@pytest.mark.parametrize(
    ("message", "exhausted"),
    [
        ("std::bad_alloc", True),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes", True),
        ("OOM when allocating tensor with shape[10]", True),
        ("the room has no such file", False),
        ("BOOM", False),
    ],
)
def test_errors_about_memory_are_recognized(message: str, exhausted: bool) -> None:
    assert memory.is_exhausted(RuntimeError(message)) is exhausted
    wrapped = ValueError("it cannot be loaded")
    wrapped.__cause__ = RuntimeError(message)
    assert memory.is_exhausted(wrapped) is exhausted
    assert memory.is_exhausted(MemoryError())
