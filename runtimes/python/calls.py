"""Requests of a Python model to other models, in both forms."""

import asyncio
import inspect
import threading
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

import numpy as np

from runtimes.contract import Call, CallFailed

from .arrays import encoded

Arrays = Dict[str, np.ndarray]


def begin(
    calls: Any, call: Call, inputs: Arrays, on_answer: Callable[[], None] = lambda: None, copies: bool = False
) -> Any:
    """Send a call and return its Answers. Raises CallFailed."""
    if calls is None:
        raise CallFailed("unavailable", "a model can call other models only in a gateway", call.model)
    return calls.begin(call, inputs, on_answer, copies)


class Caller:
    """What `call` and `stream` of a model's context are.

    is_used  whether the model has asked for one of them
    """

    def __init__(self, calls: Any) -> None:
        self._calls = calls
        self.is_used = False

    def call(
        self,
        model: str,
        inputs: Dict[str, Any],
        outputs: Sequence[str] = (),
        version: str = "",
        parameters: Optional[Dict[str, Any]] = None,
        timeout_s: float = 0.0,
    ) -> Arrays:
        """Send a request to another model of the gateway, and return its outputs by name.

        inputs      arrays by name. Strings are arrays of texts or bytes
        outputs     the names of the wanted outputs; without any, all
        version     its number or label; "" is the newest one
        parameters  of the request, if the model reads any
        timeout_s   how long the answer may take; 0 is as long as the request that this model answers

        Raises modelport.CallFailed.
        """
        call = Call(model, version, outputs, "", parameters or {}, timeout_s=timeout_s)
        found: Optional[Arrays] = begin(self._calls, call, _arrays(inputs)).next()
        return found or {}

    def stream(
        self,
        model: str,
        inputs: Dict[str, Any],
        outputs: Sequence[str] = (),
        version: str = "",
        parameters: Optional[Dict[str, Any]] = None,
        timeout_s: float = 0.0,
    ) -> Iterator[Arrays]:
        """Do what `call` does for a model that gives any number of answers, and yield each of them.

        The called model stops after a few answers that were not taken. It is cancelled if the iterator is closed.
        """
        call = Call(model, version, outputs, "", parameters or {}, timeout_s=timeout_s, takes_many=True)
        answers = begin(self._calls, call, _arrays(inputs))
        try:
            while True:
                answer = answers.next()
                if answer is None:
                    return
                if answer:
                    yield answer
        finally:
            answers.cancel()


def _arrays(inputs: Dict[str, Any]) -> Arrays:
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    return {name: encoded(array) if array.dtype.kind in "SUO" else array for name, array in arrays.items()}


class Waiter:
    """Resolves futures of asyncio when an answer of a call arrives, which another thread learns."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls
        self._lock = threading.Lock()
        self._pending: Any = None  # the loop, the future, and what lets the clock go on

    def future(self) -> Any:
        """Return a future that is resolved with None when the next answer arrives."""
        loop = asyncio.get_event_loop()
        future = loop.create_future()
        self._pending = loop, future, self._calls.begin_waiting()
        return future

    def on_answer(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, None
        if pending is None:
            return
        loop, future, end_waiting = pending
        end_waiting()
        try:
            loop.call_soon_threadsafe(_resolve, future)
        except RuntimeError:
            pass  # the loop is closed, so nobody waits


def _resolve(future: Any) -> None:
    if not future.done():
        future.set_result(None)


class Coroutines:
    """Runs what a model returns to its end, if that is a coroutine, on one event loop for all of them."""

    def __init__(self) -> None:
        self._loop: Any = None

    def finished(self, returned: Any) -> Any:
        """Return what the coroutine returns, or `returned` itself if it is none."""
        if not inspect.iscoroutine(returned):
            return returned
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(returned)
