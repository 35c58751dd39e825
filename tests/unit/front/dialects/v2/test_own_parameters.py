"""The client's own parameters and the sequence of a request, whatever the protocol, each time the same."""

import json
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import SequenceControl
from tests.support.front_server import WAIT_S, Serving
from tests.support.v2_calls import Call, Value, as_json, as_message

ROW = Value("x", "FP32", (1, 3), [1.0, 2.0, 3.0])
OWN: dict[str, Any] = {"text": "é", "count": -3, "share": 0.5, "yes": True}
DEFINED: dict[str, Any] = {"priority": 2, "timeout": 1_000_000_000, "triton_enable_empty_final_response": True}


def message(parameters: dict[str, Any], raw: bool = True) -> pb.ModelInferRequest:
    return as_message(Call("doubler", (ROW,), version="1", parameters=parameters), raw=raw)


def send_grpc(serving: Serving, parameters: dict[str, Any]) -> None:
    serving.call("ModelInfer", message(parameters).SerializeToString())


def send_typed(serving: Serving, parameters: dict[str, Any]) -> None:
    serving.call("ModelInfer", message(parameters, raw=False).SerializeToString())


def send_stream(serving: Serving, parameters: dict[str, Any]) -> None:
    call = serving.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    (raw,) = call(iter([message(parameters).SerializeToString()]), timeout=WAIT_S)
    answer = pb.ModelStreamInferResponse.FromString(raw)
    if answer.error_message:
        raise ValueError(answer.error_message)


def post(serving: Serving, path: str, document: dict[str, Any]) -> None:
    answer = serving.http.post(path, json=document)
    if answer.status_code != 200:
        raise ValueError(answer.text)


def send_rest(serving: Serving, parameters: dict[str, Any]) -> None:
    call = Call("doubler", (ROW,), parameters=parameters)
    post(serving, call.path, json.loads(as_json(call)))


def send_predict(serving: Serving, parameters: dict[str, Any]) -> None:
    post(serving, "/predict/doubler", {"inputs": {"x": [[1.0, 2.0, 3.0]]}, "parameters": parameters})


def send_generate(serving: Serving, parameters: dict[str, Any]) -> None:
    post(serving, "/v2/models/doubler/generate", {"x": [[1.0, 2.0, 3.0]], "id": "seven", "parameters": parameters})


SENDERS = [send_grpc, send_typed, send_stream, send_rest, send_predict, send_generate]
ERRORS = (ValueError, grpc.RpcError)


@pytest.mark.parametrize("send", SENDERS)
def test_a_request_has_the_clients_own_parameters(serving: Serving, send: Any) -> None:
    for number in range(3):  # the third one is read with what was learned from those before
        send(serving, {**OWN, **DEFINED, "number": number})
        send(serving, {**OWN, **DEFINED})
        *_, numbered, last = serving.engine.requests
        assert dict(numbered.parameters) == {**OWN, "number": number}
        assert dict(last.parameters) == OWN
        assert (last.sequence, last.priority) == (None, 2)
        np.testing.assert_equal(np.frombuffer(last.inputs[0].data, np.float32), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize("number", [5, "5", (1 << 63) - 1])
def test_a_request_has_its_sequence(serving: Serving, send: Any, number: int | str) -> None:
    for start, end in [(True, False), (False, False), (True, False), (False, True), (True, True)]:
        send(serving, {"sequence_id": number, "sequence_start": start, "sequence_end": end, "own": 1})
        last = serving.engine.requests[-1]
        assert (last.sequence, dict(last.parameters)) == (SequenceControl(number, start, end), {"own": 1})
    for nothing in ({"sequence_id": 0, "sequence_start": True}, {"sequence_id": ""}, {"sequence_end": True}):
        send(serving, nothing)
        assert (serving.engine.requests[-1].sequence, dict(serving.engine.requests[-1].parameters)) == (None, {})


def test_an_id_of_64_bits_without_a_sign_is_an_id(serving: Serving) -> None:
    send_rest(serving, {"sequence_id": (1 << 64) - 1})
    assert serving.engine.requests[-1].sequence == SequenceControl((1 << 64) - 1)
    sent = message({})
    sent.parameters["sequence_id"].uint64_param = (1 << 64) - 1
    serving.call("ModelInfer", sent.SerializeToString())
    assert serving.engine.requests[-1].sequence == SequenceControl((1 << 64) - 1)


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": -1},
        {"sequence_id": 1.5},
        {"sequence_id": True},
        {"sequence_id": "x" * 129},
        {"sequence_id": 1, "sequence_start": 1},
        {"sequence_id": 1, "sequence_end": "true"},
    ],
)
def test_an_invalid_sequence_is_refused(serving: Serving, send: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(ERRORS, match="parameter 'sequence_"):
        send(serving, parameters)
