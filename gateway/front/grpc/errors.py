"""Errors as gRPC statuses. They do not depend on grpcio, which a front with the native server does not import."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from gateway.errors import Overloaded
from gateway.front.base.client_errors import client_message, to_client_error


class Code(IntEnum):
    """gRPC's status codes, named as in grpcio."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Status(NamedTuple):
    code: Code
    details: str
    trailing_metadata: Sequence[tuple[str, str]]


def to_status(error: Exception) -> Status:
    client_error = to_client_error(error)
    retry = (("retry-after", str(client_error.retry_after_s)),) if isinstance(client_error, Overloaded) else ()
    return Status(Code[client_error.code], client_message(client_error), retry)
