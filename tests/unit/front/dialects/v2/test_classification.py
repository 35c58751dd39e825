"""Triton's classification extension: the largest values of each row, with index and label, in every form."""

import json
import math
from typing import Any

import numpy as np
import pytest

from gateway.domain.types import InferResponse, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.dialects.v2.classification import classify, read_class_count
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, kind_of, numpy_dtype
from runtimes.tensors import Tensor, from_array, integer_range, unpack_bytes
from tests.support.front_server import Serving, answer, models
from tests.support.v2_calls import Call, Value, as_message

NAN, INF = math.nan, math.inf
ROWS = [[0.5, 0.25, 0.125, 3.0], [1.0, 2.0, 2.0, -1.0]]
BEST_TWO = ["3.000000:3", "0.500000:0:cat", "2.000000:1:dog", "2.000000:2"]


def classes(array: np.ndarray, count: int, **status: Any) -> Tensor:
    engine = FakeEngine([ModelStatus("m", "1", "READY", **status)], answer)
    (tensor,) = classify(engine, InferResponse("m", "1", [from_array("y", array)]), {"y": count}).outputs
    assert tensor.datatype == "BYTES"
    return tensor


def class_strings(array: np.ndarray, count: int, **status: Any) -> list[str]:
    tensor = classes(array, count, **status)
    return [each.decode() for each in unpack_bytes(tensor.data, math.prod(tensor.shape))]


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ([1, 3, 2], 1, [1]),
        ([1, 3, 2], 3, [1, 2, 0]),
        ([1, 3, 2], 10, [1, 2, 0]),
        ([2, 2, 2, 2], 2, [0, 1]),
        ([1, 2, 1, 2], 3, [1, 3, 0]),
        ([NAN, 1, NAN, 2], 3, [3, 1, 0]),
        ([NAN, 1, 2], 1, [2]),
        ([NAN, NAN], 1, [0]),
        ([-INF, INF, NAN], 3, [1, 0, 2]),
        ([0.0, -0.0], 2, [0, 1]),
    ],
)
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16", "FP8_E5M2"])
def test_the_largest_are_first(values: list[float], count: int, expected: list[int], datatype: str) -> None:
    strings = class_strings(np.array(values, numpy_dtype(datatype)), count)
    assert [int(string.split(":")[1]) for string in strings] == expected


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
def test_every_row_is_sorted_as_python_does(datatype: str) -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        dtype, (rows, width) = numpy_dtype(datatype), random.integers(1, 7, 2)
        # Few different values, so that some are equal, and the limits of the range.
        is_float = kind_of(datatype) == "float"
        ends = [0, 1] if is_float or dtype.kind == "b" else integer_range(datatype)
        array = np.array([*ends, 0, 1, 1], dtype)[random.integers(5, size=(rows, width))]
        count = int(random.integers(1, width + 1))
        found = class_strings(array, count, max_batch_size=8)
        expected = []
        for row in array.tolist():
            best = sorted(range(width), key=lambda index, row=row: (-row[index], index))[:count]
            expected += [f"{row[index]:f}:{index}" if is_float else f"{int(row[index])}:{index}" for index in best]
        assert found == expected


def test_values_are_written_as_c_does() -> None:
    values = np.array([1e20, 0.1, NAN, INF, -INF], np.float64)
    assert class_strings(values, 5) == ["inf:3", "100000000000000000000.000000:0", "0.100000:1", "-inf:4", "nan:2"]


@pytest.mark.parametrize(
    ("shape", "status", "expected"),
    [
        ((2, 6), {"max_batch_size": 4}, (2, 3)),
        ((2, 2, 3), {"max_batch_size": 4}, (2, 3)),
        ((2, 6), {}, (3,)),
        ((2, 6), {"was_batched": True}, (2, 3)),  # batching was switched off since, and answers keep their shape
        ((6,), {}, (3,)),
        ((), {}, (1,)),
        ((2,), {"max_batch_size": 4}, (2, 1)),
        ((6, 2), {"max_batch_size": 4, "batch_dim": 1}, (2, 3)),
        ((0, 6), {"max_batch_size": 4}, (0, 0)),
        ((0,), {}, (0,)),
    ],
)
def test_a_batch_has_one_list_for_each_row(
    shape: tuple[int, ...], status: dict[str, int], expected: tuple[int, ...]
) -> None:
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert classes(array, 3, **status).shape == expected


def test_rows_of_another_dimension_are_rows() -> None:
    array = np.array([[1, 4], [3, 2]], np.int32)
    assert class_strings(array, 2, max_batch_size=4, batch_dim=1) == ["3:1", "1:0", "4:0", "2:1"]


def test_unclassifiable_outputs_are_rejected() -> None:
    with pytest.raises(InvalidRequest, match="output 'y' is BYTES, which cannot be classified"):
        classes(np.array([b"a"], dtype=object), 1)
    with pytest.raises(TooLarge, match="at most 4194304 can be classified; send fewer rows"):
        classes(np.zeros(1 << 21), 1)
    with pytest.raises(TooLarge, match="would be 65536 classes, and at most 32768 are returned"):
        classes(np.zeros(1 << 16, np.int8), 1 << 16)
    for wrong in (0, -3, True, 1.0, "1", None):
        with pytest.raises(InvalidRequest, match="'classification' of output 'y' must be a whole number of at least 1"):
            read_class_count("y", wrong)


def test_a_model_that_was_removed_meanwhile_has_no_labels() -> None:
    response = InferResponse("gone", "1", [from_array("y", np.array([1.0, 2.0]))])
    (tensor,) = classify(FakeEngine([], answer), response, {"y": 1}).outputs
    assert unpack_bytes(tensor.data, 1) == [b"2.000000:1"]


def v2(output: dict[str, Any], **more: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS}
    return {"inputs": [tensor], "outputs": [{"name": "y", "parameters": output}], **more}


def test_rest(serving: Serving) -> None:
    reply = serving.http.post("/v2/models/animals/infer", json=v2({"classification": 2}))
    assert reply.status_code == 200
    (output,) = reply.json()["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [2, 2], BEST_TWO)


def test_rest_in_binary(serving: Serving) -> None:
    reply = serving.http.post("/v2/models/animals/infer", json=v2({"classification": 2, "binary_data": True}))
    length = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.content[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert [each.decode() for each in unpack_bytes(reply.content[length:], 4)] == BEST_TWO


@pytest.mark.parametrize("raw", [True, False])
def test_grpc(grpc_serving: Serving, raw: bool) -> None:
    call = Call("animals", (Value("x", "FP32", (2, 4), [*ROWS[0], *ROWS[1]]),), outputs=("y",))
    message = as_message(call, raw)
    message.outputs[0].parameters["classification"].int64_param = 2
    for _ in range(2):  # the second one is cached
        response = pb.ModelInferResponse.FromString(grpc_serving.call("ModelInfer", message.SerializeToString()))
        (output,) = response.outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
        assert [each.decode() for each in unpack_bytes(response.raw_output_contents[0], 4)] == BEST_TWO


def test_a_message_without_classes_is_not_taken_for_one_with_them() -> None:
    reader = RequestReader(FakeEngine(models(), answer))
    message = as_message(Call("animals", (Value("x", "FP32", (1, 4), ROWS[0]),), outputs=("y",)), raw=True)
    plain = message.SerializeToString()
    message.outputs[0].parameters["classification"].int64_param = 2
    counts = [reader.read(raw, None)[1].class_counts for raw in (plain, message.SerializeToString()) * 2]
    assert counts == [{}, {"y": 2}] * 2
