"""Images in POST /predict and TorchServe's POST, PUT /predictions: answers and rejected requests."""

import gc
import gzip
import io
import json
import threading
import time
from dataclasses import replace
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.codecs import images
from gateway.codecs.images import File
from gateway.errors import InvalidRequest
from gateway.front.base.image_request import undecoded
from runtimes.contract import TensorSpec
from runtimes.tensors import to_array
from tests.support.front_server import LIMITS, WAIT_S, Serving, in_thread
from tests.support.image_files import form, noise, png, save

PNG = {"Content-Type": "image/png"}
# Pixels used as scores: the best is index 1, then 3, 0, 2. Only 3 has no label.
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
def test_an_image_without_a_specific_type_is_recognized(serving: Serving, headers: dict[str, str]) -> None:
    assert post(serving, "/predict/classes", FOUR, headers).json()["predictions"] == BEST
    packed = {**headers, "Content-Encoding": "gzip"}
    assert post(serving, "/predict/classes", gzip.compress(FOUR), packed).json()["predictions"] == BEST
    assert_rejected(post(serving, "/predict/doubler", FOUR, headers), 400, "add [preprocess] to its model.toml")
    # curl's -d removes line breaks.
    damaged = FOUR.replace(b"\r", b"").replace(b"\n", b"")
    for path in ("/predict/classes", "/predictions/classes"):
        reply = post(serving, path, damaged, headers)
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
    expected = values / values.sum()
    predictions = post(serving, "/predict/soft", FOUR, PNG).json()["predictions"]
    assert [each["index"] for each in predictions] == [1, 3]
    assert [each["score"] for each in predictions] == pytest.approx([expected[1], expected[3]], rel=1e-6)
    assert all("label" not in each for each in predictions)


def test_equal_scores_are_in_order(serving: Serving) -> None:
    even = save(np.full((2, 2), 7, np.uint8))
    predictions = post(serving, "/predict/classes", even, PNG).json()["predictions"]
    assert [each["index"] for each in predictions] == [0, 1, 2]


def test_without_postprocess_the_outputs_are_returned(serving: Serving) -> None:
    pixels = noise(4, 6)
    reply = post(serving, "/predict/photos", save(pixels), PNG)
    assert (np.array(reply.json()["outputs"]["y"])[0] == pixels.transpose(2, 0, 1)).all()
    reply = post(serving, "/predict/photos", save(pixels), {**PNG, "Accept": "application/x-npy"})
    assert np.load(io.BytesIO(reply.content)).dtype == np.float32


def test_a_client_that_accepts_numpy_gets_the_output(serving: Serving) -> None:
    for accept in ("application/x-npy", "application/x-npz"):
        reply = post(serving, "/predict/classes", FOUR, {**PNG, "Accept": accept})
        assert reply.headers["content-type"] == accept
        loaded = np.load(io.BytesIO(reply.content))
        assert (loaded if accept.endswith("npy") else loaded["y"]).tolist() == [[50.0, 200.0, 10.0, 100.0]]


def test_json_and_numpy_requests_to_such_a_model_still_work(serving: Serving) -> None:
    reply = serving.http.post("/predict/classes", json={"inputs": [[1, 2, 3, 4]]})
    assert reply.json()["outputs"] == {"y": [[1.0, 2.0, 3.0, 4.0]]}


def test_compressed_and_large_bodies(serving: Serving) -> None:
    assert post(serving, "/predict/classes", gzip.compress(FOUR), {**PNG, "Content-Encoding": "gzip"}).json()[
        "predictions"
    ] == BEST  # fmt: skip
    padded = FOUR + bytes(1 << 20)
    assert post(serving, "/predict/classes", padded, PNG).json()["predictions"] == BEST


def test_images_are_read_in_threads(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
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


def assert_rejected(reply: httpx.Response, status: int, says: str) -> None:
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    assert says in reply.json()["error"]


def test_refusals(serving: Serving) -> None:
    assert_rejected(post(serving, "/predict", FOUR, PNG), 400, "/predict/{model}")
    assert_rejected(post(serving, "/predict/nosuch", FOUR, PNG), 404, "no model 'nosuch'")
    assert_rejected(post(serving, "/predict/classes/versions/9", FOUR, PNG), 404, "version 9")
    assert_rejected(post(serving, "/predict/broken", FOUR, PNG), 503, "cut off")
    assert_rejected(post(serving, "/predict/doubler", FOUR, PNG), 400, "add [preprocess] to its model.toml")
    assert_rejected(post(serving, "/predict/two", FOUR, PNG), 400, "does not accept images")
    assert_rejected(
        post(serving, "/predict/classes", b"<svg/>", {"Content-Type": "image/svg+xml"}), 400, "send JPEG, PNG"
    )
    assert_rejected(
        post(serving, "/predict/classes", b"\0" * 50, {"Content-Type": "application/octet-stream"}), 400, "the body"
    )
    assert_rejected(post(serving, "/predict/classes", FOUR[:45], PNG), 400, "damaged or ends too early")
    bomb = png(4000, 4000, 8, 0, bytes(4001 * 4000))
    assert_rejected(post(serving, "/predict/classes", bomb, PNG), 413, "4000 x 4000 pixels")
    large = post(serving, "/predict/classes", FOUR + bytes(LIMITS.binary_bytes), PNG)
    assert_rejected(large, 413, "over the limit of 2097152 for binary bodies")
    assert_rejected(post(serving, "/predict/large", *form(FOUR, FOUR)), 413, "2 images make an input of 3840000 bytes")


def test_postprocess_that_does_not_fit_the_outputs(serving: Serving) -> None:
    assert_rejected(
        post(serving, "/predict/unfit", FOUR, PNG), 500, "[postprocess] in its model.toml must name one of them"
    )


def test_invalid_forms(serving: Serving) -> None:
    body, headers = form(FOUR, b"hello")
    assert_rejected(
        post(serving, "/predict/classes", body, headers), 400, "file 2 of the form (field 'data') is not an image"
    )
    assert_rejected(
        post(serving, "/predict/classes", body, {"Content-Type": "multipart/form-data"}), 400, "no boundary"
    )
    assert_rejected(post(serving, "/predict/classes", body[:-6], headers), 400, "ends before its last boundary")
    assert_rejected(post(serving, "/predict/classes", b"", headers), 400, "ends before its last boundary")
    assert_rejected(post(serving, "/predict/classes", b"--line--\r\n", headers), 400, "form")
    assert_rejected(post(serving, "/predict/classes", b"hello", headers), 400, "not valid multipart/form-data")
    assert_rejected(post(serving, "/predict/classes", *form(*[b""] * 257)), 400, "more than 256 fields")
    long = b"--line\r\n" + b"A: " + b"a" * 10_000 + b"\r\n\r\n\r\n--line--\r\n"
    assert_rejected(post(serving, "/predict/classes", long, headers), 400, "not valid multipart/form-data")
    unnamed = b"--line\r\n\r\n" + FOUR + b"\r\n--line--\r\n"
    assert post(serving, "/predict/classes", unnamed, headers).json()["predictions"] == BEST


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_corrupted_images_and_forms_are_never_a_server_error(serving: Serving, data: st.DataObject) -> None:
    body, headers = data.draw(
        st.sampled_from([(FOUR, PNG), form(FOUR), form(FOUR, OTHER), (save(noise(9, 9), "JPEG"), PNG)])
    )
    damaged = bytearray(body)
    for offset, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=6)):
        damaged[offset] = value
    sent = bytes(damaged[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=20))
    for path in ("/predict/classes", "/predictions/classes"):
        reply = post(serving, path, sent, headers)
        assert reply.status_code in (200, 400, 413), (reply.status_code, reply.text, sent)
    assert json.loads(reply.content)


def test_a_body_that_waits_for_a_thread_stays_reserved(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise clients that disconnect could keep any number of bodies in memory."""
    started, gate = Event(), Event()

    def slowly(*arguments: Any) -> Any:
        started.set()
        gate.wait(WAIT_S)
        raise InvalidRequest("no client receives this")

    monkeypatch.setattr("gateway.front.dialects.plain.rest.read_images", slowly)
    with serving.connect() as connection:
        head = b"POST /predict/classes HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(FOUR) + FOUR)
        assert started.wait(WAIT_S)
    assert serving.http.get("/v2/health/live").status_code == 200  # one turn of the loop: the client has disconnected
    assert serving.engine.reserved_bytes == len(FOUR)
    gate.set()
    ends = time.monotonic() + WAIT_S
    while serving.engine.reserved_bytes and time.monotonic() < ends:
        serving.run(lambda: None)
    assert serving.engine.reserved_bytes == 0


@pytest.mark.parametrize("path", ["/predict/echo_BYTES", "/predictions/echo_BYTES"])
def test_a_model_that_decodes_images_itself_gets_the_files(serving: Serving, path: str) -> None:
    body, kind = form(FOUR)
    for sent, headers in [
        (FOUR, PNG),
        (FOUR, {}),
        (b"not a known format", {"Content-Type": "image/x-raw"}),
        (body, kind),
    ]:
        assert post(serving, path, sent, headers).status_code == 200
        (tensor,) = serving.engine.requests[-1].inputs
        assert (tensor.datatype, tensor.shape) == ("BYTES", (1,))
        assert to_array(tensor).tolist() == [FOUR if sent is body else sent]


def test_several_files_are_rows_in_the_rank_of_the_input() -> None:
    files = [File("a", b"one"), File("b", b"two")]
    shapes = {None: (2,), (-1,): (2,), (1,): (2,), (-1, 1): (2, 1), (-1, -1, 1): (2, 1, 1), (): (2,)}
    for declared, shape in shapes.items():
        tensor = undecoded(files, TensorSpec("file", "BYTES", declared))
        assert (tensor.name, tensor.shape, to_array(tensor).ravel().tolist()) == ("file", shape, [b"one", b"two"])
    assert undecoded(files[:1], TensorSpec("file", "BYTES", ())).shape == ()


def test_images_for_which_there_is_no_room_are_refused_until_there_is() -> None:
    """A file of a few kilobytes can take as much memory as the largest body."""
    large = save(np.zeros((2000, 2000), np.uint8))
    with in_thread(limits=replace(LIMITS, binary_bytes=64 << 20)) as serving:
        engine = serving.engine
        engine.max_bytes = 8 << 20
        assert post(serving, "/predict/classes", large, PNG).status_code == 200, "it is the only one"
        other = engine.reserve_body("", "")
        serving.run(lambda: other.reserve(1))
        refused = post(serving, "/predict/classes", large, PNG)
        assert_rejected(refused, 429, "the limit is 8388608; try again later")
        assert refused.headers["retry-after"]
        assert post(serving, "/predict/classes", FOUR, PNG).status_code == 200
        assert engine.reserved_bytes == 1
        serving.run(other.close)
        assert post(serving, "/predictions/classes", large, PNG).status_code == 200
        assert engine.reserved_bytes == 0


def test_an_image_whose_client_leaves_while_it_waits_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise clients that do not wait for their answers could keep all threads busy."""
    large = save(np.zeros((2000, 2000), np.uint8))
    head = b"POST /predict/classes HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    decoding, waiting, gate, load = list[int](), Event(), Event(), images._load
    changed = images._DECODING._changed
    wait = changed.wait

    def wait_for_others(timeout: float | None = None) -> bool:
        waiting.set()
        return wait(timeout)

    def hold(*arguments: Any) -> Any:
        decoding.append(1)
        gate.wait(WAIT_S)
        return load(*arguments)

    monkeypatch.setattr(changed, "wait", wait_for_others)
    monkeypatch.setattr(images, "_load", hold)
    with in_thread(limits=replace(LIMITS, binary_bytes=64 << 20)) as serving:
        serving.engine.max_bytes = 60 << 20  # room for one
        with serving.connect() as first:
            first.sendall(head % len(large) + large)
            with serving.connect() as second:
                while not decoding:
                    serving.run(lambda: None)
                second.sendall(head % len(large) + large)
                assert waiting.wait(WAIT_S)
            assert serving.http.get("/v2/health/live").status_code == 200  # one turn of the loop: it has left
            gate.set()
            assert first.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            ends = time.monotonic() + WAIT_S
            while serving.engine.reserved_bytes and time.monotonic() < ends:
                serving.run(lambda: None)
        assert (serving.engine.reserved_bytes, len(decoding)) == (0, 1)


def test_a_request_with_an_image_is_freed_without_the_garbage_collector() -> None:
    """Fronts rarely collect, and the decoded image is part of the request."""
    with in_thread() as serving:

        def requests() -> int:
            assert post(serving, "/predict/classes", FOUR, PNG).status_code == 200
            serving.run(lambda: None)  # the turn of the loop that sends the answer has ended
            return sum(type(each).__name__ == "HotRequest" for each in gc.get_objects())

        gc.collect()
        gc.disable()
        try:
            before = requests()
            assert [requests() for _ in range(3)] == [before] * 3
        finally:
            gc.enable()
