"""grpcio's server with the transport in Rust. Importing this fails where pygrpc-native is not installed.

Faults of the library's release 0.5.0 are met here, by what is private to it: so pyproject.toml takes
exactly this one. Each has a test in tests/unit/front/test_grpc_native.py.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from pygrpc_native import EVENT_CANCEL
from pygrpc_native.aio import Server

_LOOK_S = 0.01


class NativeServer(Server):
    """Used as grpc.aio.Server is; `hot` are the paths of the unary methods that must not go the slow way."""

    def __init__(self, hot: Iterable[str], options: Sequence[tuple[str, Any]]) -> None:
        super().__init__(options=options)
        self._hot = frozenset(hot)
        self._front_args["metrics"] = True  # they tell when an answer is out

    async def start(self) -> None:
        """Raises RuntimeError where a hot method would be passed on to a grpcio server behind this one.

        The library does so without a word, where it finds that it cannot serve a handler itself.
        """
        await super().start()
        slow = self._hot - {path for path, _ in self._table}
        if slow:
            await super().stop(None)
            raise RuntimeError(f"these methods would not be served natively: {', '.join(sorted(slow))}")

    async def stop(self, grace: float | None) -> None:
        """Refuses new calls, and lets those under way end until `grace` is over, answers on their way included.

        The library would close as soon as the handlers have returned, and cut off what they answered.
        """
        ends = time.monotonic() + (grace or 0.0)
        first, self._stopping = not self._stopping, True
        if first:
            while self._hot_calls() and time.monotonic() < ends:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_LOOK_S)
            self._stopping = False
        await super().stop(max(0.0, ends - time.monotonic()))

    def _hot_calls(self) -> int:
        """How many of them are not answered to the last byte."""
        counts = self._front.metrics() if self._front is not None else None
        methods = [each for path, each in counts["methods"].items() if path in self._hot] if counts else []
        return sum(each["started"] - sum(ended["count"] for ended in each["status"].values()) for each in methods)

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        super()._on_events(events)
        for kind, number, *_ in events:
            call = self._calls.get(number) if kind == EVENT_CANCEL else None
            if call is not None and call.task is not None:
                # A task that is cancelled before its first step never gets to where it would be forgotten.
                call.task.add_done_callback(partial(self._forget, number))
        # The library's thread holds the list, and so its messages, until the next call comes.
        events.clear()

    def _forget(self, number: int, task: Any) -> None:
        self._calls.pop(number, None)
