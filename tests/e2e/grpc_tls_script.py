"""Run a gRPC client over TLS against a gateway that serves the fake model `m` (y = 2x), in the client's environment.

Usage: grpc_tls_script.py CLIENT URL CA CERT KEY, where CLIENT is tritonclient, kserve or tfserving, and URL is
HOST:PORT. The clients are unmodified; a failed assertion is a failure.
"""

import asyncio
import queue
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np

CLIENT, URL, CA, CERT, KEY = sys.argv[1:]
SMALL = np.arange(8, dtype=np.float32).reshape(2, 4)
LARGE = np.linspace(0, 1, 1 << 20, dtype=np.float32).reshape(16, -1)


def check(answer: Any, sent: np.ndarray) -> None:
    assert np.array_equal(answer.as_numpy("y"), 2 * sent)


def check_refusal(error: BaseException) -> None:
    """Without a certificate, there must be no connection at all."""
    assert "UNAVAILABLE" in str(error), repr(error)


def triton_inputs(triton: Any, array: np.ndarray) -> list[Any]:
    tensor = triton.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


async def tritonclient_aio() -> None:
    import tritonclient.grpc.aio as triton

    files = {"root_certificates": CA, "private_key": KEY, "certificate_chain": CERT}
    async with triton.InferenceServerClient(URL, ssl=True, **files) as client:
        assert await client.is_server_ready()
        for array in (SMALL, LARGE):
            answers = await asyncio.gather(*(client.infer("m", triton_inputs(triton, array)) for _ in range(4)))
            for answer in answers:
                check(answer, array)


def tritonclient() -> None:
    import tritonclient.grpc as triton

    files = {"root_certificates": CA, "private_key": KEY, "certificate_chain": CERT}
    with triton.InferenceServerClient(URL, ssl=True, **files) as client:
        assert client.is_server_ready()
        for array in (SMALL, LARGE):
            for compression in (None, "gzip"):
                check(client.infer("m", triton_inputs(triton, array), compression_algorithm=compression), array)
        answers: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for array in (SMALL, LARGE):
            client.async_stream_infer("m", triton_inputs(triton, array))
            result, error = answers.get(timeout=60)
            assert error is None, error
            check(result, array)
        client.stop_stream()
    asyncio.run(tritonclient_aio())
    with triton.InferenceServerClient(URL, ssl=True, root_certificates=CA) as client:
        try:
            client.is_server_ready()
        except Exception as error:
            check_refusal(error)
        else:
            raise AssertionError("served without a certificate")


async def kserve() -> None:
    from kserve import InferenceGRPCClient
    from kserve.protocol.infer_type import InferInput, InferRequest

    files = {"root_certificates": CA, "private_key": KEY, "certificate_chain": CERT}
    async with InferenceGRPCClient(URL, use_ssl=True, **files) as client:
        assert await client.is_server_ready()
        for array in (SMALL, LARGE):
            tensor = InferInput("x", list(array.shape), "FP32")
            tensor.set_data_from_numpy(array, binary_data=True)
            answer = await client.infer(InferRequest("m", [tensor]))
            assert np.array_equal(answer.outputs[0].as_numpy(), 2 * array)
    async with InferenceGRPCClient(URL, use_ssl=True, root_certificates=CA, retries=0) as client:
        try:
            await client.is_server_ready()
        except Exception as error:
            check_refusal(error)
        else:
            raise AssertionError("served without a certificate")


def tfserving() -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    root, key, chain = (Path(file).read_bytes() for file in (CA, KEY, CERT))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(SMALL))
    with grpc.secure_channel(URL, grpc.ssl_channel_credentials(root, key, chain)) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 60)
        assert np.array_equal(tf.make_ndarray(answer.outputs["y"]), 2 * SMALL)
    with grpc.secure_channel(URL, grpc.ssl_channel_credentials(root)) as channel:
        try:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 60)
        except grpc.RpcError as error:
            check_refusal(error)
        else:
            raise AssertionError("served without a certificate")


if CLIENT == "tritonclient":
    tritonclient()
elif CLIENT == "kserve":
    asyncio.run(kserve())
else:
    tfserving()
print("all of it worked")
