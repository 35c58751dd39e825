"""Runs in tritonclient's own environment: `PYTHON python_models_script.py HTTP GRPC`."""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

HTTP, GRPC = sys.argv[1:3]


def call(module, client, model, outputs, **arrays):
    datatypes = {"float32": "FP32", "int32": "INT32", "object": "BYTES"}
    inputs = []
    for name, array in arrays.items():
        tensor = module.InferInput(name, list(array.shape), datatypes[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    answer = client.infer(model, inputs)
    return [answer.as_numpy(name) for name in outputs]


for module, address in ((over_http, HTTP), (over_grpc, GRPC)):
    client = module.InferenceServerClient(address)
    x, text = np.ones((2, 4), np.float32), np.array([["a"], ["é"]], object)
    y, loud = call(module, client, "own", ["y", "loud"], x=x, text=text)
    assert y.tolist() == [[3.0] * 4] * 2, y
    assert [each.decode() for each in loud.flat] == ["A", "É"], loud
    a, b = np.array([[1, 2]], np.int32), np.array([[10, 20]], np.int32)
    assert call(module, client, "triton", ["SUM"], A=a, B=b)[0].tolist() == [[11, 22]]
    try:
        call(module, client, "triton", ["SUM"], A=np.full((1, 2), 400, np.int32), B=b)
        raise AssertionError("an error was expected")
    except InferenceServerException as error:
        assert "A holds 400" in str(error), error
    config = (
        client.get_model_config("triton", as_json=True)["config"]
        if module is over_grpc
        else client.get_model_config("triton")
    )
    assert config["backend"] == "python", config
    assert config["max_batch_size"] == 8, config

for module, address in ((over_http, HTTP), (over_grpc, GRPC)):
    client = module.InferenceServerClient(address)
    # The second one is large enough for the arena.
    for number, (size, has_b) in enumerate([(2, False), (50_000, True)]):
        inputs = [module.InferInput("A", [1, size], "INT32")]
        inputs[0].set_data_from_numpy(np.ones((1, size), np.int32))
        if has_b:
            inputs.append(module.InferInput("B", [1, 2], "INT32"))
            inputs[1].set_data_from_numpy(np.ones((1, 2), np.int32))
        parameters = {"text": "ü", "number": number, "yes": True}
        answer = client.infer("describing", inputs, request_id=f"é{number}", parameters=parameters)
        said = json.loads(answer.as_numpy("SAID")[0, 0])
        assert said == [f"é{number}", parameters, has_b], said

answers = queue.Queue()
with over_grpc.InferenceServerClient(GRPC) as client:
    client.start_stream(lambda result, error: answers.put((result, error)))
    for values in ([5, 6, 7], list(range(100)), []):
        tensor = over_grpc.InferInput("IN", [len(values)], "INT32")
        tensor.set_data_from_numpy(np.array(values, np.int32))
        client.async_stream_infer("repeating", [tensor], enable_empty_final_response=True)
        found = [answers.get(timeout=60) for _ in range(len(values) + 1)]
        assert [error for _, error in found] == [None] * len(found), found
        assert [int(result.as_numpy("OUT")[0]) for result, _ in found[:-1]] == values
        finals = [result.get_response().parameters["triton_final_response"].bool_param for result, _ in found]
        assert finals == [False] * len(values) + [True], finals
    tensor = over_grpc.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(np.array([-1], np.int32))
    client.async_stream_infer("repeating", [tensor])
    assert answers.get(timeout=60)[1] is None
    assert "failed on this request" in str(answers.get(timeout=60)[1])
    client.stop_stream()

answers = queue.Queue()
with over_grpc.InferenceServerClient(GRPC) as client:
    client.start_stream(lambda result, error: answers.put((result, error)))
    for times in ([], [3]):
        inputs = [over_grpc.InferInput("x", [1, 4], "FP32")]
        inputs[0].set_data_from_numpy(np.ones((1, 4), np.float32))
        if times:
            inputs.append(over_grpc.InferInput("times", [1], "INT32"))
            inputs[1].set_data_from_numpy(np.array(times, np.int32))
        client.async_stream_infer("counting", inputs)
        found = [answers.get(timeout=60) for _ in range(times[0] if times else 2)]
        assert [error for _, error in found] == [None] * len(found)
        assert [result.as_numpy("output")[0, 0] for result, _ in found] == [
            1.0 + number for number in range(len(found))
        ]
    client.stop_stream()
    assert answers.empty()
    optional = client.get_model_config("counting", as_json=True)["config"]["input"][1]["optional"]
    assert optional, "the configuration says which inputs are optional"
print("all of it worked")
