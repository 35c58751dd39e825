"""Declarations about a model compared with its artifact: they may be narrower, but must not contradict it."""

from typing import Any

import pytest

from runtimes.checks import declared_inputs, declared_outputs
from runtimes.contract import LoadError, TensorSpec


def x(datatype: str = "", shape: Any = None) -> TensorSpec:
    return TensorSpec("x", datatype, shape)


@pytest.mark.parametrize(
    ("declared", "known", "said"),
    [
        (x("INT64"), x("FP32", (-1, 4)), "is declared as INT64, but the model has FP32"),
        (x("", (-1, 5)), x("FP32", (-1, 4)), r"is declared with shape \[-1, 5\], but the model has \[-1, 4\]"),
        (x("", (-1, 4, 1)), x("FP32", (-1, 4)), r"shape \[-1, 4, 1\], but the model has \[-1, 4\]"),
        (x("FP32", (4,)), x("FP32", (-1, 4)), r"shape \[4\], but the model has \[-1, 4\]"),
    ],
)
def test_a_contradiction_names_both(declared: TensorSpec, known: TensorSpec, said: str) -> None:
    for kind, check in (("input", declared_inputs), ("output", declared_outputs)):
        with pytest.raises(LoadError, match=f"{kind} 'x' .*{said}"):
            check([declared], (known,))


def test_an_input_that_is_open_needs_a_model_in_which_it_is() -> None:
    """For example, max_batch_size = 8 for an artifact with a fixed batch of one."""
    with pytest.raises(LoadError, match=r"input 'x' is declared with shape \[-1, 4\], but the model has \[1, 4\]"):
        declared_inputs([x("FP32", (-1, 4))], (x("FP32", (1, 4)),))
    assert declared_inputs([x("FP32", (-1, 4))], (x("FP32", (1, 4)),), resizable=True) == (x("FP32", (-1, 4)),)
    assert declared_outputs([x("FP32", (-1, 4))], (x("FP32", (1, 4)),)) == (x("FP32", (-1, 4)),)


@pytest.mark.parametrize(
    ("declared", "known", "served"),
    [
        (x(), x("FP32", (-1, 4)), x("FP32", (-1, 4))),
        (x("", (-1, 4)), x("FP32", (-1, -1)), x("FP32", (-1, 4))),
        (x("", (8, 4)), x("FP32", (-1, 4)), x("FP32", (8, 4))),
        (x("FP32", (-1, 4)), x(), x("FP32", (-1, 4))),
    ],
)
def test_what_is_narrower_or_not_known_to_the_artifact_holds(
    declared: TensorSpec, known: TensorSpec, served: TensorSpec
) -> None:
    assert declared_inputs([declared], (known,)) == (served,)
    assert declared_outputs([declared], (known,)) == (served,)
