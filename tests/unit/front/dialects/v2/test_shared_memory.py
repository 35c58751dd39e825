"""Tensors in POSIX shared memory, over REST and gRPC."""

import json
import os
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.generated import open_inference_pb2 as pb
from tests.support.front_server import Serving

ROW = np.array([[1.5, -2.0, 3.25]], np.float32)
PREFIX = "/v2/systemsharedmemory"

pytestmark = pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK), reason="shared memory is looked for in /dev/shm, which is not writable here"
)


@pytest.fixture
def memory(serving: Serving) -> Iterator[SharedMemory]:
    """64 bytes with ROW at offset 16, registered as "region" from offset 8."""
    serving.engine.shared_memory.enabled = True
    made = SharedMemory(create=True, size=64)
    made.buf[16:28] = ROW.tobytes()
    reply = register(serving, key=made.name, offset=8, byte_size=56)
    assert reply.status_code == 200, reply.text
    yield made
    serving.http.post(PREFIX + "/unregister")
    made.close()
    made.unlink()


def register(serving: Serving, name: str = "region", **record: Any) -> Any:
    return serving.http.post(f"{PREFIX}/region/{name}/register", json=record)


def parameters(offset: int, byte_size: int = 12, region: str = "region") -> dict[str, Any]:
    result = {"shared_memory_region": region, "shared_memory_byte_size": byte_size}
    return {**result, "shared_memory_offset": offset} if offset else result


def ask(serving: Serving, region_range: dict[str, Any], output: dict[str, Any] | None = None) -> Any:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": region_range}
    document: dict[str, Any] = {"inputs": [tensor]}
    if output is not None:
        document["outputs"] = [{"name": "y", "parameters": output}]
    return serving.http.post("/v2/models/doubler/infer", json=document)


def test_tensors_go_in_and_out(serving: Serving, memory: SharedMemory) -> None:
    reply = ask(serving, parameters(8))
    assert reply.json()["outputs"][0]["data"] == ROW[0].tolist()
    reply = ask(serving, parameters(8), parameters(32))
    (output,) = reply.json()["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [1, 3]}
    assert bytes(memory.buf[40:52]) == ROW.tobytes()


def message(region_range: dict[str, Any], output: dict[str, Any] | None = None) -> bytes:
    request = pb.ModelInferRequest(model_name="doubler")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    for described, values in ((tensor, region_range), (request.outputs.add(name="y"), output or {})):
        for key, value in values.items():
            setattr(described.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
    written: bytes = request.SerializeToString()
    return written


def test_tensors_go_in_and_out_by_grpc(serving: Serving, memory: SharedMemory) -> None:
    answer = pb.ModelInferResponse.FromString(serving.call("ModelInfer", message(parameters(8))))
    assert answer.raw_output_contents[0] == ROW.tobytes()
    for _ in range(2):
        answer = pb.ModelInferResponse.FromString(serving.call("ModelInfer", message(parameters(8), parameters(32))))
        assert answer.outputs[0].parameters["shared_memory_region"].string_param == "region"
        assert answer.outputs[0].parameters["shared_memory_offset"].int64_param == 32
        assert list(answer.raw_output_contents) == [b""]  # clients expect one for each output
        assert bytes(memory.buf[40:52]) == ROW.tobytes()


def test_registered_regions_are_listed(serving: Serving, memory: SharedMemory) -> None:
    expected = {"name": "region", "key": memory.name, "offset": 8, "byte_size": 56}
    assert serving.http.get(PREFIX + "/status").json() == [expected]
    assert serving.http.get(PREFIX + "/region/region/status").json() == [expected]
    assert serving.http.get(PREFIX + "/region/other/status").status_code == 404
    status = pb.SystemSharedMemoryStatusResponse.FromString(serving.call("SystemSharedMemoryStatus", b""))
    assert status.regions["region"].key == memory.name
    unregister = pb.SystemSharedMemoryUnregisterRequest(name="region").SerializeToString()
    serving.call("SystemSharedMemoryUnregister", unregister)
    assert serving.http.get(PREFIX + "/status").json() == []
    assert ask(serving, parameters(8)).status_code == 400
    again = pb.SystemSharedMemoryRegisterRequest(name="region", key="/" + memory.name, offset=8, byte_size=56)
    serving.call("SystemSharedMemoryRegister", again.SerializeToString())
    assert ask(serving, parameters(8)).status_code == 200


@pytest.mark.parametrize(
    ("region_range", "output", "says"),
    [
        (parameters(0, region="other"), None, "not registered"),
        (parameters(48), None, "beyond the 56 bytes"),
        (parameters(-1), None, "beyond the 56 bytes"),
        (parameters(8, 8), None, "bytes of data"),
        (parameters(8), parameters(32, 8), "an output has 12 bytes, but its range of shared memory has 8"),
        (parameters(8), parameters(0, region="other"), "not registered"),
    ],
)
def test_places_that_cannot_be(
    serving: Serving, memory: SharedMemory, region_range: dict[str, Any], output: dict[str, Any] | None, says: str
) -> None:
    reply = ask(serving, region_range, output)
    assert (reply.status_code, says in reply.json()["error"]) == (400, True), reply.text
    with pytest.raises(grpc.RpcError) as caught:
        serving.call("ModelInfer", message(region_range, output))
    assert (caught.value.code().name, says in caught.value.details()) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"key": "modelport_nothing", "byte_size": 8}, "no shared memory of that key"),
        ({"key": "../etc/passwd", "byte_size": 8}, "not a name of shared memory"),
        ({"key": "a/b", "byte_size": 8}, "not a name of shared memory"),
        ({"key": "..", "byte_size": 8}, "not a name of shared memory"),
        ({"byte_size": 8}, "'key'"),
        ({"key": "KEY", "byte_size": 65}, "ends before"),
        ({"key": "KEY", "byte_size": 8, "offset": 60}, "ends before"),
        ({"key": "KEY", "byte_size": 8, "offset": -1}, "must not be negative"),
        ({"key": "KEY", "byte_size": 0}, "must be positive"),
        ({"key": "KEY", "byte_size": "8"}, "whole numbers"),
    ],
)
def test_regions_that_cannot_be_registered(
    serving: Serving, memory: SharedMemory, record: dict[str, Any], says: str
) -> None:
    asked = {key: memory.name if value == "KEY" else value for key, value in record.items()}
    reply = register(serving, "another", **asked)
    assert (reply.status_code, says in reply.json()["error"]) == (400, True), reply.text
    for word in ("/dev/shm", memory.name, "modelport_nothing"):
        assert word not in reply.text
    assert register(serving, key=memory.name, byte_size=8).status_code == 400  # the name exists


def test_a_link_is_not_followed(serving: Serving, memory: SharedMemory, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    link = Path("/dev/shm", f"modelport-test-{memory.name}")
    link.symlink_to(secret)
    try:
        assert register(serving, "link", key=link.name, byte_size=8).status_code == 400
    finally:
        link.unlink()


def test_truncating_a_registered_region_is_harmless(serving: Serving, memory: SharedMemory) -> None:
    with open(f"/dev/shm/{memory.name}", "r+b") as file:
        assert ask(serving, parameters(8)).status_code == 200
        file.truncate(20)
    reply = ask(serving, parameters(8))
    assert (reply.status_code, "shorter than it was" in reply.json()["error"]) == (400, True)
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": ROW[0].tolist()}
    output = {"name": "y", "parameters": parameters(8)}
    reply = serving.http.post("/v2/models/doubler/infer", content=json.dumps({"inputs": [tensor], "outputs": [output]}))
    assert (reply.status_code, "shorter than it was" in reply.json()["error"]) == (400, True)
    assert Path(f"/dev/shm/{memory.name}").stat().st_size == 20
    with open(f"/dev/shm/{memory.name}", "r+b") as file:
        file.truncate(64)


@pytest.mark.parametrize("path", ["/status", "/region/r/status", "/unregister", "/region/r/register"])
def test_it_is_off_unless_it_is_switched_on(serving: Serving, path: str) -> None:
    method = "GET" if path.endswith("status") else "POST"
    record = {"key": "k", "byte_size": 8} if path.endswith("/register") else {}
    reply = serving.http.request(method, PREFIX + path, json=record)
    assert (reply.status_code, "--shared-memory" in reply.json()["error"]) == (501, True)


def test_the_inputs_of_one_request_are_limited_together(serving: Serving, memory: SharedMemory) -> None:
    """A small request could refer to the same bytes a thousand times."""
    os.truncate(f"/dev/shm/{memory.name}", 1 << 26)
    assert register(serving, "wide", key=memory.name, byte_size=1 << 26).status_code == 200
    region_range = parameters(0, 40 << 20, "wide")
    tensors = [{"name": f"x{k}", "shape": [10 << 20], "datatype": "FP32", "parameters": region_range} for k in range(2)]
    reply = serving.http.post("/v2/models/doubler/infer", json={"inputs": tensors})
    assert (reply.status_code, "over the limit of" in reply.json()["error"]) == (413, True), reply.text


def test_a_region_that_is_registered_again_is_another_file(serving: Serving) -> None:
    serving.engine.shared_memory.enabled = True
    key = f"modelport-test-again-{serving.port}"
    for value in (1.0, 2.0):
        file = Path("/dev/shm", key)
        file.write_bytes(np.full(3, value, np.float32).tobytes())
        try:
            assert register(serving, "again", key=key, byte_size=12).status_code == 200
            assert ask(serving, parameters(0, region="again")).json()["outputs"][0]["data"] == [value] * 3
            # The front may see the old and the new region together.
            serving.engine._registry.unregister("again")
        finally:
            file.unlink()
    serving.http.post(PREFIX + "/unregister")
