"""Converts programs of torch.export to ExecuTorch, with XNNPACK for whatever it runs."""

import json
import warnings
from typing import Any, Dict, List, Optional, Tuple

import torch
from modelport_converter.interface import INTERFACE
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from runtimes.conversion import Refused, Step
from runtimes.torchscript.dtypes import to_tensor
from runtimes.torchscript.fp32_program import in_fp32, narrow_datatypes, note
from runtimes.torchscript.names import positions_of
from runtimes.torchscript.screening import load_screened

# Memory is planned for the largest batch, so there has to be one.
_MAX_ROWS = 64


def pt2_to_executorch(step: Step) -> List[str]:
    """options: batch (number of rows; 0 keeps the dynamic sizes of the program, up to their bounds)."""
    warnings.simplefilter("ignore")
    program = load_screened(step.source)
    _detach(program)
    example = step.example()
    tensors = [to_tensor(example[spec.name].copy()) for spec in step.inputs]
    converted = []
    datatypes = narrow_datatypes(program)
    if datatypes:
        positions = positions_of(step.outputs, program.call_spec.out_spec)
        served = dict(zip(positions, [spec.datatype for spec in step.outputs]))
        program, converted = in_fp32(program, tensors, served, widen_weights=True), [note(datatypes)]
    chosen = _chosen(step, program)
    if not program.range_constraints and chosen is None:
        _lower(step, program)  # all sizes are fixed
        return converted
    is_fixed = step.options.get("batch") or not program.range_constraints
    shapes, notes = ([], []) if is_fixed else _dynamic(program, len(tensors))
    for index, shape in enumerate(shapes):
        for axis in shape:
            if tensors[index].shape[axis] == 1:  # torch.export takes a size of one for a fixed size
                tensors[index] = torch.cat([tensors[index]] * 2, axis)
    flat = _Flat(program.module(), _structure(program, len(tensors)), chosen)
    free = {"tensors": tuple(shapes)} if any(shapes) else None
    _lower(step, torch.export.export(flat, tuple(tensors), dynamic_shapes=free))
    return converted + notes


def _chosen(step: Step, program: Any) -> Optional[List[int]]:
    """Return which of the program's outputs are served, in order; None if that is all of them. Raises LoadError."""
    positions = positions_of(step.outputs, program.call_spec.out_spec)
    return None if positions == list(range(program.call_spec.out_spec.num_leaves)) else positions


class _Flat(torch.nn.Module):
    """A program whose arguments and results are tensors one after another. chosen: as `_chosen` returns it."""

    def __init__(self, program: torch.nn.Module, arguments: TreeSpec, chosen: Optional[List[int]]) -> None:
        super().__init__()
        self.program, self._arguments, self._chosen = program, arguments, chosen

    def forward(self, *tensors: torch.Tensor) -> Tuple[Any, ...]:
        args, kwargs = tree_unflatten(tensors, self._arguments)
        results = tree_flatten(self.program(*args, **kwargs))[0]
        return tuple(results if self._chosen is None else [results[index] for index in self._chosen])


def _detach(program: Any) -> None:
    """Make constants copyable: those of a program that was TorchScript may be results of computations."""
    for tensors in (program.state_dict, program.constants):
        for name, tensor in tensors.items():
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter):
                tensors[name] = tensor.detach()


def _structure(program: Any, count: int) -> TreeSpec:
    """Return the structure of the program's positional and named arguments. Raises Refused."""
    spec: TreeSpec = program.call_spec.in_spec
    if spec.num_leaves != count:
        raise Refused("the program has arguments that are not tensors, which the converter does not keep")
    return spec


def _dynamic(program: Any, count: int) -> Tuple[List[Dict[int, Any]], List[str]]:
    """Return the dynamic dimensions of each input with their bounds, and sentences about those that had none."""
    nodes = {node.name: node for node in program.graph.nodes}
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    bounds = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    dims: Dict[str, Any] = {}
    shapes: List[Dict[int, Any]] = []
    notes: List[str] = []
    for name in names[:count]:
        shape: Dict[int, Any] = {}
        for axis, size in enumerate(nodes[name].meta["val"].shape):
            if isinstance(size, int):
                continue
            symbol = str(size)
            if symbol not in bounds:
                raise Refused("a dimension of '%s' is computed from others, which the converter cannot bound" % name)
            if symbol not in dims:
                low, high = _limits(bounds[symbol])
                if high is None and axis:
                    raise Refused(
                        "dimension %d of '%s' has no upper bound: give it one with torch.export.Dim" % (axis, name)
                    )
                if high is None:
                    high = _MAX_ROWS
                    notes.append("batches have up to %d rows, because the program has no bound of its own" % high)
                dims[symbol] = torch.export.Dim("size%d" % len(dims), min=max(low, 1), max=high)
            shape[axis] = dims[symbol]
        shapes.append(shape)
    return shapes, notes


def _limits(limits: Any) -> Tuple[int, Any]:
    low, high = (int(end) if abs(end) < 1 << 31 else None for end in (limits.lower, limits.upper))
    return low or 0, high


def _lower(step: Step, exported: Any) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    nodes = {node.name: node for node in exported.graph.nodes}
    inputs, outputs = (
        [[spec.name, _sizes(nodes.get(name))] for spec, name in zip(specs, names)]
        for specs, names in (
            (step.inputs, exported.graph_signature.user_inputs),
            (step.outputs, exported.graph_signature.user_outputs),
        )
    )
    text = json.dumps({"forward": {"inputs": inputs, "outputs": outputs}})
    lowered = to_edge_transform_and_lower(
        exported, partitioner=[XnnpackPartitioner()], constant_methods={INTERFACE: text}
    )
    with open(step.destination, "wb") as file:
        file.write(lowered.to_executorch().buffer)


def _sizes(node: Any) -> List[int]:
    """Return the sizes of a tensor in the program, -1 for those that are dynamic."""
    if node is None or not isinstance(node.meta.get("val"), torch.Tensor):
        raise Refused("an output of the program is not a tensor")
    return [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
