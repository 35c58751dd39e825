"""Whatever a file holds, it is translated or refused with a sentence, soon and in little memory."""

import os
import time
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.cntk_onnx.dictionary import Axis, Shape, read
from runtimes.cntk_onnx.functions import network
from runtimes.cntk_onnx.translate import translate, translate_network
from runtimes.contract import LoadError

MODELS = Path(__file__).parent / "models"
# Small ones that hold what there is: loops, windows, every kind of attribute.
BASES = (
    *("loop_of_two_steps", "lstm", "convolution_groups", "sequence_moves", "slices", "shapes", "numbers", "pooling"),
    *("normalization", "products", "sequence_places", "free_size", "convolution_transposed", "reductions", "best"),
    *("cast", "chances", "binary", "sequence_as_axis", "no_batch"),
)
# `CNTK_FUZZ=100000 pytest …` looks longer, elsewhere each time.
EXAMPLES = int(os.environ.get("CNTK_FUZZ", "0"))
SECONDS, BYTES = 20.0, 64 << 20
fuzzed = settings(
    max_examples=EXAMPLES or 120,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@cache
def base(name: str) -> bytes:
    return (MODELS / f"{name}.model").read_bytes()


def survives(made: Any) -> None:
    """It gives an ONNX model that can be told, or refuses with one sentence."""
    began = time.process_time()
    try:
        found = made()
        assert isinstance(found, onnx.ModelProto)
        found.SerializeToString()
    except LoadError as error:
        told = str(error)
    else:
        told = "it is translated"
    assert 0 < len(told) < 1000
    assert time.process_time() - began < SECONDS


@fuzzed
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    survives(lambda: translate(data))


edit = st.tuples(
    st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "drop", "insert", "copy", "cut"]), st.binary(max_size=12)
)


def edited(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, how, given_bytes in edits:
        at = int(place * len(data))
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


@fuzzed
@given(st.sampled_from(BASES), st.lists(edit, min_size=1, max_size=4))
def test_a_model_with_other_bytes(name: str, edits: list[tuple[float, str, bytes]]) -> None:
    survives(lambda: translate(edited(base(name), edits)))


NUMBERS = [0, 1, -1, 2, 3, 7, 31, 57, 63, 1 << 31, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1, -(1 << 63), (1 << 64) - 1]
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from([0.0, -1.0, float("inf"), float("nan"), 1e300]),
    st.sampled_from(["", "Input3", "Plus471_Output_0", "x_Output_99999999999", "Sum", "é" * 50]),
    st.lists(st.sampled_from([-1, -3, 0, 1, 2, 3, 5, 24, 1 << 20, 1 << 40, 1 << 62]), max_size=6).map(Shape),
    st.builds(
        Axis, st.sampled_from(NUMBERS), st.sampled_from(["", "staticAxisIdx=0", "defaultBatchAxis", "AllStaticAxes"])
    ),
    st.just([]),
    st.just({}),
    st.just(np.zeros((2, 3), np.float32)),
    st.just(np.zeros((), np.float64)),
)
change = st.tuples(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=7), st.sampled_from(["set", "drop", "move"]), odd
)


def changed(value: Any, change: tuple[list[int], str, Any]) -> Any:
    """A copy of a dictionary with one thing in it that is another: its path chooses by counting."""
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
    elif how == "move":  # what stands elsewhere in the same place
        copy[key] = value[keys[path[0] // 7 % len(keys)]]
    else:
        copy[key] = new
    return copy


@fuzzed
@given(st.sampled_from(BASES), st.lists(change, min_size=1, max_size=3))
def test_a_model_that_says_something_else(name: str, changes: list[tuple[list[int], str, Any]]) -> None:
    root = read(base(name))
    for each in changes:
        root = changed(root, each)
    if isinstance(root, dict):
        survives(lambda: translate_network(network(root)))


def function(uid: str, op: int, inputs: list[str], **attributes: Any) -> dict[str, Any]:
    return {"type": "PrimitiveFunction", "uid": uid, "op": op, "inputs": inputs, "attributes": attributes}


def block(uid: str, root: str, keys: list[str], values: list[str]) -> dict[str, Any]:
    return function(uid, 57, values) | {
        "block_function_composite": {"root": root},
        "block_function_composite_arguments_map_keys": keys,
        "block_function_composite_arguments_map_values": values,
    }


def variable(uid: str, kind: int, *shape: int, **others: Any) -> dict[str, Any]:
    axes = [Axis(0, "defaultBatchAxis")] if kind == 0 else []
    return {"uid": uid, "kind": kind, "shape": Shape(shape), "dynamic_axis": axes, "data_type": 1, **others}


def whole(functions: list[dict[str, Any]], variables: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "CompositeFunction",
        "version": 3,
        "root": functions[-1]["uid"],
        "primitive_functions": functions,
        "inputs": variables,
    }


MANY = 20000
X, P = variable("x", 0, 4), variable("p", 4, 4)
SQUARE = np.ones((4, 4), np.float32)
ZERO = variable("c", 3, value=np.zeros((), np.float32))
ROOTS: dict[str, tuple[dict[str, Any], str]] = {
    "a block in itself": (whole([block("b", "b", [], [])], []), "hold each other|stands for itself"),
    "blocks in each other": (whole([block("a", "b", [], []), block("b", "a", [], [])], []), "each other|itself"),
    "a placeholder that is itself": (whole([function("f", 3, ["p"]), block("b", "f", ["p"], ["p"])], [P]), "itself"),
    "a function of itself": (whole([function("f", 3, ["f_Output_0"])], []), "without a delay"),
    "functions of each other": (
        whole([function("f", 3, ["g_Output_0"]), function("g", 3, ["f_Output_0"])], []),
        "without a delay",
    ),
    "a loop of nothing": (
        whole(
            [function("f", 37, ["f_Output_0", "c"], offset=1)], [variable("c", 3, value=np.float32([0]).reshape(()))]
        ),
        "reads no sequence",
    ),
    "a placeholder that is nothing": (whole([function("f", 3, ["p"])], [P]), "never replaced"),
    "an input that is nothing": (whole([function("f", 3, ["y"])], []), "nothing is called so"),
    "an output that is not there": (
        whole([function("f", 3, ["x"]), function("g", 3, ["f_Output_7"])], [X]),
        "has no output 7",
    ),
    "one uid twice": (whole([function("f", 3, ["x"])] * 2, [X]), "one uid"),
    "another operation": (whole([function("f", 4711, ["x"])], [X]), "an operation 4711"),
    "a user function": (
        whole([{"type": "UserDefinedFunction", "uid": "f", "name": "mine", "inputs": ["x"]}], [X]),
        "a user function .'mine'",
    ),
    "no inputs": (whole([function("f", 43, [], axis=Axis(0))], []), "no inputs"),
    "too many inputs": (whole([function("f", 3, ["x"] * 9)], [X]), "9 inputs where 1"),
    "a size that overflows": (whole([function("f", 3, ["y"])], [variable("y", 0, 1 << 62, 1 << 62)]), "the shape"),
    "doubling": (
        whole([function(f"f{n}", 43, [f"f{n - 1}_Output_0" if n else "x"] * 2, axis=Axis(0)) for n in range(80)], [X]),
        "more values than",
    ),
    "many classes": (whole([function("f", 68, ["x"], numClass=1 << 60)], [X]), "classes"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_cannot_be_is_refused(name: str) -> None:
    root, told = ROOTS[name]
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match=told):
            translate_network(network(root))
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


def chain() -> dict[str, Any]:
    functions = [function(f"f{n}", 3, [f"f{n - 1}_Output_0" if n else "x"]) for n in range(MANY)]
    return whole(functions, [X])


def chain_of_blocks() -> dict[str, Any]:
    """Each stands for the next: whoever follows that anew for each takes the square of their number."""
    blocks = [block(f"b{n}", f"b{n + 1}" if n + 1 < MANY else "f", [], []) for n in range(MANY)]
    readers = [function(f"r{n}", 3, [f"b{n}_Output_0"]) for n in range(MANY)]
    every = function("all", 44, [f"r{n}_Output_0" for n in range(MANY)])
    return whole([*blocks, *readers, function("f", 3, ["x"]), every], [X])


def many_loops() -> dict[str, Any]:
    s = variable("s", 0, 4) | {"dynamic_axis": [Axis(0, "t", True), Axis(0, "defaultBatchAxis")]}
    functions = []
    count = MANY // 8
    for n in range(count):
        functions.append(function(f"d{n}", 37, [f"a{n}_Output_0", "c"], offset=1))
        functions.append(function(f"a{n}", 19, [f"d{n}_Output_0", f"a{n - 1}_Output_0" if n else "s"]))
    placeholders = [variable(f"a{n}_Output_0", 4, 4) for n in range(count)]
    return whole([*functions, function("r", 3, [f"a{count - 1}_Output_0"])], [s, ZERO, *placeholders])


def one_name() -> dict[str, Any]:
    inputs = [variable(f"i{n}", 0, 4, name="same") for n in range(MANY)]
    functions = [function(f"f{n}", 3, [f"i{n}"]) | {"name": "same"} for n in range(MANY)]
    return whole([*functions, function("all", 44, [f"f{n}_Output_0" for n in range(MANY)])], inputs)


@pytest.mark.parametrize("build", [chain, chain_of_blocks, many_loops, one_name])
def test_long_models_take_time_by_their_length(build: Any) -> None:
    root = build()
    began = time.process_time()
    translate_network(network(root))
    assert time.process_time() - began < SECONDS
