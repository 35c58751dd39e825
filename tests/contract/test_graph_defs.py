"""GraphDefs of TensorFlow 1: their inputs and outputs, what they need, and why some are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(runtime_python: Callable[[str], Path]) -> Any:
    command = [runtime_python("savedmodel"), "-I", HERE / "graph_defs_script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_placeholders_are_inputs_and_nodes_that_nobody_reads_are_outputs(found: Any) -> None:
    model = found["two_ends"]
    assert model["inputs"] == [["x", "FP32", [-1, 2]]]
    # Without the assertion, the summary, and what is left over.
    assert [name for name, *_ in model["outputs"]] == ["best", "best:1", "quantized:1", "quantized:2", "scores"]
    assert model["outputs"][:2] == [["best", "FP32", [-1, 1]], ["best:1", "INT32", [-1, 1]]]
    assert model["answers"][0]["scores"] == [[5.5]]
    assert model["answers"][0]["best:1"] == [[1]]


def test_an_output_of_another_datatype_is_refused_and_the_others_are_served(found: Any) -> None:
    refused = found["two_ends"]["refused"]
    assert refused == {
        "complex": "it is complex64, which the protocol lacks",
        "quantized": "it is quint8, which the protocol lacks",
    }


def test_declared_names_are_nodes_or_results_of_nodes(found: Any) -> None:
    assert found["named"]["answers"] == [{"best:1": [[1]], "scores:0": [[5.5]]}]
    assert found["named"]["analysis"]["independent"]
    assert found["instead_of_a_queue"]["answers"] == [{"y": [[5.5], [0.5]]}]


def test_a_placeholder_with_a_default_may_be_left_out(found: Any) -> None:
    model = found["with_default"]
    assert (model["inputs"], model["unbatched"]) == ([["x", "FP32", [-1, 2]]], [["scale", "FP32", [-1, 2]]])
    assert model["answers"] == [{"y": [[10.0, 20.0]]}, {"y": [[1.0, 4.0]]}]
    assert model["analysis"]["independent"]
    # The default value has two rows, whatever the number of rows in a batch.
    assert found["with_long_default"]["analysis"]["mixes"] == ["AddV2 'y' allows one number of rows only"]


def test_a_declaration_says_which_placeholders_are_inputs(found: Any) -> None:
    only_x, both = found["default_left_out"], found["default_declared"]
    assert (len(only_x["inputs"]), only_x["unbatched"]) == (1, [])
    assert only_x["answers"] == [{"y": [[10.0, 20.0]]}]
    assert (sorted(name for name, *_ in both["inputs"]), both["unbatched"]) == (["scale", "x"], [])
    assert both["answers"] == [{"y": [[1.0, 4.0]]}]
    assert found["with_defaults_only"]["inputs"] == [["x", "FP32", [-1, 2]]]


def test_an_output_needs_only_the_placeholders_that_it_depends_on(found: Any) -> None:
    model = found["with_loss"]
    assert model["optional"] == ["labels"]
    alone, both, neither = model["answers"]
    assert alone == {"answer": [[5.5]]}
    assert both == {"answer": [[5.5]], "loss": [[0.25]]}
    assert neither == {"invalid": "input 'x' is missing"}


def test_tables_are_filled_and_control_flow_of_tensorflow_1_runs(found: Any) -> None:
    assert found["with_table"]["answers"] == [{"ids": [4, -1]}]
    assert [answer["y"] for answer in found["with_loop"]["answers"]] == [[8.0], [1.0]]
    assert found["on_a_cluster"]["answers"] == [{"y": [2.0]}]


def test_shapes_of_unknown_rank_accept_any(found: Any) -> None:
    model = found["unknown_rank"]
    assert (model["inputs"], model["outputs"]) == ([["x", "FP32", None]], [["y", "FP32", None]])
    assert model["answers"] == [{"y": [[2.0]]}, {"y": 2.0}]
    assert found["without_inputs"]["analysis"]["unknown"][0] == "the signature has no inputs"


REFUSED = {
    "no_such_output": "the output 'score' is declared, but the graph has no such node; nodes that no other node reads",
    "no_such_input": "the input 'y' is declared, but the graph has no such node; its placeholders are 'x', 'unused'",
    "no_such_result": "the output 'best:2' is declared, but the node has 2 results",
    "odd_result": "the output 'best:\u00b2' is declared, but the node has 2 results",
    "input_left_out": "the outputs 'scores' also need the placeholders 'x': declare these as well",
    "with_empty_table": "this graph reads the tables 'empty', but lacks the nodes that fill them",
    "with_variable": "this graph reads the variables 'weight', whose values are in a checkpoint: freeze the graph",
    "with_queue": "this graph waits at 'batch' for a queue or for files: declare the tensor to feed in its place",
    "with_python": "it calls a Python function",
    "foreign": "this graph needs the operators 'BeamSearchOfAnother', which TensorFlow alone does not have",
    "truncated": "this file is not a GraphDef, or is damaged",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_says_why(found: Any, name: str) -> None:
    assert REFUSED[name] in found[name]["error"]


def test_graphs_of_tensorflow_js(found: Any) -> None:
    """Prelu is not an operator of TensorFlow. Of others, a graph could use some that write files."""
    assert found["tfjs"] == {
        "prelu": "[2.0, -1.5, inf, -inf, 0.0]",
        "debug": "the graph has the operator DebugIdentityV2, which TensorFlow.js lacks",
        "prelu_without_inputs": "the graph in model.json is damaged (IndexError): convert the model again",
        "const_without_type": "the graph in model.json is damaged (TypeError): convert the model again",
    }
