"""Errors as gRPC statuses. They do not depend on grpcio, which a front with the native server does not import."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import Overloaded
from gateway.front.base.client_errors import client_message, to_client_error
from gateway.front.base.grpc_code import Code


class Status(NamedTuple):
    code: Code
    details: str
    trailing_metadata: Sequence[tuple[str, str]]


def to_status(error: Exception) -> Status:
    client_error = to_client_error(error)
    retry = (("retry-after", str(client_error.retry_after_s)),) if isinstance(client_error, Overloaded) else ()
    return Status(Code[client_error.code], client_message(client_error), retry)
