"""The files that settings name: opened, or refused with one sentence, before the gateway starts."""

import os
import sys
from pathlib import Path

from gateway.config import Settings, SettingsError
from gateway.process.line_file import open_for_appending
from gateway.process.tls import ServerTls, TlsError, TlsFiles
from gateway.supervisor.audit_log import AuditLog


def tls_files(settings: Settings) -> TlsFiles | None:
    if not settings.tls_cert:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca or None)


def server_tls(files: TlsFiles | None) -> ServerTls | None:
    """Raises SettingsError."""
    try:
        return None if files is None else ServerTls(files.read())
    except TlsError as error:
        raise SettingsError(str(error)) from None


def audit_log(settings: Settings) -> AuditLog | None:
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


def access_log_descriptor(settings: Settings) -> int:
    """Return the descriptor of the access log, if it has no path; otherwise -1. Fronts open the path.

    Raises SettingsError.
    """
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
