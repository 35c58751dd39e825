"""Checks a tensor's datatype, shape and number of strings, for codecs and for the engine."""

from collections.abc import Iterable, Sequence

from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES

# The limit of numpy before 2.0, which older environments have.
MAX_RANK = 32
# Strings are checked one by one on the event loop; this many take about 0.3 s, during which the front answers no
# other request.
MAX_STRINGS = 1 << 18


def check_datatype(name: str, datatype: str) -> None:
    """Raises InvalidRequest if the protocol does not define the datatype, or it is not supported (BF16)."""
    if datatype not in DATATYPES:
        raise InvalidRequest(f"input '{name}' has datatype '{datatype}'; datatypes are {', '.join(DATATYPES)}")


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidRequest for too many dimensions, or negative ones.

    Codecs call it before they compute the number of elements, because a client may send a million dimensions.
    """
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"input '{name}' has {len(shape)} dimensions; at most {MAX_RANK} are supported")
    if any(size < 0 for size in shape):
        raise InvalidRequest(f"input '{name}' has shape {list(shape)}; no dimension can be negative")


def check_strings(name: str, count: int) -> None:
    """Raises InvalidRequest if there are too many strings. Codecs call it before they read them one by one."""
    if count > MAX_STRINGS:
        raise InvalidRequest(f"input '{name}' has {count} strings; at most {MAX_STRINGS} are supported in one input")


def can_fit(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether tensors can have both shapes, in which -1 is any size."""
    return len(shape) == len(other) and all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=True))


def describe_shape(shape: Iterable[int]) -> str:
    sizes = list(shape)
    return f"{sizes} (-1 is any size)" if -1 in sizes else f"{sizes}"
