"""Run tritonclient, in its environment, against a gateway with the repository of test_triton_repository.py.

Usage: triton_repository_script.py HTTP GRPC. The client is unmodified; a failed assertion is a failure.
"""

import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException


def infer(module: Any, client: Any, model: str, arrays: dict[str, Any], classes: dict[str, int] | None = None) -> Any:
    """Return the outputs by name. classes: output → how many classes to return, each as a string."""
    datatypes = {"int32": "INT32", "float32": "FP32"}
    asked = []
    for name, array in arrays.items():
        made = module.InferInput(name, list(array.shape), datatypes[array.dtype.name])
        made.set_data_from_numpy(array)
        asked.append(made)
    wanted = [module.InferRequestedOutput(name, class_count=count) for name, count in (classes or {}).items()]
    answer = client.infer(model, asked, outputs=wanted or None)
    response = answer.get_response()
    names = [each["name"] for each in (response if isinstance(response, dict) else as_dict(response))["outputs"]]
    return {name: answer.as_numpy(name) for name in names}


def as_dict(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def check_configuration(config: Any) -> None:
    """Check configurations. config: model → its configuration with plain names, from either protocol."""
    document = config("simple")
    assert (document["name"], document["platform"], document["backend"]) == (
        "simple",
        "onnxruntime_onnx",
        "onnxruntime",
    )
    assert document["max_batch_size"] == 8
    assert [(each["name"], each["data_type"], dims(each)) for each in document["input"]] == [
        ("INPUT0", "TYPE_INT32", [16]),
        ("INPUT1", "TYPE_INT32", [16]),
    ]
    assert document["default_model_filename"] == "model.onnx"
    document = config("letters")
    assert (document["max_batch_size"], document["output"][0]["label_filename"]) == (4, "letters.txt")
    assert int(document["dynamic_batching"]["max_queue_delay_microseconds"]) == 2000
    (group,) = document["instance_group"]
    assert (group["count"], group["kind"]) == (2, "KIND_CPU")
    assert int(document["version_policy"]["latest"]["num_versions"]) == 2
    assert "sequence_batching" not in document
    assert "ensemble_scheduling" not in document
    assert not document["model_transaction_policy"].get("decoupled", False)
    document = config("colours")
    assert document.get("max_batch_size", 0) == 0
    assert (dims(document["input"][0]), document["input"][0]["format"]) == ([3, 4, 4], "FORMAT_NCHW")
    assert [int(size) for size in document["input"][0]["reshape"]["shape"]] == [1, 3, 4, 4]
    document = config("matrices")
    assert (document["platform"], document["backend"]) == ("pytorch_libtorch", "pytorch")
    assert {each["name"]: dims(each) for each in document["input"]} == {"INPUT__0": [4], "INPUT__1": [4]}


def dims(tensor: Any) -> list[int]:
    return [int(size) for size in tensor["dims"]]


def check_inference(module: Any, client: Any) -> None:
    ones, count = np.ones((2, 16), np.int32), np.arange(32, dtype=np.int32).reshape(2, 16)
    answer = infer(module, client, "simple", {"INPUT0": count, "INPUT1": ones})
    assert np.array_equal(answer["OUTPUT0"], count + 1)
    assert np.array_equal(answer["OUTPUT1"], count - 1)
    picture = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    answer = infer(module, client, "colours", {"data": picture})
    assert answer["means"].tolist() == [7.5, 23.5, 39.5]
    left, right = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), np.float32)
    answer = infer(module, client, "matrices", {"INPUT__1": right, "INPUT__0": left})
    assert np.array_equal(answer["OUTPUT__0"], left + 1)
    assert answer["OUTPUT__1"].tolist() == [[2], [18]]
    answer = infer(module, client, "numbers", {"x": np.array([[1], [2], [3]], np.float32)})
    assert answer["y"].tolist() == [[10], [20], [30]]
    assert infer(module, client, "untold", {"x": np.ones((3, 4), np.float32)})["y"].tolist() == [[2] * 4] * 3


def check_classification(module: Any, client: Any) -> None:
    rows = np.array([[1, 4, 3, 2], [9, 8, 7, 6]], np.float32)
    answer = infer(module, client, "letters", {"x": rows}, {"y": 2})
    assert answer["y"].tolist() == [[b"8.000000:1:b", b"6.000000:2:c"], [b"18.000000:0:a", b"16.000000:1:b"]]
    picture = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    answer = infer(module, client, "colours", {"data": picture}, {"means": 10})
    assert answer["means"].tolist() == [b"39.500000:2:blue", b"23.500000:1:green", b"7.500000:0:red"]
    count = np.arange(16, dtype=np.int32).reshape(1, 16)
    answer = infer(module, client, "simple", {"INPUT0": count, "INPUT1": count}, {"OUTPUT0": 1})
    assert answer["OUTPUT0"].tolist() == [[b"30:15"]]
    assert_refused(lambda: infer(module, client, "letters", {"x": rows}, {"y": -1}), "at least 1")


def check_states(client: Any) -> None:
    assert not client.is_model_ready("ensemble")
    assert not client.is_model_ready("scripted")
    assert_refused(lambda: client.get_model_config("ensemble"), "its step 'simple' makes no tensor")
    assert_refused(lambda: client.get_model_config("scripted"), "start it with --allow-python")
    assert_refused(lambda: client.get_model_config("nobody"), "there is no model 'nobody'")


def assert_refused(call: Any, expected: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert expected in error.message(), error
        return
    raise AssertionError(f"no error, where '{expected}' was expected")


def main() -> None:
    http, grpc = sys.argv[1:3]
    with triton_http.InferenceServerClient(http) as client:
        check_configuration(client.get_model_config)
        assert client.get_model_config("letters", "1")["name"] == "letters"
        check_inference(triton_http, client)
        check_classification(triton_http, client)
        check_states(client)
    with triton_grpc.InferenceServerClient(grpc) as client:
        document = client.get_model_config("simple").config
        assert isinstance(document, model_config_pb2.ModelConfig)
        assert (document.max_batch_size, list(document.input[0].dims)) == (8, [16])
        check_configuration(lambda model: as_dict(client.get_model_config(model))["config"])
        check_inference(triton_grpc, client)
        check_classification(triton_grpc, client)
        check_states(client)
    print("all of it worked")


if __name__ == "__main__":
    main()
