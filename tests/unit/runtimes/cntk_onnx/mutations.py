"""Mutations of CNTK's files: of their bytes, or of the dictionary in them."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from runtimes.cntk_onnx.dictionary import Axis, Shape

MODELS = Path(__file__).parent / "models"
Edit = tuple[float, str, bytes]
Change = tuple[list[int], str, Any]

HOW_EDITED = ("set", "drop", "insert", "copy", "cut")
HOW_CHANGED = ("set", "drop", "move", "nudge")
NUMBERS = [0, 1, -1, 2, 3, 7, 31, 57, 63, 1 << 31, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1, -(1 << 63), (1 << 64) - 1]
FLOATS = [0.0, -1.0, float("inf"), float("nan"), 1e300]
TEXTS = ["", "Input3", "Plus471_Output_0", "x_Output_99999999999", "Sum", "é" * 50]
SIZES = [-1, -3, 0, 1, 2, 3, 5, 24, 1 << 20, 1 << 40, 1 << 62]
AXES = ["", "staticAxisIdx=0", "defaultBatchAxis", "AllStaticAxes"]
OTHERS: list[Any] = [None, True, False, [], {}, np.zeros((2, 3), np.float32), np.zeros((), np.float64)]


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Apply edits: the position as a fraction of the length, the kind of edit, and its bytes."""
    for fraction, how, given_bytes in edits:
        at = int(fraction * len(data))
        if how == "set":
            data = data[:at] + given_bytes + data[at + len(given_bytes) :]
        elif how == "drop":
            data = data[:at] + data[at + len(given_bytes) :]
        elif how == "insert":
            data = data[:at] + given_bytes + data[at:]
        elif how == "copy":
            data = data[:at] + data[at // 2 : at // 2 + 40] + data[at:]
        else:
            data = data[:at] or data
    return data


def changed(value: Any, change: Change) -> Any:
    """Return a copy with one change. The path contains, for each level, the number of the child, modulo their count."""
    path, how, new = change
    if not path or not isinstance(value, dict | list) or not value:
        return new
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key = keys[path[0] % len(keys)]
    copy = value.copy()
    if len(path) > 1 and isinstance(value[key], dict | list):
        copy[key] = changed(value[key], (path[1:], how, new))
    elif how == "drop":
        del copy[key]
    elif how == "move":  # replace it by a sibling
        copy[key] = value[keys[path[0] // 7 % len(keys)]]
    elif how == "nudge":
        copy[key] = nudged(value[key], path[-1] // 7)
    else:
        copy[key] = new
    return copy


def nudged(value: Any, by: int) -> Any:
    """Return a slightly different value. Most values that differ more are refused early, before they can do harm."""
    step = by % 5 - 2
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + step
    if isinstance(value, Shape):
        sizes = list(value) or [1]
        sizes[by // 5 % len(sizes)] += step
        return Shape(sizes if by % 7 else [*sizes, step])
    if isinstance(value, Axis):
        return value._replace(index=value.index + step)
    if isinstance(value, np.ndarray):
        return value.reshape(-1)[: value.size + step].copy() if by % 2 else value * step
    return value


def random_edits(random: Random) -> list[Edit]:
    return [
        (random.random(), random.choice(HOW_EDITED), random.randbytes(random.randint(0, 12)))
        for _ in range(random.randint(1, 4))
    ]


def random_changes(random: Random) -> list[Change]:
    return [
        (
            [random.randint(0, 10**6) for _ in range(random.randint(1, 7))],
            random.choice(HOW_CHANGED),
            random_thing(random),
        )
        for _ in range(random.randint(1, 3))
    ]


def random_thing(random: Random) -> Any:
    kind = random.randrange(6)
    if kind == 4:
        return Shape([random.choice(SIZES) for _ in range(random.randint(0, 6))])
    if kind == 5:
        return Axis(random.choice(NUMBERS), random.choice(AXES))
    return random.choice([NUMBERS, FLOATS, TEXTS, OTHERS][kind])
