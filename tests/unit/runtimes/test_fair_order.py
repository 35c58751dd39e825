"""Start-time fair queueing: who is next, and that nobody waits for ever."""

import random

import pytest

from runtimes.fair_order import MAX_FLOW, FairOrder, level_and_flow, priority_of


@pytest.mark.parametrize(("level", "flow"), [(0, 0), (1, 0), (3, 1), ((1 << 31) - 1, MAX_FLOW), (0, MAX_FLOW)])
def test_a_priority_carries_level_and_flow(level: int, flow: int) -> None:
    priority = priority_of(level, flow)
    assert level_and_flow(priority) == (level, flow)
    assert -(1 << 63) <= priority < 1 << 63


def test_without_known_clients_there_is_only_the_order_of_arrival() -> None:
    order = FairOrder()
    assert [order.rank(level, 0, 5) for level in (1, 1, 2)] == [0.0] * 3


def test_a_newcomer_is_next() -> None:
    order = FairOrder()
    busy = [order.rank(1, 7, 1) for _ in range(100)]
    for rank in busy[:10]:
        order.served(1, rank)
    assert busy[9] <= order.rank(1, 8, 1) < busy[10]
    assert order.rank(2, 8, 1) < busy[1]  # another level has an order of its own


def test_clients_that_always_have_requests_get_the_same_number_of_rows() -> None:
    order, random_ = FairOrder(), random.Random(0)
    waiting: dict[int, list[tuple[float, int]]] = {1: [], 2: [], 3: []}
    got = dict.fromkeys(waiting, 0)
    sizes = {1: (1, 1), 2: (1, 9), 3: (8, 8)}
    for _ in range(3000):
        for flow, requests in waiting.items():
            while len(requests) < 20:
                rows = random_.randint(*sizes[flow])
                requests.append((order.rank(1, flow, rows), rows))
        flow = min(waiting, key=lambda flow: waiting[flow][0])
        rank, rows = waiting[flow].pop(0)
        order.served(1, rank)
        got[flow] += rows
    assert max(got.values()) - min(got.values()) <= 3 * 9


def test_a_request_that_never_ran_is_given_back() -> None:
    order = FairOrder()
    order.rank(1, 7, 1)
    second = order.rank(1, 7, 100)
    order.give_back(1, 7, 100)
    assert order.rank(1, 7, 1) == second


def test_clients_that_have_nothing_waiting_are_forgotten() -> None:
    order = FairOrder()
    for flow in range(1, 100_000):
        order.served(1, order.rank(1, flow, 1) + 1)
    assert len(order._ends[1]) < 5000
