"""What programs do to a loaded model without meaning to. The model is the fake runtime's: y = 2x."""

import gc
import os
import pickle
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelport
from gateway.embedded import model as embedded
from gateway.embedded.background import background
from gateway.embedded.host import Host
from modelport import InvalidRequest, Model, NotFound, Unavailable
from tests.support.embedded_models import add_model, use_fake_runtime

_WAIT_S = 60.0
GATED = "max_batch_size = 64\nwarmup = 0\n"
ROW = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_fake_runtime(monkeypatch, tmp_path)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def gated(tmp_path: Path, gate: Path) -> str:
    return add_model(tmp_path, toml=GATED, waits_for=str(gate))


def test_a_callback_that_exits_ends_nothing_else(gated: str, gate: Path, caplog: pytest.LogCaptureFixture) -> None:
    with modelport.load(gated) as model:
        answers = [model.submit(x=ROW * number) for number in range(4)]
        answers[0].add_done_callback(lambda _: sys.exit(1))
        gate.touch()
        assert [answer.result(_WAIT_S)["y"][0, 0] for answer in answers] == [0, 2, 4, 6]
        assert model.submit(ROW).result(_WAIT_S)["y"][0, 0] == 2
    assert "a callback of a result raised an exception" in caplog.text


def test_loading_in_a_callback_is_refused(gated: str, gate: Path) -> None:
    with modelport.load(gated) as model:
        outcome = Future[Any]()

        def load(_: Any) -> None:
            try:
                outcome.set_result(modelport.load(gated))
            except Unavailable as error:
                outcome.set_exception(error)

        model.submit(ROW).add_done_callback(load)
        gate.touch()
        with pytest.raises(Unavailable, match="call it from another thread"):
            outcome.result(_WAIT_S)


def test_a_model_lives_as_long_as_its_requests(gated: str, gate: Path) -> None:
    answer = modelport.load(gated).submit(ROW)
    gc.collect()
    gate.touch()
    np.testing.assert_array_equal(answer.result(_WAIT_S)["y"], 2 * ROW)
    assert not embedded._waiting


def test_forgotten_models_leave_no_objects(tmp_path: Path) -> None:
    location = add_model(tmp_path)
    for _ in range(2):
        modelport.load(location)
    gc.collect()

    async def closed() -> None:
        while embedded._closing:
            await next(iter(embedded._closing))

    background().run(closed())
    assert not embedded._closing
    assert not embedded._loaded


def test_closing_says_so_to_requests_in_progress(gated: str) -> None:
    model = modelport.load(gated)
    waiting = model.submit(ROW)
    model.close()
    with pytest.raises(Unavailable, match="model 'm' was closed before it answered"):
        waiting.result(_WAIT_S)


def test_a_model_that_is_being_loaded_ends_with_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit = list[set[Any]]()

    async def ready(host: Any) -> None:
        at_exit.append({host} & embedded._loaded)
        raise Unavailable("it was interrupted")

    monkeypatch.setattr(Host, "ready", ready)
    with pytest.raises(Unavailable, match="it was interrupted"):
        modelport.load(add_model(tmp_path))
    assert len(at_exit[0]) == 1
    assert not at_exit[0] & embedded._loaded


def test_batches_keep_each_byte_of_strings(tmp_path: Path) -> None:
    specs = [{"name": "s", "datatype": "BYTES", "shape": [-1]}]
    with modelport.load(add_model(tmp_path, inputs=specs, outputs=specs)) as model:
        parts = list(model.batches([b"a\0", "ü", b"\0"], rows=2))
    assert [each for part in parts for each in part["s"].tolist()] == [b"a\0a\0", "üü".encode(), b"\0\0"]


def test_batches_refuse_what_has_no_rows(tmp_path: Path) -> None:
    with modelport.load(add_model(tmp_path)) as model:
        for value, sentence in (
            (5.0, "input 'x' is a single value; it must be an array whose first dimension counts rows"),
            ([[1, 2], [3]], "input 'x' is not an array of FP32"),
            ({}, "all inputs must have the same number of rows"),
            ({"x": ROW, "z": ROW[:0]}, "all inputs must have the same number of rows"),
        ):
            with pytest.raises(InvalidRequest, match=sentence):
                model.batches(value)
        with pytest.raises(InvalidRequest, match="'rows' is -1"):
            model.batches(ROW, rows=-1)
        assert list(model.batches(ROW[:0])) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5"])
def test_a_timeout_is_a_time(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"'timeout_s' is .*; leave it out to wait as long as it takes"):
        modelport.load(add_model(tmp_path), timeout_s=seconds)


def test_odd_locations_do_not_exist() -> None:
    for location in ("~nobody-has-this-name/model", "x" * 5000, "a\0b"):
        with pytest.raises(NotFound, match="does not exist"):
            modelport.load(location)


def test_a_spec_means_the_same_elsewhere(tmp_path: Path) -> None:
    add_model(tmp_path)
    with modelport.load("repository/m") as model:
        spec = pickle.loads(pickle.dumps(model.spec))
    assert spec.location == str(tmp_path / "repository/m")


def test_a_version_may_be_a_number(tmp_path: Path) -> None:
    location = add_model(tmp_path)
    with modelport.load(os.fsencode(location), version=1) as model:  # type: ignore[arg-type]
        assert isinstance(model, Model)
        assert (model.version, model.spec.version) == ("1", "1")
