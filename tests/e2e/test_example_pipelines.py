"""The pipelines in examples/ answer what their steps would one after the other, over REST and gRPC."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from examples.pipelines.make_page import draw
from tests.support import ROOT
from tests.support.environments import RUNTIMES
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.image_files import save
from tests.support.protocols import PROTOCOLS

EXAMPLE = ROOT / "examples" / "pipelines"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def running(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    assert {"onnx", "torchscript"} <= set(RUNTIMES)
    for name in ("onnx", "torchscript"):
        runtime_environment(name)
    started = start_gateway(EXAMPLE / "repository", tmp_path_factory.mktemp("pipelines"), "--allow-python")
    yield started.wait_ready()
    started.close()


def test_the_page_in_the_readme_is_read(running: Gateway) -> None:
    reply = running.post("/predict/read_digits", (EXAMPLE / "page.png").read_bytes(), PNG)
    assert reply.status == 200, reply.body
    outputs = reply.json()["outputs"]
    assert "".join(outputs["digit"]) == json.loads((EXAMPLE / "page.json").read_text())["digits"]
    assert len(outputs["box"]) == len(outputs["confidence"]) == len(outputs["digit"])


def test_every_digit_on_a_page_is_found_and_most_are_read(running: Gateway) -> None:
    right = total = 0
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        images, labels = file["image"], file["label"]
    for seed in range(20):
        page, text = draw(images, labels, seed)
        found = running.post("/predict/read_digits", save(page), PNG).json()["outputs"]["digit"]
        assert len(found) == len(text), seed
        right += sum(each == expected for each, expected in zip(found, text, strict=True))
        total += len(text)
    assert right / total > 0.93


def test_a_page_without_digits_has_none(running: Gateway) -> None:
    blank = save(np.full((128, 128), 255, np.uint8))
    assert running.post("/predict/read_digits", blank, PNG).json()["outputs"] == {
        "digit": [], "confidence": [], "box": [],
    }  # fmt: skip


def test_an_error_names_its_step(running: Gateway) -> None:
    reply = running.post("/predict/read_digits", b"GIF89a, cut off", {"Content-Type": "image/gif"})
    assert reply.status == 400
    assert "page_decoder" in reply.json()["error"]
    assert "the file is not an image" in reply.json()["error"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_texts_about_the_same_thing_are_neighbors(running: Gateway, protocol: str) -> None:
    texts = [
        "Limit the memory that a worker may use",
        "A worker that exceeds its memory limit is killed",
        "Which datatypes do TFLite and TF.js exports have?",
        "An export is quantized to int8",
    ]
    array = np.array([text.encode() for text in texts], object)
    vectors = PROTOCOLS[protocol](running, "embed_text", {"text": array})["vector"]
    assert vectors.shape == (4, 48)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 0)
    assert similarity.argmax(axis=1).tolist() == [1, 0, 3, 2]
