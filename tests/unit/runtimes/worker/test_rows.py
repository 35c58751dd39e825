"""The inputs of a batch are views of a frame where they can be, and otherwise copies."""

import numpy as np
import pytest

from runtimes import wire
from runtimes.tensors import Tensor, from_array, to_array
from runtimes.wire import InferFrame
from runtimes.worker.rows import gather_inputs

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def received(*each: list[Tensor]) -> tuple[list[InferFrame], memoryview]:
    """Return requests with these inputs as they are read from one frame, and its body."""
    packed = wire.pack_infer([(number, InferFrame(1.0, 0, "s", (), tensors)) for number, tensors in enumerate(each)])
    (frame,) = wire.FrameReader().feed(b"".join(bytes(part) for part in packed))
    return [request for _, request in wire.unpack_infer(frame.body)], frame.body


@pytest.mark.parametrize("alone", [True, False])
def test_requests_of_one_frame_are_joined_without_a_copy(alone: bool) -> None:
    frames, body = received(
        *[[from_array("a", X.astype(np.int8) + row), from_array("b", X + row)] for row in range(1, 4)]
    )
    frames = frames[1:2] if alone else frames[1:]
    size = 2 * len(frames)
    arrays = gather_inputs(frames, size, size, 0)
    assert (arrays["a"] == np.concatenate([X + row for row in (2, 3)])[:size]).all()
    assert (arrays["b"] == arrays["a"]).all()
    assert all(np.shares_memory(array, np.frombuffer(body, np.uint8)) for array in arrays.values())


@pytest.mark.parametrize("array", [np.array([[b"a", b"bc"]], object), X, np.array(7), np.zeros((0, 3))])
def test_one_request_whose_rows_are_not_counted_is_read_as_it_is(array: np.ndarray) -> None:
    (frame,), _ = received([from_array("x", array)])
    found = gather_inputs([frame], 0, 0, 0)["x"]
    assert found.shape == array.shape
    assert (found == array).all()


@pytest.mark.parametrize("data", [b"short", b"much longer than that"])
def test_data_that_does_not_fit_its_shape_is_refused_even_inside_a_frame(data: bytes) -> None:
    frames, _ = received([Tensor("x", "FP32", (1, 2), data), from_array("y", X)])
    with pytest.raises(ValueError, match="needs 8"):
        gather_inputs(frames, 1, 1, 0)


def test_padding_repeats_the_last_row() -> None:
    frames, _ = received([from_array("x", X)], [from_array("x", X + 10)])
    assert gather_inputs(frames, 4, 6, 0)["x"].tolist() == [
        *X.tolist(),
        *(X + 10).tolist(),
        *[(X[1] + 10).tolist()] * 2,
    ]


def test_rows_along_another_dimension_are_joined_along_it() -> None:
    frames, _ = received([from_array("x", X)], [from_array("x", X)])
    assert gather_inputs(frames, 6, 6, 1)["x"].tolist() == np.concatenate([X, X], axis=1).tolist()
    assert (gather_inputs(frames[:1], 3, 3, 1)["x"] == to_array(from_array("x", X))).all()
