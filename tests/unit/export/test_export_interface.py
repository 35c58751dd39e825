"""An export's interface compared with the served one."""

import numpy as np
import pytest

from gateway.export.interface import cast, differences, fixed_rows
from runtimes.contract import Signature, TensorSpec

SERVED = Signature(
    (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "INT64", (-1, 2))), (TensorSpec("y", "FP32", (-1, 4)),)
)


def changed(**fields: object) -> Signature:
    """Return the served signature with changed fields of its first input."""
    return SERVED._replace(inputs=(SERVED.inputs[0]._replace(**fields), SERVED.inputs[1]))


def test_the_same_has_no_differences():
    assert differences(SERVED, SERVED) == ([], [])


@pytest.mark.parametrize(
    ("exported", "message"),
    [
        (SERVED._replace(inputs=SERVED.inputs[::-1]), "its inputs are b, a, where a, b are served"),
        (SERVED._replace(outputs=()), "its outputs are , where y are served"),
        (changed(name="x"), "its inputs are x, b"),
        (changed(datatype="INT8"), "input 'a' is INT8, where FP32 is served"),
        (changed(datatype=""), "input 'a' is of no datatype"),
        (changed(shape=(-1, 4)), r"input 'a' has shape [-1, 4], where [-1, 3] is served"),
        (changed(shape=(-1, 3, 1)), r"input 'a' has shape [-1, 3, 1]"),
    ],
)
def test_another_interface(exported, message):
    wrong, _ = differences(SERVED, exported)
    assert message in wrong[0]


def test_what_is_only_narrower_is_noted():
    narrower = Signature(
        (TensorSpec("a", "FP32", (1, 3)), TensorSpec("b", "INT32", (1, 2))), (TensorSpec("y", "FP32", (1, 4)),)
    )
    wrong, notes = differences(SERVED, narrower)
    assert wrong == []
    assert notes == [
        "the batch size is fixed at 1",
        "input 'b' is INT32 where INT64 is served: values that do not fit are not verified",
    ]


def test_rows_at_a_time():
    assert fixed_rows(SERVED) == 0
    assert fixed_rows(Signature((TensorSpec("a", "FP32", (2, 3)),), ())) == 2
    assert fixed_rows(Signature((TensorSpec("a", "FP32", (2, 3)), TensorSpec("b", "FP32", (-1,))), ())) == 0


def test_values_are_cast_or_refused():
    specs = [TensorSpec("b", "INT32", (-1,))]
    assert cast({"b": np.array([1, -1])}, specs)["b"].dtype == np.int32
    with pytest.raises(OverflowError, match="'b' holds values that INT32 cannot"):
        cast({"b": np.array([1 << 40])}, specs)
    assert cast({"s": np.array(3)}, [TensorSpec("s", "INT32", ())])["s"].shape == ()
