"""Where the gateway logs to: standard error, as text or as JSON, or above the live table of a terminal.

The output of fronts, workers and builds is read by the supervisor and logged here, too, so that what is set here holds
for all of it.
"""

import logging
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from gateway.config import LogFormat
from gateway.domain.log_settings import DEFAULT_FORMAT, ISO8601, LogSettings
from gateway.process.logs import JsonFormatter, TextFormatter

log = logging.getLogger("gateway")


class LogOutput:
    """settings: those in force."""

    def __init__(self, kind: LogFormat = "text", terminal: logging.Handler | None = None) -> None:
        """`terminal` is the handler of the live table, which formats times itself."""
        self._text: TextFormatter | None = None
        self._formats = [DEFAULT_FORMAT]
        handler = terminal or logging.StreamHandler()
        if terminal is not None:
            handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        elif kind == "json":
            self._formats = [ISO8601]
            handler.setFormatter(JsonFormatter())
        else:
            self._formats = [DEFAULT_FORMAT, ISO8601]
            self._text = TextFormatter()
            handler.setFormatter(self._text)
        self.settings = LogSettings(log_format=self._formats[0])
        handler.addFilter(lambda record: self.settings.shows(record))
        self._handler = handler

    def install(self) -> None:
        """Have all loggers of this process write here."""
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(self.settings.level)
        if isinstance(self._handler.formatter, JsonFormatter):
            # What Python itself would write to standard error, as text.
            logging.captureWarnings(True)
            sys.excepthook = _log_exception

    def change(self, changes: Mapping[str, Any]) -> LogSettings:
        """Change settings: see LogSettings.changed. Raises InvalidRequest, Unsupported."""
        self.settings = self.settings.changed(changes, self._formats)
        if self._text is not None:
            self._text.iso8601 = self.settings.log_format == ISO8601
        logging.getLogger().setLevel(self.settings.level)
        return self.settings


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.critical("the gateway ends with an unexpected error", exc_info=(kind, error, traceback))
