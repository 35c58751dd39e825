"""What a worker tried is written in words, and a worker that tries in a loop cannot take the supervisor's time."""

import asyncio
import ctypes
import logging
import mmap
import os
import re
import socket
import struct
from collections.abc import Callable

import pytest

from gateway.lifecycle import denied_calls
from gateway.lifecycle.denied_calls import DeniedCalls, describe


def here(data: bytes) -> tuple[int, ctypes.Array[ctypes.c_char]]:
    """Return the address of these bytes in this process, and what keeps them there."""
    kept = ctypes.create_string_buffer(data)
    return ctypes.addressof(kept), kept


V4 = struct.pack("=H", socket.AF_INET) + struct.pack(">H", 8080) + bytes([192, 0, 2, 7]) + bytes(8)
V6 = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", 443, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no /proc")
@pytest.mark.parametrize(
    ("name", "data", "arguments", "words"),
    [
        ("execve", b"/bin/sh\0", (0,), "run the program '/bin/sh'"),
        ("execve", b"/bin/\nsh\0", (0,), r"run the program '/bin/\\nsh'"),
        ("connect", V4, (3, 0, 16), r"connect to 192\.0\.2\.7:8080"),
        ("connect", V6, (3, 0, len(V6)), r"connect to \[2001:db8::1\]:443"),
        ("connect", b"\x01\0/run/docker.sock\0", (3, 0, 18), "connect to '/run/docker.sock'"),
        ("bind", V4, (3, 0, 16), r"listen on 192\.0\.2\.7:8080"),
        ("chmod", b"/etc/passwd\0", (0,), "change the file '/etc/passwd'"),
    ],
)
def test_what_a_call_says_is_read_from_the_worker(
    name: str, data: bytes, arguments: tuple[int, ...], words: str
) -> None:
    address, kept = here(data)
    filled = [address if value == 0 else value for value in arguments]
    assert re.search(words, describe(name, [*filled, 0, 0, 0], os.getpid()))
    assert kept.raw.startswith(data)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no /proc")
def test_a_text_may_begin_on_one_page_and_end_on_another() -> None:
    with mmap.mmap(-1, 2 * mmap.PAGESIZE) as pages:
        pages[mmap.PAGESIZE - 5 : mmap.PAGESIZE + 7] = b"/etc/passwd\0"
        first = ctypes.c_char.from_buffer(pages)
        address = ctypes.addressof(first) + mmap.PAGESIZE - 5
        assert describe("chmod", [address, 0, 0], os.getpid()) == "it tried to change the file '/etc/passwd' (chmod)"
        del first  # the pages cannot be given back before


def test_calls_without_memory_are_named_too() -> None:
    assert "AF_INET6, SOCK_DGRAM" in describe("socket", [socket.AF_INET6, socket.SOCK_DGRAM, 0], 0)
    assert describe("clone", [17, 0, 0], 0) == "it tried to start another process (clone)"
    assert describe("execve", [8, 0, 0], 0) == "it tried to run the program '' (execve)"
    assert describe("bpf", [0, 0, 0], 0) == "it made the system call bpf"


def test_the_first_attempts_are_logged_and_the_rest_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    async def attempt() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            calls = DeniedCalls(ours, logging.getLogger("worker.test"))
            for number in range(1000):
                calls._log_attempt(f"attempt {number}")
            calls.close()
            calls.close()

    asyncio.run(attempt())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "the sandbox stopped the model: attempt 0"
    assert len(lines) == 21
    assert "without a line" in lines[-1]


def test_a_worker_that_calls_in_a_loop_is_answered_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the allowance spent, the loop does not look at the worker's calls until there is some again."""
    now, watched, timers = [100.0], [True], []

    class Loop:
        def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
            watched[0] = True

        def remove_reader(self, descriptor: int) -> None:
            watched[0] = False

        def call_later(self, delay: float, callback: Callable[[], None]) -> None:
            timers.append((delay, callback))

    async def spend() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            calls = DeniedCalls(ours, logging.getLogger("worker.test"))
            calls.close()
            monkeypatch.setattr("gateway.lifecycle.denied_calls.time.monotonic", lambda: now[0])
            monkeypatch.setattr(calls, "_loop", Loop())
            calls._updated = now[0]
            spent = 0
            while watched[0]:
                calls._take_allowance()
                spent += 1
            assert spent == denied_calls._BURST
            [(delay, resume)] = timers
            assert 0 < delay <= 2 / denied_calls._PER_SECOND
            now[0] += delay
            resume()
            assert watched[0]
            calls._take_allowance()
            assert not watched[0], "one call was allowed"

    asyncio.run(spend())
