"""The sender of a request as a transport knows it, and what the audit log records of a request."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.identity import Action

Header = tuple[str, str | bytes]
# Headers that identify one request or its trace, in lower case. A head with one of them is never repeated.
PER_REQUEST_HEADERS = (
    "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-request-id",
    "request-id", "x-correlation-id", "x-amzn-trace-id", "x-cloud-trace-context", "uber-trace-id", "sentry-trace",
    "x-datadog-trace-id", "x-datadog-parent-id", "ce-id", "idempotency-key",
)  # fmt: skip


class Caller(NamedTuple):
    """The sender of a request, as far as the transport knows it.

    peer         the address: HOST:PORT over HTTP, ipv4:HOST:PORT or another form of gRPC's over gRPC, "" if unknown
    headers      HTTP headers or gRPC metadata as received, with names in lower case; a name may occur more than once
    certificate  the names in the client certificate of the connection (gateway/process/tls.py); none without one
    """

    peer: str
    headers: Sequence[Header]
    certificate: Sequence[str] = ()


class Event(NamedTuple):
    """What the audit log records: a request that was refused, or one that changes the server.

    identity  the name of whoever sent it; "" if the credentials were not accepted
    what      the method and path, without its query; for inference only the path; over gRPC the method
    outcome   "ok", or the kind of the error (gateway/errors.py)
    """

    action: Action
    model: str
    peer: str
    identity: str
    what: str
    outcome: str = "ok"
