"""What a client is told about an exception; the same in every protocol."""

import logging

from gateway.errors import Internal, ModelportError, OutOfMemory

_LOG = logging.getLogger(__name__)
# A name that the client chose may be as long as its body; gRPC sends sentences in headers.
_MAX_LENGTH = 1000


def as_told(error: Exception) -> ModelportError:
    """The error to answer with. What nobody foresaw goes to the log, and out as "internal error"."""
    if isinstance(error, ModelportError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("there is no memory for this request; send fewer rows")
    _LOG.error("a request failed in a way that nobody foresaw", exc_info=error)
    return Internal("internal error")


def sentence(error: ModelportError) -> str:
    """The error's text, cut where no reader gets to."""
    text = str(error)
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…"
