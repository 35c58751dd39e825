"""Run tensorflow-serving-api's client, in its environment, against the gateway of test_tfserving.py.

Usage: tfserving_script.py GRPC. The client is unmodified; a failed assertion is a failure.
"""

import sys
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

TIMEOUT = 60.0
DTYPES = {
    "BOOL": tf.bool, "UINT8": tf.uint8, "UINT16": tf.uint16, "UINT32": tf.uint32, "UINT64": tf.uint64,
    "INT8": tf.int8, "INT16": tf.int16, "INT32": tf.int32, "INT64": tf.int64,
    "FP16": tf.float16, "FP32": tf.float32, "FP64": tf.float64, "BYTES": tf.string, "BF16": tf.bfloat16,
    "FP8_E4M3FN": tf.dtypes.experimental.float8_e4m3fn, "FP8_E5M2": tf.dtypes.experimental.float8_e5m2,
    "INT4": tf.dtypes.experimental.int4, "UINT4": tf.dtypes.experimental.uint4,
}  # fmt: skip


def predict(stub: Any, model: str, signature: str = "", version: int = 0, label: str = "", **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    name(request.model_spec, model, signature, version, label)
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(value if hasattr(value, "dtype") and hasattr(value, "tensor_shape") else
                                     tf.make_tensor_proto(value))  # fmt: skip
    return stub.Predict(request, TIMEOUT)


def name(spec: Any, model: str, signature: str = "", version: int = 0, label: str = "") -> None:
    spec.name, spec.signature_name = model, signature
    if version:
        spec.version.value = version
    if label:
        spec.version_label = label


def outputs(answer: Any) -> dict[str, np.ndarray]:
    return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}


def check_every_datatype(stub: Any) -> None:
    """The fake model doubles each input, also if one value stands for all elements."""
    for compressed in (False, True):
        inputs, wanted = {}, {}
        for datatype, dtype in DTYPES.items():
            if dtype is tf.string:
                value = np.array([[b"a\xff", b"a\xff"]], object)
                wanted[datatype + "_out"] = value * 2
            else:
                value = np.array([[1, 1]]).astype(dtype.as_numpy_dtype)
                wanted[datatype + "_out"] = value if dtype is tf.bool else (value * 2).astype(value.dtype)
            given = value[0, 0] if compressed else value
            inputs[datatype] = tf.make_tensor_proto(given, dtype=dtype, shape=[1, 2])
        # The client supports tensor_content only for most dtypes.
        assert any(each.tensor_content for each in inputs.values()) != compressed
        answer = predict(stub, "every", "serving_default", **inputs)
        found = outputs(answer)
        assert found.keys() == wanted.keys()
        for key, array in wanted.items():
            assert found[key].dtype == array.dtype, key
            assert found[key].tolist() == array.tolist(), key
        assert (answer.model_spec.name, answer.model_spec.version.value) == ("every", 1)


def check_saved_model(stub: Any) -> None:
    x = np.array([[1.0], [2.0], [5.0]], np.float32)
    for choice, version in (({}, 124), ({"version": 123}, 123), ({"label": "stable"}, 123), ({"label": "canary"}, 124)):
        answer = predict(stub, "half_plus_two", x=x, **choice)
        assert answer.model_spec.version.value == version
        assert outputs(answer)["y"].tolist() == [[2.5], [3.0], [4.5]]
    request = regression_pb2.RegressionRequest()
    name(request.model_spec, "half_plus_two", "regress_x_to_y")
    for value in (1.0, 2.0, 5.0):
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    answer = stub.Regress(request, TIMEOUT)
    assert [each.value for each in answer.result.regressions] == [2.5, 3.0, 4.5]
    request = classification_pb2.ClassificationRequest(input=request.input)
    name(request.model_spec, "half_plus_two", "classify_x_to_y")
    answer = stub.Classify(request, TIMEOUT)
    classes = [[(each.label, each.score) for each in one.classes] for one in answer.result.classifications]
    assert classes == [[("", 2.5)], [("", 3.0)], [("", 4.5)]]
    both = inference_pb2.MultiInferenceRequest(input=request.input)
    for verb, signature in (("classify", "classify_x_to_y"), ("regress", "regress_x_to_y")):
        task = both.tasks.add(method_name=f"tensorflow/serving/{verb}")
        name(task.model_spec, "half_plus_two", signature)
    first, second = stub.MultiInference(both, TIMEOUT).results
    assert len(first.classification_result.classifications) == len(second.regression_result.regressions) == 3


def check_onnx(stub: Any) -> None:
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    found = outputs(predict(stub, "sigmoid", "serving_default", x=x))["y"]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x)), atol=1e-6)


def check_metadata(stub: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    name(request.model_spec, "half_plus_two")
    answer = stub.GetModelMetadata(request, TIMEOUT)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.inputs["x"].dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in default.inputs["x"].tensor_shape.dim] == [-1, 1]
    assert signatures.signature_def["regress_x_to_y"].method_name == "tensorflow/serving/regress"
    assert answer.model_spec.version.value == 124


def check_service(stub: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    name(request.model_spec, "half_plus_two")
    statuses = stub.GetModelStatus(request, TIMEOUT).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(each.version, each.state) for each in statuses] == [(124, available), (123, available)]
    name(request.model_spec, "broken")
    (status,) = stub.GetModelStatus(request, TIMEOUT).model_version_status
    assert status.state == get_model_status_pb2.ModelVersionStatus.END
    assert "no artifact" in status.status.error_message
    check_error(
        lambda: stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), TIMEOUT), "UNIMPLEMENTED"
    )


def check_error(call: Any, code: str, says: str = "") -> None:
    try:
        call()
    except grpc.RpcError as error:
        assert error.code().name == code, error
        assert says in error.details(), error
        return
    raise AssertionError(f"no error, where {code} was expected")


def check_errors(stub: Any) -> None:
    x = np.ones((1, 1), np.float32)
    check_error(lambda: predict(stub, "nosuch", x=x), "NOT_FOUND", "there is no model 'nosuch'")
    check_error(lambda: predict(stub, "half_plus_two", version=9, x=x), "NOT_FOUND", "no version '9'")
    check_error(lambda: predict(stub, "half_plus_two", label="123", x=x), "NOT_FOUND", "no label '123'")
    check_error(lambda: predict(stub, "half_plus_two", z=x), "INVALID_ARGUMENT", "no input 'z'")
    check_error(lambda: predict(stub, "half_plus_two", x=x.astype(np.float64)), "INVALID_ARGUMENT", "expected FP32")
    check_error(lambda: predict(stub, "broken", x=x), "UNAVAILABLE", "no artifact")
    bfloat16 = tf.make_tensor_proto(tf.constant([1.0], tf.bfloat16))
    check_error(lambda: predict(stub, "half_plus_two", x=bfloat16), "INVALID_ARGUMENT", "datatype BF16, expected FP32")
    complex64 = tf.make_tensor_proto(tf.constant([1.0], tf.complex64))
    check_error(lambda: predict(stub, "half_plus_two", x=complex64), "INVALID_ARGUMENT", "dtype DT_COMPLEX64")
    huge = tf.make_tensor_proto(1.0, shape=[1 << 20, 1 << 20])
    check_error(lambda: predict(stub, "half_plus_two", x=huge), "RESOURCE_EXHAUSTED", "of the limit")


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        check_every_datatype(stub)
        check_saved_model(stub)
        check_onnx(stub)
        check_metadata(stub)
        check_service(model_service_pb2_grpc.ModelServiceStub(channel))
        check_errors(stub)
    print("all of it worked")


if __name__ == "__main__":
    main()
