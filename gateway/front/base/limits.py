"""How much a client may send, and be sent."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from math import prod

from gateway.domain import default_limits as default
from gateway.domain.types import InferResponse
from gateway.errors import TooLarge
from runtimes.tensors import Tensor

# What is made one by one in Python, on the event loop, for one request or answer: so many take about 0.1 s.
MAX_OBJECTS = 1 << 17
# From here on JSON is read in a thread: a MiB of it takes some 10 ms, and up to ten times that of lists in lists.
LARGE_JSON = 1 << 18


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bytes, and how slowly they may come.

    json_bytes      a JSON body, or the JSON part of a binary one. Its own limit, since parsing
                    JSON stops the event loop for about 10 ms a MiB
    binary_bytes    a body with binary tensors (v2 binary, npy, npz unpacked) or images, these also decoded,
                    at 4 bytes a pixel; or a gRPC message
    response_bytes  the tensors of one answer
    header_timeout_s  in which the headers of a request must come; and its body has so long before its rate counts
    min_body_rate   bytes a second, on average; 0 for any
    """

    json_bytes: int = default.MAX_JSON_BYTES
    binary_bytes: int = default.MAX_BODY_BYTES
    response_bytes: int = default.MAX_RESPONSE_BYTES
    header_timeout_s: float = default.HEADER_TIMEOUT_S
    min_body_rate: int = default.MIN_BODY_RATE

    def is_too_slow(self, received: int, elapsed_s: float) -> bool:
        """Of the bytes of a body that came in so many seconds."""
        return elapsed_s - self.header_timeout_s > received / self.min_body_rate if self.min_body_rate else False

    @property
    def json_answer_bytes(self) -> int:
        """The tensors of one answer that are written as JSON: that takes about 10 ms a MiB, too."""
        return 2 * self.json_bytes


def check_answer(response: InferResponse, limits: Limits) -> None:
    """Raises TooLarge, before anything of the answer is encoded."""
    size = sum([len(tensor.data) for tensor in response.outputs])
    if size > limits.response_bytes:
        raise TooLarge(
            f"the answer has {size} bytes of tensors, over the limit of {limits.response_bytes}; "
            "send fewer rows or ask for fewer outputs"
        )


def check_json_answer(tensors: Iterable[Tensor], limits: Limits, flat: bool = False) -> None:
    """`flat`: each tensor is written as one list, not as lists in lists. Raises TooLarge."""
    size = sum([len(tensor.data) or (0 if flat else _empty_lists(tensor)) for tensor in tensors])
    most = limits.json_answer_bytes
    if size > most:
        raise TooLarge(
            f"the answer takes {size} bytes or more, over the limit of {most} for JSON; "
            "ask for binary outputs, or send fewer rows"
        )


def _empty_lists(tensor: Tensor) -> int:
    """How many lists a tensor without values is written as: a shape of [1000000, 0] is a million of them."""
    return prod(takewhile(bool, tensor.shape))
