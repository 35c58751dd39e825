"""Which error and which message a client gets for an exception; the same in every protocol."""

import logging

from gateway.errors import Internal, ModelportError, OutOfMemory

_LOG = logging.getLogger(__name__)
# In characters. Messages quote names that the client chose, which may be as long as its body, and gRPC sends messages
# in trailers, which many clients limit to 8 KiB. Our own sentences have a few hundred.
_MAX_LENGTH = 1000


def to_client_error(error: Exception, request_id: str = "") -> ModelportError:
    """Return the error to answer with. An unexpected one is logged, and the client gets "internal error".

    request_id  of a request that is answered without a task: see request_ids.py
    """
    if isinstance(error, ModelportError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("there is no memory for this request; send fewer rows")
    _LOG.error("a request failed with an unexpected error", exc_info=error, extra={"request_id": request_id})
    return Internal("internal error")


def client_message(error: ModelportError) -> str:
    """Return the error's text, truncated if it is too long."""
    text = str(error)
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…"
