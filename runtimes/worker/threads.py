"""What the model gives to threads of its own is done for the requests for which it does so.

A thread that the model starts, and a function that it submits to a ThreadPoolExecutor, inherit the requests of the
thread that does it. Otherwise, their calls to other models would be made in the name of other clients' requests, and
end with these.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional, Tuple

# Connections of fronts, each with the id of a request.
Requests = List[Tuple[Any, int]]

# Of threads. Models may have classes of threads with attributes of their own.
_ATTRIBUTE = "_modelport_requests"
_local = threading.local()


def requests_of_thread() -> Requests:
    """Return the requests for which this thread runs, as far as that is known."""
    found: Optional[Requests] = getattr(_local, "requests", None)
    return getattr(threading.current_thread(), _ATTRIBUTE, []) if found is None else found


def run_for(requests: Optional[Requests], function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a function returns, which runs for these requests."""
    before = getattr(_local, "requests", None)
    _local.requests = requests
    try:
        return function(*arguments, **named)
    finally:
        _local.requests = before


def pass_on(current: Callable[[], Requests]) -> None:
    """Have all threads of this process inherit requests. `current`: returns those of the thread that calls it."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_for(thread: Any) -> None:
        setattr(thread, _ATTRIBUTE, current())
        start(thread)

    def submit_for(*arguments: Any, **named: Any) -> Any:
        pool, *rest = arguments
        return submit(pool, run_for, current(), *rest, **named)

    threading.Thread.start = start_for  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_for  # type: ignore[method-assign]
