"""Images by POST /predict and TorchServe's POST, PUT /predictions: what comes back, and what is refused."""

import gzip
import io
import json
import threading
import time
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.codecs import images
from gateway.errors import InvalidRequest
from tests.support.front_server import LIMITS, WAIT_S, Serving
from tests.support.image_files import form, noise, png, save

PNG = {"Content-Type": "image/png"}
# Light to dark: as scores, the best is index 1, then 3, 0, 2. Of these only 3 has no label.
FOUR = save(np.array([[50, 200], [10, 100]], np.uint8))
OTHER = save(np.array([[1, 2], [3, 4]], np.uint8))
BEST = [
    {"label": "one", "index": 1, "score": 200.0},
    {"index": 3, "score": 100.0},
    {"label": "zero", "index": 0, "score": 50.0},
]
OTHER_BEST = [
    {"index": 3, "score": 4.0},
    {"label": "two", "index": 2, "score": 3.0},
    {"label": "one", "index": 1, "score": 2.0},
]


def post(serving: Serving, path: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return serving.http.post(path, content=body, headers=headers or {})


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/jpeg; q=1", "image/x-unheard-of", "application/octet-stream"])
def test_an_image_is_classified(serving: Serving, kind: str) -> None:
    reply = post(serving, "/predict/classes", FOUR, {"Content-Type": kind})
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"model": "classes", "version": "1", "predictions": BEST}
    assert post(serving, "/predict/classes/versions/1", FOUR, PNG).json()["predictions"] == BEST


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
def test_an_image_without_a_telling_type_is_known_by_how_it_begins(serving: Serving, headers: dict[str, str]) -> None:
    assert post(serving, "/predict/classes", FOUR, headers).json()["predictions"] == BEST
    packed = {**headers, "Content-Encoding": "gzip"}
    assert post(serving, "/predict/classes", gzip.compress(FOUR), packed).json()["predictions"] == BEST
    refused(post(serving, "/predict/doubler", FOUR, headers), 400, "add [preprocess] to its model.toml")
    # What curl's -d makes of it.
    spoilt = FOUR.replace(b"\r", b"").replace(b"\n", b"")
    for path in ("/predict/classes", "/predictions/classes"):
        reply = post(serving, path, spoilt, headers)
        assert (reply.status_code, "--data-binary" in reply.text) == (400, True), reply.text
    assert post(serving, "/predict/doubler", b'{"inputs": [[1, 2, 3]]}', headers).status_code == 200


def test_a_form_with_one_file_is_that_file_and_several_are_a_batch(serving: Serving) -> None:
    assert post(serving, "/predict/classes", *form(FOUR)).json()["predictions"] == BEST
    assert post(serving, "/predict/classes", *form(FOUR, OTHER)).json()["predictions"] == [BEST, OTHER_BEST]
    assert [tensor.shape for tensor in serving.engine.requests[-1].inputs] == [(2, 4)]
    reply = serving.http.post("/predict/classes", files=[("a", ("a.png", OTHER)), ("b", ("b.png", FOUR))])
    assert reply.json()["predictions"] == [OTHER_BEST, BEST]


def test_softmax_of_the_best_two(serving: Serving) -> None:
    values = np.exp(np.array([50, 200, 10, 100]) / 100)
    wanted = values / values.sum()
    told = post(serving, "/predict/soft", FOUR, PNG).json()["predictions"]
    assert [each["index"] for each in told] == [1, 3]
    assert [each["score"] for each in told] == pytest.approx([wanted[1], wanted[3]], rel=1e-6)
    assert all("label" not in each for each in told)


def test_equal_scores_are_told_in_order(serving: Serving) -> None:
    even = save(np.full((2, 2), 7, np.uint8))
    told = post(serving, "/predict/classes", even, PNG).json()["predictions"]
    assert [each["index"] for each in told] == [0, 1, 2]


def test_without_postprocess_the_outputs_come_as_ever(serving: Serving) -> None:
    pixels = noise(4, 6)
    reply = post(serving, "/predict/photos", save(pixels), PNG)
    assert (np.array(reply.json()["outputs"]["y"])[0] == pixels.transpose(2, 0, 1)).all()
    reply = post(serving, "/predict/photos", save(pixels), {**PNG, "Accept": "application/x-npy"})
    assert np.load(io.BytesIO(reply.content)).dtype == np.float32


def test_who_accepts_numpy_gets_the_output_itself(serving: Serving) -> None:
    for accept in ("application/x-npy", "application/x-npz"):
        reply = post(serving, "/predict/classes", FOUR, {**PNG, "Accept": accept})
        assert reply.headers["content-type"] == accept
        loaded = np.load(io.BytesIO(reply.content))
        assert (loaded if accept.endswith("npy") else loaded["y"]).tolist() == [[50.0, 200.0, 10.0, 100.0]]


def test_json_and_numpy_requests_to_such_a_model_are_as_ever(serving: Serving) -> None:
    reply = serving.http.post("/predict/classes", json={"inputs": [[1, 2, 3, 4]]})
    assert reply.json()["outputs"] == {"y": [[1.0, 2.0, 3.0, 4.0]]}


def test_compressed_and_large_bodies(serving: Serving) -> None:
    assert post(serving, "/predict/classes", gzip.compress(FOUR), {**PNG, "Content-Encoding": "gzip"}).json()[
        "predictions"
    ] == BEST  # fmt: skip
    padded = FOUR + bytes(1 << 20)
    assert post(serving, "/predict/classes", padded, PNG).json()["predictions"] == BEST


def test_images_are_read_beside_the_event_loop(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.Thread] = []

    def record(*arguments: Any) -> Any:
        seen.append(threading.current_thread())
        return read(*arguments)

    read = images.image_tensor
    monkeypatch.setattr(images, "image_tensor", record)
    loops: list[threading.Thread] = []
    serving.run(lambda: loops.append(threading.current_thread()))
    assert post(serving, "/predict/classes", FOUR, PNG).status_code == 200
    assert post(serving, "/predictions/classes", FOUR).status_code == 200
    assert post(serving, "/predict/classes", FOUR).status_code == 200
    assert len(seen) == 3
    assert loops[0] not in seen


def refused(reply: httpx.Response, status: int, says: str) -> None:
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    assert says in reply.json()["error"]


def test_refusals(serving: Serving) -> None:
    refused(post(serving, "/predict", FOUR, PNG), 400, "/predict/{model}")
    refused(post(serving, "/predict/nosuch", FOUR, PNG), 404, "no model 'nosuch'")
    refused(post(serving, "/predict/classes/versions/9", FOUR, PNG), 404, "version 9")
    refused(post(serving, "/predict/broken", FOUR, PNG), 503, "cut off")
    refused(post(serving, "/predict/doubler", FOUR, PNG), 400, "add [preprocess] to its model.toml")
    refused(post(serving, "/predict/two", FOUR, PNG), 400, "does not accept images")
    refused(post(serving, "/predict/classes", b"<svg/>", {"Content-Type": "image/svg+xml"}), 400, "send JPEG, PNG")
    refused(
        post(serving, "/predict/classes", b"\0" * 50, {"Content-Type": "application/octet-stream"}), 400, "the body"
    )
    refused(post(serving, "/predict/classes", FOUR[:45], PNG), 400, "damaged or ends too early")
    bomb = png(4000, 4000, 8, 0, bytes(4001 * 4000))
    refused(post(serving, "/predict/classes", bomb, PNG), 413, "4000 x 4000 pixels")
    large = post(serving, "/predict/classes", FOUR + bytes(LIMITS.binary_bytes), PNG)
    refused(large, 413, "over the limit of 2097152 for binary bodies")
    refused(post(serving, "/predict/large", *form(FOUR, FOUR)), 413, "2 images make an input of 3840000 bytes")


def test_what_does_not_fit_the_outputs(serving: Serving) -> None:
    refused(post(serving, "/predict/unfit", FOUR, PNG), 500, "[postprocess] in its model.toml must name one of them")


def test_forms_that_are_none(serving: Serving) -> None:
    body, headers = form(FOUR, b"hello")
    refused(post(serving, "/predict/classes", body, headers), 400, "file 2 of the form (field 'data') is not an image")
    refused(post(serving, "/predict/classes", body, {"Content-Type": "multipart/form-data"}), 400, "no boundary")
    refused(post(serving, "/predict/classes", body[:-6], headers), 400, "ends before its last boundary")
    refused(post(serving, "/predict/classes", b"", headers), 400, "ends before its last boundary")
    refused(post(serving, "/predict/classes", b"--line--\r\n", headers), 400, "form")
    refused(post(serving, "/predict/classes", b"hello", headers), 400, "not valid multipart/form-data")
    refused(post(serving, "/predict/classes", *form(*[b""] * 257)), 400, "more than 256 fields")
    long = b"--line\r\n" + b"A: " + b"a" * 10_000 + b"\r\n\r\n\r\n--line--\r\n"
    refused(post(serving, "/predict/classes", long, headers), 400, "not valid multipart/form-data")
    unnamed = b"--line\r\n\r\n" + FOUR + b"\r\n--line--\r\n"
    assert post(serving, "/predict/classes", unnamed, headers).json()["predictions"] == BEST


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spoilt_images_and_forms_are_never_the_servers_fault(serving: Serving, data: st.DataObject) -> None:
    body, headers = data.draw(
        st.sampled_from([(FOUR, PNG), form(FOUR), form(FOUR, OTHER), (save(noise(9, 9), "JPEG"), PNG)])
    )
    spoilt = bytearray(body)
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=6)):
        spoilt[place] = value
    sent = bytes(spoilt[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=20))
    for path in ("/predict/classes", "/predictions/classes"):
        reply = post(serving, path, sent, headers)
        assert reply.status_code in (200, 400, 413), (reply.status_code, reply.text, sent)
    assert json.loads(reply.content)


def test_what_waits_for_a_thread_keeps_its_room_until_it_is_let_go(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or clients that leave could have any number of bodies held."""
    started, gate = Event(), Event()

    def slowly(*arguments: Any) -> Any:
        started.set()
        gate.wait(WAIT_S)
        raise InvalidRequest("nobody is told")

    monkeypatch.setattr("gateway.front.dialects.plain.rest.read_images", slowly)
    with serving.connect() as connection:
        head = b"POST /predict/classes HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(FOUR) + FOUR)
        assert started.wait(WAIT_S)
    assert serving.http.get("/v2/health/live").status_code == 200  # a turn of the loop: the client has gone
    assert serving.engine.reserved_bytes == len(FOUR)
    gate.set()
    ends = time.monotonic() + WAIT_S
    while serving.engine.reserved_bytes and time.monotonic() < ends:
        serving.run(lambda: None)
    assert serving.engine.reserved_bytes == 0
