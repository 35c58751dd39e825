"""Decides whether the fronts export traces."""

import importlib.util
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.config import Settings, SettingsError
from gateway.domain.trace_settings import TraceSettings, TraceTable

log = logging.getLogger("supervisor")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_NOT_INSTALLED = "the extra 'otel' is not installed; install modelport[otel]"
_OFF = "this server exports no traces, so 'trace_level' can only be 'OFF'"


def trace_endpoint(settings: Settings, environment: Mapping[str, str]) -> str | None:
    """Return where traces go: a URL, or "" if the variables of OpenTelemetry say so; None if there are none.

    Variables that are meant for all programs of a machine do not keep the gateway from starting, but are logged.
    Raises SettingsError.
    """
    is_installed = _is_installed()
    if settings.otlp_endpoint:
        url = urlsplit(settings.otlp_endpoint)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise SettingsError(
                "otlp_endpoint is not the URL of a collector; use one such as http://127.0.0.1:4318, without v1/traces"
            )
        if not is_installed:
            raise SettingsError(f"otlp_endpoint is set, but {_NOT_INSTALLED}")
        return settings.otlp_endpoint
    named = next((name for name in _ENDPOINTS if environment.get(name)), None)
    if named is None or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        log.warning("no traces are exported: the protocol of %s is '%s', but must be %s", named, protocol, _PROTOCOL)
    elif not is_installed:
        log.warning("no traces are exported: %s is set, but %s", named, _NOT_INSTALLED)
    else:
        return ""
    return None


def trace_table(settings: Settings, endpoint: str | None) -> TraceTable:
    """`endpoint`: from `trace_endpoint`."""
    if endpoint is None:
        return TraceTable(TraceSettings(), _OFF)
    rate = 1 / settings.trace_ratio if settings.trace_ratio else 0
    return TraceTable(TraceSettings(True, rate))


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
