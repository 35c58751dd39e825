"""The logs of requests that fronts write or feed: the access log, and the audit log."""

import os
import sys
from pathlib import Path
from typing import Any

from gateway.config import Settings, SettingsError
from gateway.domain.caller import Event
from gateway.process.line_file import open_for_appending
from gateway.supervisor.audit_log import AuditLog


class RequestLogs:
    """access_descriptor: of the access log, if it has no path; otherwise -1, and fronts open the path."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError if a log cannot be written."""
        self._has_access_log = bool(settings.access_log)
        self._unlogged = 0
        self._audit: AuditLog | None = None
        self.access_descriptor = _access_descriptor(settings)
        try:
            self._audit = _audit_log(settings)
        except SettingsError:
            self.close()
            raise

    def record(self, event: Event) -> None:
        """Record an event of this process in the audit log. May be called by any thread."""
        if self._audit is not None:
            self._audit.record(event)

    def on_audit(self, events: list[list[Any]], dropped: int) -> None:
        """Record the events of a front in the audit log: see AuditLog.add."""
        if self._audit is not None:
            self._audit.add(events, dropped)

    def on_unlogged(self, lines: int) -> None:
        """Count the lines that a front could not write to the access log."""
        self._unlogged += lines

    def dropped(self) -> dict[str, int]:
        """Return the lines that each log could not keep."""
        dropped = {} if self._audit is None else {"audit": self._audit.dropped}
        return {**dropped, "access": self._unlogged} if self._has_access_log else dropped

    def close(self) -> None:
        if self.access_descriptor >= 0:
            os.close(self.access_descriptor)
            self.access_descriptor = -1
        if self._audit is not None:
            self._audit.close()


def _audit_log(settings: Settings) -> AuditLog | None:
    """Raises SettingsError."""
    if not settings.audit_log:
        return None
    try:
        return AuditLog(Path(settings.audit_log), settings.audit_log_bytes, settings.audit_log_files)
    except OSError as error:
        raise SettingsError(
            f"the audit log {settings.audit_log} cannot be written: {error.strerror}; "
            "set audit_log to a file in a folder that this user may write to, or to nothing"
        ) from None


def _access_descriptor(settings: Settings) -> int:
    """Return the descriptor of the access log, if it has no path; otherwise -1. Raises SettingsError."""
    try:
        if settings.access_log == "-":
            if sys.stdout is None:
                raise SettingsError("access_log is -, but standard output is closed; set it to a file, or to nothing")
            return os.dup(sys.stdout.fileno())  # a front's own standard output is part of the log
        if settings.access_log:
            os.close(open_for_appending(Path(settings.access_log)))
    except OSError as error:
        raise SettingsError(
            f"the access log {settings.access_log} cannot be written: {error.strerror}; "
            "set access_log to a file in a folder that this user may write to, to - for standard output, or to nothing"
        ) from None
    return -1
