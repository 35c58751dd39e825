"""Checks of one tensor's datatype, shape and strings, for codecs and for the engine."""

from collections.abc import Iterable, Sequence

from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES

# numpy's limit before 2.0, which older environments have.
MAX_RANK = 32
# Strings are looked at one by one, on the event loop: a quarter of a million take about 0.3 s.
MAX_STRINGS = 1 << 18


def check_datatype(name: str, datatype: str) -> None:
    """Raises InvalidRequest for one that the protocol lacks, or that is not served (BF16)."""
    if datatype not in DATATYPES:
        raise InvalidRequest(f"input '{name}' has datatype '{datatype}'; datatypes are {', '.join(DATATYPES)}")


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidRequest. Codecs call it before they multiply what may be a million sizes."""
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"input '{name}' has {len(shape)} dimensions; at most {MAX_RANK} are served")
    if any(size < 0 for size in shape):
        raise InvalidRequest(f"input '{name}' has shape {list(shape)}; no dimension can be negative")


def check_strings(name: str, count: int) -> None:
    """Raises InvalidRequest. Codecs call it before they look at each of them."""
    if count > MAX_STRINGS:
        raise InvalidRequest(f"input '{name}' has {count} strings; at most {MAX_STRINGS} are served in one input")


def describe_shape(shape: Iterable[int]) -> str:
    sizes = list(shape)
    return f"{sizes} (-1 is any size)" if -1 in sizes else f"{sizes}"
