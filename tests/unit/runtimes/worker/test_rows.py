"""The inputs of a batch are views of a frame where they can be, and otherwise copies."""

import numpy as np
import pytest

from runtimes.request_frames import InferFrame
from runtimes.tensors import Tensor, from_array
from runtimes.worker.pending import Batch, PendingGroup
from runtimes.worker.rows import gather_inputs
from tests.support.pending_requests import one_frame

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def received(*each: list[Tensor], rows: int = 0, dim: int | None = None) -> PendingGroup:
    """Return requests with these inputs as they are read from one frame.

    rows: of each; 0 if they are not counted. dim: as in one_frame.
    """
    requests = [(number, InferFrame(1.0, 0, "s", (), tensors)) for number, tensors in enumerate(each)]
    unit = rows if dim is None else min(rows, 1)
    return PendingGroup("front", one_frame(*requests, dim=dim), 0, len(each), 0.0, unit, "key")


@pytest.mark.parametrize("dim", [None, 0])
@pytest.mark.parametrize("alone", [True, False])
def test_requests_of_one_frame_are_joined_without_a_copy(alone: bool, dim: int | None) -> None:
    group = received(
        *[[from_array("a", X.astype(np.int8) + row), from_array("b", X + row)] for row in range(1, 4)], rows=2, dim=dim
    )
    group = group.part(1, 2 if alone else 3)
    size = 2 * len(group)
    arrays = gather_inputs(Batch([group]), size, 0)
    assert (arrays["a"] == np.concatenate([X + row for row in (2, 3)])[:size]).all()
    assert (arrays["b"] == arrays["a"]).all()
    body = np.frombuffer(group.requests.inputs.body, np.uint8)
    assert all(np.shares_memory(array, body) for array in arrays.values())


@pytest.mark.parametrize("dims", [(None, None), (0, None), (None, 0), (0, 0)])
def test_requests_of_two_frames_are_joined_in_order(dims: tuple[int | None, int | None]) -> None:
    first, second = (
        received(*[[from_array("x", X + row)] for row in rows], rows=2, dim=dim)
        for rows, dim in zip(((0, 1, 2), (3,)), dims, strict=True)
    )
    arrays = gather_inputs(Batch([first.part(2, 3), second, first.part(0, 1)]), 6, 0)
    assert arrays["x"].tolist() == np.concatenate([X + 2, X + 3, X]).tolist()


def test_requests_of_two_frames_are_joined_by_name() -> None:
    first = received([from_array("a", X), from_array("b", X + 10)], rows=2, dim=0)
    second = received([from_array("b", X + 30), from_array("a", X + 20)], rows=2, dim=0)
    arrays = gather_inputs(Batch([first, second]), 4, 0)
    assert arrays["a"].tolist() == np.concatenate([X, X + 20]).tolist()
    assert arrays["b"].tolist() == np.concatenate([X + 10, X + 30]).tolist()


@pytest.mark.parametrize("columns", [1, 2000])
def test_large_inputs_are_joined_in_the_memory_of_the_model(columns: int) -> None:
    made: list[np.ndarray] = []

    def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        made.append(np.empty(shape, dtype))
        return made[-1]

    array = np.ones((2, columns), np.float32)
    group = received([from_array("x", array)], [from_array("x", 2 * array)], rows=2, dim=0)
    found = gather_inputs(Batch([group]), 4, 0, empty)["x"]
    assert (found == np.concatenate([array, 2 * array])).all()
    assert [found is each for each in made] == ([True] if columns > 1 else [])


@pytest.mark.parametrize("array", [np.array([[b"a", b"bc"]], object), X, np.array(7), np.zeros((0, 3))])
def test_one_request_whose_rows_are_not_counted_is_read_as_it_is(array: np.ndarray) -> None:
    for dim in [None, 0] if array.size and array.ndim else [None]:
        found = gather_inputs(Batch([received([from_array("x", array)], dim=dim)]), 0, 0)["x"]
        assert found.shape == array.shape
        assert (found == array).all()


@pytest.mark.parametrize("data", [b"short", b"much longer than that"])
def test_data_that_does_not_fit_its_shape_is_refused_even_inside_a_frame(data: bytes) -> None:
    with pytest.raises(ValueError, match=rf"shape \(1, 2\) cannot have {len(data)} bytes"):
        received([Tensor("x", "FP32", (1, 2), data), from_array("y", X)], rows=1)


@pytest.mark.parametrize("dim", [None, 0])
def test_padding_repeats_the_last_row(dim: int | None) -> None:
    group = received([from_array("x", X)], [from_array("x", X + 10)], rows=2, dim=dim)
    assert gather_inputs(Batch([group]), 6, 0)["x"].tolist() == [
        *X.tolist(),
        *(X + 10).tolist(),
        *[(X[1] + 10).tolist()] * 2,
    ]


@pytest.mark.parametrize("dim", [None, 1])
def test_rows_along_another_dimension_are_joined_along_it(dim: int | None) -> None:
    group = received([from_array("x", X)], [from_array("x", X)], rows=3, dim=dim)
    assert gather_inputs(Batch([group]), 6, 1)["x"].tolist() == np.concatenate([X, X], axis=1).tolist()
    assert gather_inputs(Batch([group.part(1, 2)]), 3, 1)["x"].tolist() == X.tolist()
