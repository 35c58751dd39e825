"""Requests whose body is the bytes of one input, without JSON."""

import struct

import numpy as np
import pytest

from tests.support.front_server import Serving

HEADERS = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}


def ask(serving: Serving, model: str, body: bytes) -> tuple[int, bytes]:
    reply = serving.http.post(f"/v2/models/{model}/infer", content=body, headers=HEADERS)
    return reply.status_code, reply.content[int(reply.headers.get("inference-header-content-length", 0)) :]


@pytest.mark.parametrize("rows", [1, 4])
def test_the_size_of_the_body_determines_the_variable_dimension(serving: Serving, rows: int) -> None:
    array = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    assert ask(serving, "doubler", array.tobytes()) == (200, array.tobytes())
    assert serving.engine.requests[-1].inputs[0].shape == (rows, 3)


def test_one_string(serving: Serving) -> None:
    status, answer = ask(serving, "echo_BYTES", b"grey \xff")
    assert (status, answer) == (200, struct.pack("<I", 6) + b"grey \xff")


@pytest.mark.parametrize(
    ("model", "body", "says"),
    [
        ("two", bytes(8), "has 2 inputs"),
        ("untyped", bytes(8), "no declared datatype"),
        ("doubler", bytes(13), "a body of 13 bytes does not fit"),
        ("doubler", b"", "rows"),
    ],
)
def test_bodies_that_do_not_determine_the_shape(serving: Serving, model: str, body: bytes, says: str) -> None:
    status, answer = ask(serving, model, body)
    assert (status, says in answer.decode()) == (400, True), answer
