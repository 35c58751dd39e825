"""How much a client may send and receive."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import prod
from typing import Any

from gateway.domain import default_limits as default
from gateway.domain.types import InferResponse
from gateway.errors import TooLarge
from runtimes.tensors import Tensor

# Objects that are created one by one in Python, on the event loop, for one request or answer. This many take about
# 0.1 s, in which the front serves nothing else.
MAX_OBJECTS = 1 << 17
# JSON of this size and more is parsed in a thread. A MiB takes about 10 ms, and up to ten times that if it is deeply
# nested. With a lower value, the change of threads costs small requests more than it saves; with a higher one, parsing
# delays all other requests of the front.
LARGE_JSON = 1 << 18


@dataclass(frozen=True)
class Limits:
    """Limits of one request and its answer, in bytes, and the slowest rate at which a client may send.

    json_bytes        a JSON body, or the JSON part of a binary one. It has its own limit because parsing JSON takes
                      about 10 ms per MiB
    binary_bytes      a body with binary tensors (v2 binary, npy, npz after unpacking) or images (also after decoding,
                      at 4 bytes per pixel), or a gRPC message
    response_bytes    the tensors of one answer
    header_timeout_s  the time in which all headers must arrive, and after which the rate of the body is checked
    min_body_rate     average bytes per second of a body; 0 for no limit
    reserve           a context in which the thread that reads a body uses as many bytes beside the body. Entering it
                      raises Overloaded if there is too little room
    """

    json_bytes: int = default.MAX_JSON_BYTES
    binary_bytes: int = default.MAX_BODY_BYTES
    response_bytes: int = default.MAX_RESPONSE_BYTES
    header_timeout_s: float = default.HEADER_TIMEOUT_S
    min_body_rate: int = default.MIN_BODY_RATE
    reserve: Callable[[int], AbstractContextManager[Any]] = nullcontext

    def is_too_slow(self, received: int, elapsed_s: float) -> bool:
        """Whether a body is below min_body_rate, with `received` bytes in `elapsed_s` seconds."""
        return elapsed_s - self.header_timeout_s > received / self.min_body_rate if self.min_body_rate else False

    @cached_property
    def json_answer_bytes(self) -> int:
        """The tensors of one answer that is written as JSON, in bytes. Writing also takes about 10 ms per MiB."""
        return 2 * self.json_bytes


def check_answer(response: InferResponse, limits: Limits) -> None:
    """Check the size of an answer before any of it is encoded. Raises TooLarge."""
    size = sum([len(tensor.data) for tensor in response.outputs])
    if size > limits.response_bytes:
        raise TooLarge(
            f"the answer has {size} bytes of tensors, over the limit of {limits.response_bytes}; "
            "send fewer rows or ask for fewer outputs"
        )


def check_json_answer(tensors: Iterable[Tensor], limits: Limits, flat: bool = False) -> None:
    """Check the size of tensors to be written as JSON. Raises TooLarge.

    `flat`: each tensor is written as one list, not as nested lists.
    """
    size = sum([len(tensor.data) or (0 if flat else _empty_lists(tensor)) for tensor in tensors])
    limit = limits.json_answer_bytes
    if size > limit:
        raise TooLarge(
            f"the answer takes {size} bytes or more, over the limit of {limit} for JSON; "
            "ask for binary outputs, or send fewer rows"
        )


def _empty_lists(tensor: Tensor) -> int:
    """The number of lists that represent a tensor without values: for shape [1000000, 0], a million."""
    return prod(takewhile(bool, tensor.shape))
