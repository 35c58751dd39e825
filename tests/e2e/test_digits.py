"""The four example digit classifiers have the accuracy through the gateway that training reported."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.environments import RUNTIMES
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.protocols import PROTOCOLS

REPORTED = json.loads((ROOT / "examples/digits/accuracy.json").read_text())


@pytest.fixture(scope="module")
def running(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    for name in RUNTIMES:
        runtime_environment(name)
    started = start_gateway(ROOT / "model_repo", tmp_path_factory.mktemp("digits")).wait_ready()
    yield started
    started.close()


def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        images, labels = (file[name] for name in file.files)
    return images.astype(np.float32), labels


def test_every_framework_has_its_model() -> None:
    assert sorted(REPORTED) == sorted(f"digits_{name}" for name in RUNTIMES)
    for name in RUNTIMES:
        files = [file for file in (ROOT / "model_repo" / f"digits_{name}").rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 200_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_accuracy_is_what_training_reported(running: Gateway, runtime: str, protocol: str) -> None:
    images, labels = held_out()
    scores = PROTOCOLS[protocol](running, f"digits_{runtime}", {"image": images})["scores"]
    accuracy = float((scores.argmax(axis=1) == labels).mean())
    assert accuracy == pytest.approx(REPORTED[f"digits_{runtime}"], abs=1e-9)
    assert accuracy >= 0.95


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batching_is_on(running: Gateway, runtime: str) -> None:
    running.wait_for(rf"digits_{runtime} version 1 is READY, batching up to 32 rows")
