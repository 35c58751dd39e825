"""Load models with files and configurations by Triton's clients, in the clients' environment.

Usage: load_overrides_script.py HTTP GRPC. The clients are unmodified; a failed assertion is a failure.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException

SIX = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 6]}]}).encode()
BROKEN = json.dumps({"load_error": "it is corrupt"}).encode()
FILE = "file:1/model.fake.json"

Call = Callable[..., Awaitable[Any]]


def width(metadata: Any) -> int:
    return int(metadata["inputs"][0]["shape"][1])


async def refused(call: Awaitable[Any]) -> str:
    try:
        await call
    except InferenceServerException as error:
        return str(error)
    raise AssertionError("the server accepted it")


async def check(load: Call, unload: Call, metadata: Call, config: Call, ready: Call, infer: Call) -> None:
    assert width(await metadata("m")) == 4
    # Files: those of the repository are not used until the model is loaded again.
    await load("m", config="{}", files={FILE: SIX})
    assert width(await metadata("m")) == 6
    await infer("m", 6)
    # A version of its own, and a configuration.
    await load("m", config='{"max_batch_size": 3}', files={"file:7/model.fake.json": SIX})
    assert (await metadata("m"))["versions"] == ["7"]
    assert (await config("m"))["max_batch_size"] == 3
    # What cannot be loaded leaves everything as it was.
    assert "it is corrupt" in await refused(load("m", config="{}", files={FILE: BROKEN}))
    assert (await metadata("m"))["versions"] == ["7"]
    await infer("m", 6)
    assert "must be a JSON object" in await refused(load("m", config="[1]"))
    assert "is for 'other', but the model is 'm'" in await refused(load("m", config='{"name": "other"}'))
    assert (await metadata("m"))["versions"] == ["7"]
    # A configuration alone is for the files of the repository.
    await load("m", config='{"name": "m", "max_batch_size": 5, "future_field": 1}')
    assert width(await metadata("m")) == 4
    assert (await config("m"))["max_batch_size"] == 5
    await infer("m", 4)
    await load("m")
    assert (await config("m"))["max_batch_size"] == 32
    # A model that is not in the repository.
    await load("sent", config="{}", files={FILE: SIX})
    await infer("sent", 6)
    await unload("sent")
    assert "there is no such model in the repository" in await refused(load("sent"))
    assert "it is corrupt" in await refused(load("sent", config="{}", files={FILE: BROKEN}))
    assert not await ready("sent")
    # What names no file of a version.
    assert "must also have 'config'" in await refused(load("m", files={FILE: SIX}))
    for path in ("file:model.onnx", "file:1/../../evil", "file:/etc/evil", "file:1/.hidden", "file:0/m", "file:1/"):
        assert "does not name a file in a version" in await refused(load("m", config="{}", files={path: SIX})), path
    both = {"file:1/a": SIX, "file:1/a/b": SIX}
    assert "is both a file and a folder" in await refused(load("m", config="{}", files=both))
    assert "cannot be the name of a model" in await refused(load("a b", config="{}", files={FILE: SIX}))
    assert width(await metadata("m")) == 4
    await infer("m", 4)


def synchronous(call: Callable[..., Any], **always: Any) -> Call:
    async def made(*arguments: Any, **named: Any) -> Any:
        return call(*arguments, **named, **always)

    return made


def inferring(client: Any, module: Any) -> Call:
    async def infer(model: str, columns: int) -> None:
        x = np.ones((1, columns), np.float32)
        tensor = module.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        result = client.infer(model, [tensor])
        if asyncio.iscoroutine(result):
            result = await result
        assert np.array_equal(result.as_numpy("y"), 2 * x)

    return infer


def grpc_config(call: Call) -> Call:
    async def config(model: str) -> Any:
        return (await call(model))["config"]

    return config


async def main() -> None:
    http, grpc = sys.argv[1:3]
    rest = httpclient.InferenceServerClient(http)
    await check(
        synchronous(rest.load_model),
        synchronous(rest.unload_model),
        synchronous(rest.get_model_metadata),
        synchronous(rest.get_model_config),
        synchronous(rest.is_model_ready),
        inferring(rest, httpclient),
    )
    rest.close()
    with grpcclient.InferenceServerClient(grpc) as client:
        await check(
            synchronous(client.load_model),
            synchronous(client.unload_model),
            synchronous(client.get_model_metadata, as_json=True),
            grpc_config(synchronous(client.get_model_config, as_json=True)),
            synchronous(client.is_model_ready),
            inferring(client, grpcclient),
        )
    async with httpaio.InferenceServerClient(http) as rest_aio:
        await check(
            rest_aio.load_model,
            rest_aio.unload_model,
            rest_aio.get_model_metadata,
            rest_aio.get_model_config,
            rest_aio.is_model_ready,
            inferring(rest_aio, httpaio),
        )
    async with grpcaio.InferenceServerClient(grpc) as grpc_aio:

        async def metadata(model: str) -> Any:
            return await grpc_aio.get_model_metadata(model, as_json=True)

        async def config(model: str) -> Any:
            return (await grpc_aio.get_model_config(model, as_json=True))["config"]

        await check(
            grpc_aio.load_model,
            grpc_aio.unload_model,
            metadata,
            config,
            grpc_aio.is_model_ready,
            inferring(grpc_aio, grpcaio),
        )
    print("all of it worked")


if __name__ == "__main__":
    asyncio.run(main())
