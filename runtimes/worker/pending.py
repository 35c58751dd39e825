"""A request in the worker's queue."""

from typing import Any, NamedTuple

from runtimes.wire import InferFrame


class Pending(NamedTuple):
    """A request that waits or runs.

    source   the connection that the result goes to
    arrived  time.monotonic() seconds
    rows     0 if the model is not batched: the request runs as it is
    key      equal for requests that may share a batch; None if this one must run alone
    """

    source: Any
    id: int
    frame: InferFrame
    arrived: float
    rows: int
    key: Any
