"""What is logged: the settings of Triton's logging extension, which can be changed while the gateway runs."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway.errors import InvalidRequest, Unsupported, shorten

# The first part of the names of the gateway's own loggers. Others are those of libraries.
_OWN = frozenset({"gateway", "front", "models", "worker", "environments", "metrics", "export", "audit"})
_MAX_VERBOSE_LEVEL = 2**32 - 1
DEFAULT_FORMAT, ISO8601 = "default", "ISO8601"


@dataclass(frozen=True)
class LogSettings:
    """The names are Triton's.

    log_verbose_level  0: no details; 1: those of the gateway itself; 2 and more: also those of its libraries
    log_format         of times: DEFAULT_FORMAT or ISO8601
    log_file           always "": the gateway logs to standard error
    """

    log_file: str = ""
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: str = DEFAULT_FORMAT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def level(self) -> int:
        """The lowest level of which anything is logged."""
        return logging.DEBUG if self.log_verbose_level else logging.INFO

    def shows(self, record: logging.LogRecord) -> bool:
        """Whether to log this. Can be used as a filter."""
        if record.levelno >= logging.ERROR:
            return self.log_error
        if record.levelno >= logging.WARNING:
            return self.log_warning
        if record.levelno >= logging.INFO:
            return self.log_info
        return self.log_verbose_level >= (1 if record.name.partition(".")[0] in _OWN else 2)

    def changed(self, changes: Mapping[str, Any], formats: Collection[str]) -> "LogSettings":
        """Return the settings with these changes; None leaves a setting as it is.

        formats  the values that log_format can have

        Raises InvalidRequest, and Unsupported for what Triton could do.
        """
        wanted = {name: value for name, value in changes.items() if value is not None}
        for name, value in wanted.items():
            _check(name, value)
        if wanted.get("log_file", self.log_file) != self.log_file:
            raise Unsupported(
                "'log_file' cannot be changed, because the gateway logs to standard error; redirect that instead"
            )
        if (log_format := wanted.get("log_format", self.log_format)) not in formats:
            possible = " or ".join(f"'{each}'" for each in formats)
            raise Unsupported(f"'log_format' cannot be '{log_format}' with this server's --log; use {possible}")
        return replace(self, **wanted)


def _check(name: str, value: Any) -> None:
    """Raises InvalidRequest."""
    if name in ("log_info", "log_warning", "log_error"):
        if not isinstance(value, bool):
            raise InvalidRequest(f"'{name}' must be true or false")
    elif name == "log_verbose_level":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_VERBOSE_LEVEL:
            raise InvalidRequest(f"'{name}' must be an integer from 0 to {_MAX_VERBOSE_LEVEL}")
    elif name == "log_format":
        if value not in (DEFAULT_FORMAT, ISO8601):
            raise InvalidRequest(f"'{name}' must be '{DEFAULT_FORMAT}' or '{ISO8601}'")
    elif name == "log_file":
        if not isinstance(value, str):
            raise InvalidRequest(f"'{name}' must be a string")
    else:
        raise InvalidRequest(
            f"there is no log setting '{shorten(name)}'; the settings are {', '.join(LogSettings.__annotations__)}"
        )
