"""Requests that cross frameworks: real steps, real workers, two fronts, and workers that are killed under load."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.test_python_models import add
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake

# Texts → their lengths, four times, and whether they are long.
MEASURE = """
class Model:
    def predict(self, text: "BYTES[-1, 1]") -> {"lengths": "FP32[-1, 4]", "is_long": "BOOL[-1, 1]"}:
        if (text == b"bad").any():
            raise InvalidInput("this text is bad")
        lengths = [[len(each)] * 4 for [each] in text]
        return {"lengths": lengths, "is_long": [[each[0] > 500] for each in lengths]}

from modelport import InvalidInput
"""
ADD_ONE = """
import sys, torch
class AddOne(torch.nn.Module):  # traced, because scripting needs a file
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1
torch.jit.trace(AddOne(), torch.zeros(2, 4)).save(sys.argv[1])
"""
MIXED = """
[[steps]]
model = "add_one"
inputs = { x = "doubled" }
outputs = { y = "result" }
[[steps]]
model = "measure"
inputs = { text = "text" }
outputs = { lengths = "lengths", is_long = "is_long" }
[[steps]]
model = "twice"
inputs = { x = "lengths" }
outputs = { y = "doubled" }
[[steps]]
model = "twice"
inputs = { x = "result" }
outputs = { y = "extra" }
when = "is_long"
[[outputs]]
name = "result"
[[outputs]]
name = "extra"
[[outputs]]
name = "is_long"
"""
WIDE = {"datatype": "FP32", "shape": [-1, 75_000]}  # rows of 300 kB, which lie in shared memory


def pipeline(repository: Path, name: str, toml: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "model.toml").write_text(toml)


def chain(*models: str) -> str:
    """Steps from x to y, one after the other."""
    names = ["x", *(f"t{number}" for number in range(1, len(models))), "y"]
    return "".join(
        f'[[steps]]\nmodel = "{model}"\ninputs = {{ x = "{source}" }}\noutputs = {{ y = "{target}" }}\n'
        for model, source, target in zip(models, names, names[1:], strict=False)
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, runtime_python: Callable[[str], Path]) -> Iterator[Gateway]:
    top = tmp_path_factory.mktemp("pipelines")
    repository = top / "repository"
    add(repository, "measure", MEASURE)
    made = top / "made"
    made.mkdir()
    subprocess.run([sys.executable, Path(__file__).parent / "make_triton_onnx.py", made], check=True)
    for name in ("twice", "add_one"):
        (repository / name / "1").mkdir(parents=True)
    (made / "twice.onnx").rename(repository / "twice" / "1" / "model.onnx")
    archive = repository / "add_one" / "1" / "model.pt"
    subprocess.run([runtime_python("torchscript"), "-c", ADD_ONE, archive], check=True)
    declared = "".join(f'[[{kind}]]\nname = "{name}"\ndatatype = "FP32"\nshape = [-1, 4]\n' for kind, name in (
        ("inputs", "x"), ("outputs", "y"),
    ))  # fmt: skip
    (repository / "add_one" / "model.toml").write_text(f"max_batch_size = 8\n{declared}")
    pipeline(repository, "mixed", MIXED)
    for name in ("wide1", "wide2"):
        add_fake(repository, name, inputs=[{"name": "x", **WIDE}], outputs=[{"name": "y", **WIDE}])
    pipeline(repository, "wide", chain("wide1", "wide2"))
    gateway = start_gateway(repository, top, "--allow-python", "--fronts", "2")
    try:
        yield gateway.wait_ready()
    finally:
        gateway.close()


def text(number: int) -> dict[str, Any]:
    return {"inputs": {"text": [["x" * (number % 400)]]}}


pytestmark = [pytest.mark.runtime("onnx"), pytest.mark.runtime("torchscript")]


def test_one_request_crosses_three_frameworks(running: Gateway) -> None:
    outputs = running.infer("mixed", {"text": [["four"]]})
    assert outputs == {"result": [[9, 9, 9, 9]], "is_long": [[False]]}
    outputs = running.infer("mixed", {"text": [["x" * 600]]})
    assert outputs == {"result": [[1201] * 4], "extra": [[2402] * 4], "is_long": [[True]]}
    tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["bad"]}
    body = {"inputs": [tensor], "outputs": [{"name": "result"}]}
    reply = running.post("/v2/models/mixed/infer", body)
    assert (reply.status, reply.json()["error"]) == (
        400,
        "pipeline 'mixed', step 2 (model measure): this text is bad",
    )
    body = {"inputs": [{**tensor, "data": ["good"]}], "outputs": [{"name": "extra"}]}
    reply = running.post("/v2/models/mixed/infer", body)
    assert (reply.status, "there is no output 'extra'" in reply.json()["error"]) == (400, True)
    stats = {each["name"]: each for each in running.get("/v2/models/stats").json()["model_stats"]}
    mixed = stats["mixed"]["inference_stats"]
    assert mixed["success"]["count"] == 2
    assert mixed["queue"]["ns"] == 0
    assert (
        0
        < mixed["compute_infer"]["ns"]
        <= sum(stats[name]["inference_stats"]["compute_infer"]["ns"] for name in ("measure", "twice", "add_one"))
    )


def test_workers_of_steps_that_are_killed_lose_no_request(running: Gateway) -> None:
    with Load(running.http, "/predict/mixed", text, clients=12) as load:
        for model in ("measure", "twice", "add_one"):
            load.wait_answers(60)
            (pid,) = running.worker_pids(model)
            mark = len(running.log)
            os.kill(pid, signal.SIGKILL)
            running.wait_for(rf"{model} version 1: its worker was killed by SIGKILL; restarting", mark)
        load.wait_answers(60)
    wrong = [
        (status, body)
        for status, body, sent in load.replies
        if status != 200 or body["outputs"]["result"] != [[2 * len(sent["inputs"]["text"][0][0]) + 1] * 4]
    ]
    assert wrong == []
    metrics = running.get("/metrics").body.decode()
    for model in ("measure", "twice", "add_one"):
        assert f'modelport_worker_restarts_total{{model="{model}",version="1"}} 1.0' in metrics


def test_large_tensors_survive_the_workers_that_made_them(running: Gateway) -> None:
    def large(number: int) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.full((1, 75_000), number % 300 + 1000, np.float32))
        return stream.getvalue()

    as_npy = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    with Load(running.http, "/predict/wide", large, clients=8, headers=as_npy) as load:
        for model in ("wide1", "wide2", "wide1"):
            load.wait_answers(40)
            (pid,) = running.worker_pids(model)
            mark = len(running.log)
            os.kill(pid, signal.SIGKILL)
            running.wait_for(rf"{model} version 1: its worker was killed by SIGKILL; restarting", mark)
        load.wait_answers(40)
    for status, answer, sent in load.replies:
        assert status == 200, answer
        assert np.array_equal(np.load(io.BytesIO(answer)), 4 * np.load(io.BytesIO(sent)))
