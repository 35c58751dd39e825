"""One inference request in every protocol: arrays in, arrays out."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np

from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import datatype_of, numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array
from tests.support.gateway_process import Gateway

Arrays = Mapping[str, np.ndarray]
Ask = Callable[[Gateway, str, Arrays], dict[str, np.ndarray]]

_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _json_data(array: np.ndarray) -> object:
    if array.dtype == object:
        return np.vectorize(lambda raw: raw.decode(), otypes=[object])(array).tolist()
    return array.tolist()


def _array(datatype: str, shape: list[int], data: Any) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([str(each).encode() for each in np.ravel(data)], dtype=object).reshape(shape)
    return np.array(data, dtype=numpy_dtype(datatype)).reshape(shape)


def ask_predict(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    """POST /predict/{model}. JSON has no datatypes: floats are returned as float32."""
    reply = gateway.post(f"/predict/{model}", {"inputs": {name: _json_data(array) for name, array in inputs.items()}})
    assert reply.status == 200, reply
    outputs = {name: np.array(data) for name, data in reply.json()["outputs"].items()}
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in outputs.items()}


def ask_v2_json(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    tensors = [
        {"name": name, "shape": array.shape, "datatype": datatype_of(array.dtype), "data": _json_data(array)}
        for name, array in inputs.items()
    ]
    reply = gateway.post(f"/v2/models/{model}/infer", {"id": "7", "inputs": tensors})
    assert reply.status == 200, reply
    answer = reply.json()
    assert answer["id"] == "7"
    return {each["name"]: _array(each["datatype"], each["shape"], each["data"]) for each in answer["outputs"]}


def ask_v2_binary(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    tensors = [from_array(name, array) for name, array in inputs.items()]
    head = {
        "inputs": [
            {
                "name": each.name,
                "shape": each.shape,
                "datatype": each.datatype,
                "parameters": {"binary_data_size": len(each.data)},
            }
            for each in tensors
        ],
        "parameters": {"binary_data_output": True},
    }
    raw = json.dumps(head).encode()
    body = raw + b"".join(bytes(each.data) for each in tensors)
    headers = {"Inference-Header-Content-Length": str(len(raw)), "Content-Type": "application/octet-stream"}
    reply = gateway.post(f"/v2/models/{model}/infer", body, headers)
    assert reply.status == 200, reply
    length = int({key.lower(): value for key, value in reply.headers.items()}["inference-header-content-length"])
    outputs, position = {}, length
    for each in json.loads(reply.body[:length])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        data = reply.body[position : position + size]
        position += size
        outputs[each["name"]] = to_array(Tensor(each["name"], each["datatype"], tuple(each["shape"]), data))
    assert position == len(reply.body)
    return outputs


def ask_grpc(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        tensor = from_array(name, array)
        request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(bytes(tensor.data))
    answer = grpc_call(gateway, "ModelInfer", request, pb.ModelInferResponse)
    return {
        each.name: to_array(Tensor(each.name, each.datatype, tuple(each.shape), raw))
        for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def grpc_call(gateway: Gateway, method: str, request: Any, answer: Any) -> Any:
    """One unary call of inference.GRPCInferenceService. `request`: a message, or bytes as they are."""
    with grpc.insecure_channel(gateway.grpc, _LARGE) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=120, wait_for_ready=True)


def ask_tfserving(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    """POST /v1/models/{model}:predict, for numbers. The only output has no name in the answer: see `_only_output`.

    JSON has no datatypes: all outputs are returned as float32.
    """
    reply = gateway.post(
        f"/v1/models/{model}:predict", {"inputs": {name: _json_data(array) for name, array in inputs.items()}}
    )
    assert reply.status == 200, reply
    outputs = reply.json()["outputs"]
    named = outputs if isinstance(outputs, dict) else {_only_output(gateway, model): outputs}
    return {name: np.array(data, np.float32) for name, data in named.items()}


def _only_output(gateway: Gateway, model: str) -> str:
    """The name of a model's only output; "" if there are others, or none is known."""
    declared = gateway.get(f"/v2/models/{model}").json()["outputs"]
    return str(declared[0]["name"]) if len(declared) == 1 else ""


def ask_torchserve(gateway: Gateway, model: str, inputs: Arrays) -> dict[str, np.ndarray]:
    """POST /predictions/{model}. The only output has no name in the answer: see `_only_output`.

    JSON has no datatypes: floats are returned as float32.
    """
    body = {"data": {name: _json_data(array) for name, array in inputs.items()}}
    reply = gateway.post(f"/predictions/{model}", body)
    assert reply.status == 200, reply
    found = reply.json()
    if not isinstance(found, dict):
        found = {_only_output(gateway, model): found}
    outputs = {name: np.array(data) for name, data in found.items()}
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in outputs.items()}


PROTOCOLS: dict[str, Ask] = {
    "predict": ask_predict,
    "v2-json": ask_v2_json,
    "v2-binary": ask_v2_binary,
    "grpc": ask_grpc,
    "torchserve": ask_torchserve,
}
# For models of numbers.
EVERY_PROTOCOL: dict[str, Ask] = {**PROTOCOLS, "tfserving": ask_tfserving}
