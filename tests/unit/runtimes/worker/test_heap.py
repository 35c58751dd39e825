"""Memory that is free between allocations in use returns to the system."""

import ctypes
import os
from pathlib import Path

import pytest

from runtimes.worker.heap import return_free_memory

_SIZE, _COUNT = 16 << 10, 4096  # 64 MiB of pieces that are too small for mappings of their own


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_free_pages_between_allocations_are_returned() -> None:
    pieces = [bytearray(b"\1") * _SIZE for _ in range(_COUNT)]
    del pieces[:-1]  # the last one is above the free ones
    before = _resident_bytes()
    return_free_memory()
    assert _resident_bytes() < before - _SIZE * _COUNT // 2
    assert pieces[0][-1] == 1
