"""Key sets from files and URLs: only public keys for signatures, only by TLS or loopback, only so large."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway.access.jwks import JwksError, check_url, fetch_keys, parse_keys, read_keys
from tests.support.tokens import Issuer, key_set

KEYS = key_set(Issuer("a"))
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Answer], str]]:
    """Returns a function that has a server give this answer, and returns its URL."""
    current: list[Answer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = current[-1]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def answer(given: Answer) -> str:
        current.append(given)
        return f"http://127.0.0.1:{server.server_port}/jwks.json"

    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_public_members_are_kept() -> None:
    key = {**Issuer("a").jwk, "d": "secret", "x5c": ["long"], "kid": "a", "alg": "ES256"}
    (found,) = parse_keys(json.dumps({"keys": [key]}).encode())
    assert set(found) == {"kty", "crv", "x", "y", "kid", "alg"}


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {**Issuer("a").jwk, "use": "enc"},
        {**Issuer("a").jwk, "key_ops": ["sign"]},
        {"kty": "RSA", "n": "AQAB"},
        {"kty": "EC", "crv": 7, "x": "a", "y": "b"},
        "no key",
    ],
)
def test_other_keys_are_left_out(key: object) -> None:
    (found,) = parse_keys(json.dumps({"keys": [key, Issuer("b").jwk]}).encode())
    assert found["kid"] == "b"
    with pytest.raises(JwksError, match="no public key for signatures"):
        parse_keys(json.dumps({"keys": [key]}).encode())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"<html>", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", 'must be an object with "keys"'),
        (b'{"keys": {}}', 'must be an object with "keys"'),
        (json.dumps({"keys": [{}] * 65}).encode(), "a list of at most 64"),
        (b" " * (1 << 18) + KEYS, "is larger than 256 KiB"),
    ],
)
def test_what_is_no_key_set(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(raw)
    with pytest.raises(JwksError, match=said):
        read_keys(tmp_path / "keys.json")


@pytest.mark.parametrize(
    ("location", "allowed"),
    [
        ("https://issuer.example/keys", True),
        ("http://127.0.0.1:1/keys", True),
        ("http://localhost/keys", True),
        ("http://[::1]/keys", True),
        ("keys.json", True),
        ("http://issuer.example/keys", False),
        ("http://127.0.0.1.example/keys", False),
        ("http://localhost@issuer.example/keys", False),
        ("file:///etc/keys", False),
        ("ftp://127.0.0.1/keys", False),
    ],
)
def test_keys_need_tls_unless_they_are_local(location: str, allowed: bool) -> None:
    if allowed:
        assert check_url(location) == location
    else:
        with pytest.raises(ValueError, match="keys that arrive without TLS can be anyone's; use an https URL"):
            check_url(location)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({}, 300), ({"Cache-Control": "public, max-age=60"}, 60), ({"Cache-Control": "max-age=1"}, 30),
     ({"Cache-Control": "max-age=99999"}, 300), ({"Cache-Control": "max-age=x"}, 300)],
)  # fmt: skip
def test_keys_are_fetched(serve: Callable[[Answer], str], header: dict[str, str], seconds: float) -> None:
    assert fetch_keys(serve((200, header, KEYS))) == (parse_keys(KEYS), seconds)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, b""), "the issuer answered with status 500"),
        ((200, {}, b"x" * (1 << 19)), "is larger than 256 KiB"),
        ((200, {"Content-Length": "100"}, b"{}"), "must be an object|cannot be reached"),
        ((302, {"Location": "http://issuer.example/"}, b""), "redirects to an address without TLS"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "redirects to an address without TLS|status 302"),
    ],
)
def test_what_cannot_be_fetched(serve: Callable[[Answer], str], answer: Answer, said: str) -> None:
    with pytest.raises(JwksError, match=said):
        fetch_keys(serve(answer))


def test_an_issuer_that_is_away() -> None:
    with pytest.raises(JwksError, match="the issuer cannot be reached: Connection refused"):
        fetch_keys("http://127.0.0.1:1/keys")
