"""What the commands have in common that run models without a server: progress, errors, and how they are stopped."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gateway.config import Settings
from gateway.export.errors import CannotExport
from gateway.export.workspace import Environments

Result = TypeVar("Result")
Work = Callable[[Environments, Callable[[str], None]], Coroutine[Any, Any, Result]]


class Ended(Exception):
    """The command has printed why it ends. code: its exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


def run(work: Work[Result], home: Path, settings: Settings, stopped: str) -> Result:
    """Run the work with the environments and a function that prints its progress, and return its result.

    stopped  what to print if it is stopped by Ctrl-C or SIGTERM

    Raises Ended.
    """

    def on_progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        return asyncio.run(_stoppable(work(Environments(home, settings, on_progress), on_progress)))
    except CannotExport as error:
        if error.detail:
            print(error.detail, file=sys.stderr)
        print(f"modelport: {error}", file=sys.stderr)
        raise Ended(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"modelport: {stopped}", file=sys.stderr)
        raise Ended(130) from None


async def _stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Cancel the work on SIGTERM, as on Ctrl-C, so that it cleans up."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
