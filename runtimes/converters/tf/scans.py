"""Scans of an ONNX model written out step by step, for tools that know no loops."""

from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

_MAX_STEPS = 256


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each Scan whose number of steps is told as its body, that many times; others as they are."""
    if not any(_is_scan(node) for node in model.graph.node):
        return model
    sizes = _sizes(onnx.shape_inference.infer_shapes(model, data_prop=True))
    nodes: List[onnx.NodeProto] = []
    for node in model.graph.node:
        scan = _Scan(node, sizes) if _is_scan(node) else None
        if scan is None or scan.steps is None:
            nodes.append(node)
        else:
            nodes.extend(scan.nodes())
            model.graph.initializer.extend(scan.constants)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _is_scan(node: onnx.NodeProto) -> bool:
    return node.op_type == "Scan" and not node.domain


def _sizes(model: onnx.ModelProto) -> Dict[str, List[int]]:
    """Of every tensor whose rank is known; -1 for a size that is not."""
    graph = model.graph
    found = {each.name: list(each.dims) for each in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            found[info.name] = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    return found


class _Scan:
    """steps: None where they are not told, or too many, or the body holds graphs of its own."""

    def __init__(self, node: onnx.NodeProto, sizes: Dict[str, List[int]]) -> None:
        told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self._node, self._body = node, told["body"]
        scanned = told["num_scan_inputs"]
        self._states = len(node.input) - scanned
        gathered = len(self._body.output) - self._states
        self._backwards = told.get("scan_input_directions", [0] * scanned)
        self._backwards_out = told.get("scan_output_directions", [0] * gathered)
        self._axes_out = told.get("scan_output_axes", [0] * gathered)
        ranks = [len(sizes.get(name, ())) for name in node.input[self._states :]]
        axes = told.get("scan_input_axes", [0] * scanned)
        self._axes = [axis + rank if axis < 0 else axis for axis, rank in zip(axes, ranks)]
        self.constants: List[onnx.TensorProto] = []
        self.steps = self._told_steps(sizes, ranks)

    def _told_steps(self, sizes: Dict[str, List[int]], ranks: Sequence[int]) -> Optional[int]:
        nested = any(each.HasField("g") or each.graphs for node in self._body.node for each in node.attribute)
        if nested or 0 in ranks or any(axis < 0 for axis in self._axes_out):
            return None
        names = self._node.input[self._states :]
        counts = {sizes[name][axis] for name, axis in zip(names, self._axes)}
        return counts.pop() if len(counts) == 1 and 0 < max(counts) <= _MAX_STEPS else None

    def nodes(self) -> Iterator[onnx.NodeProto]:
        assert self.steps is not None
        states, gathered = list(self._node.input[: self._states]), [[] for _ in self._body.output[self._states :]]
        inner = {each.name: self._named("constant", each.name) for each in self._body.initializer}
        for each in self._body.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(each)
            copy.name = inner[each.name]
            self.constants.append(copy)
        for step in range(self.steps):
            names = dict(inner, **dict(zip((each.name for each in self._body.input), states)))
            yield from self._taken(step, names)
            for node in self._body.node:
                names.update({name: self._named(step, name) for name in node.output if name})
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.name = self._named(step, node.name) if node.name else ""
                copy.input[:] = [names.get(name, name) for name in node.input]
                copy.output[:] = [names[name] if name else "" for name in node.output]
                yield copy
            results = [names.get(each.name, each.name) for each in self._body.output]
            states = results[: self._states]
            for all_of_it, name in zip(gathered, results[self._states :]):
                all_of_it.append(name)
        yield from self._given(states, gathered)

    def _taken(self, step: int, names: Dict[str, str]) -> Iterator[onnx.NodeProto]:
        """This step of each sequence."""
        sequences = zip(self._node.input[self._states :], self._body.input[self._states :], self._axes, self._backwards)
        for sequence, inside, axis, backwards in sequences:
            place = self._constant(np.array(self.steps - 1 - step if backwards else step, np.int64))
            names[inside.name] = self._named(step, inside.name)
            yield helper.make_node("Gather", [sequence, place], [names[inside.name]], axis=axis)

    def _given(self, states: Sequence[str], gathered: Sequence[List[str]]) -> Iterator[onnx.NodeProto]:
        """The last states, and what each step gave, in the order of the steps or against it."""
        outputs = list(self._node.output) + [""] * (len(self._body.output) - len(self._node.output))
        for name, output in zip(states, outputs):
            if output:
                yield helper.make_node("Identity", [name], [output])
        sequences = zip(gathered, outputs[self._states :], self._axes_out, self._backwards_out)
        for place, (all_of_it, output, axis, backwards) in enumerate(sequences):
            if not output:
                continue
            at = self._constant(np.array([axis], np.int64))
            whole = [self._named("whole%d" % place, str(step)) for step in range(len(all_of_it))]
            for name, long in zip(all_of_it, whole):
                yield helper.make_node("Unsqueeze", [name, at], [long])
            yield helper.make_node("Concat", whole[::-1] if backwards else whole, [output], axis=axis)

    def _named(self, step: object, name: str) -> str:
        return "%s_%s_%s" % (self._node.name or self._node.output[0], step, name)

    def _constant(self, array: np.ndarray) -> str:
        name = self._named("number", str(len(self.constants)))
        self.constants.append(numpy_helper.from_array(array, name))
        return name
