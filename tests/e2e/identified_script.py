"""Run a client that identifies itself against the gateway of test_identified.py, in the client's environment.

Usage: identified_script.py CLIENT HTTP GRPC CREDENTIALS. The credentials may query the fake model `m` (y = 2x), and
nothing else. The clients are unmodified; a failed assertion is a failure.
"""

import asyncio
import queue
import sys
from importlib import import_module
from typing import Any

import numpy as np

CLIENT, HTTP, GRPC, CREDENTIALS = sys.argv[1:]
X = np.arange(8, dtype=np.float32).reshape(2, 4)
BEARER = {"authorization": f"Bearer {CREDENTIALS}"}
KEY = {"x-api-key": CREDENTIALS}


def check_triton(module: Any, url: str) -> None:
    from tritonclient.utils import InferenceServerException

    def tensor() -> Any:
        made = module.InferInput("x", X.shape, "FP32")
        made.set_data_from_numpy(X)
        return [made]

    def refused(code: str, part: str, model: str, **options: Any) -> None:
        try:
            client.infer(model, tensor(), **options)
        except InferenceServerException as error:
            assert code in error.status(), error
            assert part in error.message(), error
        else:
            raise AssertionError("it was answered")

    is_grpc = module.__name__.endswith("grpc")
    unauthenticated, denied = ("UNAUTHENTICATED", "PERMISSION_DENIED") if is_grpc else ("401", "403")
    with module.InferenceServerClient(url) as client:
        assert client.is_server_ready()
        for headers in (dict(BEARER), dict(KEY)):  # the client adds headers to the dictionary that it gets
            assert client.is_model_ready("m", headers=headers)
            for _ in range(4):
                assert np.array_equal(client.infer("m", tensor(), headers=headers).as_numpy("y"), 2 * X)
        refused(unauthenticated, "needs an API key or a token; send it as Authorization: Bearer", "m")
        refused(denied, "these credentials do not permit 'infer' for model 'other'", "other", headers=dict(BEARER))
        refused(denied, "these credentials do not permit 'infer' for model 'nobody'", "nobody", headers=dict(BEARER))
        refused(unauthenticated, "the API key is not valid", "m", headers={"x-api-key": "wrong"})
        if is_grpc:
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(lambda result, error: answers.put((result, error)), headers=BEARER)
            client.async_stream_infer("m", tensor())
            client.async_stream_infer("other", tensor())
            found = [answers.get(timeout=60) for _ in range(2)]
            client.stop_stream()
            assert sorted(error is None for _, error in found) == [False, True]
            return
        from tritonclient.http.auth import BasicAuth

        client.register_plugin(BasicAuth("ci", CREDENTIALS))
        refused("401", "the Basic scheme of Authorization is not accepted; send the API key or token as", "m")


async def check_triton_aio(module: Any, url: str) -> None:
    tensor = module.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    async with module.InferenceServerClient(url) as client:
        assert np.array_equal((await client.infer("m", [tensor], headers=dict(BEARER))).as_numpy("y"), 2 * X)


async def kserve() -> None:
    import grpc
    import httpx
    from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig
    from kserve.protocol.infer_type import InferInput, InferRequest

    def request() -> InferRequest:
        tensor = InferInput("x", list(X.shape), "FP32")
        tensor.set_data_from_numpy(X, binary_data=True)
        return InferRequest("m", [tensor])

    url, rest = f"http://{HTTP}", InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_model_ready(url, "m", headers=BEARER)
    answer = await rest.infer(url, request(), model_name="m", headers=BEARER)
    assert np.array_equal(answer.outputs[0].as_numpy(), 2 * X)
    try:
        await rest.infer(url, request(), model_name="m")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 401
    else:
        raise AssertionError("it was answered")
    client = InferenceGRPCClient(GRPC)
    answer = await client.infer(request(), headers=list(BEARER.items()))
    assert np.array_equal(answer.outputs[0].as_numpy(), 2 * X)
    try:
        await client.infer(request())
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    else:
        raise AssertionError("it was answered")


def tfserving() -> None:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    def predict(model: str, **options: Any) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, "serving_default"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(X))
        return stub.Predict(request, 60, **options)

    with grpc.insecure_channel(GRPC) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = predict("m", metadata=list(BEARER.items()))
        assert np.array_equal(tf.make_ndarray(answer.outputs["y"]), 2 * X)
        for model, options, code in (
            ("m", {}, grpc.StatusCode.UNAUTHENTICATED),
            ("other", {"metadata": list(KEY.items())}, grpc.StatusCode.PERMISSION_DENIED),
            ("nobody", {"metadata": list(KEY.items())}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            try:
                predict(model, **options)
            except grpc.RpcError as error:
                assert error.code() is code, error
            else:
                raise AssertionError("it was answered")


if CLIENT == "tritonclient":
    check_triton(import_module("tritonclient.http"), HTTP)
    check_triton(import_module("tritonclient.grpc"), GRPC)
    asyncio.run(check_triton_aio(import_module("tritonclient.http.aio"), HTTP))
    asyncio.run(check_triton_aio(import_module("tritonclient.grpc.aio"), GRPC))
elif CLIENT == "kserve":
    asyncio.run(kserve())
else:
    tfserving()
print("all of it worked")
