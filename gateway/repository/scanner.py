"""Scans the repository. If a scan fails, the models that are served continue to be served."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.repository.scan import ModelConfig, RepositoryError

log = logging.getLogger("models")

_UNEXPECTED = "an unexpected error"


class Scanner:
    """Runs scans in a thread, and reports each kind of failure once.

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
            configs = await asyncio.to_thread(self._scan)
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
