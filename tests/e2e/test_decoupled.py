"""Decoupled models over ModelStreamInfer and generate_stream, with real processes: two fronts share the workers.

Most tests are also those of pipelines, in which another model doubles what the decoupled one answers.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from gateway.generated import open_inference_pb2 as pb
from runtimes.wire import MAX_UNREAD_BYTES
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake

WAIT_S = 60
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WIDE = {"datatype": "FP32", "shape": [-1, 40_000]}
# More answers than the buffers of gRPC and of the sockets hold.
MANY = 2_000
BEHIND = """
[[steps]]
model = "{model}"
inputs = {{ x = "x" }}
outputs = {{ y = "each" }}
[[steps]]
model = "{behind}"
inputs = {{ x = "each" }}
outputs = {{ y = "y" }}
"""
ENSEMBLE = """
platform: "ensemble"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
model_transaction_policy { decoupled: true }
ensemble_scheduling {
  step [
    {
      model_name: "three" model_version: -1
      input_map { key: "x" value: "x" }
      output_map { key: "y" value: "each" }
    },
    {
      model_name: "plain" model_version: -1
      input_map { key: "x" value: "each" }
      output_map { key: "y" value: "y" }
    }
  ]
}
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoupled")


@pytest.fixture
def gate(scratch: Path) -> Path:
    """The path that `gated` waits for before each answer."""
    for number in range(3):
        (scratch / f"gate.{number}").unlink(missing_ok=True)
    return scratch / "gate"


@pytest.fixture(scope="module")
def running(scratch: Path) -> Iterator[Gateway]:
    repository = scratch / "repository"
    add_fake(repository, "plain")
    add_fake(repository, "three", answers=3)
    add_fake(repository, "rows", answers="rows")
    add_fake(repository, "gated", answers=3, answer_waits_for=str(scratch / "gate"))
    add_fake(repository, "hangs", toml="execution_timeout_s = 0.5", answers=2, effects_at=1)
    wide = [{"name": "x", **WIDE}], [{"name": "y", **WIDE}]
    add_fake(repository, "wide", inputs=wide[0], outputs=wide[1], answers=MANY)
    add_fake(repository, "wide_plain", inputs=wide[0], outputs=wide[1])
    add_fake(repository, "twice", answers=2)
    add_fake(repository, "wide_twice", inputs=wide[0], outputs=wide[1], answers=2)
    for model, behind in {"gated": "plain", "wide": "wide_plain"}.items():
        (repository / f"{model}_behind" / "1").mkdir(parents=True)
        (repository / f"{model}_behind" / "model.toml").write_text(BEHIND.format(model=model, behind=behind))
    chains = {
        "three_chain": ("three", "twice"),
        "gated_chain": ("three", "gated"),
        "wide_chain": ("wide", "wide_twice"),
    }
    for name, (model, behind) in chains.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "model.toml").write_text(BEHIND.format(model=model, behind=behind))
    (repository / "three_behind" / "1").mkdir(parents=True)
    (repository / "three_behind" / "config.pbtxt").write_text(ENSEMBLE)
    gateway = start_gateway(repository, scratch, "--fronts", "2").wait_ready()
    yield gateway
    gateway.close()


def request(model: str, width: int = 4) -> bytes:
    x = np.ones((1, width), np.float32)
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    raw: bytes = message.SerializeToString()
    return raw


def first_number(raw: bytes) -> float:
    answer = pb.ModelStreamInferResponse.FromString(raw)
    assert not answer.error_message
    return float(np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)[0])


def memory(running: Gateway) -> int:
    """The memory of the fronts and of the workers of the wide models, in bytes."""
    total = 0
    workers = [pid for model in ("wide", "wide_plain", "wide_twice") for pid in running.worker_pids(model)]
    for pid in [*running.front_pids(), *workers]:
        (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        total += int(kilobytes) * 1024
    return total


def test_tritonclient_reads_streams(running: Gateway) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    assert "all of it worked" in run_client(python, Path(__file__).parent / "streams_script.py", running.grpc)


@pytest.mark.parametrize("model", ["three", "three_behind", "three_chain"])
def test_unary_rest_is_refused(running: Gateway, model: str) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]
    for path, body in (
        (f"/v2/models/{model}/infer", {"inputs": inputs}),
        (f"/predict/{model}", {"inputs": {"x": [[1, 1, 1, 1]]}}),
        (f"/v1/models/{model}:predict", {"instances": [[1, 1, 1, 1]]}),
    ):
        for _ in range(3):  # the compiled path takes requests whose form is known
            reply = running.post(path, body)
            assert reply.status == 501
            assert f"model '{model}' is decoupled, and this endpoint doesn't support" in reply.json()["error"]
    config = running.get(f"/v2/models/{model}/config").json()
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert running.get("/v2/models/plain/config").json()["model_transaction_policy"] == {"decoupled": False}


@pytest.mark.parametrize(("model", "factor"), [("wide", 1), ("wide_behind", 2)])
def test_a_client_that_reads_slowly_holds_the_model_back(running: Gateway, model: str, factor: int) -> None:
    """All answers would take 320 MB."""
    before = memory(running)
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request(model, 40_000)]), timeout=WAIT_S)
        for number in range(3):
            assert first_number(next(call)) == factor * (2.0 + number)
        # Another client is served meanwhile, again and again, so that the model would have had the time.
        for _ in range(20):
            other = channel.stream_stream(STREAM)(iter([request("three")]), timeout=WAIT_S)
            assert [first_number(raw) for raw in other] == [2.0, 3.0, 4.0]
        assert memory(running) - before < 40 * MAX_UNREAD_BYTES + (24 << 20)
        assert [first_number(next(call)) for _ in range(300)] == [factor * (5.0 + number) for number in range(300)]
        mark = len(running.log)
        call.cancel()
        given_up = running.wait_for(r"the request was given up after (\d+) answers", mark)
        assert int(given_up[1]) < MANY


@pytest.mark.parametrize(
    ("model", "factor", "where"),
    [("gated", 1, ""), ("gated_behind", 2, "pipeline 'gated_behind', step 1 (model gated): ")],
)
def test_a_worker_that_dies_in_the_middle_is_one_error(
    running: Gateway, gate: Path, model: str, factor: int, where: str
) -> None:
    Path(f"{gate}.0").touch()
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request(model)]), timeout=WAIT_S)
        assert first_number(next(call)) == 2.0 * factor
        (pid,) = running.worker_pids("gated")
        os.kill(pid, signal.SIGKILL)
        (last,) = [pb.ModelStreamInferResponse.FromString(raw) for raw in call]
        assert last.error_message.endswith(
            f"{where}the model's worker died while it ran this request; it will not be retried"
        )
        for number in (1, 2):
            Path(f"{gate}.{number}").touch()
        call = channel.stream_stream(STREAM)(iter([request(model)]), timeout=WAIT_S)
        assert [first_number(raw) for raw in call] == [factor * value for value in (2.0, 3.0, 4.0)]


def test_a_client_that_reads_slowly_holds_back_all_models_of_a_chain(running: Gateway) -> None:
    """All answers would take 640 MB."""
    before = memory(running)
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request("wide_chain", 40_000)]), timeout=WAIT_S)
        expected = [2 * (2.0 + number) + extra for number in range(100) for extra in (0, 1)]
        assert [first_number(next(call)) for _ in range(3)] == expected[:3]
        for _ in range(20):
            other = channel.stream_stream(STREAM)(iter([request("three")]), timeout=WAIT_S)
            assert [first_number(raw) for raw in other] == [2.0, 3.0, 4.0]
        assert memory(running) - before < 40 * MAX_UNREAD_BYTES + (24 << 20)
        assert [first_number(next(call)) for _ in range(197)] == expected[3:]
        mark = len(running.log)
        call.cancel()
        given_up = running.wait_for(r"worker\.wide: the request was given up after (\d+) answers", mark)
        assert int(given_up[1]) < MANY


def test_a_worker_of_a_chain_that_dies_is_one_error_after_the_answers_before(running: Gateway, gate: Path) -> None:
    Path(f"{gate}.0").touch()
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request("gated_chain")]), timeout=WAIT_S)
        assert first_number(next(call)) == 4.0
        (pid,) = running.worker_pids("gated")
        os.kill(pid, signal.SIGKILL)
        (last,) = [pb.ModelStreamInferResponse.FromString(raw) for raw in call]
        assert last.error_message.endswith(
            "pipeline 'gated_chain', step 2 (model gated): the model's worker died while it ran this request; it will "
            "not be retried"
        )
        for number in (1, 2):
            Path(f"{gate}.{number}").touch()
        call = channel.stream_stream(STREAM)(iter([request("gated_chain")]), timeout=WAIT_S)
        assert [first_number(raw) for raw in call] == [4.0, 5.0, 6.0, 6.0, 7.0, 8.0, 8.0, 9.0, 10.0]


def test_events_of_a_chain(running: Gateway) -> None:
    url = f"http://{running.http}/v2/models/three_chain/generate_stream"
    reply = httpx.post(url, json={"x": [1, 1, 1, 1]}, timeout=WAIT_S)
    answers = [json.loads(line[len("data: ") :]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert [answer["y"][0] for answer in answers] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def test_a_worker_behind_the_decoupled_one_that_dies_loses_nothing(running: Gateway) -> None:
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request("wide_behind", 40_000)]), timeout=WAIT_S)
        (pid,) = running.worker_pids("wide_plain")
        mark = len(running.log)
        for number in range(60):
            if number == 10:
                os.kill(pid, signal.SIGKILL)
            assert first_number(next(call)) == 2 * (2.0 + number)
        running.wait_for("its worker was killed by SIGKILL; restarting", mark)
        call.cancel()


def test_a_crash_before_the_first_answer_is_retried(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "gated", answers=1, answer_waits_for=str(tmp_path / "gate"))
    running = gateway(tmp_path / "repository").wait_ready()
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.stream_stream(STREAM)(iter([request("gated")]), timeout=WAIT_S)
        running.wait_in_flight("gated")
        (pid,) = running.worker_pids("gated")
        mark = len(running.log)
        os.kill(pid, signal.SIGKILL)
        running.wait_for("its worker was killed by SIGKILL; restarting", mark)
        Path(f"{tmp_path / 'gate'}.0").touch()
        assert [first_number(raw) for raw in call] == [2.0]


@pytest.mark.parametrize(("model", "factor"), [("gated", 1), ("gated_behind", 2)])
def test_curl_reads_events_as_they_come(running: Gateway, gate: Path, model: str, factor: int) -> None:
    """The second answer is computed only after the client has the first."""
    gate.with_name("gate.0").touch()
    url = f"http://{running.http}/v2/models/{model}/generate_stream"
    with subprocess.Popen(["curl", "-sN", url, "-d", '{"x": [1, 1, 1, 1]}'], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        for number in range(3):
            gate.with_name(f"gate.{number}").touch()
            assert json.loads(curl.stdout.readline().removeprefix(b"data: "))["y"] == [factor * (2.0 + number)] * 4
            assert curl.stdout.readline() == b"\n"
        assert curl.stdout.read() == b""
    assert curl.returncode == 0


def test_a_worker_that_dies_in_the_middle_of_events_is_one_error(running: Gateway, gate: Path) -> None:
    gate.with_name("gate.0").touch()
    url = f"http://{running.http}/v2/models/gated/generate_stream"
    with httpx.stream("POST", url, json={"x": [1, 1, 1, 1]}, timeout=WAIT_S) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["y"] == [2.0] * 4
        (pid,) = running.worker_pids("gated")
        os.kill(pid, signal.SIGKILL)
        (last,) = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        assert "the model's worker died while it ran this request; it will not be retried" in last["error"]


def test_the_limit_of_an_execution_is_for_one_answer(running: Gateway) -> None:
    reply = running.post("/v2/models/hangs/generate_stream", {"x": [777] * 4})
    first, last = [json.loads(line.removeprefix(b"data: ")) for line in reply.body.splitlines() if line]
    assert first["y"] == [1554.0] * 4
    assert "the model's worker died while it ran this request; it will not be retried" in last["error"]
    running.wait_for(r"a batch ran for longer than execution_timeout_s = 0.5")


@pytest.mark.parametrize(("model", "factor"), [("gated", 1), ("gated_behind", 2)])
def test_a_deadline_in_the_middle_of_events_is_one_error(running: Gateway, gate: Path, model: str, factor: int) -> None:
    gate.with_name("gate.0").touch()
    body = {"x": [1, 1, 1, 1], "timeout": 2_000_000}
    reply = running.post(f"/v2/models/{model}/generate_stream", body)
    answers = [json.loads(line.removeprefix(b"data: ")) for line in reply.body.splitlines() if line]
    assert [each["y"][0] for each in answers[:-1]] == [2.0 * factor]
    assert answers[-1] == {"error": "the deadline passed before the model answered"}
    mark = len(running.log)
    gate.with_name("gate.1").touch()  # now the worker can see that its client has left
    running.wait_for(r"the request was given up after 2 answers", mark)


def test_statistics_count_a_request_once(running: Gateway) -> None:
    (before,) = running.get("/v2/models/rows/stats").json()["model_stats"]
    for rows in (0, 1, 3):
        reply = running.post("/v2/models/rows/generate_stream", {"x": [[1, 1, 1, 1]] * rows})
        assert (reply.status, reply.body.count(b"data: ")) == (200, rows)
    reply = running.post("/v2/models/rows/generate", {"x": [1, 1, 1, 1]})
    assert (reply.status, reply.json()["y"]) == (200, [2.0] * 4)
    (after,) = running.get("/v2/models/rows/stats").json()["model_stats"]
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 4
    assert after["execution_count"] - before["execution_count"] == 4


@pytest.mark.parametrize(("model", "factor"), [("wide", 1), ("wide_behind", 2)])
def test_a_reader_of_events_holds_the_model_back_and_ends_it_by_leaving(
    running: Gateway, model: str, factor: int
) -> None:
    before, mark = memory(running), len(running.log)
    url = f"http://{running.http}/v2/models/{model}/generate_stream"
    with httpx.stream("POST", url, json={"x": [1.0] * 40_000}, timeout=WAIT_S) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["y"][0] == 2.0 * factor
        for _ in range(20):
            reply = running.post("/v2/models/three/generate_stream", {"x": [1, 1, 1, 1]})
            assert reply.body.count(b"data: ") == 3
        assert memory(running) - before < 40 * MAX_UNREAD_BYTES + (24 << 20)
    given_up = running.wait_for(r"the request was given up after (\d+) answers", mark)
    assert int(given_up[1]) < MANY
