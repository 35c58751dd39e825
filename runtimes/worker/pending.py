"""One request as the worker holds it."""

from typing import Any, NamedTuple

from runtimes.wire import InferFrame


class Pending(NamedTuple):
    """
    rows  0 where the model is not batched: the request runs as it is
    key   equal for requests that may share a batch; None when it shares none
    """

    source: Any  # the connection that wants the answer
    id: int
    frame: InferFrame
    arrived: float
    rows: int
    key: Any
