"""Unrolls the Scans of an ONNX model, for tools that do not support loops."""

from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

# The body is copied once per step, so a larger limit makes larger models; a smaller one leaves more Scans as they are.
_MAX_STEPS = 256


def unroll(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each Scan with a fixed number of steps by that many copies of its body. Other Scans stay."""
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
    """Return the sizes of every tensor whose rank is known; -1 is an unknown size."""
    graph = model.graph
    found = {each.name: list(each.dims) for each in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            found[info.name] = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    return found


class _Scan:
    """steps: None if the number is unknown or too large, or if the body contains subgraphs."""

    def __init__(self, node: onnx.NodeProto, sizes: Dict[str, List[int]]) -> None:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self._node, self._body = node, attributes["body"]
        scanned = attributes["num_scan_inputs"]
        self._states = len(node.input) - scanned
        collected = len(self._body.output) - self._states
        self._backwards = attributes.get("scan_input_directions", [0] * scanned)
        self._backwards_out = attributes.get("scan_output_directions", [0] * collected)
        self._axes_out = attributes.get("scan_output_axes", [0] * collected)
        ranks = [len(sizes.get(name, ())) for name in node.input[self._states :]]
        axes = attributes.get("scan_input_axes", [0] * scanned)
        self._axes = [axis + rank if axis < 0 else axis for axis, rank in zip(axes, ranks)]
        self.constants: List[onnx.TensorProto] = []
        self.steps = self._fixed_steps(sizes, ranks)

    def _fixed_steps(self, sizes: Dict[str, List[int]], ranks: Sequence[int]) -> Optional[int]:
        nested = any(each.HasField("g") or each.graphs for node in self._body.node for each in node.attribute)
        if nested or 0 in ranks or any(axis < 0 for axis in self._axes_out):
            return None
        names = self._node.input[self._states :]
        counts = {sizes[name][axis] for name, axis in zip(names, self._axes)}
        return counts.pop() if len(counts) == 1 and 0 < max(counts) <= _MAX_STEPS else None

    def nodes(self) -> Iterator[onnx.NodeProto]:
        assert self.steps is not None
        states, collected = list(self._node.input[: self._states]), [[] for _ in self._body.output[self._states :]]
        inner = {each.name: self._named("constant", each.name) for each in self._body.initializer}
        for each in self._body.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(each)
            copy.name = inner[each.name]
            self.constants.append(copy)
        for step in range(self.steps):
            names = dict(inner, **dict(zip((each.name for each in self._body.input), states)))
            yield from self._scan_inputs(step, names)
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
            for steps, name in zip(collected, results[self._states :]):
                steps.append(name)
        yield from self._outputs(states, collected)

    def _scan_inputs(self, step: int, names: Dict[str, str]) -> Iterator[onnx.NodeProto]:
        """Select this step of each sequence."""
        sequences = zip(self._node.input[self._states :], self._body.input[self._states :], self._axes, self._backwards)
        for sequence, inside, axis, backwards in sequences:
            index = self._constant(np.array(self.steps - 1 - step if backwards else step, np.int64))
            names[inside.name] = self._named(step, inside.name)
            yield helper.make_node("Gather", [sequence, index], [names[inside.name]], axis=axis)

    def _outputs(self, states: Sequence[str], collected: Sequence[List[str]]) -> Iterator[onnx.NodeProto]:
        """Produce the last states, and concatenate the outputs of the steps in their order or in reverse."""
        outputs = list(self._node.output) + [""] * (len(self._body.output) - len(self._node.output))
        for name, output in zip(states, outputs):
            if output:
                yield helper.make_node("Identity", [name], [output])
        sequences = zip(collected, outputs[self._states :], self._axes_out, self._backwards_out)
        for index, (steps, output, axis, backwards) in enumerate(sequences):
            if not output:
                continue
            axes = self._constant(np.array([axis], np.int64))
            unsqueezed = [self._named("unsqueezed%d" % index, str(step)) for step in range(len(steps))]
            for name, result in zip(steps, unsqueezed):
                yield helper.make_node("Unsqueeze", [name, axes], [result])
            yield helper.make_node("Concat", unsqueezed[::-1] if backwards else unsqueezed, [output], axis=axis)

    def _named(self, step: object, name: str) -> str:
        return "%s_%s_%s" % (self._node.name or self._node.output[0], step, name)

    def _constant(self, array: np.ndarray) -> str:
        name = self._named("number", str(len(self.constants)))
        self.constants.append(numpy_helper.from_array(array, name))
        return name
