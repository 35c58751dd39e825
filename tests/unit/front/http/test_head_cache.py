"""Which heads are taken for one that came before."""

import pytest

from gateway.domain.identity import Identity
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.front.base.limits import Limits
from gateway.front.http.head_cache import HeadCache
from gateway.front.http.hot_request import read_head
from gateway.front.http.routes import match

LIMITS = Limits(json_bytes=100)
LARGE_LIMITS = Limits(json_bytes=3 * MIN_ARENA_BYTES)
LARGE = 2 * MIN_ARENA_BYTES
START = b"POST /v2/models/m/infer HTTP/1.1"
HOST = b"Host: here"
KEY = b"Authorization: Bearer key"


def text(*lines: bytes) -> bytes:
    return b"\r\n".join([START, *lines])


def put(cache: HeadCache, *lines: bytes, limits: Limits = LIMITS, identity: Identity | None = None) -> None:
    """As the connection does, once the parser has accepted the head."""
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    route = match(b"/v2/models/m/infer")
    assert route is not None
    cache.put(text(*lines), read_head(route, headers, limits, identity), headers)


def cache_of(*lines: bytes) -> HeadCache:
    cache = HeadCache()
    put(cache, *lines)
    return cache


def large_cache_of(*lines: bytes) -> HeadCache:
    cache = HeadCache()
    put(cache, *lines, limits=LARGE_LIMITS)
    return cache


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


# Lines of heads that mean the same, and the sizes of their bodies.
WITH_KEY = [((KEY, length(5)), 5), ((KEY, b"traceparent: 2", length(5)), 5), ((KEY, length(6)), 6)]


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ((HOST, length(5)), 5),
        ((HOST, length(99)), 99),
        ((HOST, b"content-length:7"), 7),
        ((length(5), HOST), 5),
        ((HOST, b"Traceparent: 00-1", length(5)), 5),
        ((HOST, length(5), b"X-Request-Id: a b", b"tracestate:"), 5),
    ],
)
def test_heads_that_differ_in_nothing_that_matters_are_found(lines: tuple[bytes, ...], size: int) -> None:
    cache = cache_of(HOST, length(5))
    assert cache.find(text(*lines), size) is not None
    assert cache_of(*lines).find(text(HOST, length(6)), 6) is not None


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ((HOST, length(5)), 4),  # the body is not complete
        ((HOST, length(5)), 6),  # or is followed by another request
        ((HOST,), 0),
        ((HOST, length(101)), 101),  # over the limit
        ((HOST, length(5), length(5)), 5),
        ((HOST, length(5), length(6)), 5),
        ((HOST, length(5), b"content-length: x"), 5),
        ((HOST, b"Content-Length: 5, 5"), 5),
        ((HOST, b"Content-Length: +5"), 5),
        ((HOST, b"Content-Length : 5"), 5),
        ((HOST, b"X-Content-Length: 5"), 5),
        ((HOST, length(5), b"Transfer-Encoding: chunked"), 5),
        ((HOST, length(5), b"Connection: close"), 5),
        ((HOST, length(5), b"Expect: 100-continue"), 5),
        ((HOST, length(5), b"Accept-Encoding: gzip"), 5),
        ((HOST, length(5), b"Authorization: Bearer of another"), 5),
        ((HOST, length(5), b"traceparent: \x00"), 5),
        ((HOST, length(5), b"traceparent: \xff"), 5),
        ((HOST, length(5), b"traceparent : 1"), 5),
        ((HOST, length(5), b"traceparent"), 5),
        ((HOST, length(5), b"traceparent: 1\nx: y"), 5),
        ((HOST, length(5), b"traceparent: 1", b" continued"), 5),
        ((b"Host: there", length(5)), 5),
    ],
)
def test_any_other_head_is_for_the_parser(lines: tuple[bytes, ...], size: int) -> None:
    assert cache_of(HOST, length(5)).find(text(*lines), size) is None


def test_a_header_line_before_the_request_line_is_for_the_parser() -> None:
    for lines in ((b"traceparent: 1", START, HOST, length(5)), (length(5), START, HOST)):
        assert cache_of(HOST, length(5)).find(b"\r\n".join(lines), 5) is None
    assert large_cache_of(HOST, length(LARGE)).find_large(b"\r\n".join([length(LARGE), START, HOST]), 0) is None


@pytest.mark.parametrize(
    "lines",
    [
        (HOST, b"Transfer-Encoding: chunked"),
        (HOST, length(5), b"Connection: close"),
        (HOST, length(5), b"Upgrade: h2c"),
        (HOST,),
        (HOST, b"Accept: a", b" continued", length(5)),
    ],
)
def test_heads_that_need_the_parser_are_not_remembered_without_their_length(lines: tuple[bytes, ...]) -> None:
    cache = cache_of(*lines)
    assert cache.find(text(*[line for line in lines if line != length(5)], length(6)), 6) is None


def test_a_head_is_forgotten_when_its_credentials_are_withdrawn() -> None:
    cache = HeadCache()
    identity = Identity("someone", {})
    put(cache, HOST, KEY, length(5), identity=identity)
    for lines, size in WITH_KEY:
        found = cache.find(text(HOST, *lines), size)
        assert found is not None
        assert found.identity is identity
    assert cache.find(text(HOST, KEY + b"x", length(5)), 5) is None
    identity.withdrawn = True
    assert [cache.find(text(HOST, *lines), size) for lines, size in WITH_KEY] == [None] * 3


def test_compressed_requests_are_found_by_the_very_same_head_only() -> None:
    lines = (HOST, b"Accept-Encoding: gzip", length(5))
    cache = cache_of(*lines)
    assert cache.find(text(*lines), 5) is not None
    assert cache.find(text(*lines[:2], length(6)), 6) is None


def test_one_client_cannot_fill_the_memory_with_heads() -> None:
    cache = HeadCache()
    for number in range(3000):
        put(cache, HOST, b"Own: %d" % number, length(5))
        put(cache, HOST, b"traceparent: %d" % number, length(5))
    assert len(cache) <= 2048


@pytest.mark.parametrize("cached", [5, LARGE])
@pytest.mark.parametrize("received", [0, LARGE - 1])
@pytest.mark.parametrize(("more", "size"), [((), LARGE), ((), LARGE - 1), ((b"Traceparent: 00-1",), LARGE)])
def test_a_head_is_found_before_its_large_body_is_complete(
    cached: int, received: int, more: tuple[bytes, ...], size: int
) -> None:
    cache = large_cache_of(HOST, length(cached))
    found = cache.find_large(text(HOST, *more, length(size)), min(received, size - 1))
    assert found is not None
    assert found.headers.content_length == size


@pytest.mark.parametrize(
    ("lines", "received"),
    [
        ((HOST, length(LARGE)), LARGE),  # the body is complete
        ((HOST, length(LARGE)), LARGE + 1),
        ((HOST, length(MIN_ARENA_BYTES - 1)), 0),  # not large
        ((HOST, length(LARGE_LIMITS.json_bytes + 1)), 0),  # over the limit
        ((HOST, length(LARGE), length(LARGE)), 0),
        ((HOST, b"Content-Length: +%d" % LARGE), 0),
        ((HOST, b"Content-Length: " + b"9" * 1000), 0),
        ((HOST, b"Content-Length: " + b"0" * 20 + b"%d" % LARGE), 0),
        ((HOST, length(LARGE), b"Expect: 100-continue"), 0),
        ((HOST, length(LARGE), b"Transfer-Encoding: chunked"), 0),
        ((b"Host: there", length(LARGE)), 0),
    ],
)
def test_a_large_body_with_any_other_head_is_for_the_parser(lines: tuple[bytes, ...], received: int) -> None:
    cache = large_cache_of(HOST, length(LARGE))
    assert cache.find_large(text(*lines), received) is None


def test_a_large_compressed_body_is_for_the_parser() -> None:
    lines = (HOST, b"Content-Encoding: gzip", length(LARGE))
    assert large_cache_of(*lines).find_large(text(*lines), 0) is None


def test_a_head_of_a_large_body_is_forgotten_when_its_credentials_are_withdrawn() -> None:
    cache = HeadCache()
    identity = Identity("someone", {})
    put(cache, HOST, KEY, length(LARGE), limits=LARGE_LIMITS, identity=identity)
    for size in (LARGE, LARGE - 1):
        assert cache.find_large(text(HOST, KEY, length(size)), 0) is not None
    identity.withdrawn = True
    for size in (LARGE, LARGE - 1):
        assert cache.find_large(text(HOST, KEY, length(size)), 0) is None
