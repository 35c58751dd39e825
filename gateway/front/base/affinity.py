"""What keeps requests of a client at one version of a model, if the model's traffic is divided by a sticky header."""

from collections.abc import Iterable
from contextvars import ContextVar

from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine

# The metadata of the gRPC call that this task, or this turn of the event loop, answers.
CALL_METADATA: ContextVar[Iterable[tuple[str, str | bytes]]] = ContextVar("call_metadata", default=())


def with_affinity(
    engine: Engine, request: InferRequest, headers: Iterable[tuple[str | bytes, str | bytes]]
) -> InferRequest:
    """Return the request with the value of its model's sticky header, if it has one and the request names no version.

    headers  with names in lower case
    """
    wanted = engine.sticky_headers.get(request.model)
    if wanted is None or request.version:
        return request
    for name, value in headers:
        if _text(name) == wanted:
            return request._replace(affinity=_text(value).strip())
    return request


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
