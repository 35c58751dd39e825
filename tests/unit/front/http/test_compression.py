"""Compressed bodies of requests and answers."""

import gzip
import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from gateway.codecs.compression import MAX_INLINE, MIN_BYTES, choose_encoding, inflate, is_worth
from gateway.errors import InvalidRequest
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import Serving
from tests.support.v2_calls import as_json
from tests.unit.front.http.test_http import binary

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize("encoding", list(PACK))
def test_a_compressed_request_is_as_good_as_any(serving: Serving, encoding: str) -> None:
    call = good_call(Subject())
    plain = serving.http.post(call.path, content=as_json(call))
    reply = serving.http.post(call.path, content=PACK[encoding](as_json(call)), headers={"Content-Encoding": encoding})
    assert (reply.status_code, reply.json()) == (200, plain.json())
    assert serving.engine.reserved_bytes == 0


def test_a_body_of_several_members(serving: Serving) -> None:
    call = good_call(Subject())
    body = as_json(call)
    packed = gzip.compress(body[:10]) + gzip.compress(body[10:])
    assert serving.http.post(call.path, content=packed, headers={"Content-Encoding": "gzip"}).status_code == 200


def test_a_body_of_very_many_members_is_rejected_early() -> None:
    """Each member made zlib copy the rest of the body, which took minutes for a body within the limit."""
    with pytest.raises(InvalidRequest, match="compress it as a whole"):
        inflate(gzip.compress(b"") * 400_000, "gzip", 1 << 23, "JSON")
    assert inflate(gzip.compress(b"ab" * 50_000) * 20, "gzip", 1 << 23, "JSON") == b"ab" * 1_000_000
    large = np.random.default_rng(0).bytes(1 << 20)
    assert inflate(zlib.compress(large), "deflate", 1 << 20, "JSON") == large


@pytest.mark.parametrize("zeros", [1, 511, 1 << 16, 1 << 18])
def test_zeros_behind_gzip_are_padding(zeros: int) -> None:
    """gzip accepts trailing zeros, because files from tapes and block devices have them."""
    padding = bytes(zeros)
    for packed, body in (
        (gzip.compress(b"ab") + padding, b"ab"),
        (gzip.compress(b"ab") + padding + gzip.compress(b"cd") + padding, b"abcd"),
        (gzip.compress(bytes(1 << 16)) + padding, bytes(1 << 16)),
    ):
        assert inflate(packed, "gzip", 1 << 23, "JSON") == body
    with pytest.raises(InvalidRequest, match="not valid gzip"):
        inflate(gzip.compress(b"ab") + padding + b"hello", "gzip", 1 << 23, "JSON")
    with pytest.raises(InvalidRequest, match="continues after the end"):
        inflate(zlib.compress(b"ab") + padding, "deflate", 1 << 23, "JSON")


def test_the_decompressed_body_is_reserved(serving: Serving) -> None:
    serving.engine.max_bytes = serving.engine.reserved_bytes = 10_000  # other requests have reserved all of it
    body = json.dumps({"inputs": [[1.0, 2.0, 3.0]] * 10}).encode()
    reply = serving.http.post("/predict/doubler", content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert (reply.status_code, serving.engine.reserved_bytes) == (429, 10_000)
    serving.engine.max_bytes = 10_000 + len(body) // 2 + len(gzip.compress(body))
    reply = serving.http.post("/predict/doubler", content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert (reply.status_code, serving.engine.reserved_bytes) == (429, 10_000)
    serving.engine.max_bytes, serving.engine.reserved_bytes = None, 0


@pytest.mark.parametrize("encoding", list(UNPACK))
@pytest.mark.parametrize("rows", [1, 64])
def test_an_answer_is_compressed_on_request(serving: Serving, encoding: str, rows: int) -> None:
    sent, array = binary(rows)
    head, _, body = sent.partition(b"\r\n\r\n")
    sizes = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    headers = {
        "Inference-Header-Content-Length": sizes["Inference-Header-Content-Length"],
        "Accept-Encoding": encoding,
    }
    with serving.http.stream("POST", "/v2/models/echo_FP32/infer", content=body, headers=headers) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.status_code == 200
    assert (reply.headers["content-encoding"], reply.headers["vary"]) == (encoding, "accept-encoding")
    unpacked = UNPACK[encoding](raw)
    assert array.nbytes > MIN_BYTES
    assert (array.nbytes > MAX_INLINE) == (rows > 1)
    length = int(reply.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(unpacked[length:], np.float32).reshape(array.shape), array)


@pytest.mark.parametrize("rows", [5, 256])
def test_an_answer_that_would_not_shrink_is_sent_as_it_is(serving: Serving, rows: int) -> None:
    """tritonclient.http.aio requests gzip by default, and waited 0.8 s for 4 MB of floats."""
    array = np.random.default_rng(0).standard_normal((rows, 1024), dtype=np.float32)
    sent, like = binary(rows)
    _, _, body = sent.partition(b"\r\n\r\n")
    text = body[: len(body) - like.nbytes]
    asked = {"Inference-Header-Content-Length": str(len(text)), "Accept-Encoding": "gzip, deflate"}
    with serving.http.stream(
        "POST", "/v2/models/echo_FP32/infer", content=text + array.tobytes(), headers=asked
    ) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.status_code == 200
    assert "content-encoding" not in reply.headers
    assert reply.headers["vary"] == "accept-encoding"
    assert raw[int(reply.headers["inference-header-content-length"]) :] == array.tobytes()
    assert array.nbytes > MAX_INLINE


def test_a_sample_decides() -> None:
    random = np.random.default_rng(0)
    floats = random.standard_normal(1 << 16, dtype=np.float32)
    text = json.dumps(floats[:10_000].tolist()).encode()
    assert not is_worth([b"{}", floats.data])
    assert not is_worth([random.bytes(MAX_INLINE + 1)])
    assert is_worth([random.bytes(MAX_INLINE)])
    assert is_worth([text])
    assert is_worth([np.where(random.random(1 << 16) < 0.5, floats, 0).data])
    assert is_worth([random.bytes(1000), bytes(1 << 20)])


def test_a_small_answer_is_not_compressed(serving: Serving) -> None:
    call = good_call(Subject())
    reply = serving.http.post(call.path, content=as_json(call), headers={"Accept-Encoding": "gzip"})
    assert reply.status_code == 200
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip, deflate", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0, *;q=0.1", "deflate"),
        ("*", "gzip"),
        ("br, zstd", ""),
        ("identity", ""),
        ("gzip;q=nonsense", ""),
        ("gzip;x=y;q=1", "gzip"),
        ("*;q=0", ""),
    ],
)
def test_the_encoding_that_a_client_prefers(accept: str, encoding: str) -> None:
    assert choose_encoding(accept) == encoding
