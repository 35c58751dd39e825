"""The worker's side of `reshape`: clients see other shapes than the model has."""

from typing import Any

import numpy as np
import pytest

from runtimes.contract import InvalidInput, Model, Signature, TensorSpec
from runtimes.control import Reshapes
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array, to_array
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.execute import Executor, Failure
from runtimes.worker.reshape import Reshaped, reshaped
from tests.support.pending_requests import add

Shapes = list[list[int]]


class Echo(Model):
    """Returns x as y under the signatures a and b, and records the shapes that it received."""

    def __init__(self, shape: tuple[int, ...] = (-1, 2, 2)) -> None:
        signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", shape),), {"z": "why"})
        self.signatures = {"a": signature, "b": signature}
        self.pipelined = True
        self.seen: list[tuple[int, ...]] = []
        self.closed = False

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        self.seen.append(inputs["x"].shape)
        return {"y": inputs["x"]}

    def start(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> Any:
        return self.infer(inputs, outputs, signature)

    def finish(self, handle: Any) -> dict[str, np.ndarray]:
        answer: dict[str, np.ndarray] = handle
        return answer

    def close(self) -> None:
        self.closed = True


def wrapped(inputs: Shapes | None, outputs: Shapes | None, shape: tuple[int, ...] = (-1, 2, 2)) -> tuple[Echo, Model]:
    model = Echo(shape)
    return model, reshaped(model, Reshapes({"x": inputs} if inputs else {}, {"y": outputs} if outputs else {}))


def run(model: Model, shape: tuple[int, ...], signature: str = "a") -> tuple[int, ...]:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    answer = model.infer({"x": array}, [], signature)["y"]
    assert answer.ravel().tolist() == array.ravel().tolist()
    return answer.shape


def test_where_nothing_differs_the_model_is_itself() -> None:
    model, same = wrapped(None, None)
    assert same is model


@pytest.mark.parametrize(
    ("inputs", "outputs", "given", "inner", "answered"),
    [
        ([[-1, 4], [-1, 2, 2]], None, (3, 4), (3, 2, 2), (3, 2, 2)),
        (None, [[-1, 4], [-1, 2, 2]], (3, 2, 2), (3, 2, 2), (3, 4)),
        ([[-1, 4], [-1, 2, 2]], [[-1, 4, 1], [-1, 2, 2]], (1, 4), (1, 2, 2), (1, 4, 1)),
        ([[2, 2], [1, 2, 2]], [[4], [1, 2, 2]], (2, 2), (1, 2, 2), (4,)),
        ([[-1, 1], [-1]], [[1, -1], [-1]], (3, 1), (3,), (1, 3)),
        ([[-1, -1, 2], [-1, 2, -1]], None, (3, 4, 2), (3, 2, 4), (3, 2, 4)),
        ([[1], []], None, (1,), (), ()),
    ],
)
def test_arrays_have_the_models_shape_inside(
    inputs: Shapes | None,
    outputs: Shapes | None,
    given: tuple[int, ...],
    inner: tuple[int, ...],
    answered: tuple[int, ...],
) -> None:
    model, outer = wrapped(inputs, outputs)
    assert run(outer, given) == answered
    assert outer.finish(outer.start({"x": np.zeros(given, np.float32)}, [], "a"))["y"].shape == answered
    assert model.seen == [inner] * 2


def test_strings_are_reshaped_too() -> None:
    _, outer = wrapped([[-1, 4], [-1, 2, 2]], None)
    text = np.array([[b"a", b"b", b"c", b"d"]], dtype=object)
    assert outer.infer({"x": text}, [], "a")["y"].tolist() == [[[b"a", b"b"], [b"c", b"d"]]]


def test_signatures_tell_what_clients_see_and_only_the_default_one_differs() -> None:
    model, outer = wrapped([[-1, 4], [-1, 2, 2]], [[-1, 4, 1], [-1, 2, 2]])
    seen = outer.signatures["a"]
    assert (seen.inputs[0].shape, seen.outputs[0].shape, seen.refused) == (
        (-1, 4),
        (-1, 4, 1),
        {"z": "why"},
    )
    assert outer.signatures["b"] == model.signatures["b"]
    assert run(outer, (3, 2, 2), "b") == (3, 2, 2)
    assert list(outer.signatures) == ["a", "b"]
    assert outer.pipelined
    outer.close()
    assert model.closed


def test_rows_are_counted_as_clients_send_them() -> None:
    """Two requests share a batch, and get their rows back."""
    model, outer = wrapped([[-1, 1], [-1]], [[-1, 1], [-1]], (-1,))
    batching = Batching(8, frozenset({"a"}))
    batcher = Batcher(batching)
    for number in (1, 2):
        frame = InferFrame(1e9, 0, "a", [], [from_array("x", np.full((number, 1), number, np.float32))])
        add(batcher, "front", number, frame, False, 0.0)
    outcomes = Executor(outer, batching, 1 << 20).run(batcher.next(0.0)[0])
    assert [to_array(outcome.outputs[0]).tolist() for outcome in outcomes] == [[[1]], [[2], [2]]]  # type: ignore[union-attr]
    assert model.seen == [(3,)]


def test_what_does_not_fit_is_whose_fault_it_is() -> None:
    _, outer = wrapped([[-1, 4], [-1, 2, 2]], None)
    with pytest.raises(InvalidInput, match=r"input 'x' has shape \[3\], expected \[-1, 4\]"):
        run(outer, (3,))
    _, outer = wrapped(None, [[-1, 9], [-1, 3, 3]])
    with pytest.raises(RuntimeError, match=r"output 'y' has shape \[1, 2, 2\], but its reshape says \[-1, 3, 3\]"):
        run(outer, (1, 2, 2))
    batcher = Batcher(Batching())
    add(batcher, "f", 1, InferFrame(1e9, 0, "a", [], [from_array("x", np.ones((1, 2, 2), np.float32))]), False, 0.0)
    (outcome,) = Executor(outer, Batching(), 1 << 20).run(batcher.next(0.0)[0])
    assert isinstance(outcome, Failure)
    assert outcome.kind == "internal"


def test_a_profile_gets_the_model_itself_and_inputs_as_it_sees_them() -> None:
    model, outside = wrapped([[-1, 4], [-1, 2, 2]], None)
    assert isinstance(outside, Reshaped)

    inner, inputs = outside.inside({"x": np.zeros((3, 4), np.float32)}, "a")

    assert inner is model
    assert inputs["x"].shape == (3, 2, 2)
