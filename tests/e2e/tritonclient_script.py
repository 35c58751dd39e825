"""Run tritonclient, in its environment, against a gateway that serves the fake model `m` (y = 2x).

Usage: tritonclient_script.py HTTP GRPC. The client is unmodified; a failed assertion is a failure.
"""

import asyncio
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

X = np.arange(8, dtype=np.float32).reshape(2, 4)
STRINGS = np.array([[b"one", "zwölf".encode()]], dtype=object)


def inputs(module: Any, array: np.ndarray, name: str, datatype: str, **how: Any) -> list[Any]:
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return [made]


def check_server(client: Any, metadata: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    assert not client.is_model_ready("broken")
    server = metadata(client.get_server_metadata())
    assert server["name"] == "modelport"
    assert {"binary_tensor_data", "logging", "trace"} <= set(server["extensions"])
    model = metadata(client.get_model_metadata("m"))
    assert model["versions"] == ["1"]
    assert [(each["name"], each["datatype"]) for each in model["inputs"]] == [("x", "FP32")]
    assert [int(size) for size in model["inputs"][0]["shape"]] == [-1, 4]
    index = metadata(client.get_model_repository_index())
    states = {each["name"]: each.get("state") for each in (index["models"] if isinstance(index, dict) else index)}
    assert states["m"] == "READY"
    assert states["broken"] == "UNAVAILABLE"


def check_repository(client: Any) -> None:
    client.unload_model("other")
    assert not client.is_model_ready("other")
    client.load_model("other")
    assert client.is_model_ready("other")


def check_log_settings(client: Any, read: Any) -> None:
    """`read`: an answer as names and values."""
    before = read(client.get_log_settings())
    assert before == {
        "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0,
        "log_format": "default",
    }  # fmt: skip
    changes = {"log_verbose_level": 1, "log_warning": False, "log_format": "ISO8601", "log_info": None}
    changed = read(client.update_log_settings(changes))
    assert changed == {**before, "log_verbose_level": 1, "log_warning": False, "log_format": "ISO8601"}
    assert read(client.get_log_settings()) == changed
    assert read(client.update_log_settings(before)) == before
    check_errors(lambda: client.update_log_settings({"log_file": "x"}), "'log_file' cannot be changed")
    check_errors(lambda: client.update_log_settings({"log_format": "x"}), "must be 'default' or 'ISO8601'")


def log_values(message: Any) -> dict[str, Any]:
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in message.settings.items()}


def check_trace_settings(client: Any, read: Any) -> None:
    """`read`: an answer as names and lists of values."""
    before = read(client.get_trace_settings())
    assert before == read(client.get_trace_settings(model_name="m"))
    assert before["trace_mode"] == ["opentelemetry"]
    changed = {**before, "trace_rate": ["3"], "trace_count": ["5"]}
    assert read(client.update_trace_settings("m", {"trace_rate": "3", "trace_count": "5"})) == changed
    assert read(client.update_trace_settings(settings={"trace_rate": "4"}))["trace_rate"] == ["4"]
    assert read(client.get_trace_settings("m")) == changed
    assert read(client.get_trace_settings("other"))["trace_rate"] == ["4"]
    assert read(client.update_trace_settings("m", {"trace_rate": None, "trace_count": None}))["trace_rate"] == ["4"]
    assert read(client.update_trace_settings(settings={"trace_rate": None})) == before
    check_errors(lambda: client.update_trace_settings("m", {"trace_file": "x"}), "'trace_file' cannot be set")
    check_errors(lambda: client.update_trace_settings("m", {"trace_rate": "x"}), "'trace_rate' must be an integer")
    check_errors(lambda: client.get_trace_settings("nobody"), "there is no model 'nobody'")


def as_lists(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, list) else [value] for name, value in settings.items()}


def check_errors(call: Any, expected: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert expected in error.message(), error
        return
    raise AssertionError(f"no error, where '{expected}' was expected")


def check_http(url: str) -> None:
    with triton_http.InferenceServerClient(url) as client:
        check_server(client, lambda made: made)
        check_log_settings(client, lambda made: made)
        check_trace_settings(client, as_lists)
        check_repository(client)
        for binary_in in (True, False):
            for binary_out in (True, False):
                wanted = [triton_http.InferRequestedOutput("y", binary_data=binary_out)]
                asked = inputs(triton_http, X, "x", "FP32", binary_data=binary_in)
                answer = client.infer("m", asked, outputs=wanted, request_id="abc", priority=1, timeout=60_000_000)
                assert np.array_equal(answer.as_numpy("y"), X * 2)
                assert answer.get_response()["id"] == "abc"
            answer = client.infer("text", inputs(triton_http, STRINGS, "x", "BYTES", binary_data=binary_in))
            assert answer.as_numpy("y").tolist() == [[each * 2 for each in STRINGS[0]]]
        pending = [client.async_infer("m", inputs(triton_http, X, "x", "FP32")) for _ in range(16)]
        assert all(np.array_equal(each.get_result().as_numpy("y"), X * 2) for each in pending)
        check_errors(lambda: client.infer("m", inputs(triton_http, X[:, :2], "x", "FP32")), "expected [-1, 4]")
        check_errors(lambda: client.infer("nobody", inputs(triton_http, X, "x", "FP32")), "there is no model 'nobody'")


def check_grpc(url: str) -> None:
    with triton_grpc.InferenceServerClient(url) as client:
        check_server(client, lambda made: as_dict(made))
        check_log_settings(client, log_values)
        check_trace_settings(client, lambda made: {name: list(each.value) for name, each in made.settings.items()})
        check_repository(client)
        answer = client.infer(
            "m", inputs(triton_grpc, X, "x", "FP32"), request_id="abc", priority=1, timeout=60_000_000
        )
        assert np.array_equal(answer.as_numpy("y"), X * 2)
        assert answer.get_response().id == "abc"
        answer = client.infer("text", inputs(triton_grpc, STRINGS, "x", "BYTES"))
        assert answer.as_numpy("y").tolist() == [[each * 2 for each in STRINGS[0]]]
        check_errors(lambda: client.infer("m", inputs(triton_grpc, X[:, :2], "x", "FP32")), "expected [-1, 4]")
        check_errors(lambda: client.infer("nobody", inputs(triton_grpc, X, "x", "FP32")), "there is no model 'nobody'")


def as_dict(message: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


async def check_aio(http: str, grpc: str) -> None:
    async with triton_http_aio.InferenceServerClient(http) as client:
        answer = await client.infer("m", inputs(triton_http_aio, X, "x", "FP32"))
        assert np.array_equal(answer.as_numpy("y"), X * 2)
    async with triton_grpc_aio.InferenceServerClient(grpc) as client:
        assert await client.is_server_ready()
        answers = await asyncio.gather(*[client.infer("m", inputs(triton_grpc_aio, X, "x", "FP32")) for _ in range(16)])
        assert all(np.array_equal(each.as_numpy("y"), X * 2) for each in answers)


def main() -> None:
    http, grpc = sys.argv[1:3]
    check_http(http)
    check_grpc(grpc)
    asyncio.run(check_aio(http, grpc))
    print("all of it worked")


if __name__ == "__main__":
    main()
