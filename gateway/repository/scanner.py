"""Scans of the repository that no fault of the repository ends: what is served then goes on being served."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.repository.scan import ModelConfig, RepositoryError

log = logging.getLogger("models")

_UNFORESEEN = "in a way that nobody foresaw"


class Scanner:
    """
    scan        runs in a thread; may raise anything
    is_serving  whether any model is served: a repository that holds none is then in trouble
    on_trouble  called when the repository can no longer be read, or cannot for another reason
    trouble     why the last scan failed; "" if it did not
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
        """What the repository asks for; None, and once a line in the log, where that cannot be seen."""
        try:
            configs = await asyncio.to_thread(self._scan)
        except RepositoryError as error:
            self._report(str(error))
            return None
        except Exception:
            # Nobody foresaw it, and the next look may be better.
            if self.trouble != _UNFORESEEN:
                self.trouble = _UNFORESEEN
                log.exception("the repository could not be looked at")
            return None
        # A models.config without models says so; a folder without any has more often lost its volume.
        if not configs and self._is_serving() and not self._repository.is_file():
            self._report(
                f"{self._repository} holds no models any more: those that are served go on being served; "
                "unload by name what is not wanted"
            )
            return None
        self.trouble = ""
        return configs

    def _report(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            log.error("%s", trouble)
            self._on_trouble()
