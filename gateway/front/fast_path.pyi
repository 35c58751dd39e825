from asyncio import BufferedProtocol
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.domain.identity import Identity
from gateway.domain.request_record import Observer, RequestRecord
from gateway.engine.engine import FrontEngine
from gateway.engine.frames import Frames as PythonFrames
from gateway.engine.protocol import RequestHandle
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.front.dialects.v2.grpc_response import ResponseWriter
from gateway.front.http.connection import HttpConnection
from gateway.front.http.shared_state import SharedState
from gateway.front.http.states import Receiving

class Frames(PythonFrames): ...

class FastPath:
    keep_alive: bool

    def __init__(self, engine: FrontEngine, limits: Limits, observer: Observer | None = None) -> None: ...
    def serve_http(self, shared: SharedState, at_boundary: Receiving) -> None: ...
    def receiver(self, connection: HttpConnection) -> BufferedProtocol: ...
    def calls(
        self,
        reader: RequestReader,
        writer: ResponseWriter,
        handles: dict[int, RequestHandle],
        answers: list[tuple[int, bytes]],
        respond: Callable[[], Any],
        fail: Callable[[int, bytes | Exception], None],
        max_size: int,
        known_headers: Mapping[tuple[str, str | bytes], Identity],
        begin_record: Callable[[int, int, str, Any, bytes], RequestRecord] | None = None,
        end_record: Callable[[int, int, str, int], None] | None = None,
    ) -> Calls: ...

class Calls:
    def known_identity(self, metadata: Sequence[Any]) -> Identity | None: ...
    def take(
        self,
        call: int,
        message: bytes,
        seconds: float | None,
        identity: Identity | None,
        context: tuple[int, str, Any] | tuple[()] = (),
    ) -> bool: ...
