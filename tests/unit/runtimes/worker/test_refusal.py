"""A model that refuses every input is at fault itself, and its clients are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtimes.contract import InvalidInput, Model, Signature, TensorSpec
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.execute import Executor, Failure
from runtimes.worker.refusal import common_refusal
from tests.support.pending_requests import add


class Refusing(Model):
    """A model that refuses inputs. `complains` returns what is wrong with x, if anything."""

    def __init__(self, complains: Callable[[np.ndarray], str], shape: Any = (-1, 3), datatype: str = "FP32") -> None:
        self.signatures = {"s": Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", "FP32", (-1, 3)),))}
        self.complains = complains

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        complaint = self.complains(inputs["x"])
        if complaint == "crash":
            raise RuntimeError(complaint)
        if complaint:
            raise InvalidInput(complaint)
        return {"y": inputs["x"] * 2}


def misfit(x: np.ndarray) -> str:
    return f"shapes {x.shape[0]}x3 and 4x2 cannot be multiplied"


@pytest.mark.parametrize("shape", [(-1, 3), (1, 3)])
def test_rows_of_every_kind_refused_in_the_same_words_are_the_models_fault(shape: tuple[int, ...]) -> None:
    assert common_refusal(Refusing(misfit, shape), 0) == "shapes #x# and #x# cannot be multiplied"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Refusing(lambda x: "negative" if (x < 0).any() else ""), id="takes some"),
        pytest.param(Refusing(lambda x: "no rows" if x.max() > 1 else "too small"), id="two complaints"),
        pytest.param(Refusing(lambda x: "crash"), id="fails by itself"),
        pytest.param(Refusing(lambda x: f"needs {len(x)} >= 20" if len(x) < 20 else ""), id="many rows"),
        pytest.param(Refusing(lambda x: f"needs {len(x)} % 6 == 0" if len(x) % 6 else ""), id="a multiple of rows"),
        pytest.param(Refusing(misfit, (-1, -1)), id="open size"),
        pytest.param(Refusing(misfit, None), id="unknown rank"),
        pytest.param(Refusing(misfit, datatype=""), id="unknown datatype"),
        pytest.param(Refusing(lambda x: "this is no picture", datatype="BYTES"), id="texts are never guessed"),
    ],
)
def test_what_another_request_might_mend_is_the_requests(model: Model) -> None:
    assert common_refusal(model, 0) == ""


def test_the_refusal_is_a_failure_until_something_is_taken() -> None:
    model = Refusing(misfit)
    executor = Executor(model, Batching(), 1 << 20)
    executor.refusal = common_refusal(model, 0)

    def asked(*rows: float) -> Any:
        batcher = Batcher(executor.batching)
        sent = from_array("x", np.array([[row] * 3 for row in rows], np.float32))
        add(batcher, "front", 1, InferFrame(1e9, 0, "s", [], [sent]), False, 0.0)
        (outcome,) = executor.run(batcher.next(0.0)[0])
        return outcome.kind if isinstance(outcome, Failure) else "answered"

    assert asked(1, 2, 3) == "internal"
    model.complains = lambda x: "7 is not welcome" if (x == 7).any() else misfit(x)
    assert [asked(7), asked(1)] == ["invalid", "internal"]
    model.complains = lambda x: misfit(x) if (x == 1).any() else ""
    assert [asked(2), asked(1)] == ["answered", "invalid"]


def test_a_refusal_without_words_is_a_sentence() -> None:
    outcome = Executor(Refusing(misfit), Batching(), 1 << 20).failure(InvalidInput())
    assert (outcome.kind, outcome.message) == ("invalid", "the model refuses this request, and does not say why")
