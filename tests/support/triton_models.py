"""The models that the examples of Triton's clients expect, made of ONNX."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def add_simple(repository: Path) -> None:
    """`simple`: OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, INT32 of [1, 16]."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    _save(repository, "simple", nodes, TensorProto.INT32)


def add_simple_string(repository: Path) -> None:
    """`simple_string`: the same of numbers that are written as strings."""
    nodes = [
        *(helper.make_node("Cast", [f"INPUT{k}"], [f"number{k}"], to=TensorProto.INT32) for k in (0, 1)),
        helper.make_node("Add", ["number0", "number1"], ["sum"]),
        helper.make_node("Sub", ["number0", "number1"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.STRING),
    ]
    _save(repository, "simple_string", nodes, TensorProto.STRING)


def add_simple_identity(repository: Path) -> None:
    """`simple_identity`: OUTPUT0 = INPUT0, strings of [-1, -1]."""
    nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    _save(repository, "simple_identity", nodes, TensorProto.STRING, ["n", "m"])


def _save(
    repository: Path, name: str, nodes: list[onnx.NodeProto], kind: int, shape: list[int | str] | None = None
) -> None:
    used, made = {each for node in nodes for each in node.input}, {each for node in nodes for each in node.output}
    inputs, outputs = (
        [helper.make_tensor_value_info(each, kind, shape or ["n", 16]) for each in sorted(names)]
        for names in (used - made, made - used)
    )
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = repository / name / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, file)
