"""What a REST dialect is: how it reads requests, and writes answers and errors."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.codecs.json_text import dumps
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import ModelportError
from gateway.front.base.body import Headers
from gateway.front.base.client_errors import sentence
from gateway.front.base.limits import Limits
from runtimes.tensors import Buffer


class Reply(NamedTuple):
    """`body` in parts, so that large tensors need not be copied together."""

    status: int
    body: list[Buffer]
    content_type: bytes = b"application/json"
    headers: bytes = b""  # further ones, as they are written


Writer = Callable[[InferResponse], Reply]


def tell(error: ModelportError) -> bytes:
    return dumps({"error": sentence(error)})


def _never(headers: Headers, body: Buffer) -> bool:
    return False


class Dialect(NamedTuple):
    """The first two raise ModelportError.

    limit    how many bytes a body may have by its headers, and of what kind it is, in words
    read     the request, and what will write its answer
    tell     an error as the body of an answer, in JSON
    is_slow  whether `read` takes milliseconds for such a body: then a thread calls it
    methods  of HTTP, that the path takes
    """

    limit: Callable[[Headers, Limits], tuple[int, str]]
    read: Callable[[Engine, Limits, "Route", Headers, Buffer], tuple[InferRequest, Writer]]
    tell: Callable[[ModelportError], bytes] = tell
    is_slow: Callable[[Headers, Buffer], bool] = _never
    methods: tuple[bytes, ...] = (b"POST",)


class Route(NamedTuple):
    """`model` and `version` are "" where the path does not name them. is_label: the path calls the version a label."""

    dialect: Dialect
    model: str = ""
    version: str = ""
    is_label: bool = False
