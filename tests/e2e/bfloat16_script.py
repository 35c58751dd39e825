"""Run tritonclient, in its environment, against a gateway that serves the model `b` (y = 2x, of BF16).

Usage: bfloat16_script.py HTTP GRPC. The client is unmodified; a failed assertion is a failure.
"""

import sys
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException

X = np.array([[1.0, -0.5, 3e-39], [np.inf, 0.1, 1e38]], ml_dtypes.bfloat16)
TWICE = X + X


def check(module: Any, client: Any, **how: Any) -> None:
    given = module.InferInput("b", list(X.shape), "BF16")
    given.set_data_from_numpy(X, **how)
    requested = module.InferRequestedOutput("b2", **how)
    answer = client.infer("b", [given], outputs=[requested]).as_numpy("b2")
    assert answer.dtype == TWICE.dtype
    assert answer.tobytes() == TWICE.tobytes(), answer
    requested = module.InferRequestedOutput("b2", class_count=1)
    best = client.infer("b", [given], outputs=[requested]).as_numpy("b2")
    assert best.ravel()[-1] == b"inf:0", best


def check_shared_memory(module: Any, client: Any) -> None:
    handle = shared_memory.create_shared_memory_region("region", "/modelport_bfloat16", 2 * X.nbytes)
    try:
        shared_memory.set_shared_memory_region(handle, [X])
        client.register_system_shared_memory("region", "/modelport_bfloat16", 2 * X.nbytes)
        given = module.InferInput("b", list(X.shape), "BF16")
        given.set_shared_memory("region", X.nbytes)
        requested = module.InferRequestedOutput("b2")
        requested.set_shared_memory("region", X.nbytes, offset=X.nbytes)
        client.infer("b", [given], outputs=[requested])
        found = shared_memory.get_contents_as_numpy(handle, ml_dtypes.bfloat16, X.shape, offset=X.nbytes)
        assert found.tobytes() == TWICE.tobytes()
    finally:
        client.unregister_system_shared_memory("region")
        shared_memory.destroy_shared_memory_region(handle)


def main() -> None:
    http, grpc = triton_http.InferenceServerClient(sys.argv[1]), triton_grpc.InferenceServerClient(sys.argv[2])
    check(triton_http, http, binary_data=True)
    check(triton_grpc, grpc)
    check_shared_memory(triton_http, http)
    check_shared_memory(triton_grpc, grpc)
    assert http.get_model_metadata("b")["inputs"][0]["datatype"] == "BF16"
    assert http.get_model_config("b")["input"][0]["data_type"] == "TYPE_BF16"
    assert grpc.get_model_config("b", as_json=True)["config"]["input"][0]["data_type"] == "TYPE_BF16"
    wrong = triton_grpc.InferInput("b", [1, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 3), np.float32))
    try:
        grpc.infer("b", [wrong])
    except InferenceServerException as error:
        assert "input 'b' has datatype FP32, expected BF16" in str(error), error
    else:
        raise AssertionError("FP32 is taken for BF16")
    print("all of it worked")


main()
