"""Run tritonclient, in its environment, against a gateway with `simple`, `simple_string` and `simple_identity`.

Usage: triton_extensions_script.py HTTP GRPC [COMPRESSION of gRPC ...]. It does what the client's public examples do
with these models, and with the server's extensions. The client is unmodified; a failed assertion is a failure.
"""

import asyncio
import os
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

A, B = np.arange(16, dtype=np.int32).reshape(1, 16), np.full((1, 16), 3, np.int32)
# Not every container can write to /dev/shm. If not, the test says so and skips.
SHARED_MEMORY = os.access("/dev/shm", os.W_OK)
SIZE = A.nbytes


def asked(module: Any, *arrays: np.ndarray, datatype: str = "INT32", **how: Any) -> list[Any]:
    made = [module.InferInput(f"INPUT{k}", list(array.shape), datatype) for k, array in enumerate(arrays)]
    for each, array in zip(made, arrays, strict=True):
        each.set_data_from_numpy(array, **how)
    return made


def check(answer: Any) -> None:
    assert np.array_equal(answer.as_numpy("OUTPUT0"), A + B)
    assert np.array_equal(answer.as_numpy("OUTPUT1"), A - B)


def strings(array: np.ndarray) -> np.ndarray:
    return np.array([str(each).encode() for each in array.ravel()], dtype=object).reshape(array.shape)


def check_strings(module: Any, client: Any) -> None:
    for how in [{"binary_data": True}, {"binary_data": False}] if module is triton_http else [{}]:
        answer = client.infer("simple_string", asked(module, strings(A), strings(B), datatype="BYTES", **how))
        assert answer.as_numpy("OUTPUT0").astype(np.int32).tolist() == (A + B).tolist()
        words = np.array([["", "zwölf".encode(), b" x\x00"]], dtype=object)
        if how.get("binary_data", True):
            answer = client.infer("simple_identity", asked(module, words, datatype="BYTES", **how))
            assert answer.as_numpy("OUTPUT0").tolist() == [[b"", "zwölf".encode(), b" x\x00"]]


def check_statistics(client: Any, as_dict: Any) -> None:
    statistics = as_dict(client.get_inference_statistics("simple"))["model_stats"]
    assert [(each["name"], each["version"]) for each in statistics] == [("simple", "1")]
    before = int(statistics[0]["inference_stats"]["success"]["count"])
    check(
        client.infer(
            "simple", asked(triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc, A, B)
        )
    )
    (statistics,) = as_dict(client.get_inference_statistics("simple", "1"))["model_stats"]
    assert int(statistics["inference_stats"]["success"]["count"]) == before + 1
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert int(statistics["inference_stats"][stage]["count"]) == before + 1
    assert int(statistics["inference_stats"]["compute_infer"]["ns"]) > 0
    assert sum(int(each["compute_infer"]["count"]) for each in statistics["batch_stats"]) == int(
        statistics["execution_count"]
    )
    names = {each["name"] for each in as_dict(client.get_inference_statistics())["model_stats"]}
    assert {"simple", "simple_string", "simple_identity"} <= names


def check_shared_memory(module: Any, client: Any, as_dict: Any) -> None:
    client.unregister_system_shared_memory()
    inputs = shm.create_shared_memory_region("in", "/modelport_test_in", 2 * SIZE)
    outputs = shm.create_shared_memory_region("out", "/modelport_test_out", 2 * SIZE)
    try:
        shm.set_shared_memory_region(inputs, [A, B])
        client.register_system_shared_memory("in", "/modelport_test_in", 2 * SIZE)
        client.register_system_shared_memory("out", "/modelport_test_out", 2 * SIZE)
        status = as_dict(client.get_system_shared_memory_status())
        assert "modelport_test_in" in str(status)
        made = [module.InferInput(f"INPUT{k}", [1, 16], "INT32") for k in (0, 1)]
        wanted = [module.InferRequestedOutput(f"OUTPUT{k}") for k in (0, 1)]
        for k in (0, 1):
            made[k].set_shared_memory("in", SIZE, offset=k * SIZE)
            wanted[k].set_shared_memory("out", SIZE, offset=k * SIZE)
        answer = client.infer("simple", made, outputs=wanted)
        assert answer.get_output("OUTPUT0") is not None
        assert np.array_equal(shm.get_contents_as_numpy(outputs, np.int32, [1, 16]), A + B)
        assert np.array_equal(shm.get_contents_as_numpy(outputs, np.int32, [1, 16], offset=SIZE), A - B)
        # One output in shared memory, the other in the answer.
        answer = client.infer("simple", made, outputs=[wanted[0], module.InferRequestedOutput("OUTPUT1")])
        assert np.array_equal(answer.as_numpy("OUTPUT1"), A - B)
        client.unregister_system_shared_memory("in")
        try:
            client.infer("simple", made, outputs=wanted)
        except InferenceServerException as error:
            assert "not registered" in error.message()
        else:
            raise AssertionError("a region that is not registered was read")
    finally:
        client.unregister_system_shared_memory()
        shm.destroy_shared_memory_region(inputs)
        shm.destroy_shared_memory_region(outputs)


def check_http(url: str) -> None:
    with triton_http.InferenceServerClient(url) as client:
        extensions = client.get_server_metadata()["extensions"]
        assert {"statistics", "system_shared_memory", "binary_tensor_data", "schedule_policy"} <= set(extensions)
        for packed in ("gzip", "deflate"):
            for unpacked in ("gzip", "deflate", None):
                answer = client.infer(
                    "simple", asked(triton_http, A, B),
                    request_compression_algorithm=packed, response_compression_algorithm=unpacked,
                )  # fmt: skip
                check(answer)
        large = np.full((1, 4000), b"grey", dtype=object)
        answer = client.infer(
            "simple_identity", asked(triton_http, large, datatype="BYTES"), response_compression_algorithm="gzip"
        )
        assert np.array_equal(answer.as_numpy("OUTPUT0"), large)
        check_strings(triton_http, client)
        check_statistics(client, lambda made: made)
        if SHARED_MEMORY:
            check_shared_memory(triton_http, client, lambda made: made)


def check_grpc(url: str, compressions: list[str]) -> None:
    with triton_grpc.InferenceServerClient(url) as client:
        for packed in compressions:
            check(client.infer("simple", asked(triton_grpc, A, B), compression_algorithm=packed))
        check_strings(triton_grpc, client)
        check_statistics(client, as_dict)
        if SHARED_MEMORY:
            check_shared_memory(triton_grpc, client, as_dict)
        check_stream(client)


def check_stream(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(20):
        client.async_stream_infer("simple", asked(triton_grpc, A, B), request_id=str(number))
    client.async_stream_infer("nobody", asked(triton_grpc, A, B), request_id="wrong")
    seen = set()
    for _ in range(21):
        result, error = answers.get(timeout=60)
        if error is None:
            check(result)
            seen.add(result.get_response().id)
        else:
            assert "there is no model 'nobody'" in error.message()
    assert seen == {str(number) for number in range(20)}
    client.stop_stream()


async def check_aio(url: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(5):
            yield {"model_name": "simple", "inputs": asked(triton_grpc_aio, A, B), "request_id": str(number)}

    async with triton_grpc_aio.InferenceServerClient(url) as client:
        count = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            check(result)
            count += 1
        assert count == 5


def as_dict(message: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def main() -> None:
    http, grpc, *compressions = sys.argv[1:]
    check_http(http)
    check_grpc(grpc, compressions)
    asyncio.run(check_aio(grpc))
    print("all of it worked")


if __name__ == "__main__":
    main()
