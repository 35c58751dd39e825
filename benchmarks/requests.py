"""One request for one model in each dialect, as bytes, and the check of its answer."""

import json

import grpc
import httpx
import numpy as np

from benchmarks.h2load import Load
from gateway.generated import open_inference_pb2 as pb

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def predict_json(port: int, model: str, array: np.ndarray) -> Load:
    body = json.dumps({"inputs": array.tolist()}).encode()
    return Load(f"http://127.0.0.1:{port}/predict/{model}", body, {"content-type": "application/json"})


def v2_json(port: int, model: str, array: np.ndarray) -> Load:
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    return Load(f"http://127.0.0.1:{port}/v2/models/{model}/infer", body, {"content-type": "application/json"})


def v2_binary(port: int, model: str, array: np.ndarray) -> Load:
    tensor = {
        "name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return Load(f"http://127.0.0.1:{port}/v2/models/{model}/infer", head + array.tobytes(), headers)


def v2_grpc(port: int, model: str, array: np.ndarray) -> Load:
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return Load(f"http://127.0.0.1:{port}{METHOD}", message.SerializeToString(), grpc=True)


def check(load: Load, expected: np.ndarray) -> None:
    """Raises AssertionError unless the answer holds these values."""
    np.testing.assert_allclose(_answer(load).reshape(expected.shape), expected, rtol=1e-3, atol=1e-4)


def _answer(load: Load) -> np.ndarray:
    if load.grpc:
        address = load.url.removeprefix("http://").split("/")[0]
        with grpc.insecure_channel(address) as channel:
            response = pb.ModelInferResponse.FromString(channel.unary_unary(METHOD)(load.body))
        return np.frombuffer(response.raw_output_contents[0], np.float32)
    answer = httpx.post(load.url, content=load.body, headers=load.headers, timeout=60)
    assert answer.status_code == 200, answer.text
    if "json" not in answer.headers["content-type"]:
        start = int(answer.headers.get("inference-header-content-length", 0))
        return np.frombuffer(answer.content[start:], np.float32)
    outputs = answer.json()["outputs"]
    if isinstance(outputs, dict):
        outputs = outputs["y"]
    elif isinstance(outputs[0], dict):
        outputs = outputs[0]["data"]
    return np.array(outputs, np.float32)
