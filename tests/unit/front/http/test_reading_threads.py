"""What follows the work of threads, on the event loop."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.engine.protocol import ClientDisconnected
from gateway.front.http.reading_threads import ReadingThreads


def _raise(error: BaseException) -> Any:
    raise error


def test_results_and_errors_come_back_on_the_loop() -> None:
    async def main() -> None:
        with ThreadPoolExecutor(2) as executor:
            threads, ended, mine = ReadingThreads(executor), asyncio.Queue[Any](), threading.get_ident()

            def end(value: Any) -> None:
                assert threading.get_ident() == mine
                ended.put_nowait(value)

            threads.submit(threading.get_ident, end, end)
            assert await ended.get() != mine
            failure = ValueError("why")
            threads.submit(lambda: _raise(failure), lambda result: end("a result"), end)
            assert await ended.get() is failure
            threads.submit(lambda: _raise(SystemExit()), lambda result: end("a result"), end)
            assert isinstance(await ended.get(), ClientDisconnected)

    asyncio.run(main())


def test_what_has_ended_meanwhile_comes_together_and_in_order() -> None:
    async def main() -> None:
        loop, woken = asyncio.get_running_loop(), 0
        with ThreadPoolExecutor(1) as executor:
            threads, done, turn = ReadingThreads(executor), asyncio.Event(), list[int]()

            def end(number: int) -> None:
                turn.append(number)
                if len(turn) == 100:
                    done.set()

            wake = loop.call_soon_threadsafe

            def count(*arguments: Any, **keywords: Any) -> asyncio.Handle:
                nonlocal woken
                woken += 1
                return wake(*arguments, **keywords)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "call_soon_threadsafe", count)
                for number in range(100):
                    threads.submit(lambda number=number: number, end, end)  # type: ignore[misc]
                executor.submit(lambda: None).result()  # the loop has not looked since
                await done.wait()
            assert turn == list(range(100))
            assert woken == 1

    asyncio.run(main())


def test_a_failure_of_what_follows_concerns_nothing_else() -> None:
    async def main() -> None:
        reported, done = list[Any](), asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        with ThreadPoolExecutor(1) as executor:
            threads = ReadingThreads(executor)
            threads.submit(lambda: 1, lambda result: _raise(KeyError(result)), _raise)
            threads.submit(lambda: 2, lambda result: done.set(), _raise)
            await done.wait()
        assert [type(each) for each in reported] == [KeyError]

    asyncio.run(main())


def test_nothing_of_a_request_is_kept_once_it_has_ended() -> None:
    """Not until the garbage collector runs: fronts rarely run it."""

    class Body:
        def read(self) -> Any:
            raise ValueError

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            threads, done, body = ReadingThreads(executor), asyncio.Event(), Body()
            seen = weakref.ref(body)
            threads.submit(body.read, lambda result: None, lambda error: done.set())
            del body
            await done.wait()
            executor.submit(lambda: None).result()  # the thread has let go of the work
            assert seen() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
