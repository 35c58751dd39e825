"""A stand-in for a collector: receives spans by OTLP over HTTP."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_WAIT_S = 60


class OtlpReceiver:
    """`resources`: the attributes of whoever sent the spans."""

    def __init__(self, port: int = 0) -> None:
        self.spans: dict[str, list[Any]] = defaultdict(list)  # by the id of the trace
        self.resources: dict[str, Any] = {}
        self._changed = Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                receiver._add(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _add(self, request: ExportTraceServiceRequest) -> None:
        with self._changed:
            for resource in request.resource_spans:
                self.resources = attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self.spans[span.trace_id.hex()].append(span)
            self._changed.notify_all()

    def wait(self, trace_id: str, name: str = "write") -> dict[str, Any]:
        """Return the spans of a trace by name, once it has one of this name."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(span.name == name for span in self.spans[trace_id]), _WAIT_S)
            return {span.name: span for span in self.spans[trace_id]}

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown()
        self._server.server_close()
        self._thread.join(_WAIT_S)


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as Python values."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))
