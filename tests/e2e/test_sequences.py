"""Models of sequences with real workers: over two fronts and three instances, with faults, and by Triton's programs."""

import http.client
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.sequences import slot_of
from tests.e2e.test_python_models import add
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.perf_analyzer import perf_analyzer_command
from tests.support.triton_examples import example_program

# What Triton's programs expect of these models.
SIMPLE = """
class Model:
    def predict(self, INPUT: "INT32[-1, 1]", START: "INT32[-1, 1]") -> {"OUTPUT": "INT32[-1, 1]"}:
        return {"OUTPUT": INPUT + START}
"""
DYNA = """
class Model:
    def predict(
        self, INPUT: "INT32[-1, 1]", START: "INT32[-1, 1]", END: "INT32[-1, 1]", CORRID: "UINT64[-1, 1]"
    ) -> {"OUTPUT": "INT32[-1, 1]"}:
        return {"OUTPUT": INPUT + START + END * CORRID.astype("int32")}
"""
STRING_DYNA = """
class Model:
    def predict(
        self, INPUT: "INT32[-1, 1]", END: "INT32[-1, 1]", CORRID: "BYTES[-1, 1]", SUM: "INT32[-1, 1]"
    ) -> {"OUTPUT": "INT32[-1, 1]", "SUM_OUT": "INT32[-1, 1]"}:
        total = INPUT + SUM
        ids = [[int(each)] for each in CORRID[:, 0]]
        return {"OUTPUT": (total + END * ids).astype("int32"), "SUM_OUT": total}
"""
PLAIN = """
class Model:
    def predict(self, x: "FP32[-1, 4]") -> "FP32[-1, 4]":
        return x
"""
TENSORS = """
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
FLAG = '{ name: "%s" control [ { kind: CONTROL_SEQUENCE_%s int32_false_true: [ 0, 1 ] } ] }'
CORRID = '{ name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }'
STATE = (
    'state [ { input_name: "SUM" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [ 1 ] '
    "initial_state { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true } } ]"
)
INSTANCES = 3


def pbtxt(strategy: str, controls: Sequence[str], state: str = "", instances: int = 1) -> str:
    return (
        f'backend: "python" max_batch_size: 8 {TENSORS} instance_group [ {{ kind: KIND_CPU count: {instances} }} ] '
        f"sequence_batching {{ max_sequence_idle_microseconds: 60000000 {strategy} control_input [ "
        f"{', '.join(controls)} ] {state} }}"
    )


def add_models(repository: Path) -> None:
    start, end = FLAG % ("START", "START"), FLAG % ("END", "END")
    add(repository, "simple_sequence", SIMPLE, pbtxt=pbtxt("direct { }", [start]))
    dyna = [start, end, CORRID % "UINT64"]
    add(repository, "simple_dyna_sequence", DYNA, pbtxt=pbtxt("oldest { max_candidate_sequences: 4 }", dyna))
    text = [end, CORRID % "STRING"]
    add(repository, "simple_string_dyna_sequence", STRING_DYNA, pbtxt=pbtxt("oldest { }", text, STATE))
    add(repository, "sum", STRING_DYNA, pbtxt=pbtxt("oldest { }", text, STATE, INSTANCES))
    add(repository, "plain", PLAIN)
    add(repository, "split", STRING_DYNA, pbtxt=pbtxt("oldest { }", text, STATE) + " version_policy { all { } }")
    shutil.copytree(repository / "split" / "1", repository / "split" / "2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequences") / "repository"
    add_models(folder)
    return folder


@pytest.fixture(scope="module")
def running(repository: Path) -> Iterator[Gateway]:
    gateway = start_gateway(repository, repository.parent, "--allow-python", "--fronts", "2")
    try:
        yield gateway.wait_ready()
    finally:
        gateway.close()


def send(running: Gateway, value: int, model: str = "sum", **sequence: Any) -> Reply:
    tensor = {"name": "INPUT", "shape": [1, 1], "datatype": "INT32", "data": [value]}
    parameters = {f"sequence_{name}": given for name, given in sequence.items()}
    return running.post(f"/v2/models/{model}/infer", {"inputs": [tensor], "parameters": parameters})


def output(reply: Reply) -> int:
    assert reply.status == 200, reply
    (tensor,) = reply.json()["outputs"]
    return int(tensor["data"][0])


def test_clients_do_not_see_controls_and_states(running: Gateway) -> None:
    metadata = running.get("/v2/models/sum").json()
    assert [each["name"] for each in metadata["inputs"]] == ["INPUT"]
    assert [each["name"] for each in metadata["outputs"]] == ["OUTPUT"]
    config = running.get("/v2/models/sum/config").json()
    assert [each["name"] for each in config["input"]] == ["INPUT"]
    assert config["sequence_batching"]["oldest"]["max_candidate_sequences"] == 0
    assert [each["name"] for each in config["sequence_batching"]["control_input"]] == ["END", "CORRID"]


def test_tritonclient_over_each_protocol(running: Gateway) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    script = Path(__file__).parent / "sequences_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc)


@pytest.mark.parametrize("options", [(), ("--dyna",)], ids=["direct", "oldest"])
@pytest.mark.parametrize(
    "program",
    [
        "simple_http_sequence_sync_infer_client.py",
        "simple_grpc_sequence_sync_infer_client.py",
        "simple_grpc_sequence_stream_infer_client.py",
        "simple_grpc_aio_sequence_stream_infer_client.py",
    ],
)
def test_tritons_programs(running: Gateway, program: str, options: Sequence[str]) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    url = running.http if "http" in program else running.grpc
    assert "PASS" in run_client(python, example_program(program), "-u", url, *options)


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="perf_analyzer's wheel is for Linux on x86-64",
)
def test_perf_analyzer_measures_sequences(running: Gateway) -> None:
    """It sees in the configuration that requests need a sequence."""
    options = ("-m", "sum", "-u", running.grpc, "-i", "grpc", "--streaming", "--async", "--sequence-length", "5")
    limits = ("--measurement-mode", "count_windows", "--measurement-request-count", "100", "-s", "1000", "-r", "3")
    done = subprocess.run(
        [*perf_analyzer_command(), *options, "--concurrency-range", "4", *limits],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (count,) = re.findall(r"^\s+Sequence count: (\d+)", done.stdout, re.MULTILINE)
    assert int(count) >= 10
    (statistics,) = running.get("/v2/models/sum/stats").json()["model_stats"]
    assert statistics["inference_stats"]["success"]["count"] >= 100


def test_a_sequence_stays_at_its_version_when_traffic_moves(running: Gateway) -> None:
    def version(reply: Reply, total: int) -> str:
        assert output(reply) == total
        return str(reply.json()["model_version"])

    assert running.post("/v2/models/split/traffic", {"weights": {"1": 1, "2": 1}}).status == 200
    ids = [f"{number}" for number in range(900, 912)]
    # Each request is a connection of its own, so that both fronts get some of each sequence.
    begun = {name: version(send(running, 1, "split", id=name, start=True), 1) for name in ids}
    assert set(begun.values()) == {"1", "2"}
    assert {name: version(send(running, 2, "split", id=name), 3) for name in ids} == begun
    ended = {name: version(send(running, 3, "split", id=name, end=True), 6 + int(name)) for name in ids}
    assert ended == begun

    # A front remembers where a sequence has started. One connection belongs to one front.
    host, port = running.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def ask(value: int, **sequence: Any) -> Reply:
        tensor = {"name": "INPUT", "shape": [1, 1], "datatype": "INT32", "data": [value]}
        parameters = {f"sequence_{name}": given for name, given in sequence.items()}
        connection.request("POST", "/v2/models/split/infer", json.dumps({"inputs": [tensor], "parameters": parameters}))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), dict(answer.headers))

    try:
        begun = {name: version(ask(1, id=name, start=True), 1) for name in ids}
        assert running.post("/v2/models/split/traffic/promote", {"version": "2"}).status == 200
        assert {name: version(ask(2, id=name), 3) for name in ids} == begun
        assert {name: version(ask(3, id=name, end=True), 6 + int(name)) for name in ids} == begun
        assert {version(ask(1, id=name, start=True, end=True), 1 + int(name)) for name in ids} == {"2"}
    finally:
        connection.close()


def test_start_and_end_in_one_request(running: Gateway) -> None:
    assert output(send(running, 5, id=7, start=True, end=True)) == 12
    reply = send(running, 5, id=7)
    assert (reply.status, "must specify the START flag" in reply.json()["error"]) == (400, True)


def test_an_id_as_a_number_is_another_sequence_than_as_text(running: Gateway) -> None:
    assert output(send(running, 1, id=77, start=True)) == 1
    assert output(send(running, 100, id="77", start=True)) == 100
    assert output(send(running, 1, id=77, end=True)) == 79
    assert output(send(running, 1, id="77", end=True)) == 178


def test_a_start_begins_anew(running: Gateway) -> None:
    assert output(send(running, 3, id=8, start=True)) == 3
    assert output(send(running, 4, id=8)) == 7
    assert output(send(running, 5, id=8, start=True)) == 5
    assert output(send(running, 0, id=8, end=True)) == 13


def test_a_start_that_is_refused_leaves_no_old_sequence(running: Gateway) -> None:
    assert output(send(running, 3, id=9, start=True)) == 3
    tensor = {"name": "INPUT", "shape": [2, 1], "datatype": "INT32", "data": [1, 2]}
    body = {"inputs": [tensor], "parameters": {"sequence_id": 9, "sequence_start": True}}
    assert "batch-size 1" in running.post("/v2/models/sum/infer", body).json()["error"]
    assert "must specify the START flag" in send(running, 4, id=9).json()["error"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "must specify a non-zero or non-empty correlation ID"),
        ({"id": 0, "start": True}, "must specify a non-zero or non-empty correlation ID"),
        ({"id": "", "start": True}, "must specify a non-zero or non-empty correlation ID"),
        ({"id": -1, "start": True}, "sequence_id"),
        ({"id": 1 << 64, "start": True}, "sequence_id"),
        ({"id": 1.5, "start": True}, "sequence_id"),
        ({"id": "x" * 129, "start": True}, "sequence_id"),
        ({"id": 5, "start": "yes"}, "sequence_start"),
    ],
)
def test_what_is_no_sequence_is_refused(running: Gateway, given: dict[str, Any], said: str) -> None:
    reply = send(running, 1, **given)
    assert reply.status == 400
    assert said in reply.json()["error"]


def test_an_id_that_the_model_cannot_have_is_refused(running: Gateway) -> None:
    reply = send(running, 1, "simple_dyna_sequence", id="text", start=True)
    assert reply.status == 400
    assert "UINT64" in reply.json()["error"]


def test_a_plain_model_ignores_sequences(running: Gateway) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    body = {"inputs": [tensor], "parameters": {"sequence_id": 5, "sequence_end": True}}
    assert running.post("/v2/models/plain/infer", body).json()["outputs"][0]["data"] == [1, 2, 3, 4]


def sequence_id(number: int) -> int | str:
    return 1000 + number if number % 2 else str(1000 + number)


def test_a_hundred_sequences_and_a_lost_worker(running: Gateway) -> None:
    """In random order over two fronts and three instances. The sequences of the lost worker end with one error each."""
    count, length = 100, 9
    rng = random.Random(5)
    half, killed = threading.Barrier(count + 1), threading.Event()
    starts = list(range(count))
    rng.shuffle(starts)

    def run(number: int) -> tuple[int, list[Reply]]:
        replies: list[Reply] = []
        for step in range(length):
            if step == length // 2:
                half.wait(60)
                killed.wait(60)
            reply = send(running, number + step, id=sequence_id(number), start=step == 0, end=step == length - 1)
            replies.append(reply)
            if reply.status != 200:
                break
        return number, replies

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, number) for number in starts]
        half.wait(60)
        mark = len(running.log)
        os.kill(running.worker_pids("sum")[0], signal.SIGKILL)
        running.wait_for(r"sum version 1: its worker was killed by SIGKILL", mark)
        killed.set()
        outcomes = dict(future.result() for future in futures)
    failed = {number for number, replies in outcomes.items() if replies[-1].status != 200}
    for number, replies in outcomes.items():
        totals = [sum(number + each for each in range(step + 1)) for step in range(length)]
        totals[-1] += 1000 + number
        good = [output(reply) for reply in replies if reply.status == 200]
        assert good == totals[: len(good)]
        if number in failed:
            assert len(replies) == length // 2 + 1
            error = replies[-1].json()["error"]
            assert "must specify the START flag" in error or "start the sequence again" in error
    (lost,) = {slot_of(sequence_id(number), INSTANCES) for number in failed}
    assert failed == {number for number in range(count) if slot_of(sequence_id(number), INSTANCES) == lost}
    again = sequence_id(min(failed))
    assert output(send(running, 1, id=again, start=True, end=True)) == 1 + int(again)


def test_loading_a_model_again_ends_its_sequences(running: Gateway, repository: Path) -> None:
    started, waits = "reloaded", 4711
    assert output(send(running, 5, id=waits, start=True)) == 5
    assert output(send(running, 5, "simple_sequence", id=started, start=True)) == 6
    file = repository / "sum" / "1" / "model.py"
    file.write_text(file.read_text() + "\n")
    assert running.post("/v2/repository/models/sum/load").status == 200
    reply = send(running, 5, id=waits)
    assert (reply.status, "must specify the START flag" in reply.json()["error"]) == (400, True)
    assert output(send(running, 6, id=waits, start=True)) == 6
    # Other models are not affected.
    assert output(send(running, 5, "simple_sequence", id=started, end=True)) == 5
