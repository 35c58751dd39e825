"""Exports spans in a thread, so that a collector that is slow or down delays nothing."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.util.types import AttributeValue

from gateway.domain.request_record import RequestRecord
from gateway.front.tracing.otlp import request
from gateway.front.tracing.spans import spans_of

log = logging.getLogger("front")

# How long records are collected. Longer, traces appear later; shorter, fewer neighbours of a batch are exported
# together, which links need, and there are more requests to the collector.
_COLLECT_S = 1.0
# Records that are exported at a time, up to 2000 spans. With fewer, the threads take turns more often, and spend more
# CPU time.
_MAX_BATCH = 256
# Records that wait while the collector does not answer: about 2 MiB. Further ones are dropped.
_MAX_WAITING = 2048


class SpanExport:
    """Takes records from the event loop. A thread makes spans of them and exports these."""

    def __init__(self, encode: Callable[[Sequence[RequestRecord]], bytes], send: Callable[[bytes], bool]) -> None:
        """`encode` makes a message for the collector. `send` returns whether the collector has accepted it."""
        self._encode, self._send = encode, send
        self._waiting: deque[RequestRecord] = deque()
        self._dropped = 0
        self._overflowed = self._dropping = self._closing = False
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, record: RequestRecord) -> None:
        """Export the spans of a request later. If too many wait already, it is dropped."""
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            self._overflowed = True
            return
        self._waiting.append(record)
        if len(self._waiting) >= _MAX_BATCH:
            self._awake.set()

    def close(self, timeout_s: float) -> None:
        """Export what is waiting. What was not exported in this time is lost."""
        self._closing = True
        self._awake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing:
            self._awake.wait(_COLLECT_S)
            self._awake.clear()
            self._export_all()
        self._export_all()

    def _export_all(self) -> None:
        while self._waiting:
            records = [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]
            try:
                message = self._encode(records)
            except Exception:  # a bug must not end all traces
                log.exception("no spans could be made of %d requests", len(records))
                continue
            if not self._send(message):
                self._dropped += len(records)
                self._report("traces cannot be sent to the collector, and are dropped until it accepts them")
            elif self._overflowed:
                self._report("the collector is too slow, and traces are dropped until it keeps up")
            elif len(self._waiting) < _MAX_WAITING // 2:
                self._report("")
            self._overflowed = False

    def _report(self, problem: str) -> None:
        """Log once that there is a problem, and once that there is none any more: "" for `problem`."""
        if problem and not self._dropping:
            log.warning("%s; requests are not affected", problem)
        elif not problem and self._dropping:
            log.info("traces are exported again; %d were dropped", self._dropped)
            self._dropped = 0
        self._dropping = bool(problem)


class Collector(OTLPSpanExporter):
    """The SDK's exporter, for messages that are encoded already: see otlp.py."""

    def send(self, message: bytes) -> bool:
        """Return whether the collector has accepted it, perhaps after some attempts."""
        result = self._client.export(message)
        # The SDK follows no redirect, but takes one for success.
        return result.success and (result.status_code or 0) < 300


def otlp_export(endpoint: str, server_name: str, scheme: str) -> SpanExport:
    """Return the export to a collector, by OTLP over HTTP.

    endpoint  the URL, without v1/traces; "" for that of OTEL_EXPORTER_OTLP_ENDPOINT. The other variables of that name
              say the rest
    scheme    of the URLs that clients use: http or https
    """
    # Its own messages come with each attempt, and have the URL, which may contain a password.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    release = version("modelport")
    own: dict[str, AttributeValue] = {
        "service.name": server_name, "service.version": release, "process.pid": os.getpid()
    }  # fmt: skip
    # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME override ours.
    described = Resource.create(own).merge(OTELResourceDetector().detect()).attributes
    resource = {name: value for name, value in described.items() if isinstance(value, str | bool | int | float)}
    scope = {"name": "modelport", "version": release}

    def encode(records: Sequence[RequestRecord]) -> bytes:
        return request(resource, scope, spans_of(records, scheme))

    collector = Collector(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
    return SpanExport(encode, collector.send)
