"""Run KServe's clients against a gateway that serves a fake model (y = 2x), in kserve's environment.

Usage: kserve_script.py HTTP GRPC MODEL. The clients are unmodified; a failed assertion is a failure.
"""

import asyncio
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput

M = sys.argv[3]
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def request(model: str, binary: bool, **more: Any) -> InferRequest:
    tensor = InferInput("x", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    return InferRequest(model, [tensor], **more)


def check(response: Any) -> None:
    (output,) = response.outputs
    assert output.name == "y"
    assert np.array_equal(output.as_numpy(), 2 * X)


async def check_rest(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, M)
    assert not await client.is_model_ready(url, "nobody")
    for binary in (True, False):
        check(await client.infer(url, request(M, binary, request_id="seven"), model_name=M))
        wanted = [RequestedOutput("y", {"binary_data": binary})]
        response = await client.infer(url, request(M, not binary, request_outputs=wanted), model_name=M)
        check(response)
    every = request(M, True, parameters={"binary_data_output": True})
    response = await client.infer(url, every, model_name=M)
    check(response)
    try:
        await client.infer(url, request("nobody", True), model_name="nobody")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 404
        assert "there is no model 'nobody'" in error.response.text
    else:
        raise AssertionError("a model that does not exist answered")


async def check_rest_v1(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await client.is_server_live(url) is True
    assert await client.is_model_ready(url, M) is True
    for instances in (X.tolist(), [{"x": row} for row in X.tolist()]):
        response = await client.infer(url, {"instances": instances}, model_name=M)
        assert response == {"predictions": (2 * X).tolist()}
    try:
        await client.infer(url, {"instances": [[1.0]]}, model_name=M)
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400
        assert "shape" in error.response.text
    else:
        raise AssertionError("an input of the wrong shape was accepted")
    try:
        await client.is_model_ready(url, "nobody")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 404
        assert "there is no model 'nobody'" in error.response.text
    else:
        raise AssertionError("a model that does not exist is ready")


async def check_grpc(url: str) -> None:
    async with InferenceGRPCClient(url) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(M)
        assert not await client.is_model_ready("nobody")
        for binary in (True, False):
            response = await client.infer(request(M, binary, request_id="seven"))
            check(response)
            assert response.id == "seven"
        try:
            await client.infer(request("nobody", True))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("a model that does not exist answered")


def main() -> None:
    http, target = sys.argv[1:3]
    asyncio.run(check_rest(f"http://{http}"))
    asyncio.run(check_rest_v1(f"http://{http}"))
    asyncio.run(check_grpc(target))
    print("all of it worked")


if __name__ == "__main__":
    main()
