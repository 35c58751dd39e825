"""The output of child processes goes to the log, line by line, but not more of it than the gateway can bear."""

import asyncio
import logging
import sys

import pytest

from gateway.process.child import Child


def logged(script: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what is logged of the output of a script of Python."""

    async def run() -> None:
        child = await Child.spawn([sys.executable, "-c", script], logging.getLogger("child"), ())
        await child.wait()

    caplog.set_level(logging.INFO, logger="child")
    asyncio.run(run())
    return [record.getMessage() for record in caplog.records if record.name == "child"]


def test_lines_are_logged_in_order_and_the_last_needs_no_newline(caplog: pytest.LogCaptureFixture) -> None:
    script = "import sys; print('one'); print(); sys.stdout.buffer.write(b'gr\\xfcn\\n'); print('three', end='')"
    assert logged(script, caplog) == ["one", "gr\N{REPLACEMENT CHARACTER}n", "three"]


def test_a_line_without_end_is_dropped_and_the_next_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    lines = logged("print('x' * 1_000_000); print('after')", caplog)
    assert lines[-1] == "after"
    assert sum(map(len, lines)) < 200_000


def test_output_in_a_loop_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    lines = logged("for number in range(100_000): print(number)", caplog)
    assert lines[:3] == ["0", "1", "2"]
    assert len(lines) < 30_000
    not_shown = [int(line.split()[0]) for line in lines if "lines of output are not shown" in line]
    assert sum(not_shown) + len(lines) - len(not_shown) == 100_000
