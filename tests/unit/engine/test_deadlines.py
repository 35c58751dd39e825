"""Deadlines: one timer for all items with the same timeout, tested with a simulated clock."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.engine.deadlines import Deadlines


class Loop(asyncio.SelectorEventLoop):
    now = 0.0

    def time(self) -> float:
        return self.now

    def pass_to(self, now: float) -> None:
        async def turns() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        self.now = now
        self.run_until_complete(turns())


@dataclass(eq=False)
class Due:
    id: int
    deadline: float


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_each_item_expires_once_and_on_time(loop: Loop) -> None:
    expired: list[int] = []
    deadlines: Deadlines[Due] = Deadlines(lambda due: expired.append(due.id))

    async def add(due: Due, patience: float | None) -> Due:
        deadlines.add(due, patience)
        return due

    loop.run_until_complete(add(Due(1, 10), 10))
    loop.pass_to(2)
    second = loop.run_until_complete(add(Due(2, 12), 10))
    loop.run_until_complete(add(Due(3, 5), 3))
    loop.run_until_complete(add(Due(4, 4), None))
    fifth = loop.run_until_complete(add(Due(5, 6), None))
    loop.pass_to(4.5)
    assert expired == [4]
    deadlines.remove(fifth, None)
    loop.pass_to(9)
    assert expired == [4, 3]
    loop.pass_to(11)
    assert expired == [4, 3, 1]
    deadlines.remove(second, 10)
    loop.pass_to(100)
    assert expired == [4, 3, 1]


def test_a_bucket_that_was_empty_is_watched_again(loop: Loop) -> None:
    expired: list[int] = []
    deadlines: Deadlines[Due] = Deadlines(lambda due: expired.append(due.id))

    async def add(due: Due) -> None:
        deadlines.add(due, 10)

    loop.run_until_complete(add(Due(1, 10)))
    loop.pass_to(10)
    loop.pass_to(50)
    loop.run_until_complete(add(Due(2, 60)))
    loop.pass_to(59)
    assert expired == [1]
    loop.pass_to(60)
    assert expired == [1, 2]


def test_deadlines_of_their_own_expire_in_order_whatever_is_added_and_removed(loop: Loop) -> None:
    chance = random.Random(7)
    expired: list[int] = []
    deadlines: Deadlines[Due] = Deadlines(lambda due: expired.append(due.id))
    watched: dict[int, Due] = {}

    async def change(now: float) -> None:
        for number in range(20):
            due = Due(int(now) * 100 + number, now + chance.uniform(0.1, 30))
            watched[due.id] = due
            deadlines.add(due, None)
        for number in chance.sample(sorted(watched), len(watched) // 2):
            deadlines.remove(watched.pop(number), None)

    for now in range(1, 60):
        loop.pass_to(now)
        due = sorted((each for each in watched.values() if each.deadline <= now), key=lambda each: each.deadline)
        assert expired == [each.id for each in due]
        for each in due:
            del watched[each.id]
        expired.clear()
        loop.run_until_complete(change(now))
        assert len(deadlines._own._entries) <= 2 * len(watched) + 64 + 20
    for each in watched.values():
        deadlines.remove(each, None)
    loop.pass_to(1000)
    assert expired == []
    assert deadlines._timer is None


def test_an_item_that_another_ones_expiry_removes_does_not_expire(loop: Loop) -> None:
    expired: list[int] = []
    first, second = Due(1, 5), Due(2, 5)

    def expire(due: Due) -> None:
        expired.append(due.id)
        deadlines.remove(second if due is first else first, None)

    deadlines: Deadlines[Due] = Deadlines(expire)

    async def add() -> None:
        deadlines.add(first, None)
        deadlines.add(second, None)

    loop.run_until_complete(add())
    loop.pass_to(6)
    assert expired == [1]
