"""Errors as gRPC statuses."""

from collections.abc import Sequence
from typing import NamedTuple

import grpc

from gateway.errors import Overloaded
from gateway.front.base.client_errors import client_message, to_client_error


class Status(NamedTuple):
    """The arguments of grpcio's `context.abort`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Sequence[tuple[str, str]]


def to_status(error: Exception) -> Status:
    client_error = to_client_error(error)
    retry = (("retry-after", str(client_error.retry_after_s)),) if isinstance(client_error, Overloaded) else ()
    return Status(grpc.StatusCode[client_error.code], client_message(client_error), retry)
