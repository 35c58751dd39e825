"""Invalid requests get an error of one sentence, and the server keeps running."""

import io

import grpc
import numpy as np
import pytest

from gateway.domain.tensor_checks import MAX_STRINGS
from tests.support.bad_inputs import (
    BadCall,
    BadRequest,
    Subject,
    bad_calls,
    bad_requests,
    check_reply,
    check_status,
    good_call,
)
from tests.support.front_server import Serving
from tests.support.v2_calls import Call, Value, as_binary, as_json, as_message

SUBJECT = Subject()


@pytest.mark.parametrize("bad", bad_requests(SUBJECT), ids=lambda bad: bad.id)
def test_a_bad_request_is_answered_with_one_sentence(serving: Serving, bad: BadRequest) -> None:
    reply = serving.http.post(bad.path, content=bad.body, headers=bad.headers)
    check_reply(bad, reply.status_code, reply.content)
    assert not serving.engine.requests
    good = good_call(SUBJECT)
    assert serving.http.post(good.path, content=as_json(good)).status_code == 200


@pytest.mark.parametrize("bad", bad_calls(SUBJECT), ids=lambda bad: bad.id)
def test_a_bad_call_is_answered_with_one_sentence(grpc_serving: Serving, bad: BadCall) -> None:
    serving = grpc_serving
    with pytest.raises(grpc.RpcError) as caught:
        serving.call(bad.method, bad.message)
    check_status(bad, caught.value.code().name, caught.value.details())
    assert not serving.engine.requests
    serving.call("ModelInfer", as_message(good_call(SUBJECT), raw=True).SerializeToString())


@pytest.mark.parametrize("shape", [(1, 0, 2**62, 2**62), (2**62, 2**62), (1, 0, 2**63), (1,) * 33, (1, 0, -1)])
def test_impossible_shapes_are_rejected_without_a_declared_shape(serving: Serving, shape: tuple[int, ...]) -> None:
    call = Call("echo_FP32", (Value("x", "FP32", shape, []),))
    body, headers = as_binary(call)
    replies = [
        serving.http.post(call.path, content=as_json(call)),
        serving.http.post(call.path, content=body, headers=headers),
    ]
    assert [reply.status_code for reply in replies] == [400, 400]
    if max(shape) < 2**63:
        with pytest.raises(grpc.RpcError) as caught:
            serving.call("ModelInfer", as_message(call, raw=True).SerializeToString())
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_more_strings_than_the_loop_can_look_at_are_rejected_unread(serving: Serving) -> None:
    count = MAX_STRINGS + 1
    call = Call("echo_BYTES", (Value("x", "BYTES", (count,), [b""] * count),))
    body, headers = as_binary(call)
    array = np.zeros(count, "S1")
    stream = io.BytesIO()
    np.save(stream, array)
    replies = [
        serving.http.post("/predict/echo_BYTES", content=b'{"inputs":[' + b'"",' * MAX_STRINGS + b'""]}'),
        serving.http.post(call.path, content=body, headers=headers),
        serving.http.post(
            "/predict/echo_BYTES", content=stream.getvalue(), headers={"Content-Type": "application/x-npy"}
        ),
    ]
    assert [(reply.status_code, "strings; at most" in reply.text) for reply in replies] == [(400, True)] * 3
    for raw in (True, False):
        with pytest.raises(grpc.RpcError, match="strings; at most") as caught:
            serving.call("ModelInfer", as_message(call, raw).SerializeToString())
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
