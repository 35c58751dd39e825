"""Which requests share a batch, when, and in which order."""

from itertools import chain

import numpy as np

from runtimes.fair_order import priority_of
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array
from runtimes.worker.batcher import Batcher, Batching, padded_size
from tests.support.pending_requests import add, one_frame

BATCHING = Batching(max_rows=4, signatures=frozenset({"s"}))


def frame(
    rows: int = 1, columns: int = 2, *, priority: int = 0, deadline: float = 1e9, signature: str = "s"
) -> InferFrame:
    tensor = from_array("x", np.zeros((rows, columns), np.float32))
    return InferFrame(deadline, priority, signature, [], [tensor])


def batcher_with(*frames: InferFrame, batching: Batching = BATCHING, isolated: frozenset[int] = frozenset()) -> Batcher:
    made = Batcher(batching)
    for number, each in enumerate(frames):
        add(made, "front", number, each, number in isolated, float(number))
    return made


def ids(batcher: Batcher, now: float = 100.0) -> list[int]:
    return [pending.id for pending in batcher.next(now)[0] or ()]


def test_rows_are_counted_not_requests() -> None:
    batcher = batcher_with(frame(2), frame(2), frame(1))
    assert ids(batcher) == [0, 1]
    assert ids(batcher) == [2]


def test_a_request_that_does_not_fit_lets_a_smaller_one_pass() -> None:
    batcher = batcher_with(frame(3), frame(2), frame(1))
    assert ids(batcher) == [0, 2]
    assert ids(batcher) == [1]


def test_shapes_that_differ_beyond_the_rows_stay_apart() -> None:
    batcher = batcher_with(frame(1, 2), frame(1, 3), frame(1, 2))
    assert ids(batcher) == [0, 2]
    assert ids(batcher) == [1]


def test_lower_priority_numbers_go_first() -> None:
    batcher = batcher_with(frame(4), frame(4, priority=-1), frame(4, priority=1))
    assert [ids(batcher), ids(batcher), ids(batcher)] == [[1], [0], [2]]


def test_a_client_with_many_requests_does_not_delay_another() -> None:
    greedy, other = priority_of(1, 11), priority_of(1, 22)
    batcher = Batcher(BATCHING)
    many = [(number, frame(priority=greedy)) for number in range(12)]
    batcher.add("front 1", one_frame(*many), False, 0.0)
    assert ids(batcher) == [0, 1, 2, 3]
    add(batcher, "front 2", 100, frame(priority=other))
    assert ids(batcher)[0] == 100
    batcher.add("front 2", one_frame(*[(number, frame(priority=other)) for number in (101, 102, 103)]), False, 0.0)
    batcher.add("front 1", one_frame((12, frame(priority=greedy)), (104, frame(priority=other))), False, 0.0)
    rest = [ids(batcher) for _ in range(4)]
    assert sorted(chain(*rest)) == [7, 8, 9, 10, 11, 12, 101, 102, 103, 104]
    assert {101, 102, 103, 104} < set(rest[0] + rest[1])  # in turn with as many of the first
    assert not batcher


def test_without_batching_clients_take_turns() -> None:
    greedy, other = priority_of(0, 11), priority_of(0, 22)
    batcher = Batcher(Batching())
    batcher.add("front", one_frame(*[(number, frame(priority=greedy)) for number in range(6)]), False, 0.0)
    assert ids(batcher) == [0]
    batcher.add("front", one_frame(*[(number, frame(priority=other)) for number in (10, 11)]), False, 0.0)
    assert [ids(batcher)[0] for _ in range(7)] in ([10, 1, 11, 2, 3, 4, 5], [10, 1, 2, 11, 3, 4, 5])


def test_what_may_have_killed_a_worker_runs_alone() -> None:
    batcher = batcher_with(frame(1), frame(1), frame(1), isolated=frozenset({1}))
    assert [ids(batcher), ids(batcher)] == [[0, 2], [1]]


def test_what_runs_alone_is_still_counted_in_rows() -> None:
    """Otherwise it would neither be padded to a declared size nor run in chunks."""
    (pending,), _ = batcher_with(frame(3), isolated=frozenset({0})).next(0.0)
    assert pending.rows == 3


def test_without_batching_every_request_runs_by_itself() -> None:
    batcher = batcher_with(frame(1), frame(1), batching=Batching())
    assert [ids(batcher), ids(batcher)] == [[0], [1]]


def test_another_signature_is_not_batched_unless_proven() -> None:
    batcher = batcher_with(frame(1, signature="t"), frame(1, signature="t"))
    assert ids(batcher) == [0]


def test_a_request_larger_than_a_batch_runs_by_itself() -> None:
    batcher = batcher_with(frame(9), frame(1))
    assert ids(batcher) == [0]


def test_the_queue_delay_counts_from_the_oldest() -> None:
    batcher = batcher_with(frame(1), frame(1), batching=BATCHING._replace(delay=5.0))
    batch, wait = batcher.next(2.0)
    assert (batch, wait) == (None, 3.0)
    assert ids(batcher, now=5.0) == [0, 1]


def test_a_full_batch_does_not_wait() -> None:
    batcher = batcher_with(frame(4), batching=BATCHING._replace(delay=5.0))
    assert ids(batcher, now=0.0) == [0]


def test_what_has_expired_is_taken_out() -> None:
    batcher = batcher_with(frame(deadline=1.0), frame(deadline=9.0))
    assert [pending.id for pending in batcher.take_expired(2.0)] == [0]
    assert ids(batcher) == [1]


def test_a_cancelled_request_is_gone_and_a_running_one_is_not_found() -> None:
    batcher = batcher_with(frame(), frame())
    assert batcher.cancel("front", 0)
    assert not batcher.cancel("front", 0)
    assert not batcher.cancel("another front", 1)
    assert ids(batcher) == [1]


def test_a_front_that_left_is_forgotten() -> None:
    batcher = batcher_with(frame())
    add(batcher, "other", 7, frame())
    batcher.drop_source("front")
    assert ids(batcher) == [7]


def test_padding_goes_to_the_next_declared_size() -> None:
    assert [padded_size(rows, (2, 4)) for rows in (1, 2, 3, 4, 5)] == [2, 2, 4, 4, 5]
    assert padded_size(3, ()) == 3


def of_one_frame(*frames: InferFrame, batching: Batching = BATCHING, isolated: bool = False) -> Batcher:
    made = Batcher(batching)
    made.add("front", one_frame(*enumerate(frames), dim=0), isolated, 0.0)
    return made


def test_requests_of_one_frame_are_divided_among_batches_in_order() -> None:
    batcher = of_one_frame(*[frame(2)] * 5)
    batcher.add("front", one_frame((5, frame(1)), (6, frame(1))), False, 0.0)
    assert len(batcher) == 7
    assert [ids(batcher) for _ in range(4)] == [[0, 1], [2, 3], [4, 5, 6], []]
    assert not batcher


def test_requests_of_one_frame_let_smaller_ones_pass() -> None:
    batcher = of_one_frame(*[frame(rows) for rows in (2, 3, 1, 2, 1, 9, 1, 1)])
    assert batcher.has_full_batch()
    assert [ids(batcher) for _ in range(5)] == [[0, 2, 4], [1, 6], [3, 7], [5], []]


def test_rows_that_a_frame_states_for_another_dimension_are_not_batched() -> None:
    batcher = Batcher(BATCHING)
    batcher.add("front", one_frame((0, frame(1, 1)), (1, frame(1, 2)), dim=1), False, 0.0)
    assert [ids(batcher), ids(batcher)] == [[0], [1]]


def test_requests_of_one_frame_have_deadlines_priorities_and_cancellations_of_their_own() -> None:
    later = [frame(deadline=deadline, priority=priority) for deadline, priority in ((9, 1), (1, 1), (9, 0), (9, 1))]
    batcher = of_one_frame(*later, frame(deadline=9, priority=1), frame(deadline=9, priority=1))
    assert [pending.id for pending in batcher.take_expired(2.0)] == [1]
    assert batcher.cancel("front", 4)
    assert not batcher.cancel("front", 4)
    assert len(batcher) == 4
    assert ids(batcher) == [2, 0, 3, 5]


def test_with_a_target_requests_of_one_frame_run_by_their_deadlines() -> None:
    batcher = of_one_frame(
        *[frame(deadline=deadline) for deadline in (30, 10, 20)], batching=BATCHING._replace(target=50.0)
    )
    assert ids(batcher, now=0.0) == [1]  # nothing is known about the duration, so batches start small
    assert ids(batcher, now=0.0) == [2]


def test_isolated_requests_of_one_frame_run_one_by_one() -> None:
    batcher = of_one_frame(frame(), frame(), isolated=True)
    assert [ids(batcher), ids(batcher), ids(batcher)] == [[0], [1], []]


def test_requests_that_wait_follow_a_change_of_batching() -> None:
    batcher = of_one_frame(frame(2), frame(2))
    batcher.reconfigure(Batching())
    first, second = (batcher.next(0.0)[0] for _ in range(2))
    assert first is not None
    assert second is not None
    assert [(first.ids, first.rows), (second.ids, second.rows)] == [([0], 0), ([1], 0)]


def test_requests_with_an_input_or_output_without_rows_run_alone() -> None:
    weight = from_array("w", np.zeros((1, 2), np.float32))
    with_input = frame()._replace(inputs=[*frame().inputs, weight])
    with_output = frame()._replace(outputs=["maps"])
    batching = BATCHING._replace(unbatched=frozenset({"w", "maps"}))
    batcher = batcher_with(frame(), with_input, with_output, with_input, frame(), batching=batching)
    assert [ids(batcher) for _ in range(4)] == [[0, 4], [1], [2], [3]]
