"""Deadlines: one timer for all items with the same timeout, tested with a simulated clock."""

import asyncio
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
