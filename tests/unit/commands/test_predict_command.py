"""What `modelport predict` makes of its inputs, before it asks."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gateway.commands.connection import Connection
from gateway.commands.http_client import CommandError, Configuration
from gateway.commands.predict import Question, _Argument, _Image, _request, _tensor
from gateway.commands.predict_output import print_response
from runtimes.contract import numpy_dtype
from runtimes.tensors import to_array

LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("given", "datatype"),
    [
        (np.array([[0.1, -2.5], [np.nan, np.inf]]), "FP32"),
        (np.array([0.5, 65504.0]), "FP16"),
        (np.array([0.5], ">f8"), "FP32"),
        (np.array([[1, -2]]), "FP32"),
        (np.array([0, 255], np.uint8), "FP32"),
        (np.array([-128, 127]), "INT8"),
        (np.array([0, (1 << 64) - 1], np.uint64), "UINT64"),
        (np.array([7], np.uint64), "INT64"),
        (np.array([0, 1, 1]), "BOOL"),
        (np.empty((0, 3)), "FP32"),
        (np.empty((0, 3), np.int64), "INT8"),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), "FP32"),
        (np.array(3.0), "FP32"),
    ],
)
def test_an_array_gets_the_datatype_of_its_input_where_its_values_fit(given: np.ndarray, datatype: str) -> None:
    made = _tensor("x", given, datatype)
    assert (made.datatype, made.shape) == (datatype, given.shape)
    np.testing.assert_array_equal(to_array(made), given.astype(numpy_dtype(datatype)))


@pytest.mark.parametrize(
    ("given", "datatype", "says"),
    [
        (np.array([1, 300]), "INT8", "holds 300, out of the range of INT8: -128 to 127"),
        (np.array([-1]), "UINT64", "holds -1, out of the range of UINT64"),
        (np.array([(1 << 64) - 1], np.uint64), "INT64", "holds 18446744073709551615, out of the range of INT64"),
        (np.array([1.0, LARGEST * 2]), "FP32", "holds a number too large for FP32"),
        (np.array([1e5]), "FP16", "holds a number too large for FP16"),
        (np.array([0, 2]), "BOOL", "send true and false, or 1 and 0"),
        (np.array([1j]), "FP32", "not an array of FP32"),
    ],
)
def test_what_does_not_fit_is_told(given: np.ndarray, datatype: str, says: str) -> None:
    with pytest.raises(CommandError) as caught:
        _tensor("x", given, datatype)
    assert says in str(caught.value)
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize("given", [np.array([1.5]), np.array([True]), np.array([1.0])])
def test_what_would_be_another_value_is_left_to_the_gateway_to_refuse(given: np.ndarray) -> None:
    assert _tensor("x", given, "INT64").datatype != "INT64"


@pytest.mark.parametrize(
    ("value", "datatype", "says"),
    [([1.5], "INT64", "send integers only"), ([[1], [2, 3]], "FP32", "ragged"), ([300], "INT8", "out of the range"),
     (["a", 1], "", "only numbers, only strings or only booleans")],
)  # fmt: skip
def test_json_beside_an_array_is_read_as_the_gateway_reads_it(value: Any, datatype: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        _tensor("x", value, datatype)
    assert to_array(_tensor("x", [[1, 2]], "INT8")).tolist() == [[1, 2]]
    assert _tensor("x", [[1, 2]], "").datatype == "INT64"


def test_outputs_that_are_no_tensors_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"outputs": {"label": [1], "probabilities": [{"0": 0.25, "\xc3\xbc": 0.75}], "absent": null}}'
    print_response("application/json", body, {"label": "INT64"}, [], "", 0)
    assert capsys.readouterr().out.splitlines() == [
        *("label  INT64 [1]", "[1]"),
        *("probabilities", '[{"0": 0.25, "ü": 0.75}]'),
        *("absent", "null"),
    ]


@pytest.mark.parametrize("values", ["[[1], [2, 3]]", "[{}]", "null"])
def test_what_is_no_array_is_printed_as_json_if_nothing_is_declared(
    values: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_response("application/json", b'{"outputs": {"y": %s}}' % values.encode(), {}, [], "y", 0)
    assert capsys.readouterr().out.splitlines() == ["y", values]


METADATA: Mapping[str, list[dict[str, Any]]] = {
    "inputs": [{"name": "x", "datatype": "FP32"}],
    "outputs": [{"name": "y", "datatype": "FP32"}],
}


def asked(value: Any, **sequence: Any) -> Any:
    question = Question("m", [], Connection("http://127.0.0.1:8000"), **sequence)
    return _request([_Argument("", value)], METADATA, question, Configuration())


@pytest.mark.parametrize(
    ("given", "expected"),
    [("42", 42), ("18446744073709551615", (1 << 64) - 1), ('"42"', "42"), ("camera-1", "camera-1"), ("-1", "-1")],
)
@pytest.mark.parametrize("value", [[[0.1, 2]], np.array([[0.1, 2]], np.float32)])
def test_a_sequence_is_in_the_parameters_of_a_json_body(value: Any, given: str, expected: int | str) -> None:
    request = asked(value, sequence_id=given, sequence_start=True)
    assert request.content_type == "application/json"
    assert json.loads(request.body) == {
        "inputs": {"x": [[0.1, 2]]},
        "parameters": {"sequence_id": expected, "sequence_start": True, "sequence_end": False},
    }


def test_a_request_without_a_sequence_is_as_it_was() -> None:
    assert json.loads(asked([[float("nan")]]).body)["inputs"]["x"][0][0] != 0
    assert "parameters" not in json.loads(asked([1]).body)
    assert asked(np.zeros((1, 2))).content_type == "application/x-npz"


@pytest.mark.parametrize(
    ("value", "sequence", "says"),
    [
        ([1], {"sequence_end": True}, "need --sequence-id"),
        ([1], {"sequence_id": "0"}, "expected a number from 1"),
        ([1], {"sequence_id": str(1 << 64)}, "expected a number from 1"),
        (_Image(b""), {"sequence_id": "1"}, "an image cannot be sent with a sequence id"),
    ],
)
def test_what_is_wrong_with_a_sequence_is_said_before_anything_is_sent(
    value: Any, sequence: dict[str, Any], says: str
) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        asked(value, **sequence)
    assert caught.value.code == 2
