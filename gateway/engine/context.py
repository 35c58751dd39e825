"""What a worker learns of a request besides its tensors."""

from gateway.domain.types import InferRequest
from gateway.errors import InvalidRequest, shorten
from runtimes.context import pack_context

_KINDS = (str, int, float, bool)


def context_of(request: InferRequest) -> bytes:
    """Return the context of a request for its frame. Raises InvalidRequest if a parameter is no single value."""
    for name, value in request.parameters.items():
        if not isinstance(value, _KINDS):
            raise InvalidRequest(f"parameter '{shorten(name)}' must be a string, a number, true or false")
    return pack_context(request.id, request.parameters, request.sequence)
