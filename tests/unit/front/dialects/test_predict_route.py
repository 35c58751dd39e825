"""The path that Vertex AI chooses: its own requests, and raw ones of the Open Inference Protocol."""

import json
from typing import Any

import numpy as np
import pytest

from gateway.domain.deployment import Deployment
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Reply
from gateway.front.base.limits import Limits
from gateway.front.http.routes import match
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import from_array, to_array

PATH = "/v1/endpoints/7:predict"
KIND = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
X = np.array([[1, 2], [3, 4]], np.float32)
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
V2: dict[str, Any] = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}


def send(body: bytes, content_type: str = "application/json", **named: Any) -> tuple[InferRequest, Reply]:
    """The request that was read, and the reply if the model doubles."""
    status = ModelStatus("m", "1", "READY", signatures={"serving_default": SIGNATURE})
    engine = FakeEngine([status], lambda request: [])
    engine.deployment = Deployment(predict_route=PATH)
    route = match(PATH.encode(), PATH)
    assert route is not None
    headers, limits = Headers(content_type=content_type, **named), Limits()
    route.dialect.limit(headers, limits)
    assert not route.dialect.is_slow(headers, body)
    request, write = route.dialect.read(engine, limits, route, headers, body)
    (given,) = request.inputs
    answer = InferResponse("m", "1", [from_array("y", 2 * to_array(given))])
    return request, write(answer)  # type: ignore[operator]


def test_vertex_ais_own_requests() -> None:
    request, reply = send(json.dumps({"instances": X.tolist()}).encode())
    assert request.model == "m"
    assert json.loads(b"".join(reply.body)) == {"predictions": [[2, 4], [6, 8]]}


def test_a_raw_request() -> None:
    request, reply = send(json.dumps(V2).encode())
    assert request.model == "m"
    document = json.loads(b"".join(reply.body))
    assert document["outputs"][0]["data"] == [2, 4, 6, 8]
    assert reply.content_type == b"application/json"


@pytest.mark.parametrize("by_header", [True, False])
def test_a_raw_request_with_binary_tensors(by_header: bool) -> None:
    described = {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    kind, named = (KIND + str(len(text)), {})
    if by_header:
        kind, named = "application/octet-stream", {"json_length": len(text)}
    _, reply = send(text + X.tobytes(), kind, **named)
    content = b"".join(reply.body)
    prefix, length = reply.content_type.decode().rsplit("=", 1)
    assert prefix + "=" == KIND
    assert json.loads(content[: int(length)])["outputs"][0]["name"] == "y"
    assert np.array_equal(np.frombuffer(content[int(length) :], np.float32), 2 * X.ravel())


def test_what_is_neither() -> None:
    for body in (b"{", b'{"datatype": 1}', b"[]", b'{"inputs": [[1, 2]]}', b'{"instances": 1, "inputs": "datatype"}'):
        with pytest.raises(InvalidRequest):
            send(body)
    with pytest.raises(TooLarge):
        send(b"", KIND + "999999999")
