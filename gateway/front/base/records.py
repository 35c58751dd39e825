"""Creates the records of requests, with the headers or the metadata that they need."""

from collections.abc import Sequence
from typing import Any

from gateway.domain.request_record import Observer, RequestRecord
from gateway.front.base.request_ids import header_id, metadata_id, new_id

# By the name of the header, the field of the record.
_FIELDS = {"traceparent": "traceparent", "tracestate": "tracestate", "user-agent": "user_agent"}
_HTTP_FIELDS = {name.encode(): field for name, field in _FIELDS.items()}
# Clients choose the values. Those of the standard are shorter (https://www.w3.org/TR/trace-context/).
_MAX_VALUE = 512


def http_record(
    observer: Observer,
    method: bytes,
    path: str,
    client: tuple[str, int] | None,
    headers: Sequence[tuple[bytes, bytes]],
    arrived: float,
) -> RequestRecord:
    """`headers`: with names in lower case."""
    record = RequestRecord(
        observer, "http", method.decode("latin-1"), path, f"{client[0]}:{client[1]}" if client else "", arrived=arrived
    )
    for name, value in headers:
        if name in _HTTP_FIELDS:
            _fill(record, _HTTP_FIELDS[name], value.decode("latin-1"))
    record.request_id = header_id(headers).decode() or new_id()
    return record


def head_record(
    observer: Observer, head: bytes, path: str, client: tuple[str, int] | None, arrived: float
) -> RequestRecord:
    """Return the record of a request with this head, whose lines are known to be valid."""
    first, *lines = head.split(b"\r\n")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    return http_record(observer, first.partition(b" ")[0], path, client, headers, arrived)


def grpc_record(observer: Observer, path: str, peer: str, metadata: Sequence[Any], size: int) -> RequestRecord:
    """Return the record of a call whose message, of `size` bytes, has just arrived."""
    record = RequestRecord(observer, "grpc", "", path, peer, size)
    record.received = record.arrived
    for name, value in metadata:
        if name in _FIELDS and isinstance(value, str):
            _fill(record, _FIELDS[name], value)
    record.request_id = metadata_id(metadata) or new_id()
    return record


def _fill(record: RequestRecord, field: str, value: str) -> None:
    """Only the first header of a name counts, but all of tracestate, as its standard demands."""
    known = getattr(record, field)
    if known and field == "tracestate":
        value = f"{known},{value}"
    elif known:
        return
    if len(value) <= _MAX_VALUE:
        setattr(record, field, value)


def traceparent_of(metadata: Sequence[Any]) -> str:
    """Return the traceparent in a call's metadata; "" if there is none."""
    for name, value in metadata:
        if name == "traceparent" and isinstance(value, str):
            return value
    return ""
