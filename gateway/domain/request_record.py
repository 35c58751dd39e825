"""The record of one request, which a front fills while it answers, for those who observe requests.

Traces and the access log are made from it. A front without an Observer creates no record.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.domain.identity import Identity

if TYPE_CHECKING:
    from gateway.domain.types import InferRequest
    from runtimes.result_frames import ResultGroup

SUCCESS, CANCELLED = "success", "cancelled"
# In characters. Clients choose names, ids and paths, and records may be kept for a while.
MAX_LENGTH = 256
_MAX_PATH = 2048
# A model may call others in a loop. The spans of one request should stay readable, and in memory.
MAX_DESCENDANTS = 128


class Observer(Protocol):
    """What is told of a front's requests. It is called on the event loop, so it must not block, and must not raise."""

    def skips(self, model: str, traceparent: str) -> bool:
        """Whether it does without the record of a request for inference, so that none is created.

        Only the compiled path (front/fast_path.pyx) asks. Unless this returns True, `named` is called next.
        """

    def named(self, record: "RequestRecord") -> None:
        """The record's model is known: its request is about to be submitted."""

    def ended(self, record: "RequestRecord") -> None:
        """The request has been answered, or its client has disconnected. Called once, and nothing changes any more."""


class Observers:
    """Several observers as one. A request is skipped if all of them do without it."""

    def __init__(self, *observers: Observer) -> None:
        """The first that never skip, because `skips` counts what it answers True to."""
        self._observers = observers

    def skips(self, model: str, traceparent: str) -> bool:
        return all(observer.skips(model, traceparent) for observer in self._observers)

    def named(self, record: "RequestRecord") -> None:
        for observer in self._observers:
            observer.named(record)

    def ended(self, record: "RequestRecord") -> None:
        for observer in reversed(self._observers):  # the access log has the ids of traces
            observer.ended(record)


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One HTTP request, one gRPC call, or one message of a gRPC stream of inference requests.

    Times are time.monotonic() seconds, and 0 for what the request has not come to:

    arrived   its first bytes were read; over gRPC, its message has arrived
    received  its last bytes were read
    queued    it was put into its model's queue
    sent      it was sent to a worker; for a pipeline, when its first steps were queued
    answered  the worker's answer was read, or the request failed or was cancelled in the queue or at the worker
    written   its answer was handed over to the transport

    method       the HTTP method; "" over gRPC
    path         without its query; over gRPC /SERVICE/METHOD; "" for a head that cannot be read. This and the names
                 and ids are cut off when the request ends, if they are long
    peer         HOST:PORT over HTTP, ipv4:HOST:PORT or another form of gRPC's over gRPC; "" if there is none
    bytes_in     of the body or message
    traceparent, tracestate, user_agent  the headers of these names; "" without them
    request_id   the client's x-request-id, or one that the front made
    model, version  "" if they are not known; the version is the client's until the request was answered
    id           the inference request's, as the client chose it
    identity     the name of who sent it; "" if that is not known
    outcome      "success", "cancelled" if the client disconnected, or the kind of the error (gateway/errors.py)
    status       the HTTP status or gRPC code; 0 over HTTP if the client disconnected
    bytes_out    of the answer's body or message, or of all of them
    queue_ns     time in the worker's queue
    compute_input_ns, compute_infer_ns, compute_output_ns  of the batch
    batch_rows   rows of the batch
    batch        the same number for requests whose answers came in one frame, and which shared a batch; 0 if unknown
    traced       whether it is traced; None until that is decided
    trace_id     of its trace, in hexadecimal digits; "" if it is not traced
    has_steps    whether a pipeline has answered it, which has no worker of its own
    children     of the requests to other models that were made for it, if it is traced
    root         the record of the client's request, if this one was made for it; None if it is that one
    descendants  of a root: how many records were made for it, at most MAX_DESCENDANTS
    """

    observer: Observer
    protocol: Literal["http", "grpc"]
    method: str
    path: str
    peer: str
    bytes_in: int = 0
    traceparent: str = ""
    tracestate: str = ""
    user_agent: str = ""
    request_id: str = ""
    arrived: float = field(default_factory=time.monotonic)
    received: float = 0.0
    queued: float = 0.0
    sent: float = 0.0
    answered: float = 0.0
    written: float = 0.0
    model: str = ""
    version: str = ""
    id: str = ""
    identity: str = ""
    outcome: str = SUCCESS
    status: int = 0
    bytes_out: int = 0
    queue_ns: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0
    batch_rows: int = 0
    batch: int = 0
    traced: bool | None = None
    trace_id: str = ""
    has_steps: bool = False
    children: "list[RequestRecord]" = field(default_factory=list)
    root: "RequestRecord | None" = None
    descendants: int = 0

    def receive(self, size: int) -> None:
        """The last bytes of a body of this size have arrived."""
        self.received, self.bytes_in = time.monotonic(), size

    def attach(self, request: "InferRequest", identity: Identity | None) -> "InferRequest":
        """Return the request with this record, which the engine then fills."""
        self.name(request.model, request.version, request.id, identity)
        return request._replace(record=self)

    def name(self, model: str, version: str, id: str, identity: Identity | None) -> None:
        self.model, self.version, self.id = model, version, id
        if identity is not None:
            self.identity = identity.name
        self.observer.named(self)

    def settle(self, version: str, queued: float, sent: float) -> None:
        """The request was answered, has failed or was cancelled. It was queued, and perhaps sent, at these times."""
        self.answered = time.monotonic()
        self.version, self.queued, self.sent = version, queued, sent

    def compute(self, results: "ResultGroup", index: int) -> None:
        """The request's final answer is the one at `index` of these results."""
        self.queue_ns, self.batch_rows = results.queue_ns[index], results.batch_rows
        self.compute_input_ns, self.compute_infer_ns = results.compute_input_ns, results.compute_infer_ns
        self.compute_output_ns = results.compute_output_ns
        self.batch = results.numbers[0]

    def end(self, status: int, outcome: str = "", bytes_out: int = 0) -> None:
        """The answer was handed over to the transport. Only the first call counts.

        outcome  "" to leave what is recorded
        """
        if self.written:
            return
        self.written = time.monotonic()
        self.status, self.bytes_out = status, bytes_out
        if outcome:
            self.outcome = outcome
        self.path = self.path[:_MAX_PATH]
        self.model, self.version, self.id = self.model[:MAX_LENGTH], self.version[:MAX_LENGTH], self.id[:MAX_LENGTH]
        self.observer.ended(self)

    def of_child(self, model: str, version: str, id: str) -> "RequestRecord | None":
        """Return the record of a request that is made for this one; None if nobody would see it."""
        root = self.root or self
        if not root.traced or root.descendants >= MAX_DESCENDANTS:
            return None
        root.descendants += 1
        child = RequestRecord(self.observer, self.protocol, "", "", "", model=model, version=version, id=id, root=root)
        self.children.append(child)
        return child

    def of_message(self, size: int) -> "RequestRecord":
        """Return the record of a message of this call, which has just arrived."""
        now = time.monotonic()
        return replace(self, bytes_in=size, arrived=now, received=now, children=[])


# The record of the request that the current task answers; None if nobody observes it. Requests that are answered
# without a task have theirs in the InferRequest.
CURRENT: ContextVar[RequestRecord | None] = ContextVar("record", default=None)
