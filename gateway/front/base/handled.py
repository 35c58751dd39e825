"""Requests to models with a handler of their own, which gets bodies and headers as they are, and writes the answers."""

import re
from collections.abc import Mapping

from gateway.access.credentials import NAMES as CREDENTIALS
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import Internal
from gateway.front.base.body import Headers
from gateway.front.base.dialect import WITHOUT_CONTENT, Reply
from gateway.front.base.limits import Limits, check_answer
from runtimes.contract import InvalidInput
from runtimes.http_messages import (
    BODY,
    HEADERS,
    PLATFORM,
    RESPONSE,
    RESPONSE_HEADERS,
    STATUS,
    pack_headers,
    unpack_headers,
)
from runtimes.tensor_bytes import Buffer, Tensor, pack_bytes, unpack_bytes

# What is between the client and the gateway: how a message is sent and, in requests, what it has decompressed, and
# credentials.
_TRANSPORT = frozenset(
    {
        "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "content-length", "expect",
    }
)  # fmt: skip
_NOT_PASSED_ON = _TRANSPORT | CREDENTIALS | {"proxy-authorization", "cookie", "content-encoding"}
_NOT_SENT = _TRANSPORT | {"date", "x-request-id"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,200}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8000}")


def has_handler(status: ModelStatus) -> bool:
    return status.platform == PLATFORM


def read_handled(model: str, version: str, body: Buffer, headers: Headers) -> InferRequest:
    """Return the request. Only who calls the handler reads its body (runtimes/python/http_body.py)."""
    passed = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.raw}
    passed = {name: value for name, value in passed.items() if name not in _NOT_PASSED_ON}
    inputs = [
        Tensor(name, "BYTES", (1,), pack_bytes([element]))
        for name, element in ((BODY, bytes(body)), (HEADERS, pack_headers(passed)))
    ]
    return InferRequest(model, inputs, version, outputs=(RESPONSE, RESPONSE_HEADERS))


def write_handled(limits: Limits, response: InferResponse) -> Reply:
    """Return a handler's answer, byte for byte. Raises TooLarge, and Internal if its headers cannot be sent."""
    check_answer(response, limits)
    found = {tensor.name: unpack_bytes(tensor.data, 1)[0] for tensor in response.outputs}
    try:
        headers = unpack_headers(found[RESPONSE_HEADERS])
    except (InvalidInput, KeyError):
        raise Internal("the model's handler has not written the headers of its answer") from None
    status, kind = headers.pop(STATUS, "200"), headers.pop("content-type", "")
    sent = {name: value for name, value in headers.items() if name not in _NOT_SENT}
    for name, value in {"content-type": kind, **sent}.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise Internal("the model's handler has set a header that is not one of HTTP")
    if not re.fullmatch(r"[2-5]\d\d", status):
        raise Internal("the model's handler has set a status that is not one of HTTP")
    content = [] if int(status) in WITHOUT_CONTENT else [found[RESPONSE]]
    return Reply(int(status), content, kind.encode("latin-1"), _lines(sent))


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
