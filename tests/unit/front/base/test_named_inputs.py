"""Rows and shorthand for models whose requests may leave inputs out."""

from typing import Any

import pytest

from gateway.domain.types import ModelStatus
from gateway.errors import InvalidRequest
from gateway.front.base.named_inputs import only_input, read_inputs
from runtimes.contract import Signature, TensorSpec

INPUTS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("x", "labels"))
OUTPUTS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("z", "loss"))
LOSS = Signature(INPUTS, OUTPUTS, {}, ("labels",), {"z": ("x",), "loss": ("x", "labels")})


def names(signature: Signature, document: Any) -> list[str]:
    status = ModelStatus("m", "1", "READY", signatures={"d": signature})
    return [tensor.name for tensor in read_inputs(document, status, signature)]


@pytest.mark.parametrize("signature", [LOSS, Signature(INPUTS, OUTPUTS, {}, ("labels",))])
def test_each_row_may_leave_out_what_is_optional(signature: Signature) -> None:
    assert names(signature, {"instances": [{"x": [1]}, {"x": [2]}]}) == ["x"]
    assert names(signature, {"instances": [{"labels": [0], "x": [1]}]}) == ["x", "labels"]
    assert names(signature, {"instances": [[1], [2]]}) == ["x"]
    assert names(signature, {"inputs": [[1], [2]]}) == ["x"]
    with pytest.raises(InvalidRequest, match=r"instances\[1\] must be an object with the same inputs as .*\[0\]: x$"):
        names(signature, {"instances": [{"x": [1]}, {"x": [2], "labels": [0]}]})
    with pytest.raises(InvalidRequest, match=r"instances\[0\] must be an object with a row for each input: x"):
        names(signature, {"instances": [{"x": [1], "y": [1]}]})


def test_an_input_without_rows_is_in_no_row() -> None:
    signature = Signature(INPUTS[:1], OUTPUTS, unbatched=(TensorSpec("w", "FP32", (2,)),))
    with pytest.raises(InvalidRequest, match="input 'w' has no rows, so it cannot be in 'instances'; use 'inputs'"):
        names(signature, {"instances": [{"x": [1], "w": [1, 2]}]})


def test_what_outputs_decide_is_not_decided_here() -> None:
    assert names(LOSS, {"instances": [{"labels": [0]}]}) == ["labels"]
    with pytest.raises(InvalidRequest, match=r"instances\[0\] must be an object with a row for each input: x$"):
        names(LOSS._replace(needs={}), {"instances": [{"labels": [0]}]})


def test_several_inputs_that_are_needed_are_named() -> None:
    with pytest.raises(InvalidRequest, match="has 2 inputs; send each by its name: 'x', 'labels'"):
        only_input(Signature(INPUTS, OUTPUTS), "m")
