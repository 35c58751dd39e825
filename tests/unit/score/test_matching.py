"""Which columns make which input."""

import pyarrow as pa
import pytest

from gateway.errors import InvalidRequest
from gateway.score.matching import match
from runtimes.contract import Signature, TensorSpec

FLOATS = pa.list_(pa.float32())
ONE = Signature((TensorSpec("x", "FP32", (-1, 3)),), ())
TWO = Signature((TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1, 1))), (), {}, ("b",))


def columns(signature: Signature, *fields: tuple[str, pa.DataType], **chosen: str) -> list[tuple[str, ...]]:
    return [each.columns for each in match(signature, pa.schema(fields), True, chosen, ())]


def test_columns_are_matched_by_name_first() -> None:
    assert columns(ONE, ("id", pa.int64()), ("x", FLOATS), ("y", FLOATS)) == [("x",)]
    assert columns(ONE, ("x", FLOATS), ("y", FLOATS), x="y") == [("y",)]
    assert columns(TWO, ("b", pa.string()), ("a", pa.float64())) == [("a",), ("b",)]
    assert columns(TWO, ("a", pa.float64())) == [("a",)]  # the other is optional


def test_the_only_input_may_be_made_of_other_columns() -> None:
    assert columns(ONE, ("id", pa.int64()), ("values", FLOATS)) == [("values",)]
    assert columns(ONE, ("p", pa.int64()), ("q", pa.float32()), ("r", pa.bool_())) == [("p", "q", "r")]
    assert columns(ONE, ("t", pa.timestamp("s")), ("p", pa.int8()), ("q", pa.int8()), ("r", pa.int8())) == [
        ("p", "q", "r")
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ([("v", FLOATS), ("w", FLOATS)], "no column is called 'x'"),
        ([("p", pa.int8()), ("q", pa.int8())], "to make it of 3 columns of numbers, name all others with --keep"),
        ([("x", pa.timestamp("s"))], r"column 'x' cannot be input 'x': it holds timestamp\[s\]"),
        ([("x", FLOATS), ("x", FLOATS)], "the table has several columns 'x'"),
    ],
)
def test_what_is_ambiguous_is_refused(fields: list[tuple[str, pa.DataType]], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        columns(ONE, *fields)


def test_choices_must_exist() -> None:
    with pytest.raises(InvalidRequest, match="the table has no column 'z'"):
        columns(ONE, ("x", FLOATS), x="z")
    with pytest.raises(InvalidRequest, match="the model has no input 'z'"):
        columns(ONE, ("x", FLOATS), z="x")


@pytest.mark.parametrize(
    ("shape", "kind", "leading", "row"),
    [
        ((-1, 3), FLOATS, True, (3,)),
        ((1, 3), FLOATS, True, (3,)),
        ((-1,), FLOATS, False, (-1,)),
        ((-1,), pa.float32(), True, ()),
        ((3, 4), pa.list_(FLOATS), False, (3, 4)),
        ((3, 4), FLOATS, False, (3, 4)),
        (None, FLOATS, False, None),
    ],
)
def test_a_model_without_batches_gets_whole_tensors(shape, kind, leading, row) -> None:  # type: ignore[no-untyped-def]
    signature = Signature((TensorSpec("x", "FP32", shape),), ())
    (found,) = match(signature, pa.schema([("x", kind)]), False, {}, ())
    assert (found.leading, found.target.shape) == (leading, row)


def test_the_outputs_that_are_asked_for_decide_which_columns_are_needed() -> None:
    a, b = (TensorSpec(name, "FP32", (-1,)) for name in "ab")
    needs = {"y": ("a",), "z": ("b",), "loss": ("a", "b")}
    signature = Signature((a, b), tuple(TensorSpec(name, "FP32", (-1,)) for name in needs), needs=needs)
    schema = pa.schema([("a", pa.float32())])
    assert [each.columns for each in match(signature, schema, True, {}, (), ["y"])] == [("a",)]
    optional = signature._replace(optional=("b",))
    assert [each.columns for each in match(optional, schema, True, {}, ())] == [("a",)]
    for outputs in (["z"], ["y", "loss"]):
        with pytest.raises(InvalidRequest, match="no column is called 'b'"):
            match(optional, schema, True, {}, (), outputs)
