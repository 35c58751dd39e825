"""A model of the fake runtime in a worker of this process: y = 2x."""

import asyncio
import gc
import itertools
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import modelport
from gateway.contents.errors import StoreError
from modelport import InvalidRequest, Model, NotFound, Unavailable
from tests.support.embedded_models import add_model, use_fake_runtime
from tests.support.ended_processes import wait_ended

# Nothing here takes long; the limit only turns an endless wait into a failure.
_WAIT_S = 60.0
# The model is not run before it is asked to.
GATED = "max_batch_size = 64\nwarmup = 0\n"
ROW = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_fake_runtime(monkeypatch, tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    with modelport.load(add_model(tmp_path)) as model:
        yield model


def workers() -> set[int]:
    """Return the process ids of this process's workers."""
    found = set()
    for child in psutil.Process().children():
        try:
            if any("runtimes/worker" in each for each in child.cmdline()):
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def until_gone(pids: set[int]) -> None:
    assert wait_ended(pids, _WAIT_S) == []


def test_it_has_a_signature_and_answers(model: Model) -> None:
    assert model.signature.inputs == (modelport.TensorSpec("x", "FP32", (-1, 4)),)
    assert [spec.name for spec in model.signature.outputs] == ["y"]
    answer = model.infer(x=ROW)["y"]
    np.testing.assert_array_equal(answer, 2 * ROW)
    answer[0, 0] = 5  # it is the caller's own
    np.testing.assert_array_equal(model.infer({"x": ROW})["y"], 2 * ROW)
    np.testing.assert_array_equal(model.infer(ROW.astype(np.float64))["y"], 2 * ROW)
    np.testing.assert_array_equal(model.infer([[1, 2, 3, 4]], outputs=["y"])["y"], 2 * ROW)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"z": ROW}, "model 'm' has no input 'z'; it has 'x'"),
        ({}, "input 'x' is missing; model 'm' needs 'x'"),
        ({"x": ROW[:, :3]}, "input 'x' has shape [1, 3], expected [-1, 4] (-1 is any size)"),
        ({"x": [["a", "b", "c", "d"]]}, "input 'x' has datatype BYTES, expected FP32"),
        ({"x": np.array([[1e300] * 4])}, "the data of input 'x' holds a number too large for FP32"),
        ({"x": np.zeros((1, 4), "datetime64[s]")}, "input 'x' is an array of datetime64[s], which no model accepts"),
        ({"x": [[1, 2], [3]]}, "input 'x' is not an array of FP32"),
        ({"x": [[400, 0, 0, 0]]}, "the fake model rejects it"),
    ],
)
def test_errors_are_sentences_of_the_gateway(model: Model, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        model.infer(inputs)
    if "fake" not in sentence:
        assert str(error.value) == sentence
    np.testing.assert_array_equal(model.infer(ROW)["y"], 2 * ROW)


def test_strings_are_bytes_of_any_kind(tmp_path: Path) -> None:
    specs = [{"name": "a/b:0", "datatype": "BYTES", "shape": [-1, 1]}]
    with modelport.load(add_model(tmp_path, inputs=specs, outputs=specs)) as model:
        answer = model.infer({"a/b:0": [["ü"], [b"\xff\x00"]]})["a/b:0"]
        assert answer.tolist() == [["üü".encode()], [b"\xff\x00\xff\x00"]]
        with pytest.raises(InvalidRequest, match="input 'a/b:0' is not an array of BYTES"):
            model.infer({"a/b:0": [["x"], [None]]})


def test_several_threads_share_batches(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    location = add_model(tmp_path, toml=GATED, waits_for=str(gate))
    with modelport.load(location) as model, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(model.infer, x=ROW + number) for number in range(64)]
        gate.touch()
        for number, answer in enumerate(answers):
            np.testing.assert_array_equal(answer.result(_WAIT_S)["y"], 2 * (ROW + number))


def test_a_running_event_loop_is_not_blocked_by_submit(model: Model) -> None:
    async def use() -> Any:
        answers = [asyncio.wrap_future(model.submit(x=ROW * number)) for number in range(8)]
        return [answer["y"][0, 0] for answer in await asyncio.gather(*answers)], model.infer(ROW)["y"][0, 0]

    assert asyncio.run(use()) == ([2.0 * number for number in range(8)], 2.0)


def test_batches_arrive_in_order(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.arange(400, dtype=np.float32).reshape(100, 4) + 1000
    parts = list(model.batches(rows, rows=7, progress=True))
    np.testing.assert_array_equal(np.concatenate([part["y"] for part in parts]), 2 * rows)
    assert "15/15" in capsys.readouterr().err
    endless = model.map({"x": ROW * number} for number in itertools.count())
    assert [next(endless)["y"][0, 0] for _ in range(3)] == [0, 2, 4]


def test_a_killed_worker_is_replaced_and_its_request_repeated(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with modelport.load(add_model(tmp_path, toml=GATED, waits_for=str(gate))) as model:
        before = workers()
        answers = [model.submit(x=ROW * number) for number in range(5)]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until_gone(before)
        gate.touch()
        assert [answer.result(_WAIT_S)["y"][0, 0] for answer in answers] == [0, 2, 4, 6, 8]


def test_a_request_that_kills_two_workers_fails_alone(model: Model) -> None:
    poison = ROW.copy()
    poison[0, 0] = 666
    bad, good = model.submit(x=poison), [model.submit(x=ROW * number) for number in range(5)]
    with pytest.raises(modelport.Internal):
        bad.result(_WAIT_S)
    assert [answer.result(_WAIT_S)["y"][0, 0] for answer in good] == [0, 2, 4, 6, 8]


def test_a_cancelled_request_is_forgotten(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with modelport.load(add_model(tmp_path, toml=GATED, waits_for=str(gate))) as model:
        first, second = model.submit(x=ROW), model.submit(x=ROW)
        assert second.cancel()
        gate.touch()
        assert first.result(_WAIT_S)["y"][0, 0] == 2
        with pytest.raises(CancelledError):
            second.result(_WAIT_S)


def test_a_deadline_is_kept(tmp_path: Path) -> None:
    with (
        modelport.load(add_model(tmp_path, toml=GATED, waits_for=str(tmp_path / "never")), timeout_s=0.05) as model,
        pytest.raises(modelport.DeadlineExceeded),
    ):
        model.infer(ROW)


def test_closing_ends_the_worker_and_what_waits_for_it(tmp_path: Path) -> None:
    model = modelport.load(add_model(tmp_path, toml=GATED, waits_for=str(tmp_path / "never")))
    pids, waiting = workers(), model.submit(x=ROW)
    model.close()
    model.close()
    with pytest.raises(Unavailable):
        waiting.result(_WAIT_S)
    until_gone(pids)
    with pytest.raises(Unavailable, match="model 'm' is closed; load it again"):
        model.infer(ROW)


def test_a_forgotten_model_ends(tmp_path: Path) -> None:
    model = modelport.load(add_model(tmp_path))
    pids = workers()
    del model
    gc.collect()
    until_gone(pids)


def test_a_model_that_cannot_be_loaded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="failed to load 'm': it has a hole"):
        modelport.load(add_model(tmp_path, load_error="it has a hole"))
    assert workers() == set()


def test_pickling_names_the_spec_which_loads_the_model_elsewhere(model: Model) -> None:
    with pytest.raises(TypeError, match=r"pickle model\.spec"):
        pickle.dumps(model)
    with pickle.loads(pickle.dumps(model.spec)).load() as copy:
        np.testing.assert_array_equal(copy.infer(ROW)["y"], 2 * ROW)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_load_its_own(model: Model) -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            model.infer(ROW)
        except Unavailable as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"load it again here" in os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)
    np.testing.assert_array_equal(model.infer(ROW)["y"], 2 * ROW)


def test_options_are_those_of_model_toml(tmp_path: Path) -> None:
    location = add_model(tmp_path, toml="max_batch_size = 4\n")
    with modelport.load(location) as model:
        assert model.max_batch_size == 4
    with modelport.load(location, max_batch_size=16, instances=2, settings={"queue_delay_ms": 1}) as model:
        assert model.max_batch_size == 16
        assert len(workers()) == 2
    with pytest.raises(InvalidRequest, match="instances"):
        modelport.load(location, instances=0)
    with pytest.raises(InvalidRequest, match="nonsense"):
        modelport.load(location, settings={"nonsense": 1})


def test_locations(tmp_path: Path) -> None:
    location = add_model(tmp_path)
    add_model(tmp_path, toml="[version_labels]\nbest = 1\n")
    repository = tmp_path / "repository"
    (repository / "m/2").mkdir()
    (repository / "m/2/model.fake.json").write_text("{}")
    for place, version, found in (
        (location, "", "2"),
        (location, "1", "1"),
        (f"{location}/1", "", "1"),
        (f"{location}/2/model.fake.json", "", "1"),
        (str(repository), "", "2"),
        ("repository/m", "", "2"),
    ):
        with modelport.load(place, version=version) as model:
            assert model.version == found, place
    with pytest.raises(NotFound, match="model 'm' has no version '7'; it has 1, 2"):
        modelport.load(location, version="7")
    with pytest.raises(NotFound, match="does not exist"):
        modelport.load("nowhere")
    add_model(tmp_path, "other")
    with pytest.raises(InvalidRequest, match="several models; name one of them"):
        modelport.load(str(repository))


def test_remote_models_are_fetched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Path(add_model(tmp_path))
    asked = []

    def fetched(location: str) -> Path:
        asked.append(location)
        if location.endswith("gone"):
            raise StoreError("the store does not answer")
        return local

    monkeypatch.setattr("gateway.remote.fetch.fetch", fetched)
    with modelport.load("s3://bucket/m") as model:
        np.testing.assert_array_equal(model.infer(ROW)["y"], 2 * ROW)
    with pytest.raises(Unavailable, match="the store does not answer"):
        modelport.load("s3://bucket/gone")
    assert asked == ["s3://bucket/m", "s3://bucket/gone"]


def test_a_model_on_demand_is_loaded_at_once(tmp_path: Path) -> None:
    with modelport.load(Path(add_model(tmp_path, toml='load = "on_demand"\n'))) as model:
        np.testing.assert_array_equal(model.infer(ROW)["y"], 2 * ROW)


def test_a_pipeline_is_loaded_with_its_steps(tmp_path: Path) -> None:
    add_model(tmp_path, "first", toml='load = "on_demand"\n')
    folder = tmp_path / "repository/both"
    (folder / "1").mkdir(parents=True)
    (folder / "model.toml").write_text(
        '[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [-1, 4]\n'
        '[[outputs]]\nname = "z"\ndatatype = "FP32"\nshape = [-1, 4]\n'
        '[[steps]]\nmodel = "first"\ninputs = { x = "x" }\noutputs = { y = "h" }\n'
        '[[steps]]\nmodel = "first"\ninputs = { x = "h" }\noutputs = { y = "z" }\n'
    )
    with modelport.load(folder) as model:
        np.testing.assert_array_equal(model.infer(ROW)["z"], 4 * ROW)


def test_a_program_needs_permission(tmp_path: Path) -> None:
    folder = tmp_path / "repository/p/1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("")
    with pytest.raises(InvalidRequest, match=r"pass allow_python=True \(--allow-python\) if you trust its author"):
        modelport.load("repository/p")


def test_ctrl_c_cancels_the_request(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with modelport.load(add_model(tmp_path, toml=GATED, waits_for=str(gate))) as model:
        main = threading.main_thread().ident
        assert main is not None
        stopped = threading.Event()

        def press() -> None:
            # More than once: CPython may overlook a signal that arrives just before it waits.
            while not stopped.wait(0.2):
                signal.pthread_kill(main, signal.SIGINT)

        sender = threading.Thread(target=press)
        sender.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                model.infer(ROW)
        finally:
            stopped.set()
            sender.join()
        gate.touch()
        np.testing.assert_array_equal(model.infer(ROW)["y"], 2 * ROW)
