"""The access log: a line of JSON for each request, whatever its protocol and its outcome."""

import json
import re
import select
import time

import orjson

from gateway.domain.request_record import RequestRecord
from gateway.errors import shorten
from gateway.front.base.grpc_code import Code
from gateway.process.line_file import LineFile

# Clients choose paths, and the names of models and of themselves. With the shorter length, even a line whose characters
# are all escaped is no longer than what a pipe takes at once: see line_file.py.
_MAX_LENGTH, _MAX_LENGTH_IN_LONG_LINE = 256, 40
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class AccessLog:
    """An Observer that logs all requests."""

    def __init__(self, file: LineFile) -> None:
        self.file = file
        self._second, self._clock = 0, ""

    def skips(self, model: str, traceparent: str) -> bool:
        return False

    def named(self, record: RequestRecord) -> None:
        """Nothing: the line is written when the request has ended."""

    def ended(self, record: RequestRecord) -> None:
        now = self._now()
        line = self._line(record, now, _MAX_LENGTH)
        if len(line) > select.PIPE_BUF:
            line = self._line(record, now, _MAX_LENGTH_IN_LONG_LINE)
        self.file.add(line)

    def _line(self, record: RequestRecord, now: str, longest: int) -> bytes:
        is_http = record.protocol == "http"
        waited = (record.sent or record.answered) - record.queued  # it may have failed before it was sent
        fields = {
            "time": now,
            "protocol": record.protocol,
            "peer": record.peer,
            "identity": shorten(record.identity, longest) or None,
            "method": record.method or None,
            "path": shorten(record.path, longest),
            "model": shorten(record.model, longest),
            "version": shorten(record.version, longest),
            "http_status": record.status if is_http else None,
            "grpc_status": None if is_http else Code(record.status).name,
            "outcome": record.outcome,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "duration_ms": _milliseconds(record.written - record.arrived),
            "queue_ms": _milliseconds(waited + record.queue_ns * 1e-9),
            "compute_ms": _milliseconds(
                (record.compute_input_ns + record.compute_infer_ns + record.compute_output_ns) * 1e-9
            ),
            "batch_rows": record.batch_rows,
            "request_id": record.request_id or None,
            "trace_id": record.trace_id or _trace_id(record.traceparent) or None,
            "user_agent": shorten(record.user_agent, longest) or None,
        }
        # Everything but ASCII is escaped: names come from clients, and terminals interpret some characters.
        try:
            line = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # no text that can be encoded
            line = b"\xff"
        return line if line.isascii() else json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._clock = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._clock}{int((now - second) * 1000):03d}Z"


def _trace_id(traceparent: str) -> str:
    found = _TRACEPARENT.fullmatch(traceparent)
    return "" if found is None else found[1]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
