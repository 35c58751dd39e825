"""Scans the repository. If a scan fails, the models that are served continue to be served."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar

from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig

log = logging.getLogger("models")

_T = TypeVar("_T")
_UNEXPECTED = "an unexpected error"


class Scanner:
    """Runs scans in threads, and reports each kind of failure once.

    scan        returns the versions in the repository; may raise any exception
    is_serving  returns whether any model is served; an empty repository counts as a failure then
    on_trouble  called when a scan fails for a new reason
    trouble     why the last scan failed; "" if it succeeded
    """

    def __init__(
        self,
        repository: Path,
        scan: Callable[[], list[ModelConfig]],
        is_serving: Callable[[], bool],
        on_trouble: Callable[[], None],
    ) -> None:
        self.trouble = ""
        self._repository = repository
        self._scan = scan
        self._is_serving = is_serving
        self._on_trouble = on_trouble

    async def scan(self) -> list[ModelConfig] | None:
        """Return the versions in the repository; None if the scan failed, which is logged once per reason."""
        try:
            configs = await _in_daemon(self._scan)
        except RepositoryError as error:
            self._report(str(error))
            return None
        except Exception:
            # A bug, or an error of the file system that is not handled. The next scan may succeed.
            if self.trouble != _UNEXPECTED:
                self.trouble = _UNEXPECTED
                log.exception("the repository could not be scanned")
            return None
        # An empty folder has most likely lost its volume. An empty models.config is deliberate.
        if not configs and self._is_serving() and not self._repository.is_file():
            self._report(
                f"{self._repository} no longer contains any models; the models that are served continue to be served, "
                "until they are unloaded by name"
            )
            return None
        self.trouble = ""
        return configs

    def _report(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            log.error("%s", trouble)
            self._on_trouble()


async def _in_daemon(function: Callable[[], _T]) -> _T:
    """Return what a function does in a thread that the end of the process does not wait for.

    A scan takes as long as a file system that has stalled, or an archive of many gigabytes that it unpacks.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:
            outcome = partial(done.set_exception, error)
        else:
            outcome = partial(done.set_result, result)
        if done.set_running_or_notify_cancel():
            outcome()

    Thread(target=run, name="scan", daemon=True).start()
    return await asyncio.wrap_future(done)
