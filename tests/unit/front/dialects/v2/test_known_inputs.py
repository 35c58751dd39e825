"""Inputs that were read before are looked up: that changes neither what is accepted nor what is answered."""

import json
from typing import Any

import numpy as np
import pytest

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2 import rest_request
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.rest_request import read_request
from gateway.front.dialects.v2.rest_response import write_response
from runtimes.tensors import Tensor, from_array, to_array
from tests.support.front_server import answer, models

ENGINE = FakeEngine(models(), answer)


def described(datatype: str, data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 3], "datatype": datatype, "data": data, **changes}


def read(tensor: dict[str, Any], binary: bytes | None = None) -> Tensor:
    text = json.dumps({"inputs": [tensor]}).encode()
    request, _ = read_request(ENGINE, "m", "", text + (binary or b""), None if binary is None else len(text))
    return request.inputs[0]


def read_twice(tensor: dict[str, Any], binary: bytes | None = None) -> Tensor:
    """The second time, the input is known."""
    first = read(tensor, binary)
    assert ("x", tensor["datatype"], *tensor["shape"]) in rest_request._known_inputs.entries
    again = read(tensor, binary)
    assert (again[:3], bytes(again.data)) == (first[:3], bytes(first.data))
    return again


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_known_floats_have_the_same_bytes(datatype: str) -> None:
    assert to_array(read_twice(described(datatype, [1, -2.5, 0.1]))).tolist() == pytest.approx(
        np.array([[1, -2.5, 0.1]]), rel=1e-3
    )


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_known_integers_have_the_same_bytes(bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    assert to_array(read_twice(described(f"INT{bits}", [low, 0, high]))).tolist() == [[low, 0, high]]
    top = (1 << bits) - 1
    assert to_array(read_twice(described(f"UINT{bits}", [0, 1, top]))).tolist() == [[0, 1, top]]


def test_known_binary_inputs_are_views_of_the_body() -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "INT64", "parameters": {"binary_data_size": 24}}
    array = np.arange(3, dtype=np.int64).reshape(1, 3)
    assert (to_array(read_twice(tensor, array.tobytes())) == array).all()
    for size, reason in ((16, "8 bytes after the last input"), (32, "24 bytes of the body are left")):
        with pytest.raises(InvalidRequest, match=reason):
            read({**tensor, "parameters": {"binary_data_size": size}}, array.tobytes())
    with pytest.raises(InvalidRequest, match="must be a whole number"):
        read({**tensor, "parameters": {"binary_data_size": True}}, array.tobytes())
    with pytest.raises(InvalidRequest, match="lacks the header"):
        read(tensor)


def test_small_tensors_do_not_keep_a_large_text_in_memory() -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "INT8", "parameters": {"binary_data_size": 3}, "a": "b" * 9999}
    data = read(tensor, b"abc").data
    assert isinstance(data, memoryview)
    assert data.obj == b"abc"


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (described("FP32", [1, True, 2]), "true or false"),
        (described("FP32", [1, None, 2]), "null"),
        (described("FP32", [1, "2", 3]), "a string"),
        (described("FP32", [1, 1e39, 3]), "too large for FP32"),
        (described("FP32", [1, 2]), "2 values"),
        (described("FP32", [[1, 2], [3, 4]]), "nested"),
        (described("INT32", [1, True, 2]), "true or false"),
        (described("INT32", [1, 1.5, 2]), "fraction"),
        (described("INT32", [1, 1 << 31, 2]), "out of the range of INT32"),
        (described("UINT8", [1, -1, 2]), "out of the range of UINT8"),
        (described("FP32", [1, 2, 3], shape=[True, 3]), "whole numbers"),
        (described("FP32", [1, 2, 3], shape=[1.0, 3]), "whole numbers"),
        (described("FP32", [1, 2, 3], name=["x"]), "must be a string"),
        (described("FP32", [1, 2, 3], name=None), "has no 'name'"),
        (described("FP32", [1, 2, 3], parameters={"binary_data_size": 12}), "lacks the header"),
    ],
)
def test_what_is_wrong_is_rejected_for_known_inputs_too(tensor: dict[str, Any], reason: str) -> None:
    read_twice(described(tensor["datatype"], [1, 2, 3]))
    with pytest.raises(InvalidRequest, match=reason):
        read(tensor)


def test_known_inputs_may_still_be_nested_and_hold_literals() -> None:
    read_twice(described("FP32", [1, 2, 3]))
    assert to_array(read(described("FP32", [[1, 2, 4]]))).tolist() == [[1, 2, 4]]
    assert np.isnan(to_array(read(described("FP32", [1, float("nan"), 3])))[0, 1])


def test_clients_cannot_have_much_remembered() -> None:
    before = len(rest_request._known_inputs)
    long = "x" * 10_000
    read({**described("FP32", [1, 2, 3]), "name": long})
    read({"name": "x", "shape": [1, 5000], "datatype": "FP32", "data": [0] * 5000})
    read({"name": "x", "shape": [1] * 20, "datatype": "FP32", "data": [0]})
    inputs = [{**described("FP32", [1, 2, 3]), "name": f"own {index}"} for index in range(100)]
    read_request(ENGINE, "m", "", json.dumps({"inputs": inputs}).encode(), None)
    assert len(rest_request._known_inputs) == before


@pytest.mark.parametrize("request_id", ["", 'an "id"'])
def test_json_answers_are_what_the_document_would_be(request_id: str) -> None:
    arrays = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        'quoted "ü"': np.array([np.nan, np.inf, -np.inf, 0], np.float64),
        "empty": np.zeros((0, 3), np.int64),
        "scalar": np.array(3, np.int8),
        "flags": np.array([True, False]),
        "texts": np.array([b"a", b"\xff"], dtype=object),
    }
    outputs = [from_array(name, array) for name, array in arrays.items()]
    response = InferResponse("m", "1", outputs, request_id)
    document: dict[str, Any] = {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": each.name, "datatype": each.datatype, "shape": each.shape, "data": json_values(each, flat=True)}
            for each in outputs
        ],
    }
    if request_id:
        document["id"] = request_id
    for _ in range(2):
        assert write_response(response, OutputOptions(), Limits(), SharedMemory()) == ([dumps(document)], None)
