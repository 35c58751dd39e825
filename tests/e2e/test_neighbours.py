"""No answer depends on its neighbors: many clients concurrently use models whose rows influence each other."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy, add_fake
from tests.support.protocols import PROTOCOLS

CLIENTS = 16
DELAY = "queue_delay_ms = 20\n"
DECLARED = DELAY + "max_batch_size = 8\n"
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def running(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    runtime_environment("onnx")
    scratch = tmp_path_factory.mktemp("neighbours")
    made, repository = scratch / "made", scratch / "repository"
    made.mkdir()
    subprocess.run([sys.executable, Path(__file__).parent / "make_unbatchable_onnx.py", made], check=True)
    for model, artifact, toml in [
        ("detector", "detector", DELAY),
        ("detector_declared", "detector", DECLARED),
        ("longest", "longest", DELAY),
        ("quantised", "quantised", DELAY),
        ("nonzero", "nonzero", "max_batch_size = 0\n"),
    ]:
        add_copy(repository, model, [made / f"{artifact}.onnx"], toml=toml)
    add_fake(repository, "audited", toml=DECLARED + "audit_share = 1.0\n", not_batchable=True)
    started = start_gateway(repository, scratch).wait_ready()
    yield started
    started.close()


def detector(client: int) -> tuple[Arrays, Arrays]:
    """Return an input and its answer. Of four clients, one has two hits, two have one, and one has none."""
    bright = [half for half in (0, 1) if client >> half & 1]
    picture = np.zeros((1, 2, 4), np.float32)
    picture[0, bright] = 150 + client
    return {"picture": picture}, {"hits": np.array([[0, 0, half] for half in bright], np.int64).reshape(-1, 3)}


def crowded(client: int) -> tuple[Arrays, Arrays]:
    """Return an input with two hits, so no batch of these has as many rows as pictures."""
    return detector(3 + 4 * client)


def longest(client: int) -> tuple[Arrays, Arrays]:
    steps, length = np.arange(8, dtype=np.float32)[None] * (client + 1), 1 + client % 8
    return {"steps": steps, "lengths": np.array([length])}, {"mean": steps[:, :length].mean(axis=1)}


def quantised(client: int) -> tuple[Arrays, Arrays]:
    x = np.array([[0, 1, 2, 4]], np.float32) * 10.0 ** (client % 5)
    scale = x.max() / np.float32(255)
    return {"x": x}, {"y": np.round(x / scale) * scale}


MODELS = {"detector": detector, "detector_declared": crowded, "longest": longest, "quantised": quantised}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", MODELS)
def test_every_client_gets_its_own_answer(running: Gateway, model: str, protocol: str) -> None:
    def ask(client: int) -> None:
        inputs, right = MODELS[model](client)
        answer = PROTOCOLS[protocol](running, model, inputs)
        assert answer.keys() == right.keys()
        for name, array in right.items():
            # An empty plain JSON list has no shape other than [0].
            wanted = array.ravel() if protocol in ("predict", "torchserve") and not array.size else array
            assert answer[name].shape == wanted.shape
            np.testing.assert_allclose(answer[name], wanted, rtol=1e-5, atol=1e-6)

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, range(2 * CLIENTS)))
    ask(1)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("detector", ("graph", "rows")),
        ("detector_declared", ("rows",)),
        ("longest", ("graph", "trial")),
        ("quantised", ("graph", "trial")),
        ("nonzero", ("declared",)),
    ],
)
def test_why_batching_is_off_can_be_seen(running: Gateway, model: str, reasons: tuple[str, ...]) -> None:
    if model == "detector_declared":
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda client: PROTOCOLS["v2-json"](running, model, crowded(client)[0]), range(CLIENTS)))
    text = running.get("/metrics").body.decode()
    (shown,) = re.findall(rf'modelport_batching_off{{model="{model}",reason="(\w+)",version="1"}} 1.0', text)
    assert shown in reasons
    configuration = running.get(f"/v2/models/{model}/config").json()
    assert configuration["max_batch_size"] == 0
    assert configuration["parameters"]["batching"]["string_value"].startswith("batching is off: ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_vector_is_an_input_like_any_other(running: Gateway, protocol: str) -> None:
    for values, right in (([0, 2], [[1]]), ([0, 0], [[]]), ([], [[]])):
        answer = PROTOCOLS[protocol](running, "nonzero", {"x": np.array(values, np.float32)})["y"]
        assert answer.reshape(1, -1).tolist() == right


def test_a_difference_that_an_audit_finds_switches_batching_off(running: Gateway) -> None:
    def ask(client: int) -> list[list[float]]:
        return running.infer("audited", {"x": [[client] * 4]})["y"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        while running.get("/v2/models/audited/config").json()["max_batch_size"]:
            list(clients.map(ask, range(CLIENTS)))  # each turn is real batches
        for client, answer in enumerate(clients.map(ask, range(4 * CLIENTS))):
            assert answer == [[3 * client] * 4]
    assert running.wait_for("audited version 1: batching is off: output 'y' differs by .* between a batch and")
    text = running.get("/metrics").body.decode()
    assert 'modelport_audit_differences_total{model="audited",version="1"}' in text
