"""How an error is told over gRPC."""

from collections.abc import Sequence
from typing import NamedTuple

import grpc

from gateway.errors import Overloaded
from gateway.front.base.client_errors import as_told, sentence


class Refusal(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: Sequence[tuple[str, str]]


def refused(error: Exception) -> Refusal:
    told = as_told(error)
    retry = (("retry-after", str(told.retry_after_s)),) if isinstance(told, Overloaded) else ()
    return Refusal(grpc.StatusCode[told.code], sentence(told), retry)
