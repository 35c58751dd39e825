"""Answers of handlers, on their way to clients: their status and headers may be anything."""

import pytest

from gateway.domain.types import InferResponse
from gateway.errors import Internal
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Reply
from gateway.front.base.handled import read_handled, write_handled
from gateway.front.base.limits import Limits
from runtimes.contract import InvalidInput
from runtimes.http_messages import RESPONSE, RESPONSE_HEADERS, pack_headers, unpack_headers
from runtimes.tensor_bytes import Tensor, pack_bytes, unpack_bytes


def answer(headers: bytes, body: bytes = b"ok") -> Reply:
    named = {RESPONSE: body, RESPONSE_HEADERS: headers}
    tensors = [Tensor(name, "BYTES", (1,), pack_bytes([element])) for name, element in named.items()]
    return write_handled(Limits(), InferResponse("m", "1", tensors))


def test_the_status_and_the_headers_are_the_handlers() -> None:
    reply = answer(pack_headers({":status": "418", "content-type": "a/b", "X-Own": "é", "Content-Length": "9"}))
    assert (reply.status, reply.content_type, reply.headers) == (418, b"a/b", b"x-own: \xe9\r\n")
    assert b"".join(reply.body) == b"ok"


def test_the_gateway_has_headers_of_its_own_and_the_handler_says_how_it_has_compressed_the_body() -> None:
    own = dict.fromkeys(["Date", "X-Request-Id", "Transfer-Encoding", "Connection", "Content-Length"], "x")
    reply = answer(pack_headers({**own, "Content-Encoding": "gzip"}))
    assert reply.headers == b"content-encoding: gzip\r\n"


@pytest.mark.parametrize("status", ["204", "304"])
def test_an_answer_that_has_no_body_gets_none(status: str) -> None:
    assert b"".join(answer(pack_headers({":status": status})).body) == b""


NOT_HTTP = [
    *({":status": status} for status in ("100", "9999", "2x0", "")),
    *({name: "c"} for name in ("a b", "", "é")),
    {"a": "b\r\nc: d"},
    {"a": "\u20ac"},
    {"content-type": "a\nb"},
]


@pytest.mark.parametrize("headers", [b"", b"[]", b'{"a": 1}', *map(pack_headers, NOT_HTTP)])
def test_what_is_not_http_is_not_sent(headers: bytes) -> None:
    with pytest.raises(Internal, match="the model's handler has"):
        answer(headers)


def test_credentials_and_the_way_of_sending_are_not_passed_on() -> None:
    raw = [(b"authorization", b"Bearer x"), (b"x-api-key", b"k"), (b"content-length", b"1"), (b"kind", b"\xe9")]
    request = read_handled("m", "", b"body", Headers(raw=[*raw, (b"content-type", b"a/b")], content_type="a/b"))
    body, headers = (unpack_bytes(tensor.data, 1)[0] for tensor in request.inputs)
    assert (bytes(body), unpack_headers(bytes(headers))) == (b"body", {"kind": "é", "content-type": "a/b"})


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_the_front_has_no_rule_of_its_own_for_forms(kind: str) -> None:
    request = read_handled("m", "", b"no form", Headers(raw=[(b"content-type", kind.encode())], content_type=kind))
    assert unpack_bytes(request.inputs[0].data, 1) == [b"no form"]


@pytest.mark.parametrize("headers", [{"a\ud800": "b"}, {"content-type": "multipart/form-data; boundary=\ud800"}])
def test_headers_in_a_tensor_are_unicode(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="an element of 'headers' has text that is not Unicode"):
        unpack_headers(pack_headers(headers))
