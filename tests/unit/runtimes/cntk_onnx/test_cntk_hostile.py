"""Whatever a file contains, it is either translated or refused with a sentence, within bounded time and memory."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from runtimes.cntk_onnx.dictionary import Axis, Shape
from runtimes.cntk_onnx.functions import network
from runtimes.cntk_onnx.translate import translate_network
from runtimes.contract import LoadError
from runtimes.onnx import builder

SECONDS, BYTES = 20.0, 64 << 20
MAX_MESSAGE_LENGTH = 1000


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
IMAGE, KERNEL = variable("i", 0, 4, 4, 1), variable("k", 3, 3, 3, 1, 1, value=np.ones((1, 1, 3, 3), np.float32))
ZERO = variable("c", 3, value=np.zeros((), np.float32))
COLUMN = variable("a", 2, 1, 1 << 14, value=np.ones((1 << 14, 1), np.float32))
ROW = variable("b", 2, 1 << 14, 1, value=np.ones((1, 1 << 14), np.float32))
ROOTS: dict[str, tuple[dict[str, Any], str]] = {
    "a block in itself": (whole([block("b", "b", [], [])], []), "contain each other|refers to itself"),
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
    "an input that is nothing": (whole([function("f", 3, ["y"])], []), "but not defined"),
    "an output that is not there": (
        whole([function("f", 3, ["x"]), function("g", 3, ["f_Output_7"])], [X]),
        "has no output 7",
    ),
    "one uid twice": (whole([function("f", 3, ["x"])] * 2, [X]), "the same uid"),
    "another operation": (whole([function("f", 4711, ["x"])], [X]), "an operation 4711"),
    "a user function": (
        whole([{"type": "UserDefinedFunction", "uid": "f", "name": "mine", "inputs": ["x"]}], [X]),
        "a user function .'mine'",
    ),
    "no inputs": (whole([function("f", 43, [], axis=Axis(0))], []), "no inputs"),
    "too many inputs": (whole([function("f", 3, ["x"] * 9)], [X]), "9 inputs, but must have 1"),
    "a size that overflows": (whole([function("f", 3, ["y"])], [variable("y", 0, 1 << 62, 1 << 62)]), "the shape"),
    "doubling": (
        whole([function(f"f{n}", 43, [f"f{n - 1}_Output_0" if n else "x"] * 2, axis=Axis(0)) for n in range(80)], [X]),
        "more values than",
    ),
    # Found by test_cntk_fuzz.py: an axis is a tuple too.
    "an axis where a shape belongs": (whole([function("f", 16, ["x"], newShape=Axis(0))], [X]), "'newShape' is not"),
    "an array where a truth belongs": (
        whole([function("f", 72, ["x"], sequenceUnpackSuppressMaskOutput=SQUARE)], [X]),
        "'sequenceUnpackSuppressMaskOutput' is not|not a sequence",
    ),
    "arrays where truths belong": (
        whole([function("f", 33, ["k", "i"], sharing=[SQUARE])], [IMAGE, KERNEL]),
        "its kernel is not shared",
    ),
    "a long name": (whole([function("f", 58, ["x"]) | {"name": "n" * 10**6}], [X]), "^Unpooling, 'n{79}…' .* covered"),
    "a long name of an input": (
        whole([function("f", 3, ["x"])], [X | {"name": "n" * 10**6, "data_type": 9}]),
        "^input 'n{79}…' has a datatype",
    ),
    "a long shape": (whole([function("f", 16, ["x"], newShape=Shape([1 << 62] * 64))], [X]), "does not hold|…"),
    # ONNX Runtime computes these when it loads a model.
    "sums of parameters": (
        whole(
            [
                function("f0", 19, ["a", "b"]),
                *(function(f"f{n}", 19, [f"f{n - 1}_Output_0", "b"]) for n in range(1, 9)),
            ],
            [COLUMN, ROW],
        ),
        "more values than .* of parameters alone",
    ),
    "many classes": (whole([function("f", 68, ["x"], numClass=1 << 60)], [X]), "classes"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_cannot_be_is_refused(name: str) -> None:
    root, message = ROOTS[name]
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match=message) as caught:
            translate_network(network(root))
        assert len(str(caught.value)) < MAX_MESSAGE_LENGTH
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


def chain() -> dict[str, Any]:
    functions = [function(f"f{n}", 3, [f"f{n - 1}_Output_0" if n else "x"]) for n in range(MANY)]
    return whole(functions, [X])


def chain_of_blocks() -> dict[str, Any]:
    """Each refers to the next, so following every chain from its start would take quadratic time."""
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


def many_that_are_not_covered() -> dict[str, Any]:
    """Each adds to what is not covered below the next."""
    functions = [function(f"f{n}", 58, [f"f{n - 1}_Output_0" if n else "x"]) for n in range(MANY)]
    return whole(
        [*functions, function("r", 3, ["x"]), function("all", 44, ["r_Output_0", f"f{MANY - 1}_Output_0"])], [X]
    )


def many_needs() -> dict[str, Any]:
    """Each output needs one input more than the one before."""
    inputs = [variable(f"i{n}", 0, 4) for n in range(MANY // 8)]
    functions = [function(f"f{n}", 19, [f"f{n - 1}_Output_0" if n else "i0", f"i{n}"]) for n in range(MANY // 8)]
    return whole([*functions, function("all", 44, [f"f{n}_Output_0" for n in range(MANY // 8)])], inputs)


def one_name() -> dict[str, Any]:
    inputs = [variable(f"i{n}", 0, 4, name="same") for n in range(MANY)]
    functions = [function(f"f{n}", 3, [f"i{n}"]) | {"name": "same"} for n in range(MANY)]
    return whole([*functions, function("all", 44, [f"f{n}_Output_0" for n in range(MANY)])], inputs)


@pytest.mark.parametrize("build", [chain, chain_of_blocks, many_loops, many_needs, many_that_are_not_covered, one_name])
def test_long_models_take_time_by_their_length(build: Any) -> None:
    root = build()
    began = time.process_time()
    translate_network(network(root))
    assert time.process_time() - began < SECONDS


def test_a_parameter_that_many_read_is_there_once() -> None:
    """Otherwise a file could demand any multiple of its own size."""
    weights = np.frombuffer(np.ones((100, 100), np.float32).tobytes(), np.float32).reshape(100, 100)
    parameter = variable("w", 2, 100, 100, value=weights)
    functions = [function(f"f{n}", 31, ["w", f"f{n - 1}_Output_0" if n else "x"], outputRank=1) for n in range(50)]
    made = translate_network(network(whole(functions, [variable("x", 0, 100), parameter])))
    assert [each.dims for each in made.model.graph.initializer if len(each.raw_data) > 1000] == [[100, 100]]


def test_constants_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_MAX_BYTES", 1 << 20)
    functions = [function(f"f{n}", 68, ["x"], numClass=50000 + n) for n in range(9)]
    every = function("all", 44, [f"f{n}_Output_0" for n in range(9)])
    with pytest.raises(LoadError, match="more constants than one ONNX file can hold"):
        translate_network(network(whole([*functions, every], [X])))
