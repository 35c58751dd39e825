"""What a thread hands over to the event loop arrives completely and in order."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from gateway.front.grpc.mailbox import Mailbox

_COUNT = 20_000


def descriptors() -> set[int]:
    found = set()
    for descriptor in range(256):
        with suppress(OSError):
            os.fstat(descriptor)
            found.add(descriptor)
    return found


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_all_batches_arrive_in_order(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        received: list[int] = []
        done = asyncio.Event()

        def receive(batch: list[int]) -> None:
            received.extend(batch)
            if received[-1] == _COUNT - 1:
                done.set()

        before = descriptors()
        mailbox = Mailbox(asyncio.get_running_loop(), receive)

        def work() -> None:
            for number in range(_COUNT):
                mailbox.put([number])

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        await asyncio.to_thread(thread.join)
        mailbox.close()
        assert received == list(range(_COUNT))
        assert descriptors() <= before

    run(main())


def test_what_was_put_last_is_handed_over_when_it_is_closed() -> None:
    async def main() -> None:
        received: list[list[int]] = []
        mailbox = Mailbox(asyncio.get_running_loop(), received.append)
        mailbox.put([1])
        mailbox.put([2])
        assert not received
        mailbox.close()
        assert received == [[1], [2]]

    uvloop.run(main())


def test_a_batch_that_cannot_be_handled_keeps_no_other_from_it() -> None:
    async def main() -> None:
        loop, received, reported = asyncio.get_running_loop(), asyncio.Event(), []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

        def receive(batch: list[int]) -> None:
            if not batch:
                raise ValueError("empty")
            received.set()

        mailbox = Mailbox(loop, receive)
        mailbox.put([])
        mailbox.put([1])
        await received.wait()
        assert [str(error) for error in reported] == ["empty"]
        mailbox.close()

    uvloop.run(main())


def test_a_closed_loop_takes_nothing() -> None:
    async def make() -> Mailbox:
        return Mailbox(asyncio.get_running_loop(), lambda batch: None)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        mailbox = runner.run(make())
    with pytest.raises(RuntimeError, match="closed"):
        mailbox.put([1])
    for descriptor in (mailbox._reader, mailbox._writer):
        os.close(descriptor)
