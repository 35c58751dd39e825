"""Names, datatypes and shapes of a program's methods.

The file states the largest size of each dimension, and whether a tensor is dynamic, but not in which dimensions. If
modelport exported it, it has a method that returns that as text; otherwise the method is run with smaller sizes.
"""

import json
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch

from runtimes.contract import LoadError, LoadOptions, TensorSpec, has_dtype, unnamed_outputs

from .program import Method, Tensor

# A method of exported programs that returns {method: {"inputs": [[name, shape], …], "outputs": …}} as JSON.
INTERFACE = "modelport_interface"
# ExecuTorch's ScalarType → the protocol's datatype and PyTorch's.
_TYPES = {
    0: ("UINT8", torch.uint8), 1: ("INT8", torch.int8), 2: ("INT16", torch.int16), 3: ("INT32", torch.int32),
    4: ("INT64", torch.int64), 5: ("FP16", torch.float16), 6: ("FP32", torch.float32), 7: ("FP64", torch.float64),
    11: ("BOOL", torch.bool), 15: ("BF16", torch.bfloat16), 27: ("UINT16", torch.uint16), 28: ("UINT32", torch.uint32),
    29: ("UINT64", torch.uint64),
}  # fmt: skip


_MAX_ELEMENTS = 1 << 24  # of inputs, with which a method is run for its shapes


class Interface(NamedTuple):
    """What a method takes and returns.

    bounds   the largest sizes of each input
    refused  outputs that cannot be served → why
    problem  why the method cannot be served; "" if it can
    """

    method: Method
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    bounds: Tuple[Tuple[int, ...], ...]
    refused: Dict[str, str]
    problem: str = ""
    complete: bool = False  # whether the shapes are known to be right

    @property
    def served_outputs(self) -> Tuple[TensorSpec, ...]:
        return tuple(spec for spec in self.outputs if spec.name not in self.refused)


def interfaces(methods: Dict[str, Method], options: LoadOptions) -> Dict[str, Interface]:
    """Return those of all methods but constants, `forward` first. Raises LoadError."""
    written = _written(methods)
    names = [name for name, each in methods.items() if each.inputs or any(each.outputs)]
    names.sort(key=lambda name: (name != "forward", name))
    return {
        name: _interface(methods[name], written.get(name), options if name == names[0] else LoadOptions(""))
        for name in names
    }


def _written(methods: Dict[str, Method]) -> Dict[str, Any]:
    if INTERFACE not in methods:
        return {}
    try:
        found = json.loads(methods[INTERFACE].text)
        return {
            method: {
                kind: [(str(name), tuple(int(size) for size in shape)) for name, shape in each[kind]]
                for kind in ("inputs", "outputs")
            }
            for method, each in found.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadError("the file is damaged: its method %s returns no interface" % INTERFACE) from error


def _interface(method: Method, written: Optional[Dict[str, Any]], options: LoadOptions) -> Interface:
    unnamed = ["INPUT__%d" % index for index in range(len(method.inputs))], unnamed_outputs(len(method.outputs))
    specs: List[Tuple[TensorSpec, ...]] = []
    problems: List[Dict[str, str]] = []
    for kind, tensors, names, declared in (
        ("inputs", method.inputs, unnamed[0], options.inputs),
        ("outputs", method.outputs, unnamed[1], options.outputs),
    ):
        shapes: List[Any] = [None] * len(tensors)
        if written is not None:
            if len(written[kind]) != len(tensors):
                raise LoadError("the file is damaged: its method %s returns no interface" % INTERFACE)
            names, shapes = [name for name, _ in written[kind]], [shape for _, shape in written[kind]]
        elif len(declared) == len(tensors) and not {spec.name for spec in declared} <= set(names):
            names = [spec.name for spec in declared]
        made = [_spec(name, tensor, shape) for name, tensor, shape in zip(names, tensors, shapes)]
        specs.append(tuple(spec for spec, _ in made))
        problems.append({spec.name: problem for spec, problem in made if problem})
    (inputs, outputs), (refused_inputs, refused) = specs, problems
    problem = next(("its input '%s' %s" % each for each in refused_inputs.items()), "")
    if not problem and len(refused) == len(outputs):
        problem = next(("its output '%s' %s" % each for each in refused.items()), "it has no outputs")
    bounds = tuple(tensor.sizes if tensor is not None else () for tensor in method.inputs)
    return Interface(method, inputs, outputs, bounds, refused, problem, written is not None)


def _spec(name: str, tensor: Optional[Tensor], shape: Optional[Tuple[int, ...]]) -> Tuple[TensorSpec, str]:
    """Return the spec, and why the tensor cannot be served; "" if it can."""
    if tensor is None:
        return TensorSpec(name), "is not a tensor"
    datatype = _TYPES.get(tensor.type, ("", None))[0]
    if not datatype or not has_dtype(datatype):
        return TensorSpec(name), "has a datatype that cannot be served (ExecuTorch's ScalarType %d)" % tensor.type
    if shape is None:
        shape = tuple(-1 for _ in tensor.sizes) if tensor.dynamic else tensor.sizes
    return TensorSpec(name, datatype, shape), ""


def dynamic_sizes(interface: Interface, program: Callable[[], Any]) -> Interface:
    """Run the method to find which dimensions are dynamic, and whether it runs at all.

    A dimension stays dynamic if the method accepts another size of it, or if nothing could be found out. Raises
    RuntimeError if the method cannot be loaded or run.
    """
    if sum(math.prod(bound) for bound in interface.bounds) > _MAX_ELEMENTS:
        return interface
    full = _run(interface, program, interface.bounds)
    found = [tensor is not None and tensor.dynamic for tensor in interface.method.inputs]
    if interface.complete or not any(found):
        return interface
    open_sizes = set()
    changed = [set() for _ in interface.outputs]  # type: List[set]
    for places in _candidates(interface.bounds, found):
        smaller = [list(bound) for bound in interface.bounds]
        for number, axis in places:
            smaller[number][axis] -= 1
        try:
            shapes = _run(interface, program, smaller)
        except RuntimeError:
            continue
        open_sizes.update(places)
        for output, (before, after) in enumerate(zip(full, shapes)):
            changed[output].update(axis for axis, (one, two) in enumerate(zip(before, after)) if one != two)
    if not open_sizes:
        return interface
    inputs = tuple(
        spec._replace(shape=_opened(bound, {axis for number, axis in open_sizes if number == index}))
        if found[index]
        else spec
        for index, (spec, bound) in enumerate(zip(interface.inputs, interface.bounds))
    )
    outputs = tuple(
        spec._replace(shape=_opened(shape, axes)) if spec.shape is not None else spec
        for spec, shape, axes in zip(interface.outputs, full, changed)
    )
    return interface._replace(inputs=inputs, outputs=outputs)


def _candidates(bounds: Sequence[Sequence[int]], dynamic: Sequence[bool]) -> List[List[Tuple[int, int]]]:
    """Return the dimensions to make smaller together: each alone, and those of the same size in several inputs."""
    places = [
        (number, axis)
        for number, bound in enumerate(bounds)
        if dynamic[number]
        for axis, size in enumerate(bound)
        if size > 1
    ]
    alone = [[place] for place in places]
    by_size: Dict[Tuple[int, int], List[Tuple[int, int]]] = {}
    for number, axis in places:
        by_size.setdefault((axis, bounds[number][axis]), []).append((number, axis))
    return alone + [together for together in by_size.values() if len(together) > 1]


def _run(interface: Interface, program: Callable[[], Any], sizes: Sequence[Sequence[int]]) -> List[Tuple[int, ...]]:
    """Return the shapes of the outputs for zeros in inputs of these sizes."""
    kinds = [_TYPES[tensor.type][1] for tensor in interface.method.inputs if tensor is not None]
    inputs = [torch.zeros(tuple(size), dtype=kind) for size, kind in zip(sizes, kinds)]
    results = program().run(interface.method.name, inputs)
    return [tuple(result.shape) if isinstance(result, torch.Tensor) else () for result in results]


def _opened(sizes: Sequence[int], axes: Any) -> Tuple[int, ...]:
    return tuple(-1 if axis in axes else size for axis, size in enumerate(sizes))
