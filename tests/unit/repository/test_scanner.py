"""The thread in which a repository is scanned."""

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.scanner import Scanner


def test_a_scan_that_takes_long_does_not_keep_the_gateway_from_stopping() -> None:
    scanning, released = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def scan() -> list[ModelConfig]:
        threads.append(threading.current_thread())
        scanning.set()
        released.wait()
        return []

    async def stop_while_it_scans() -> None:
        task = asyncio.create_task(Scanner(Path(), scan, lambda: False, lambda: None).scan())
        await asyncio.to_thread(scanning.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with asyncio.Runner() as runner:
        runner.run(stop_while_it_scans())
        (thread,) = threads
        assert thread.is_alive()
        assert thread.daemon
        released.set()
        thread.join()  # what it returns is not wanted any more, which is no error


def test_a_failed_scan_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    def scan() -> list[ModelConfig]:
        raise RepositoryError("it cannot be read")

    scanner = Scanner(Path(), scan, lambda: False, lambda: None)
    assert [asyncio.run(scanner.scan()) for _ in range(2)] == [None, None]
    assert scanner.trouble == "it cannot be read"
    assert [record.message for record in caplog.records] == ["it cannot be read"]
