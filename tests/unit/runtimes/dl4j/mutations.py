"""Mutations of a small network's file, as in a broken or hostile one."""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

# Values to put where something else is expected.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 5, 7, -1, -2, 64, 1000, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, -(1 << 31)),
    *(1 << 62, 1 << 63, -(1 << 63), 10**400, 0.5, 1.0, -1.0, 1e-320, 1e30, 1e300, float("nan"), float("inf")),
    *("", "in", "in0", "NHWC", "NWC", "NDHWC", "NCHW", "nwc", "Same", "Causal", "MAX", "PNORM", "CONCAT", "7"),
    *("\ud800", "é" * 50, "a\nb", "\0", "softmax", "ActivationLayer", "ActivationLayer_1", "sizes", "N"),
    *([], [0], [1], [2], [1, 1], [0, 0], [1, 0], [2, 3], [3, 2, 2], [-1], [-1, 1], [1, 2, 3, 4], [1 << 20, 1 << 20]),
    *([-1, *[1] * 70], [[1]], ["in"], ["in", "in"], [None], [True], [1.5], [1 << 63]),
    *({}, {"@class": 5}, {"@class": ""}, {"layer": {}}, {"dense": {}}, {"@class": "org.nd4j."}),
)

Path = tuple[Any, ...]
# A position (chosen by the first two numbers), how it is changed, and the new value.
Change = tuple[int, int, str, int]
HOW = ("set", "set", "set", "drop", "move", "wrap", "twice")


def changed(configuration: dict[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """Return a copy with a few changes."""
    copy: dict[str, Any] = json.loads(json.dumps(configuration))
    for first, second, how, by in changes:
        places = list(_places(copy, ()))
        if places:
            _change(copy, places[first % len(places)], places[second % len(places)], how, by)
    return copy


def _change(root: Any, place: Path, other: Path, how: str, by: int) -> None:
    holder = _at(root, place[:-1])
    key = place[-1]
    if how == "drop":
        del holder[key]
    elif how == "move":
        holder[key] = json.loads(json.dumps(_at(root, other)))
    elif how == "wrap":
        holder[key] = [[holder[key]], {"a": holder[key]}, {"@class": holder[key]}][by % 3]
    elif how == "twice":
        holder[key] = [deepcopy(holder[key]) for _ in range(2 + by % 2)]
    else:
        holder[key] = deepcopy(ODD[by % len(ODD)])


def _at(root: Any, path: Path) -> Any:
    for key in path:
        root = root[key]
    return root


# Fields that only training reads, so changing them has no effect.
_TRAINING = (
    "updater",
    "weightInit",
    "Noise",
    "egularization",
    "lossFn",
    "cudnn",
    "Workspace",
    "Count",
    "tbptt",
    "seed",
)


def _places(value: Any, path: Path) -> Iterator[Path]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = [(key, each) for key, each in value.items() if not any(word in key for word in _TRAINING)]
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield (*path, key)
        yield from _places(each, (*path, key))


def edited(data: bytes, edits: Sequence[tuple[float, str, bytes]]) -> bytes:
    """Return the bytes with a few of them changed, dropped, inserted, copied or cut off."""
    for place, how, given in edits:
        at = int(place * len(data))
        if how == "set":
            data = data[:at] + given + data[at + len(given) :]
        elif how == "drop":
            data = data[:at] + data[at + len(given) :]
        elif how == "insert":
            data = data[:at] + given + data[at:]
        elif how == "copy":
            data = data[:at] + data[at // 2 : at // 2 + 40] + data[at:]
        else:
            data = data[:at]
    return data
