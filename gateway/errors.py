"""The errors that clients can get, and their codes in HTTP and gRPC.

ModelportError
├── InvalidRequest    400  INVALID_ARGUMENT    the request itself is wrong
├── Unauthenticated   401  UNAUTHENTICATED     the caller must authenticate first
├── Forbidden         403  PERMISSION_DENIED   the caller may not do this
├── NotFound          404  NOT_FOUND           no such model or version
├── NotAllowed        405  UNIMPLEMENTED       the path does not support this method
├── AlreadyExists     409  ALREADY_EXISTS      there is something else with this name
├── TooLarge          413  RESOURCE_EXHAUSTED  a body or an answer is over its limit
├── Overloaded        429  RESOURCE_EXHAUSTED  an admission limit is reached; try again later
│   └── QuotaExceeded                          a limit of this client
├── Internal          500  INTERNAL            the model or the gateway failed
├── Unsupported       501  UNIMPLEMENTED       understood, but not supported here
├── Unavailable       503  UNAVAILABLE         not loaded yet, cannot be loaded, or draining
├── DeadlineExceeded  504  DEADLINE_EXCEEDED   not answered before the deadline
└── OutOfMemory       507  RESOURCE_EXHAUSTED  not enough memory for this request

Each message is one sentence for the client: what was wrong, what is expected, what to do. It never contains a path, a
traceback or an internal name.
"""

import math
from typing import ClassVar


class ModelportError(Exception):
    """The base class; only subclasses are raised.

    kind    identifies the error between processes and in metrics
    status  HTTP status code
    code    name of the gRPC status code
    """

    kind: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"


def prefixed(error: ModelportError, prefix: str) -> ModelportError:
    """Return the same error, with a message that begins with the prefix and a colon."""
    found = type(error).__new__(type(error), f"{prefix}: {error}")
    found.__dict__.update(error.__dict__)
    return found


class InvalidRequest(ModelportError):
    kind, status, code = "invalid", 400, "INVALID_ARGUMENT"


class Unauthenticated(ModelportError):
    """challenge: the header WWW-Authenticate, which answers with 401 must have (RFC 9110, section 15.5.2)."""

    kind, status, code = "unauthenticated", 401, "UNAUTHENTICATED"
    challenge: ClassVar[str] = 'Bearer realm="modelport"'


class Forbidden(ModelportError):
    kind, status, code = "forbidden", 403, "PERMISSION_DENIED"


class NotFound(ModelportError):
    kind, status, code = "not_found", 404, "NOT_FOUND"


def unknown_model(name: str) -> NotFound:
    """Return the error for a model that is not in the repository.

    "Request for unknown model" is Triton's wording, which its clients look for.
    """
    return NotFound(
        f"Request for unknown model: there is no model '{shorten(name)}'; the repository index lists what is served"
    )


def shorten(text: str, max_length: int = 80) -> str:
    """Shorten a client's text, so that an error that repeats it stays short."""
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


class NotAllowed(ModelportError):
    kind, status, code = "not_allowed", 405, "UNIMPLEMENTED"


class AlreadyExists(ModelportError):
    kind, status, code = "already_exists", 409, "ALREADY_EXISTS"


class TooLarge(ModelportError):
    kind, status, code = "too_large", 413, "RESOURCE_EXHAUSTED"


class Overloaded(ModelportError):
    """`retry_after_s` is the number of whole seconds after which the client may try again."""

    kind, status, code = "overloaded", 429, "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: float = 1) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class QuotaExceeded(Overloaded):
    """The client has used up a limit of its own: the name of a field of Quota."""

    kind = "quota"

    def __init__(self, message: str, limit: str, retry_after_s: float = 1) -> None:
        super().__init__(message, retry_after_s)
        self.limit = limit


class Internal(ModelportError):
    pass


class Unsupported(ModelportError):
    kind, status, code = "unsupported", 501, "UNIMPLEMENTED"


class Unavailable(ModelportError):
    kind, status, code = "unavailable", 503, "UNAVAILABLE"


class DeadlineExceeded(ModelportError):
    kind, status, code = "deadline", 504, "DEADLINE_EXCEEDED"


class OutOfMemory(ModelportError):
    kind, status, code = "out_of_memory", 507, "RESOURCE_EXHAUSTED"


_KINDS = {error.kind: error for error in ModelportError.__subclasses__()}


def kind_of(status: int) -> str:
    """Return the kind of the error with this HTTP status, or "ok"."""
    if status < 400:
        return "ok"
    return next((kind for kind, error in _KINDS.items() if error.status == status), "internal")


def from_kind(kind: str, message: str) -> ModelportError:
    """Return the error that another process reported by its kind and message."""
    return _KINDS.get(kind, Internal)(message)
