"""A layout is validated once; strings are looked at each time, because their lengths are among their bytes."""

import pytest

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.validate import LayoutValidator
from gateway.errors import InvalidRequest, Unavailable
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor

TWO_STRINGS = b"\1\0\0\0a\2\0\0\0bc"


def _request(data: bytes) -> InferRequest:
    return InferRequest("m", [Tensor("n", "INT8", (1,), b"1"), Tensor("s", "BYTES", (2,), data)])


def _validator(outputs: tuple[TensorSpec, ...]) -> LayoutValidator:
    inputs = TensorSpec("s", "BYTES", (2,)), TensorSpec("n", "INT8", (1,))
    return LayoutValidator(ModelStatus("m", "1", "READY", signatures={"d": Signature(inputs, outputs)}))


@pytest.mark.parametrize("outputs", [(TensorSpec("y", "FP32", (1,)),), ()])
def test_strings_that_do_not_fit_are_rejected_after_valid_ones_of_the_same_length(
    outputs: tuple[TensorSpec, ...],
) -> None:
    validator = _validator(outputs)
    for _ in range(2):
        rows, size, layout, strings = validator.check(_request(TWO_STRINGS))
        assert (rows, size, layout[0], strings) == (1, 12, "d", (1,))
    for data in (b"\7\0\0\0abcdefg", b"\1\0\0\0a\3\0\0\0bc", b"\0" * 11):
        assert len(data) == len(TWO_STRINGS)
        with pytest.raises(InvalidRequest, match="input 's' does not fit"):
            validator.check(_request(data))


def test_equal_layouts_share_one_object() -> None:
    validator = _validator((TensorSpec("y", "FP32", (1,)),))
    first, second = validator.check(_request(TWO_STRINGS)), validator.check(_request(b"\2\0\0\0ab\1\0\0\0c"))
    assert first.layout is second.layout


def test_an_optional_input_may_be_left_out_and_others_not() -> None:
    inputs = TensorSpec("s", "BYTES", (2,)), TensorSpec("n", "INT8", (1,))
    signature = Signature(inputs, (TensorSpec("y", "FP32", (1,)),), {}, ("n",))
    validator = LayoutValidator(ModelStatus("m", "1", "READY", signatures={"d": signature}))
    both = _request(TWO_STRINGS)
    assert len(validator.check(both).layout[2]) == 2
    assert len(validator.check(both._replace(inputs=both.inputs[1:])).layout[2]) == 1
    with pytest.raises(InvalidRequest, match="input 's' is missing"):
        validator.check(both._replace(inputs=both.inputs[:1]))


def test_the_outputs_of_a_request_decide_which_inputs_it_needs() -> None:
    inputs = TensorSpec("n", "INT8", (1,)), TensorSpec("s", "BYTES", (2,))
    needs = {"z": ("n",), "loss": ("n", "s"), "other": ("s",)}
    outputs = tuple(TensorSpec(name, "FP32", (1,)) for name in needs)
    signature = Signature(inputs, outputs, {}, ("s",), needs)
    validator = LayoutValidator(ModelStatus("m", "1", "READY", signatures={"d": signature}))
    both = _request(TWO_STRINGS)
    first, second = [both._replace(inputs=[tensor]) for tensor in both.inputs]

    for accepted in (both, first, first._replace(outputs=["z"]), second._replace(outputs=["other"])):
        validator.check(accepted)
    for refused, message in (
        (first._replace(outputs=["z", "loss"]), "input 's' is missing; output 'loss' needs it"),
        (second._replace(outputs=["z"]), "input 'n' is missing; output 'z' needs it"),
        (second, "input 'n' is missing; model 'm' needs 'n'"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            validator.check(refused)
    assert signature.outputs_from(["n"]) == ["z"]
    assert signature.outputs_from(["n", "s"]) == ["z", "loss", "other"]


def test_inputs_and_outputs_without_rows_leave_the_rows_of_a_request_as_they_are() -> None:
    """Such requests are not cached, so a dialect that must not ask for an output cannot do so after one that may."""
    signature = Signature(
        (TensorSpec("x", "INT8", (-1,)),),
        (TensorSpec("y", "INT8", (-1,)),),
        {"maps": "it is a sequence"},
        unbatched=(TensorSpec("w", "INT8", (3,)),),
        json=("maps",),
    )
    validator = LayoutValidator(ModelStatus("m", "1", "READY", signatures={"d": signature}, max_batch_size=8))
    x, w = Tensor("x", "INT8", (2,), b"12"), Tensor("w", "INT8", (3,), b"123")
    request = InferRequest("m", [x])
    assert validator.check(request)[0] == 2
    assert validator.check(request).layout[2][0][2] == (-1,)
    for alone in (request._replace(inputs=[x, w]), request._replace(outputs=["y", "maps"], json=["maps"])):
        rows, _, layout, _ = validator.check(alone)
        assert (rows, layout[2][0][2]) == (1, (2,))
    with pytest.raises(InvalidRequest, match="output 'maps' cannot be served: it is a sequence"):
        validator.check(request._replace(outputs=["y", "maps"]))
    with pytest.raises(InvalidRequest, match="input 'w' has shape"):
        validator.check(request._replace(inputs=[x, w._replace(shape=(2,), data=b"12")]))
    with pytest.raises(Unavailable, match="has just been replaced"):
        validator.check(request._replace(outputs=["y"], json=["y"]))


def test_a_model_without_tensors_refuses_to_answer_with_tensors() -> None:
    signature = Signature((TensorSpec("x", "INT8", (-1,)),), (), {"maps": "it is a sequence"}, json=("maps",))
    validator = LayoutValidator(ModelStatus("m", "1", "READY", signatures={"d": signature}))
    request = InferRequest("m", [Tensor("x", "INT8", (2,), b"12")])
    with pytest.raises(InvalidRequest, match="output 'maps' cannot be served"):
        validator.check(request)
    assert validator.check(request._replace(outputs=["maps"], json=["maps"])).rows == 1
