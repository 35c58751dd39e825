"""What can happen to a usual request of the Open Inference Protocol, with and without the compiled fast path.

The fast path takes a form of a request only once the Python code has read it, so each form is sent a few times first.
"""

import json
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from gateway.generated import open_inference_pb2 as pb
from tests.support.environments import skip_or_fail
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.v2_calls import Call, Value, as_binary, as_json, as_message

FLAGS = ("--max-requests", "16", "--max-response-bytes", "2000", "--max-json-bytes", "4096")
ONE_BY_ONE = "max_batch_size = 0\npriority_levels = 9\n"
WARMING = 5
CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Answer(NamedTuple):
    """`status` is HTTP's also for gRPC; `first` is the first element of the output, `text` an error's sentence."""

    status: int
    first: float = 0.0
    version: str = ""
    text: str = ""


class OverHttp:
    """A request in progress on a connection of its own. `leave` disconnects."""

    def __init__(self, gateway: Gateway) -> None:
        host, port = gateway.http.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=60)

    def send(self, call: Call, binary: bool) -> "OverHttp":
        body, headers = as_binary(call) if binary else (as_json(call), {"Content-Type": "application/json"})
        lines = [f"{name}: {setting}" for name, setting in {**headers, "Content-Length": len(body)}.items()]
        self._socket.sendall("\r\n".join([f"POST {call.path} HTTP/1.1", "Host: test", *lines, "", ""]).encode() + body)
        return self

    def answer(self) -> Answer:
        with self._socket, self._socket.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            head = b"".join(iter(stream.readline, b"\r\n")).lower()
            (length,) = re.findall(rb"^content-length: (\d+)", head, re.M)
            body = stream.read(int(length))
        if status != 200:
            return Answer(status, text=json.loads(body)["error"])
        json_length = re.findall(rb"^inference-header-content-length: (\d+)", head, re.M)
        document = json.loads(body[: int(json_length[0])] if json_length else body)
        (output,) = document["outputs"]
        data = np.frombuffer(body[int(json_length[0]) :], np.float32) if json_length else output["data"]
        return Answer(200, float(data[0]), document["model_version"])

    def leave(self) -> None:
        self._socket.close()


class OverGrpc:
    """A call in progress. `leave` cancels it."""

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._channel = grpc.insecure_channel(gateway.grpc)
        method = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._call = method.future(as_message(call, raw=True).SerializeToString(), timeout=60)

    def answer(self) -> Answer:
        try:
            found = pb.ModelInferResponse.FromString(self._call.result())
        except grpc.RpcError as error:
            return Answer(CODES[error.code()], text=error.details() or "")
        finally:
            self._channel.close()
        first = np.frombuffer(found.raw_output_contents[0], np.float32)[0]
        return Answer(200, float(first), found.model_version)

    def leave(self) -> None:
        self._call.cancel()
        self._channel.close()


Door = Callable[[Gateway, Call], OverHttp | OverGrpc]
DOORS: dict[str, Door] = {
    "json": lambda gateway, call: OverHttp(gateway).send(call, binary=False),
    "binary": lambda gateway, call: OverHttp(gateway).send(call, binary=True),
    "grpc": OverGrpc,
}


class Served(NamedTuple):
    gateway: Gateway
    repository: Path
    gate: Path


@pytest.fixture(scope="module", params=["true", "false"], ids=["compiled", "python"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scratch = tmp_path_factory.mktemp("served")
    gate, repository = scratch / "gate", scratch / "repository"
    gate.touch()
    add_fake(repository, "held", toml=ONE_BY_ONE, waits_for=str(gate))
    add_fake(repository, "ordered", toml=ONE_BY_ONE, waits_for=str(gate), stateful=True)
    add_fake(repository, "m")
    gateway = start_gateway(repository, scratch, *FLAGS, MODELPORT_FAST_PATH=request.param).wait_ready()
    if missing := [line for line in gateway.log if "the fast path" in line]:
        skip_or_fail(missing[0])
    yield Served(gateway, repository, gate)
    gate.touch()
    gateway.close()


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


def call(model: str, number: float, rows: int = 1, **parameters: Any) -> Call:
    return Call(model, (Value("x", "FP32", (rows, 4), [number] * 4 * rows),), parameters=parameters)


def warm(served: Served, door: Door, model: str, **parameters: Any) -> None:
    """Send this form until it is known."""
    for number in range(WARMING):
        assert door(served.gateway, call(model, number, **parameters)).answer().first == 2 * number


@pytest.fixture
def held(served: Served, door: Door) -> Iterator[Served]:
    """The model `held` answers when `gate` is made."""
    warm(served, door, "held")
    served.gate.unlink()
    yield served
    served.gate.touch()


def outcomes(gateway: Gateway, model: str, outcome: str) -> float:
    pattern = rf'^modelport_requests_total\{{model="{model}",outcome="{outcome}",version="1"\}} (\S+)$'
    return sum(float(each) for each in re.findall(pattern, gateway.get("/metrics").body.decode(), re.M))


def test_who_leaves_is_not_waited_for(held: Served, door: Door) -> None:
    gateway, before = held.gateway, outcomes(held.gateway, "held", "cancelled")
    first = door(gateway, call("held", 1))
    gateway.wait_in_flight("held", 1)
    leaving = [door(gateway, call("held", number)) for number in (2, 3)]
    gateway.wait_in_flight("held", 3)
    for each in leaving:
        each.leave()
    while outcomes(gateway, "held", "cancelled") < before + 2:
        pass  # each turn is a scrape
    held.gate.touch()
    assert first.answer().first == 2
    gateway.wait_in_flight("held", 0)
    assert outcomes(gateway, "held", "cancelled") == before + 2


def test_one_too_many_is_rejected_and_the_others_are_answered(held: Served, door: Door) -> None:
    """One of several models may use half of max_requests."""
    gateway, before = held.gateway, outcomes(held.gateway, "held", "overloaded")
    admitted = []
    for number in range(1, 9):
        admitted.append(door(gateway, call("held", number)))
        gateway.wait_in_flight("held", number)
    assert door(gateway, call("held", 9)).answer().status == 429
    held.gate.touch()
    assert [each.answer().first for each in admitted] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert outcomes(gateway, "held", "overloaded") == before + 1
    assert door(gateway, call("held", 6)).answer().first == 12


def test_what_is_past_its_deadline_is_answered_so(served: Served, door: Door) -> None:
    timeout_us = 300_000
    for number in range(WARMING):
        door(served.gateway, call("held", number, timeout=timeout_us)).answer()
    before = outcomes(served.gateway, "held", "deadline")
    served.gate.unlink()
    answer = door(served.gateway, call("held", 1, timeout=timeout_us)).answer()
    served.gate.touch()
    assert answer.status == 504
    assert outcomes(served.gateway, "held", "deadline") == before + 1
    assert door(served.gateway, call("held", 2)).answer().first == 4


def test_an_urgent_request_overtakes(served: Served, door: Door) -> None:
    """`ordered` adds the number of its earlier calls to each answer."""
    for number in range(WARMING):
        for priority in (1, 9):
            door(served.gateway, call("ordered", number, priority=priority)).answer()
    served.gate.unlink()
    waiting = []
    for number in range(1, 7):
        waiting.append(door(served.gateway, call("ordered", 0, priority=9)))
        served.gateway.wait_in_flight("ordered", number)
    urgent = door(served.gateway, call("ordered", 0, priority=1))
    served.gateway.wait_in_flight("ordered", 7)
    served.gate.touch()
    order = [each.answer().first for each in waiting]
    # Two or three had reached the worker when the urgent one came.
    assert order[0] < urgent.answer().first < order[3]
    assert order == sorted(order)


def test_a_request_that_kills_its_worker_fails_alone(served: Served, door: Door) -> None:
    warm(served, door, "m")
    answer = door(served.gateway, call("m", 666)).answer()
    assert answer.status == 500
    assert "worker died while it ran this request" in answer.text
    assert door(served.gateway, call("m", 3)).answer().first == 6


@pytest.mark.parametrize(("number", "status"), [(400, 400), (500, 500)])
def test_what_the_model_refuses_is_an_error(served: Served, door: Door, number: int, status: int) -> None:
    warm(served, door, "m")
    assert door(served.gateway, call("m", number)).answer().status == status
    assert door(served.gateway, call("m", 2)).answer().first == 4


def test_an_answer_over_the_limit_is_refused(served: Served, door: Door) -> None:
    for number in range(1, WARMING):
        answer = door(served.gateway, call("m", number, rows=200)).answer()
        assert "the answer has 3200 bytes and the limit is 2000" in answer.text
        assert answer.status in (413, 429)  # RESOURCE_EXHAUSTED is both
        assert door(served.gateway, call("m", number)).answer().first == 2 * number


def test_a_known_form_is_not_read_over_the_limit(served: Served) -> None:
    door = DOORS["json"]
    warm(served, door, "m")
    long = call("m", 1)
    body = as_json(long)
    padded = body.replace(b"1", b"1." + b"0" * 1500, 4)
    answer = served.gateway.post(long.path, padded)
    assert (len(padded) > 4096, answer.status) == (True, 413)


def test_a_new_version_takes_over_and_a_removed_model_is_gone(served: Served, door: Door) -> None:
    add_fake(served.repository, "changing")
    served.gateway.wait_served("changing")
    warm(served, door, "changing")
    add_fake(served.repository, "changing", version="2", not_batchable=True)  # which adds the mean to what is doubled
    while (answer := door(served.gateway, call("changing", 1)).answer()).version == "1":
        assert answer.first == 2
    assert answer[:3] == (200, 3, "2")
    shutil.rmtree(served.repository / "changing")
    while (answer := door(served.gateway, call("changing", 1)).answer()).status == 200:
        assert answer[:3] == (200, 3, "2")
    assert answer.status == 404


def test_sigterm_answers_what_is_under_way_and_refuses_what_is_new(served: Served, tmp_path: Path) -> None:
    """The last test, because it ends the gateway."""
    gateway = served.gateway
    for door in DOORS.values():
        warm(served, door, "held")
    served.gate.unlink()
    late = OverHttp(gateway)
    under_way = [door(gateway, call("held", 2)) for door in DOORS.values()]
    gateway.wait_in_flight("held", len(DOORS))
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_for(r"front\.\d+: draining")
    assert late.send(call("held", 3), binary=False).answer().status == 503
    served.gate.touch()
    assert [each.answer().first for each in under_way] == [4] * len(DOORS)
    assert gateway.process.wait(60) == 0
